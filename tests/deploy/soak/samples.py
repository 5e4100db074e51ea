"""What is measured each minute of a soak, and the judgement whether anything grows.

Pure but for `Sampler`. A process that a fault has ended is another one afterwards and is not
compared; those that live through the whole soak are.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from statistics import median

import psutil

from tests.support.metrics import MetricsPage
from tests.support.servers import PostgresServer, RedisServer

MIB = 1024 * 1024
# Allocators keep what a fault's burst took, and pools open connections when they are needed.
GROWTH_SHARE = 0.10
GROWTH_BYTES = 6 * MIB
DESCRIPTORS_MORE = 12
TASKS_MORE = 12
REDIS_FROM_MINUTE = 20
"""Idempotency keys are kept in buckets that end twenty minutes after they were begun."""
POSTGRES_MORE = 24
"""Pools open connections when a fault has made requests wait, and keep them: ten a process."""
POSTGRES_GROWTH = (128 + 8 * POSTGRES_MORE) * MIB
"""What is read fills the shared buffers (128 MiB), and each connection has caches of its own."""
AROUND = 3
"""Samples whose median stands for a moment."""


@dataclass(frozen=True)
class Sample:
    """One process, or Redis, at one moment. Sizes in bytes."""

    minute: int
    pid: int
    rss: int
    pss: int
    descriptors: int = 0
    tasks: int = 0
    connections: int = 0

    @property
    def own_descriptors(self) -> int:
        """Without those of clients, who come and go."""
        return self.descriptors - self.connections


@dataclass
class Series:
    """The samples of one part, in order."""

    name: str
    samples: list[Sample] = field(default_factory=list)

    def of_the_last_process(self) -> list[Sample]:
        return [sample for sample in self.samples if sample.pid == self.samples[-1].pid]


@dataclass(frozen=True)
class Change:
    """How one figure was around the minute that is compared, and at the end."""

    name: str
    figure: str
    before: float
    after: float
    allowed: float

    @property
    def is_growth(self) -> bool:
        return self.after > self.allowed


def changes(series: Series, from_minute: int) -> list[Change]:
    """The figures of a part whose process lived from `from_minute` to the end; else none."""
    samples = series.of_the_last_process()
    if series.name == "redis":
        from_minute = max(from_minute, REDIS_FROM_MINUTE)
    early = [sample for sample in samples if sample.minute >= from_minute - AROUND // 2]
    if len(early) < 2 * AROUND or early[0].minute > from_minute:
        return []
    first, last = early[:AROUND], early[-AROUND:]
    is_postgres = series.name == "postgres"
    found = []
    for figure, more, share in (
        ("rss", GROWTH_BYTES, GROWTH_SHARE),
        ("pss", POSTGRES_GROWTH if is_postgres else GROWTH_BYTES, GROWTH_SHARE),
        ("own_descriptors", POSTGRES_MORE if is_postgres else DESCRIPTORS_MORE, 0.0),
        ("tasks", TASKS_MORE, 0.0),
    ):
        if is_postgres and figure == "rss":
            continue  # counts the shared buffers once for each process
        before, after = (median(getattr(s, figure) for s in some) for some in (first, last))
        found.append(Change(series.name, figure, before, after, before + max(more, share * before)))
    return found


def table(every: Mapping[str, Series], from_minute: int) -> str:
    """A line for each figure of each part that lived all the time, and whether it is flat."""
    lines = [
        f"| part | figure | minute {from_minute} (Redis {REDIS_FROM_MINUTE}) | end | |",
        "|---|---|---|---|---|",
    ]
    for series in every.values():
        for change in changes(series, from_minute):
            is_size = change.figure in ("rss", "pss")
            figures = [
                f"{value / MIB:.1f} MiB" if is_size else f"{value:.0f}"
                for value in (change.before, change.after)
            ]
            word = "GROWS" if change.is_growth else "flat"
            lines.append(f"| {series.name} | {change.figure} | {' | '.join(figures)} | {word} |")
    return "\n".join(lines)


def growths(every: Mapping[str, Series], from_minute: int) -> list[str]:
    """A sentence for each figure that grows."""
    return [
        f"{change.name}: {change.figure} grew from {change.before:.0f} to {change.after:.0f}"
        for series in every.values()
        for change in changes(series, from_minute)
        if change.is_growth
    ]


async def sample_process(minute: int, pid: int, page: MetricsPage) -> Sample:
    """One of Parley's processes, as the kernel and its metrics see it."""
    process = psutil.Process(pid)
    memory = process.memory_full_info()
    descriptors = process.num_fds()
    values = await page.read()

    def value(name: str) -> int:
        return int(values.get((name, frozenset()), 0.0))

    return Sample(
        minute,
        pid,
        rss=memory.rss,
        pss=memory.pss,
        descriptors=descriptors,
        tasks=value("parley_tasks"),
        connections=value("parley_connections"),
    )


def sample_redis(minute: int, server: RedisServer) -> Sample:
    """Redis by its own account: `used_memory`, since its allocator keeps what it has had."""
    info = server.command("INFO").decode()
    fields = dict(line.split(":", 1) for line in info.splitlines() if ":" in line)
    used = int(fields["used_memory"])
    return Sample(minute, server.pid, used, used, descriptors=int(fields["connected_clients"]))


def sample_postgres(minute: int, server: PostgresServer) -> Sample:
    """All of its processes together; pages that they share are counted once in `pss`."""
    family = [psutil.Process(server.pid), *psutil.Process(server.pid).children(recursive=True)]
    rss = pss = 0
    for process in family:
        try:
            memory = process.memory_full_info()
        except psutil.NoSuchProcess:
            continue
        rss, pss = rss + memory.rss, pss + memory.pss
    return Sample(minute, server.pid, rss, pss, descriptors=len(family))
