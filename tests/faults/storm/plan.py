"""What a seed stands for: settings, faults with their times, and a generator for each client.

The same seed, kinds of faults and number of events give the same plan. When things happen within
the system differs from run to run all the same, so a seed repeats a breach often, not always.
"""

import random
from dataclasses import dataclass, field

from tests.faults.storm.faults import Fault, all_kinds

SPAN = 12.0
"""Seconds over which faults begin."""
_FAULTS = (4, 9)


@dataclass
class Plan:
    """A run as it is meant to go."""

    seed: int
    events: int
    settings: dict[str, str]
    appendfsync: str
    allowed: list[str] | None = None
    """The kinds that were to be chosen from; None: all."""
    faults: list[Fault] = field(default_factory=list)

    @property
    def kinds(self) -> list[str]:
        return [fault.kind for fault in self.faults]

    @property
    def ways(self) -> set[str]:
        """The ways that its faults hit."""
        return {name for fault in self.faults for name in fault.ways}

    def rng_of(self, name: str) -> random.Random:
        """The generator of one client or of one purpose."""
        return random.Random(f"{self.seed}/{name}")


def make_plan(seed: int, *, events: int, kinds: list[str] | None = None) -> Plan:
    """The plan of a seed; `kinds` are the faults it may choose from (None: all, []: none)."""
    rng = random.Random(f"{seed}/plan")
    settings = _settings(rng)
    allowed = list(all_kinds()) if kinds is None else sorted(kinds)
    faults = _faults(rng, allowed) if allowed else []
    # A kill of Redis loses nothing only if every answered write is in its file.
    needs_all = any(fault.kind == "redis-kill" for fault in faults)
    appendfsync = "always" if needs_all else "everysec"
    return Plan(seed, events, settings, appendfsync, kinds, faults)


def _settings(rng: random.Random) -> dict[str, str]:
    """Settings under which faults matter soon."""
    lease = rng.choice((1.5, 3.0, 5.0))
    return {
        "NODE_LEASE": f"{int(lease * 1000)}ms",
        "PRESENCE_GRACE": rng.choice(("0s", "500ms", "1s")),
        "ROOM_LOG_LENGTH": rng.choice(("50", "300", "1000")),
        "ROOM_LOG_TTL": rng.choice(("1s", "24h")),
        "DRAIN_SECONDS": rng.choice(("1", "3")),
        "ARCHIVE_BATCH": rng.choice(("20", "100", "500")),
        "ARCHIVE_INTERVAL": rng.choice(("10ms", "100ms", "500ms")),
        "ARCHIVE_BACKLOG_LIMIT": rng.choice(("4000", "1000000")),
        "PING_INTERVAL": "4s",
        "PONG_TIMEOUT": "3s",
        "SEND_QUEUE_BYTES": "1048576",
    }


def _faults(rng: random.Random, kinds: list[str]) -> list[Fault]:
    classes = [all_kinds()[kind] for kind in kinds]
    weights = [found.weight for found in classes]
    count = rng.randint(*_FAULTS)
    faults: list[Fault] = []
    busy_until: dict[str, float] = {}
    for at in sorted(rng.uniform(0.0, SPAN) for _ in range(count)):
        fault = rng.choices(classes, weights)[0](rng)
        fault.at = at
        # What a fault takes is its own: the next one of the same waits until it is over.
        for name in fault.takes:
            fault.at = max(fault.at, busy_until.get(name, 0.0))
        for name in fault.takes:
            busy_until[name] = fault.at + fault.length + 0.5
        faults.append(fault)
    return sorted(faults, key=lambda fault: fault.at)
