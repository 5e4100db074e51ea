"""An upgrade while people talk: `parley migrate`, then every process replaced, one after the other.

As a command, from an older release that the repository remembers:

    python -m tests.deploy.upgrade --old COMMIT

Without `--old` the old release is this one, and the new one a copy of it with one more migration.
It starts its own Redis and PostgreSQL, the old release's processes and haproxy, publishes and asks
REST all the time, and prints what came of it. Exit status 1 and the breaches if a request failed,
or anything was lost, doubled, out of order or had to be reloaded.

Also what the suite's own test of an upgrade is made of (`tests/faults/test_upgrade.py`).
"""

import io
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections import Counter
from functools import partial
from pathlib import Path

import click
import trio

from tests.deploy.crowd import Crowd, open_crowd
from tests.deploy.rolling import Load, check_stored, gather, report
from tests.deploy.site import Site, open_site, wait_settled
from tests.support.http import request
from tests.support.releases import copy_release, run_migrate
from tests.support.servers import PostgresServer, RedisServer, fetch
from tests.support.sources import ROOT
from tests.support.waiting import pass_time

REST_ROOM = "rest"
REST_INTERVAL = 0.05


class Requests:
    """REST all the time, by the project's key: every answer that is no success is counted."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self.answers: Counter[str] = Counter()
        self.failed: Counter[str] = Counter()
        self.posted: list[str] = []

    async def run(self, stop: trio.Event) -> None:
        """Write a message, read a page, read a list, and again until `stop`."""
        number = 0
        while not stop.is_set():
            number += 1
            content = f"number {number}"
            body = {"content": content, "client_id": content, "user_id": "u0"}
            if await self._ask("POST", f"/v1/rooms/{REST_ROOM}/messages", body):
                self.posted.append(content)
            await self._ask("GET", f"/v1/rooms/{REST_ROOM}/messages?limit=20")
            await self._ask("GET", "/v1/users/u0/rooms")
            await self._ask("GET", "/v1/rooms/room0")
            await pass_time(REST_INTERVAL)

    async def _ask(self, method: str, path: str, body: object = None) -> bool:
        url = self._site.balancer.base_url + path
        try:
            answer = await request(method, url, body=body, key=self._site.system.key)
        except OSError as error:
            self.failed[f"{method} {path}: {type(error).__name__}"] += 1
            return False
        what = f"{method} {path}: {answer.status}"
        self.answers[what] += 1
        if answer.status >= 300:
            self.failed[what] += 1
        return answer.status < 300

    def judge(self) -> list[str]:
        """A sentence for everything that failed, and for what was answered and is not stored."""
        stored = Counter(row["content"] for row in self._site.system.stored(REST_ROOM))
        return [f"{what}, {times} times" for what, times in self.failed.items()] + [
            f"{content} is stored {stored[content]} times"
            for content in self.posted
            if stored[content] != 1
        ]


async def upgrade(site: Site, new: Path, database_url: str, *, pause: float = 1.0) -> None:
    """Migrate with the new release, then replace archiver, APIs and brokers by its own.

    Old and new serve side by side for `pause` seconds after each step.
    """
    await pass_time(pause)
    await run_migrate(new, database_url)
    await pass_time(pause)
    processes = site.system.processes
    processes.env["PYTHONPATH"] = str(new)
    assert site.system.archiver is not None
    site.system.archiver.terminate()
    site.system.archiver = await processes.start_archiver()
    for servers in (site.apis, site.brokers):
        for place in range(len(servers)):
            await pass_time(pause)
            await site.restart(servers, place)
    await pass_time(pause)


async def serve_and_upgrade(
    site: Site, crowd: Crowd, load: Load, new: Path, database_url: str
) -> tuple[list[str], Requests]:
    """Everybody talks while it is upgraded; the breaches."""
    await gather(site, crowd, load)
    await site.system.create_room(REST_ROOM, "u0", "u1")
    requests, stop = Requests(site), trio.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(crowd.publish_at, load.rate, stop)
        nursery.start_soon(requests.run, stop)
        await upgrade(site, new, database_url)
        stop.set()
    await wait_settled(crowd.is_settled, crowd.unsettled, 120)
    await site.system.check_rooms()
    faults = crowd.judge() + await check_stored(site.system, crowd) + requests.judge()
    if crowd.reloads:
        faults.append(f"{crowd.reloads} had to reload")
    return faults, requests


def export_commit(commit: str, folder: Path) -> Path:
    """The repository as it was at a commit."""
    archive = subprocess.run(
        ["git", "-C", str(ROOT), "archive", commit], check=True, capture_output=True
    ).stdout
    with tarfile.open(fileobj=io.BytesIO(archive)) as files:
        files.extractall(folder, filter="data")
    return folder


async def run(load: Load, old_commit: str | None, is_kept: bool) -> int:
    """The whole command; the exit status."""
    folder = Path(tempfile.mkdtemp(prefix="upgrade-"))
    redis, postgres = RedisServer(folder / "redis"), PostgresServer(folder / "postgres")
    try:
        if old_commit is None:
            old, new = ROOT, copy_release(folder / "new")
        else:
            old, new = export_commit(old_commit, folder / "old"), ROOT
        redis.start()
        postgres.start()
        database_url = postgres.create_empty()
        await run_migrate(old, database_url)
        click.echo(f"{'schema of the old release':<32} {schema_of(database_url)}")
        async with (
            open_site(
                folder / "site", redis, database_url, apis=2, PYTHONPATH=str(old), DRAIN_SECONDS="5"
            ) as site,
            open_crowd(lambda: site.balancer.url) as crowd,
        ):
            began = trio.current_time()
            faults, requests = await serve_and_upgrade(site, crowd, load, new, database_url)
            click.echo(f"{'schema of the new release':<32} {schema_of(database_url)}")
            click.echo(report(site, crowd, trio.current_time() - began))
            click.echo(f"{'REST requests':<32} {requests.answers.total()}")
    finally:
        redis.stop()
        postgres.stop()
        if is_kept:
            click.echo(f"{'logs':<32} {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)
    click.echo(f"{'breaches':<32} {len(faults)}")
    for fault in faults[:20]:
        click.echo(fault)
    return 1 if faults else 0


def schema_of(database_url: str) -> str:
    """The revision that a database has."""
    return str(fetch(database_url, "SELECT version_num FROM alembic_version")[0]["version_num"])


@click.command(help=__doc__)
@click.option("--old", "old_commit", help="The commit of the old release.")
@click.option("--clients", default=60, show_default=True)
@click.option("--rate", default=60.0, show_default=True, help="Messages a second, of all.")
@click.option("--room-size", default=5, show_default=True)
@click.option("--keep", is_flag=True, help="Keep the folder with the logs.")
def main(old_commit: str | None, clients: int, rate: float, room_size: int, keep: bool) -> None:
    sys.exit(trio.run(partial(run, Load(clients, room_size, rate), old_commit, keep)))


if __name__ == "__main__":
    main()
