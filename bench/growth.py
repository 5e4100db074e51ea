"""What a message costs while something else grows: live rooms, rooms of a user, members of a room.

Rules: the same few rooms of two exchange messages in a closed loop (`bench.pairs`) on a fresh
broker; between the contenders only the one size differs:

- `rooms`: so many further rooms are subscribed on the node, by a crowd that does nothing;
- `user`: everybody who writes is a member of so many rooms and subscribed to all of them;
- `members`: so many members has each room, two of them connected.

Rooms and members are made by PostgreSQL before, so only a private system can be used. What the
node does when nobody writes (it renews and audits its rooms) grows too and is part of what a
message costs here; it is measured by itself before, as a share of a core.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from types import MappingProxyType
from typing import Final

from bench import accounting, figures, servers
from bench.connection import BenchError, Connection, open_connections
from bench.crowd import attending, subscribe_many
from bench.database import Database, open_database
from bench.pairs import PairsOptions, run_pairs
from bench.scenarios import Scenario
from bench.stage import Stage
from bench.target import Target

SIZES: Final[Mapping[str, Sequence[int]]] = MappingProxyType(
    {"rooms": (100, 2000, 50_000), "user": (1, 100, 1000), "members": (10, 1000, 10_000)}
)
ROOMS_OF_ONE: Final = 500  # subscriptions of one connection of the crowd
FLAT: Final = 1.15
_USERS: Final = """
INSERT INTO users (project, id)
SELECT DISTINCT 'default', u FROM unnest(ARRAY[{users}]) u ON CONFLICT DO NOTHING"""
_MANY_USERS: Final = """
INSERT INTO users (project, id)
SELECT 'default', '{prefix}' || n FROM generate_series(0, {last}) n ON CONFLICT DO NOTHING"""
_NAMES: Final = "SELECT '{prefix}' || k FROM generate_series(0, {last}) k"
_ROOMS: Final = """
INSERT INTO rooms (project, id) SELECT 'default', '{prefix}' || n
FROM generate_series({first}, {last}) n ON CONFLICT DO NOTHING"""
_MEMBERS: Final = """
INSERT INTO members (room_pk, user_id, project)
SELECT r.pk, u, 'default' FROM rooms r CROSS JOIN ({users}) AS m (u)
WHERE r.project = 'default' AND r.id = ANY (
    SELECT '{prefix}' || n FROM generate_series({first}, {last}) n)
ON CONFLICT DO NOTHING"""


@dataclass(frozen=True, kw_only=True)
class GrowthOptions:
    """Sizes of the scenario. `sizes`: of what grows, ascending."""

    direction: str
    sizes: Sequence[int]
    rooms: int = 20
    seconds: float = 5.0


@dataclass(frozen=True, kw_only=True)
class _Case:
    """One size: who exchanges messages where, and what else is there."""

    rooms: Mapping[str, Sequence[str]]
    crowd: Sequence[str] = ()  # users who are only there
    crowd_rooms: Sequence[Sequence[str]] = ()
    more_rooms: Sequence[str] = field(default=())  # of everybody who writes


def run_growth(target: Target, case: _Case, options: PairsOptions) -> figures.Round:
    """One turn with one size."""

    def subscribe_more(connections: Sequence[Connection]) -> None:
        if case.more_rooms:
            subscribe_many(connections, [case.more_rooms] * len(connections))

    with attending() as crowd:
        for user, names in zip(case.crowd, case.crowd_rooms, strict=True):
            coming = open_connections(target, [user], names[:1])
            subscribe_many(coming, [names])
            crowd.add(coming)
        meter = target.meter()
        before = meter.read()
        time.sleep(options.seconds)
        quiet = accounting.between(before, meter.read())
        found = run_pairs(target, case.rooms, options, subscribe_more)
    percent = quiet.server_cpu / quiet.wall * 100
    return replace(found, details={**found.details, "cpu_percent_without_messages": percent})


class _Ground:
    """Makes rooms and members inside PostgreSQL."""

    def __init__(self, database: Database, run: str) -> None:
        self._database = database
        self._run = run

    def make_rooms(self, prefix: str, first: int, last: int, users: Sequence[str]) -> list[str]:
        """Rooms `prefix` + number with these members; their names."""
        names = ", ".join(f"('{user}')" for user in users)
        quoted = ", ".join(f"'{user}'" for user in users)
        place = {"prefix": prefix, "first": first, "last": last}
        self._database.rows(_USERS.format(users=quoted))
        self._database.rows(_ROOMS.format(**place))
        self._database.rows(_MEMBERS.format(**place, users=f"VALUES {names}"))
        return [f"{prefix}{number}" for number in range(first, last + 1)]

    def add_members(self, prefix: str, last: int, count: int) -> None:
        """So many further members for rooms 0 to `last`."""
        users = f"{self._run}-member-"
        self._database.rows(_MANY_USERS.format(prefix=users, last=count - 1))
        chosen = _NAMES.format(prefix=users, last=count - 1)
        self._database.rows(_MEMBERS.format(prefix=prefix, first=0, last=last, users=chosen))

    def pairs(self, prefix: str, count: int) -> dict[str, list[str]]:
        """Rooms of two."""
        found = {}
        for number in range(count):
            users = [f"{prefix}{number}-ann", f"{prefix}{number}-bob"]
            self.make_rooms(prefix, number, number, users)
            found[f"{prefix}{number}"] = users
        return found


def _rooms_case(ground: _Ground, run: str, size: int, rooms: int) -> _Case:
    crowd, crowd_rooms = [], []
    for first in range(0, size, ROOMS_OF_ONE):
        user = f"{run}-crowd-{first}"
        last = min(first + ROOMS_OF_ONE, size) - 1
        crowd.append(user)
        crowd_rooms.append(ground.make_rooms(f"{run}-live-", first, last, [user]))
    return _Case(rooms=ground.pairs(f"{run}-r{size}-", rooms), crowd=crowd, crowd_rooms=crowd_rooms)


def _user_case(ground: _Ground, run: str, size: int, rooms: int) -> _Case:
    pairs = ground.pairs(f"{run}-u{size}-", rooms)
    users = [user for both in pairs.values() for user in both]
    more: list[str] = []
    if size > 1:
        more = ground.make_rooms(f"{run}-of{size}-", 0, size - 2, users)
    return _Case(rooms=pairs, more_rooms=more)


def _members_case(ground: _Ground, run: str, size: int, rooms: int) -> _Case:
    prefix = f"{run}-m{size}-"
    pairs = ground.pairs(prefix, rooms)
    if size > 2:
        ground.add_members(prefix, rooms - 1, size - 2)
    return _Case(rooms=pairs)


_CASES: Final[Mapping[str, Callable[[_Ground, str, int, int], _Case]]] = MappingProxyType(
    {"rooms": _rooms_case, "user": _user_case, "members": _members_case}
)


def scenarios_of(
    directions: Sequence[str], sizes: Sequence[int], seconds: float
) -> list[Callable[[Stage], Scenario]]:
    """A scenario for each direction (all, when none is named); `sizes` instead of the usual."""
    return [
        partial(
            scenario,
            options=GrowthOptions(
                direction=direction, sizes=sorted(set(sizes)) or SIZES[direction], seconds=seconds
            ),
        )
        for direction in directions or SIZES
    ]


def scenario(stage: Stage, options: GrowthOptions) -> Scenario:
    """One direction: a contender for each size."""
    system, api = stage.need_system()
    if not stage.is_private:
        raise BenchError("growth fills its tables: leave out --env-file")
    direction, sizes = options.direction, options.sizes
    build = _CASES[direction]
    with open_database(system["DATABASE_URL"]) as database:
        ground = _Ground(database, stage.run)
        cases = {
            f"{direction}-{size}": build(ground, stage.run, size, options.rooms) for size in sizes
        }
        database.rows("VACUUM (ANALYZE) rooms")
        database.rows("VACUUM (ANALYZE) members")
    pairs = PairsOptions(rooms=options.rooms, seconds=options.seconds)

    def bars(rounds: Sequence[figures.Round]) -> list[figures.Bar]:
        least, *_, most = cases
        cost = figures.ratio(rounds, least, most)
        name = f"cost at {sizes[-1]:,} / at {sizes[0]:,}"
        return [figures.Bar(name=name, value=cost, limit=FLAT, unit="", at_least=False)]

    return Scenario(
        name=f"growth-{direction}",
        unit="messages / server CPU s",
        parameters=asdict(options),
        contenders={
            name: partial(servers.open_broker, system, api, **stage.cores, name=name)
            for name in cases
        },
        turn=lambda target: run_growth(target, cases[target.name], pairs),
        bars=bars,
        fresh=True,
    )
