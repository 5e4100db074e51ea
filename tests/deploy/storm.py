"""Kill the node that holds everybody, and see how the others take the storm of reconnects.

    python -m tests.deploy.storm --clients 10000

Three brokers, all clients on the first, which is killed (SIGKILL). They come back to the two
others as good clients do, after a random part of a second that doubles, and resume; who is away for
longer than the dead node's lease is announced as gone meanwhile, as it has to be. Beside them a
few honest pairs talk on the survivors, from a process of their own. Prints the time until all are
back, the CPU of each process meanwhile, and what the honest ones felt; exit status 1 if anything
was lost or one of the survivors lost an honest client.
"""

import gc
import json
import random
import shutil
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from subprocess import PIPE
from typing import Any

import click
import psutil
import trio

from tests.deploy.crowd import Crowd, open_crowd, percentile
from tests.deploy.probe import rooms_of
from tests.deploy.rolling import Load, gather
from tests.deploy.site import Site, open_site, wait_settled
from tests.support.owners import ROOT
from tests.support.servers import PostgresServer, RedisServer
from tests.support.waiting import pass_time

SETTLE_DEADLINE = 300.0
ARRIVALS = 250.0
"""Clients that come in a second before the storm: less than one node takes."""


@dataclass
class Outcome:
    """What a storm was like; times in seconds."""

    half_back: float
    nearly_back: float
    all_back: float
    cpu: dict[str, float]
    before: list[float]
    during: list[float]
    reconnects_of_honest: int
    gone: int
    faults: list[str]


@asynccontextmanager
async def open_probe(site: Site, rate: float) -> AsyncIterator[trio.Process]:
    """Honest pairs on the survivors, talking."""
    urls = [broker.url for broker in site.brokers[1:]]
    for room in rooms_of(len(urls)):
        await site.system.create_room(room, f"{room}-a", f"{room}-b")
    command = [sys.executable, "-m", "tests.deploy.probe", "--rate", str(rate), *urls]
    async with trio.open_nursery() as nursery:
        start = partial(trio.run_process, command, stdin=PIPE, stdout=PIPE, cwd=ROOT)
        process: trio.Process = await nursery.start(start)
        assert process.stdout is not None
        assert (await process.stdout.receive_some()).startswith(b"ready")
        yield process
        nursery.cancel_scope.cancel()


async def result_of(probe: trio.Process) -> dict[str, Any]:
    """End the probe; what it has measured."""
    assert probe.stdin is not None
    assert probe.stdout is not None
    await probe.stdin.aclose()
    said = b""
    async for chunk in probe.stdout:
        said += chunk
    result: dict[str, Any] = json.loads(said)
    return result


async def storm(site: Site, crowd: Crowd, places: list[str], *, quiet: float) -> Outcome:
    """Everybody is on the first broker: kill it. `places` is where clients go; it is changed."""
    async with open_probe(site, 20) as probe:
        await pass_time(quiet)
        processes = {
            "survivor 1": psutil.Process(site.brokers[1].pid),
            "survivor 2": psutil.Process(site.brokers[2].pid),
            "Redis": psutil.Process(site.system.redis.pid),
            "the generator": psutil.Process(),
        }
        used = {name: _cpu(process) for name, process in processes.items()}
        killed_at, began = time.time(), trio.current_time()
        places[:] = [broker.url for broker in site.brokers[1:]]
        site.brokers[0].kill()
        await wait_settled(partial(are_back, crowd), crowd.unsettled, SETTLE_DEADLINE)
        back = sorted(at - began for at, _ in crowd.pauses)
        ended_at = killed_at + back[-1]
        cpu = {name: _cpu(process) - used[name] for name, process in processes.items()}
        await pass_time(quiet / 2)
        result = await result_of(probe)
    samples = result["samples"]
    return Outcome(
        half_back=percentile(back, 0.5),
        nearly_back=percentile(back, 0.99),
        all_back=back[-1],
        cpu=cpu,
        before=[took for at, took in samples if at < killed_at],
        during=[took for at, took in samples if killed_at <= at <= ended_at],
        reconnects_of_honest=result["reconnects"],
        gone=len(set(crowd.gone)),
        faults=crowd.breaches() + result["faults"],
    )


async def tell_progress(crowd: Crowd) -> None:
    """A line each ten seconds: a run that is ended from outside has told something."""
    while True:
        await pass_time(10.0)
        click.echo(
            f"{len(crowd.online())} of {len(crowd.members)} are there, "
            f"{len(crowd.pauses)} came back; refused or ended: {dict(crowd.refusals)}"
        )


def are_back(crowd: Crowd) -> bool:
    """Whether everybody has lost a connection and has another."""
    return len(crowd.pauses) >= len(crowd.members) and crowd.is_settled()


def _cpu(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def report(crowd: Crowd, outcome: Outcome) -> str:
    """One figure a line."""
    back = f"half {outcome.half_back:.1f} s, 99 % {outcome.nearly_back:.1f} s"
    used = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in outcome.cpu.items())
    lines = [
        ("back and resumed", f"{back}, all {len(crowd.pauses)} {outcome.all_back:.1f} s"),
        ("told to reload", str(crowd.reloads)),
        ("away for longer than their lease", f"{outcome.gone}, announced as gone"),
        ("attempts refused or ended", str(dict(crowd.refusals))),
        ("CPU meanwhile", used),
        ("honest, before", _felt(outcome.before)),
        ("honest, during", _felt(outcome.during)),
        ("honest ones who lost a connection", str(outcome.reconnects_of_honest)),
        ("breaches", str(len(outcome.faults))),
    ]
    return "\n".join([*(f"{name:<34} {value}" for name, value in lines), *outcome.faults[:20]])


def _felt(seconds: list[float]) -> str:
    parts = {"p50": 0.5, "p99": 0.99, "max": 1.0}
    told = [f"{name} {percentile(seconds, part) * 1000:.0f} ms" for name, part in parts.items()]
    return f"{', '.join(told)} (publish to event, {len(seconds)} messages)"


async def run(load: Load, quiet: float) -> int:
    """The whole command; the exit status."""
    folder = Path(tempfile.mkdtemp(prefix="storm-"))
    redis, postgres = RedisServer(folder / "redis"), PostgresServer(folder / "postgres")
    try:
        redis.start()
        postgres.start()
        async with open_site(folder / "site", redis, postgres.create_database()) as site:
            places = [site.brokers[0].url]
            async with open_crowd(lambda: random.choice(places)) as crowd:
                began = trio.current_time()
                crowd.nursery.start_soon(tell_progress, crowd)
                await gather(site, crowd, load)
                click.echo(f"refused while they came: {dict(crowd.refusals)}")
                click.echo(f"{load.clients} are there after {trio.current_time() - began:.0f} s")
                outcome = await storm(site, crowd, places, quiet=quiet)
                click.echo(report(crowd, outcome))
    finally:
        redis.stop()
        postgres.stop()
        shutil.rmtree(folder, ignore_errors=True)
    return 1 if outcome.faults or outcome.reconnects_of_honest else 0


@click.command(help=__doc__)
@click.option("--clients", default=1000, show_default=True)
@click.option("--room-size", default=10, show_default=True)
@click.option("--quiet", default=5.0, show_default=True, help="Seconds of calm before the kill.")
def main(clients: int, room_size: int, quiet: float) -> None:
    # A full collection walks all clients: seconds in which each of them would seem impatient.
    gc.set_threshold(100_000, 20, 100)
    sys.exit(trio.run(run, Load(clients, room_size, rate=0, arrivals=ARRIVALS), quiet))


if __name__ == "__main__":
    main()
