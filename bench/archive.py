"""A backlog into PostgreSQL through one archiver: events a second, CPU, bytes a message.

Rules: the archiver of the private system is stopped (SIGSTOP) while events are published into
many rooms, so that all of them wait; then one archiver of our own starts on the server's core and
is the only one. Its start is not measured: the interval begins with the last look at PostgreSQL
that found nothing and ends when everything is there; PostgreSQL and Redis have the other core.
Afterwards every room is compared with what was published: count, order and content.

`present` rows are there before: written by PostgreSQL itself as the archiver leaves rows behind,
with ids in the order of time, in rooms of their own.
"""

import contextlib
import hashlib
import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Final

from bench import accounting, checks, figures, filling, servers
from bench.connection import BenchError
from bench.database import Database, open_database, processes_called
from bench.publishing import publish_many
from bench.scenarios import Opener, Scenario
from bench.stage import Stage
from bench.target import Target

POLL: Final = 0.05
_PLACES: Final = """
SELECT coalesce(sum(archived_offset), 0) FROM rooms
WHERE project = 'default' AND id >= '{first}' AND id < '{first}~'"""
_CONTENTS: Final = """
SELECT r.id, count(*), min(m.seq), max(m.seq), md5(string_agg(m.content, '|' ORDER BY m.seq))
FROM rooms r JOIN messages m ON m.room_pk = r.pk
WHERE r.project = 'default' AND r.id >= '{first}' AND r.id < '{first}~' AND m.seq > {above}
GROUP BY r.id"""


@dataclass(frozen=True, kw_only=True)
class ArchiveOptions:
    """Sizes of the scenario. `events` is a multiple of `rooms`."""

    events: int = 200_000
    rooms: int = 2000
    present: int = 0
    patience: float = 600.0


@dataclass(kw_only=True)
class Backlog:
    """The rooms of the scenario and how many messages each has by now."""

    prefix: str
    rooms: Sequence[str]
    writer: str
    seq: int = 0
    written: Mapping[str, list[str]] = field(default_factory=dict)

    def archived(self, database: Database) -> int:
        """How many of its events PostgreSQL has."""
        return database.number(_PLACES.format(first=self.prefix))

    def verify(self, database: Database) -> None:
        """Each room has exactly what was published last, in order."""
        found = {
            row[0]: row[1:]
            for row in database.rows(_CONTENTS.format(first=self.prefix, above=self.seq))
        }
        for room, contents in self.written.items():
            digest = hashlib.md5("|".join(contents).encode(), usedforsecurity=False).hexdigest()
            count = len(contents)
            expected = [str(count), str(self.seq + 1), str(self.seq + count), digest]
            if found.get(room) != expected:
                raise checks.CheckFailed(
                    f"{room}: PostgreSQL has {found.get(room)} instead of {expected}"
                )
        self.seq += len(next(iter(self.written.values())))


@contextlib.contextmanager
def stopped(processes: Sequence[int]) -> Iterator[None]:
    """These processes do nothing within the block."""
    for process in processes:
        os.kill(process, signal.SIGSTOP)
    try:
        yield
    finally:
        for process in processes:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGCONT)


def run_archive(
    stage: Stage, target: Target, backlog: Backlog, options: ArchiveOptions
) -> figures.Round:
    """One turn: fill, archive, verify. `target` is the system's own broker."""
    system, _ = stage.need_system()
    root = int(system["SYSTEM_PROCESS"])
    others = processes_called(root, "parley", "archiver")
    with (
        open_database(system["DATABASE_URL"], root) as database,
        stopped(others),
    ):
        before = backlog.archived(database)
        sizes = filling.table_sizes(database)
        backlog.written = publish_many(
            target, backlog.writer, backlog.rooms, options.events // options.rooms
        )
        if backlog.archived(database) != before:
            raise BenchError("another archiver is at work")
        with servers.open_archiver(system, stage.options.server_core) as archiver:
            meter = accounting.Meter(
                archiver,
                redis_url=system["REDIS_URL"],
                database=database.process,
                server_core=stage.options.server_core,
                generator_core=stage.options.generator_core,
            )
            usage = _watch(
                meter, lambda: backlog.archived(database) - before, options.events, options.patience
            )
        backlog.verify(database)
        grown = filling.table_sizes(database) - sizes
    return _round(target.name, options.events, usage, grown / options.events)


def _watch(
    meter: accounting.Meter, arrived: Callable[[], int], wanted: int, patience: float
) -> accounting.Usage:
    """What it cost from the last look that found nothing to the first that found all.

    The meter is read before each look: behind it, what is done between the two would be missed.
    """
    deadline = time.monotonic() + patience
    start = reading = meter.read()
    while (found := arrived()) < wanted:
        if time.monotonic() > deadline:
            raise checks.CheckFailed(f"{wanted - found} events did not get into PostgreSQL")
        if not found:
            start = reading
        time.sleep(POLL)
        if not found:
            reading = meter.read()
    return accounting.between(start, meter.read())


def _round(
    name: str, events: int, usage: accounting.Usage, bytes_each: filling.Sizes
) -> figures.Round:
    database = usage.database_cpu or 0.0
    return figures.Round(
        target=name,
        figure=events / usage.wall,
        usage=usage,
        details={
            "events": float(events),
            "events_per_archiver_cpu_second": figures.per_cpu_second(events, usage.server_cpu),
            "events_per_cpu_second": figures.per_cpu_second(events, usage.server_cpu + database),
            "archiver_us_per_event": usage.server_cpu / events * 1e6,
            "postgresql_us_per_event": database / events * 1e6,
            "table_bytes_per_message": bytes_each.table,
            "index_bytes_per_message": bytes_each.indexes,
            **figures.redis_details(events, events, usage),
        },
    )


def scenario(stage: Stage, options: ArchiveOptions) -> Scenario:
    """Its rooms, contenders (an empty table and, with `present`, a full one) and bars."""
    if not stage.is_private:
        raise BenchError("the archiver is measured in a private system only: leave out --env-file")
    system, api = stage.need_system()
    prefix = f"{stage.run}-archive-"
    backlog = Backlog(
        prefix=prefix,
        rooms=[f"{prefix}{number}" for number in range(options.rooms)],
        writer=f"{stage.run}-writer",
    )
    contenders: dict[str, Opener] = {
        "archiver": partial(servers.join_broker, system, api, "archiver")
    }
    full = f"archiver-{options.present}-rows"

    @contextlib.contextmanager
    def open_full() -> Iterator[Target]:
        with open_database(system["DATABASE_URL"]) as database:
            filling.fill_messages(database, f"{stage.run}-present", options.present, stage.say)
        with servers.join_broker(system, api, full) as target:
            yield target

    if options.present:
        contenders[full] = open_full

    def bars(rounds: Sequence[figures.Round]) -> list[figures.Bar]:
        value = figures.median(figures.figures_of(rounds, "archiver"))
        found = [figures.Bar(name="events", value=value, limit=40_000, unit="/ s", at_least=True)]
        if options.present:
            share = figures.ratio(rounds, full, "archiver")
            found.append(
                figures.Bar(
                    name="with rows / without", value=share, limit=0.8, unit="", at_least=True
                )
            )
        return found

    return Scenario(
        name="archive",
        unit="events / s",
        parameters=asdict(options),
        contenders=contenders,
        rooms={room: [backlog.writer] for room in backlog.rooms},
        turn=lambda target: run_archive(stage, target, backlog, options),
        bars=bars,
        alternates=False,
    )
