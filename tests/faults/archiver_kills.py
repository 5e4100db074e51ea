"""kill -9 of archivers at random instants under load: `python -m tests.faults.archiver_kills`.

    python -m tests.faults.archiver_kills --kills 200 --seed 7

Real processes: a broker, an API, one archiver, for a part of the time two. Each kill comes at a
random moment after the victim was ready, sometimes while it starts, and another is started at once.
In the end PostgreSQL must be, row by row, what a subscriber of each room has seen, and that holds
whatever was answered. A failing run is repeated with its seed (the instants differ, the choices
do not).
"""

from __future__ import annotations

import argparse
import random
import time
from dataclasses import dataclass
from functools import partial

import trio

from tests.faults.archiver_load import Load
from tests.faults.own_servers import own_servers
from tests.support.deployment import Deployment, start_deployment
from tests.support.processes import Processes, ServerProcess
from tests.support.servers import RedisServer, fetch
from tests.support.waiting import pass_time, wait_until

ROOMS = 3
# Small and quick, so that there are many transactions to be killed in.
ARCHIVER = {"ARCHIVE_BATCH": "40", "ARCHIVE_INTERVAL": "5ms"}
LIFE_MAX = 0.6
STARTING_PART = 0.15
"""Of the kills so many come before the victim is ready."""
_IN_TRANSACTION = """
SELECT count(*) AS open FROM pg_stat_activity
WHERE application_name = 'parley-archiver' AND xact_start IS NOT NULL
"""


@dataclass
class Tally:
    """What a run was about."""

    kills: int = 0
    while_starting: int = 0
    in_transaction: int = 0
    """Of all, those with a transaction open a moment before."""
    with_two: int = 0
    events: int = 0
    messages: int = 0
    seconds: float = 0.0

    def __str__(self) -> str:
        return (
            f"{self.kills} kills ({self.while_starting} while starting, {self.with_two} with two "
            f"archivers, {self.in_transaction} with a transaction open), {self.events} events, "
            f"{self.messages} messages, {self.seconds:.0f} s"
        )


class Killer:
    """Keeps one or two archivers running, and kills them."""

    def __init__(self, system: Deployment, rng: random.Random) -> None:
        assert system.archiver is not None
        self.system = system
        self.rng = rng
        self.tally = Tally()
        self._running: list[ServerProcess] = [system.archiver]

    async def run(self, kills: int) -> None:
        wanted = 1
        for number in range(kills):
            if number % 10 == 5:
                wanted = 3 - wanted
            while len(self._running) < wanted:
                self._running.append(await self._start(ready=True))
            if len(self._running) > wanted:
                await self._running.pop().stop()
            await self._kill_one()

    async def _start(self, *, ready: bool) -> ServerProcess:
        return await self.system.processes.start("archiver", ready=ready, env=ARCHIVER)

    async def _kill_one(self) -> None:
        await pass_time(self.rng.random() * LIFE_MAX)
        victim = self._running.pop(self.rng.randrange(len(self._running)))
        self.tally.with_two += bool(self._running)
        is_open = fetch(self.system.database_url, _IN_TRANSACTION)[0]["open"] > 0
        assert victim.is_running(), victim.output()
        victim.kill()
        self.tally.kills += 1
        self.tally.in_transaction += is_open
        is_early = self.rng.random() < STARTING_PART
        self._running.append(await self._start(ready=not is_early))
        if is_early:
            await pass_time(self.rng.random() * LIFE_MAX)
            self._running.pop().kill()
            self.tally.kills += 1
            self.tally.while_starting += 1
            self._running.append(await self._start(ready=True))

    async def stop(self) -> None:
        """SIGTERM: those that are left end well."""
        for archiver in self._running:
            assert await archiver.stop() == 0, archiver.output()


async def run_kills(
    processes: Processes, redis: RedisServer, database_url: str, *, kills: int, seed: int
) -> Tally:
    """A whole run; raises AssertionError with what is wrong."""
    print(f"seed {seed}", flush=True)
    rng = random.Random(seed)
    began = time.monotonic()
    system = await start_deployment(processes, redis, database_url, brokers=1)
    load = Load(system, rng, [f"room{number}" for number in range(ROOMS)])
    killer = Killer(system, rng)
    async with trio.open_nursery() as nursery:
        await nursery.start(load.run)
        await killer.run(kills)
        load.is_over = True
    await system.wait_archived(deadline=60)
    await wait_until(partial(_is_announced, system), deadline=40, what="everything announced")
    load.check()
    await load.check_reading()
    await system.check_rooms()
    await killer.stop()
    killer.tally.events = sum(model.offset for model in load.models.values())
    killer.tally.messages = sum(len(model.messages) for model in load.models.values())
    killer.tally.seconds = time.monotonic() - began
    return killer.tally


def _is_announced(system: Deployment) -> bool:
    return not fetch(system.database_url, "SELECT 1 FROM announcements LIMIT 1")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=random.randrange(2**32))
    given = parser.parse_args()
    with own_servers() as (redis, postgres, processes):
        run = partial(run_kills, processes, redis, postgres.create_database())
        print(trio.run(partial(run, kills=given.kills, seed=given.seed)))


if __name__ == "__main__":
    main()
