"""Who is told to be online is who has a live subscription, give or take the time that it may take.

Judged are only users for whom nothing has changed for `presence_limit` seconds before the question:
there all the time (must be told), or not there and not trying to be (must not be). And of an
absence that was shorter than the grace, while nothing else was wrong, nobody may hear.
"""

from collections import defaultdict
from collections.abc import Iterator
from typing import NamedTuple

from tests.faults.storm.checker.breaches import Breach, Kind
from tests.faults.storm.checker.knowledge import Knowledge
from tests.faults.storm.record import (
    Connection,
    Ephemeral,
    Presence,
    Record,
    Subscribed,
    Unsubscribed,
    Window,
)

_FOREVER = float("inf")
_TOLD = ("presence.joined", "presence.left")
_TOLD_WITHIN = 5.0
"""Seconds after the return in which something told is about the absence."""


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


def check_absences(known: Knowledge) -> Iterator[Breach]:
    """Nobody is told that somebody left or came who was back within the grace.

    A slow reader hears late: what somebody else was told before the absence is not about it.
    """
    absences = {(one.user, one.room): one for one in known.circumstances.absences}
    told_first = _told_first(known.record)
    for connection in known.record.connections:
        for frame in connection.frames:
            if not isinstance(frame, Ephemeral) or frame.event not in _TOLD:
                continue
            absence = absences.get((frame.data["user"], frame.room))
            if absence is None or told_first[_news(frame)] < absence.begun:
                continue
            if frame.at <= absence.ended + _TOLD_WITHIN:
                yield Breach(
                    Kind.FLAPPED,
                    f"{connection.user} in {frame.room}: {frame.event} of {absence.user}, who was "
                    f"gone for {absence.ended - absence.begun:.3f} s",
                )


def _news(frame: Ephemeral) -> tuple[str, str, str, str]:
    """The same for everybody who is told of one coming or going."""
    stamp = frame.data.get("since") or frame.data.get("last_seen_at") or str(frame.at)
    return frame.room, frame.event, frame.data["user"], stamp


def _told_first(record: Record) -> dict[tuple[str, str, str, str], float]:
    first: dict[tuple[str, str, str, str], float] = {}
    for connection in record.connections:
        for frame in connection.frames:
            if isinstance(frame, Ephemeral) and frame.event in _TOLD:
                news = _news(frame)
                first[news] = min(frame.at, first.get(news, _FOREVER))
    return first


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
