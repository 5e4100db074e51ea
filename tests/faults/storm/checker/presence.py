"""Who is told to be online is who has a live subscription, give or take the time that it may take.

Judged are only users for whom nothing has changed for `presence_limit` seconds before the question:
there all the time (must be told), or not there and not trying to be (must not be).
"""

from collections import defaultdict
from collections.abc import Iterator
from typing import NamedTuple

from tests.faults.storm.checker.breaches import Breach, Kind
from tests.faults.storm.checker.knowledge import Knowledge
from tests.faults.storm.record import Connection, Presence, Record, Subscribed, Unsubscribed, Window

_FOREVER = float("inf")


class _Stay(NamedTuple):
    """A subscription in time. `is_sure`: its client read all the while and so knows its end."""

    user: str
    begun: float
    ended: float
    is_sure: bool


def check_presence(known: Knowledge) -> Iterator[Breach]:
    stays, tries = _stays(known.record), _tries(known.record)
    limit = known.circumstances.presence_limit
    for seen in _observations(known.record):
        since = seen.begun - limit
        trouble = known.circumstances.presence_trouble
        if any(window.touches(since, seen.ended) for window in trouble):
            continue
        near, sure = set(), set()
        for stay in stays[seen.room]:
            if stay.begun <= seen.ended and stay.ended >= since:
                near.add(stay.user)
            if stay.is_sure and stay.begun <= since and stay.ended >= seen.ended:
                sure.add(stay.user)
        for user, window in tries[seen.room]:
            if window.touches(since, seen.ended):
                near.add(user)
        name = f"{seen.room} at {seen.ended:.3f}"
        for user in sorted(seen.users - near):
            yield Breach(Kind.WRONG_PRESENCE, f"{name}: {user} is a ghost")
        for user in sorted(sure - seen.users):
            yield Breach(Kind.WRONG_PRESENCE, f"{name}: {user} is not told")


def _observations(record: Record) -> Iterator[Presence]:
    yield from record.presence
    for operation in record.operations:
        if operation.kind == "presence" and operation.outcome == "ok":
            users = frozenset(one["user"] for one in operation.answer["users"])
            if len(users) == operation.answer["count"] and operation.ended is not None:
                yield Presence(operation.room, operation.begun, operation.ended, users)


def _stays(record: Record) -> dict[str, list[_Stay]]:
    stays: dict[str, list[_Stay]] = defaultdict(list)
    for connection in record.connections:
        live: dict[str, float] = {}
        for frame in connection.frames:
            if isinstance(frame, Subscribed):
                live.setdefault(frame.room, frame.at)
            elif isinstance(frame, Unsubscribed) and frame.room in live:
                begun = live.pop(frame.room)
                stays[frame.room].append(_stay(connection, begun, frame.at))
        ended = _FOREVER if connection.closed is None else connection.closed
        for room, begun in live.items():
            stays[room].append(_stay(connection, begun, ended))
    return stays


def _stay(connection: Connection, begun: float, ended: float) -> _Stay:
    return _Stay(connection.user, begun, ended, connection.is_reading)


def _tries(record: Record) -> dict[str, list[tuple[str, Window]]]:
    """Subscribes without an answer may have come and gone unseen."""
    tries: dict[str, list[tuple[str, Window]]] = defaultdict(list)
    for operation in record.operations:
        if operation.kind == "subscribe" and operation.outcome == "unknown" and operation.user:
            ended = operation.begun if operation.ended is None else operation.ended
            tries[operation.room].append((operation.user, Window(operation.begun, ended)))
    return tries
