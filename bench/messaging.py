"""The scenarios of live messages (fanout, pairs, idle, latency): their rooms, users and bars."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from types import MappingProxyType
from typing import Final

from bench import figures
from bench.beside import loaded
from bench.fanout import FanoutOptions, run_fanout
from bench.idle import IdleOptions, run_idle
from bench.latency import LatencyOptions, run_latency
from bench.pairs import PairsOptions, run_pairs
from bench.scenarios import Scenario
from bench.stage import Stage
from bench.target import Target

ROOM_OF_IDLE: Final = 50  # idle connections that share a room
NCHAN, SOCKETIO = "nchan-redis", "socketio-streams"

# How far ahead of a contender the broker is to be: (contender, factor, counting Redis' CPU too).
Lead = tuple[str, float, bool]
LEADS: Final[Mapping[str, Sequence[Lead]]] = MappingProxyType(
    {
        "fanout": (("floor", 0.85, False), (NCHAN, 1.1, False), (SOCKETIO, 2, False)),
        "fanout-joined": (("floor-c", 1.5, False), (SOCKETIO, 4, False)),
        "pairs": (
            ("floor", 0.16, False),
            (NCHAN, 1.0, False),
            (NCHAN, 2, True),
            (SOCKETIO, 2, True),
        ),
    }
)


def leads(name: str, rounds: Sequence[figures.Round]) -> list[figures.Bar]:
    """The bars of a scenario against whoever took turns in it; the floors are always named."""
    present = {one.target for one in rounds} | {"floor", "floor-c"}
    bars = []
    for other, limit, with_redis in LEADS[name]:
        if other in present:
            value = figures.ratio(rounds, "broker", other)
            if with_redis:
                value = figures.detail_ratio(rounds, "broker", other, figures.WITH_REDIS)
            label = f"broker / {other}" + (", Redis counted" if with_redis else "")
            bars.append(figures.Bar(name=label, value=value, limit=limit, unit="", at_least=True))
    return bars


def fanout(stage: Stage, options: FanoutOptions) -> Scenario:
    """One room of many; see `bench.fanout`."""
    name = "fanout-joined" if options.in_flight > 1 else "fanout"
    room = f"{stage.run}-{name}"
    users = [f"{stage.run}-{number}" for number in range(options.receivers)]
    return Scenario(
        name=name,
        unit="deliveries / server CPU s",
        parameters=asdict(options),
        contenders=stage.contenders(name),
        rooms={room: users},
        turn=lambda target: run_fanout(target, room, users, options),
        bars=lambda rounds: leads(name, rounds),
    )


def pairs(stage: Stage, options: PairsOptions) -> Scenario:
    """Many rooms of two; see `bench.pairs`."""
    rooms: dict[str, Sequence[str]] = {
        f"{stage.run}-pair-{number}": (f"{stage.run}-{2 * number}", f"{stage.run}-{2 * number + 1}")
        for number in range(options.rooms)
    }

    def bars(rounds: Sequence[figures.Round]) -> list[figures.Bar]:
        redis = figures.detail(rounds, "broker", "redis_us_per_message")
        return [
            *leads("pairs", rounds),
            figures.Bar(name="Redis CPU", value=redis, limit=25, unit="µs", at_least=False),
        ]

    return Scenario(
        name="pairs-paused" if options.pause else "pairs",
        unit="messages / server CPU s",
        parameters=asdict(options),
        contenders=stage.contenders("pairs"),
        rooms=rooms,
        turn=lambda target: run_pairs(target, rooms, options),
        bars=bars,
    )


def idle(stage: Stage, options: IdleOptions) -> Scenario:
    """Idle connections; see `bench.idle`. The floors hold no state worth comparing."""
    run = stage.run
    users = [f"{run}-{number}" for number in range(options.connections)]
    names = [f"{run}-idle-{number // ROOM_OF_IDLE}" for number in range(options.connections)]
    rooms: dict[str, Sequence[str]] = {
        names[first]: users[first : first + ROOM_OF_IDLE]
        for first in range(0, len(users), ROOM_OF_IDLE)
    }

    def bars(rounds: Sequence[figures.Round]) -> list[figures.Bar]:
        memory = figures.median(figures.figures_of(rounds, "broker"))
        share = figures.detail(rounds, "broker", "cpu_percent_per_1000_idle")
        return [
            figures.Bar(name="memory", value=memory, limit=20, unit="KiB", at_least=False),
            figures.Bar(name="CPU of 1 000 idle", value=share, limit=1, unit="%", at_least=False),
        ]

    return Scenario(
        name=f"idle-{options.connections}",
        unit="KiB / connection",
        parameters=asdict(options),
        contenders=stage.contenders("idle", floors=False),
        rooms=rooms,
        turn=lambda target: run_idle(target, names, users, options),
        bars=bars,
        fresh=True,
        more_is_better=False,
    )


def latency(stage: Stage, options: LatencyOptions) -> Scenario:
    """Open loop latency, alone or beside a room under load; see `bench.latency`."""
    room, other = f"{stage.run}-latency", f"{stage.run}-beside"
    users = [f"{stage.run}-{number}" for number in range(options.receivers)]
    crowd = [f"{stage.run}-{number}" for number in range(options.beside)]

    def turn(target: Target) -> figures.Round:
        if not crowd:
            return run_latency(target, room, users, options)
        with loaded(target, other, crowd) as rate:
            found = run_latency(target, room, users, options)
        return replace(found, details={**found.details, "deliveries_per_second_beside": rate[0]})

    def bars(rounds: Sequence[figures.Round]) -> list[figures.Bar]:
        value = figures.median(figures.figures_of(rounds, "broker"))
        p99 = figures.detail(rounds, "broker", "p99_ms")
        if crowd:
            return [figures.Bar(name="p99", value=p99, limit=20, unit="ms", at_least=False)]
        return [
            figures.Bar(name="p50", value=value, limit=0.6, unit="ms", at_least=False),
            figures.Bar(name="p99", value=p99, limit=3, unit="ms", at_least=False),
        ]

    return Scenario(
        name="latency-beside-load" if crowd else "latency",
        unit="ms p50",
        parameters=asdict(options),
        contenders=stage.contenders("latency"),
        rooms={room: users, other: crowd} if crowd else {room: users},
        turn=turn,
        bars=bars,
        more_is_better=False,
    )
