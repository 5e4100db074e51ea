"""The scenarios: which users and rooms, whose turn it is, and what the rounds say together.

Rules: a round is one turn of the broker and one of the floor, in an order that changes from round
to round, so that a machine that becomes slower does so for both. Rooms and users are made once a
run, before anything is measured.
"""

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from bench import figures
from bench.fanout import FanoutOptions, run_fanout
from bench.idle import IdleOptions, run_idle
from bench.latency import LatencyOptions, run_latency
from bench.pairs import PairsOptions, run_pairs
from bench.target import Target

Turn = Callable[[Target], figures.Round]
Opener = Callable[[], contextlib.AbstractContextManager[Target]]

ROOM_OF_IDLE: Final = 50  # idle connections that share a room


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """What to measure: `turn` measures one target once; `bars` judges all rounds."""

    name: str
    unit: str
    parameters: dict[str, Any]
    rooms: dict[str, Sequence[str]]
    turn: Turn
    bars: Callable[[Sequence[figures.Round]], list[figures.Bar]]
    with_floor: bool = True
    fresh: bool = False  # a newly started server for every turn


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """A scenario's rounds."""

    scenario: Scenario
    rounds: list[figures.Round] = field(default_factory=list)

    @property
    def bars(self) -> list[figures.Bar]:
        """The bars with the values of these rounds."""
        return self.scenario.bars(self.rounds)


def run_name() -> str:
    """A prefix for users and rooms that no earlier run has used."""
    return f"bench{time.time_ns() // 1_000_000:x}"


def fanout(run: str, options: FanoutOptions) -> Scenario:
    """One room of many; see `bench.fanout`."""
    name = "fanout-joined" if options.in_flight > 1 else "fanout"
    room = f"{run}-{name}"
    users = [f"{run}-{number}" for number in range(options.receivers)]

    def bars(rounds: Sequence[figures.Round]) -> list[figures.Bar]:
        value = figures.ratio(rounds, "broker", "floor")
        return [figures.Bar(name="broker / floor", value=value, limit=0.5, unit="", at_least=True)]

    return Scenario(
        name=name,
        unit="deliveries / server CPU s",
        parameters=asdict(options),
        rooms={room: users},
        turn=lambda target: run_fanout(target, room, users, options),
        bars=bars,
    )


def pairs(run: str, options: PairsOptions) -> Scenario:
    """Many rooms of two; see `bench.pairs`."""
    rooms: dict[str, Sequence[str]] = {
        f"{run}-pair-{number}": (f"{run}-{2 * number}", f"{run}-{2 * number + 1}")
        for number in range(options.rooms)
    }

    def bars(rounds: Sequence[figures.Round]) -> list[figures.Bar]:
        value = figures.ratio(rounds, "broker", "floor")
        redis = figures.detail(rounds, "broker", "redis_us_per_message")
        return [
            figures.Bar(name="broker / floor", value=value, limit=0.16, unit="", at_least=True),
            figures.Bar(name="Redis CPU", value=redis, limit=30, unit="µs", at_least=False),
        ]

    return Scenario(
        name="pairs",
        unit="messages / server CPU s",
        parameters=asdict(options),
        rooms=rooms,
        turn=lambda target: run_pairs(target, rooms, options),
        bars=bars,
    )


def idle(run: str, options: IdleOptions) -> Scenario:
    """Idle connections; see `bench.idle`. The floor holds no state worth comparing."""
    users = [f"{run}-{number}" for number in range(options.connections)]
    names = [f"{run}-idle-{number // ROOM_OF_IDLE}" for number in range(options.connections)]
    rooms: dict[str, Sequence[str]] = {
        names[first]: users[first : first + ROOM_OF_IDLE]
        for first in range(0, len(users), ROOM_OF_IDLE)
    }

    def bars(rounds: Sequence[figures.Round]) -> list[figures.Bar]:
        value = figures.median(figures.figures_of(rounds, "broker"))
        return [figures.Bar(name="memory", value=value, limit=32, unit="KiB", at_least=False)]

    return Scenario(
        name="idle",
        unit="KiB / connection",
        parameters=asdict(options),
        rooms=rooms,
        turn=lambda target: run_idle(target, names, users, options),
        bars=bars,
        with_floor=False,
        fresh=True,
    )


def latency(run: str, options: LatencyOptions) -> Scenario:
    """Unloaded latency; see `bench.latency`."""
    room = f"{run}-latency"
    users = [f"{run}-{number}" for number in range(options.receivers)]

    def bars(rounds: Sequence[figures.Round]) -> list[figures.Bar]:
        value = figures.median(figures.figures_of(rounds, "broker"))
        return [figures.Bar(name="p50", value=value, limit=1.5, unit="ms", at_least=False)]

    return Scenario(
        name="latency",
        unit="ms (p50)",
        parameters=asdict(options),
        rooms={room: users},
        turn=lambda target: run_latency(target, room, users, options),
        bars=bars,
    )


@contextlib.contextmanager
def _open_all(openers: Mapping[str, Opener]) -> Iterator[dict[str, Target]]:
    with contextlib.ExitStack() as stack:
        yield {name: stack.enter_context(opener()) for name, opener in openers.items()}


def run_scenario(
    scenario: Scenario, openers: Mapping[str, Opener], rounds: int, say: Callable[[str], None]
) -> Outcome:
    """All rounds of one scenario. `openers` start a server each; `say` gets progress lines."""
    used = {
        name: opener
        for name, opener in openers.items()
        if scenario.with_floor or name != "floor" or len(openers) == 1
    }
    outcome = Outcome(scenario=scenario)
    lasting = {} if scenario.fresh else used
    with _open_all(lasting) as targets:
        for target in targets.values():
            target.prepare_rooms(scenario.rooms)
        for number in range(rounds):
            order = list(used) if number % 2 == 0 else list(reversed(used))
            for name in order:
                if scenario.fresh:
                    with used[name]() as target:
                        target.prepare_rooms(scenario.rooms)
                        one = scenario.turn(target)
                else:
                    one = scenario.turn(targets[name])
                outcome.rounds.append(one)
                say(describe_round(scenario, number + 1, one))
    return outcome


def describe_round(scenario: Scenario, number: int, one: figures.Round) -> str:
    """A line of progress."""
    text = f"{scenario.name} round {number} {one.target}: {one.figure:,.2f} {scenario.unit}"
    usage = one.usage
    text += f", server {usage.server_cpu / usage.wall:.0%} of a core"
    text += f", generator {usage.generator_cpu / usage.wall:.0%}"
    text += f" and {usage.generator_waiting / usage.wall:.0%} waiting for its core"
    if usage.generator_core is not None:
        text += f" (busy {usage.generator_core:.0%})"
    if figures.is_disturbed(usage):
        text += f"; DISTURBED: others had {figures.foreign_share(usage):.0%} of the server's core"
    return text + (f"; REFUSED: {one.refused}" if one.refused else "")
