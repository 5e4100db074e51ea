"""What a seed stands for: settings, faults with their times, and a generator for each client.

The same seed, kinds of faults and number of events give the same plan. When things happen within
the system differs from run to run all the same, so a seed repeats a breach often, not always.
"""

import random
from dataclasses import dataclass, field

from tests.faults.storm.faults import Fault, Layout, all_kinds

SPAN = 12.0
"""Seconds over which faults begin."""
_FAULTS = (4, 9)
_WHOLE = 3000
"""Events from which a run has all of that; a shorter one has fewer and shorter faults."""
_SHORTEST = 0.3


@dataclass
class Plan:
    """A run as it is meant to go."""

    seed: int
    events: int
    settings: dict[str, str]
    appendfsync: str
    layout: Layout = "one server"
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

    @property
    def prepares(self) -> list[str]:
        """What PostgreSQL is told before anything runs, each statement once."""
        return list(dict.fromkeys(text for fault in self.faults for text in fault.prepares))

    def rng_of(self, name: str) -> random.Random:
        """The generator of one client or of one purpose."""
        return random.Random(f"{self.seed}/{name}")


def make_plan(seed: int, *, events: int, kinds: list[str] | None = None) -> Plan:
    """The plan of a seed; `kinds` are the faults it may choose from (None: all, []: none)."""
    rng = random.Random(f"{seed}/plan")
    settings = _settings(rng)
    allowed = list(all_kinds()) if kinds is None else sorted(kinds)
    layout = _layout(seed, allowed, is_free=kinds is None)
    fit = [kind for kind in allowed if all_kinds()[kind].layout in (None, layout)]
    part = min(1.0, max(_SHORTEST, events / _WHOLE))
    faults = _faults(rng, fit, layout, part) if fit else []
    # A kill of Redis loses nothing only if every answered write is in its file.
    needs_all = any(fault.kind == "redis-kill" for fault in faults)
    appendfsync = "always" if needs_all else "everysec"
    return Plan(seed, events, settings, appendfsync, layout, kinds, faults)


def _layout(seed: int, kinds: list[str], *, is_free: bool) -> Layout:
    """One run in eight is with sentinels; if kinds are asked for, the layout of most of them."""
    if is_free:
        return "sentinels" if random.Random(f"{seed}/layout").random() < 1 / 8 else "one server"
    wanted = [all_kinds()[kind].layout for kind in kinds]
    return "sentinels" if wanted.count("sentinels") > wanted.count("one server") else "one server"


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


def _faults(rng: random.Random, kinds: list[str], layout: Layout, part: float) -> list[Fault]:
    classes = [all_kinds()[kind] for kind in kinds]
    weights = [found.weight for found in classes]
    count = rng.randint(max(2, round(_FAULTS[0] * part)), max(2, round(_FAULTS[1] * part)))
    faults: list[Fault] = []
    busy_until: dict[str, float] = {}
    for at in sorted(rng.uniform(0.0, SPAN * part) for _ in range(count)):
        fault = rng.choices(classes, weights)[0](rng)
        while layout == "sentinels" and any(way.endswith("-redis") for way in fault.ways):
            # Processes ask sentinels for the server's port, so no proxy can be on that way.
            fault = type(fault)(rng)
        fault.at = at
        fault.length *= part
        # What a fault takes is its own: the next one of the same waits until it is over.
        for name in fault.takes:
            fault.at = max(fault.at, busy_until.get(name, 0.0))
        for name in fault.takes:
            busy_until[name] = fault.at + fault.length + 0.5
        faults.append(fault)
    return sorted(faults, key=lambda fault: fault.at)
