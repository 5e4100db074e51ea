"""A user's rooms by activity, each with its newest message, as of now.

Law of this file:
- The order is that of the rooms' newest messages. PostgreSQL knows those that are archived; among
  the LIVE_ROOMS_MAX rooms that it has at the top, what only Redis has counts too. A message in a
  room farther down moves it up when it is archived, normally within a fraction of a second.
- What is said of a room on the page is right at once: Redis is read first, PostgreSQL second, and
  the events above PostgreSQL's watermark are applied, as in `history`.
- `unread_total` is the sum over the LIVE_ROOMS_MAX most recently active rooms and ends at
  UNREAD_MAX, so that its cost has a bound: rooms are looked at in their order until it is reached.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Protocol

from broker.domain.rooms import overlay_room
from broker.domain.scattered import EndReader, Wanted, load_scattered
from broker.domain.unread import InputsReader, Reader, count_unread
from storage.postgres import room_lists as rows
from storage.postgres.pool import Database
from storage.postgres.room_lists import ActiveRoom, RoomDetails
from storage.postgres.unread import UNREAD_MAX
from storage.redis.keys import room_key
from storage.redis.outcomes import RoomEnd

LIVE_ROOMS_MAX: Final = 200
"""Rooms at the top of a list that Redis is asked about: some hundred microseconds of it."""
_COUNTED_AT_ONCE: Final = 50


class ListReader(EndReader, InputsReader, Protocol):
    """What is needed of `RoomStore`."""


@dataclass(frozen=True, slots=True)
class RoomPage:
    """A part of a user's rooms as JSON objects, and the sums over all of them."""

    items: list[bytes]
    total: int
    unread_total: int


@dataclass(frozen=True, slots=True)
class _Row:
    """A room of the list while it is being put together."""

    pk: int
    id: str
    key: str
    active_ms: int
    end: RoomEnd | None


async def list_user_rooms(
    db: Database, store: ListReader, project: str, user: str, *, skip: int, limit: int
) -> RoomPage:
    """The user's rooms behind the `skip` most recently active ones. Raises StorageUnavailable.

    Safe to cancel (reads only).
    """
    total = await rows.count_rooms(db, project, user)
    top = await rows.list_active(db, project, user, skip=0, limit=LIVE_ROOMS_MAX, total=total)
    page: list[ActiveRoom] = []
    missing = min(skip + limit, total) - max(skip, LIVE_ROOMS_MAX)
    if missing > 0:
        page = await rows.list_active(
            db, project, user, skip=max(skip, LIVE_ROOMS_MAX), limit=missing, total=total
        )
    found = await _with_ends(store, project, [*top, *page])
    newest = sorted(found[: len(top)], key=lambda row: (row.active_ms, row.pk), reverse=True)
    chosen = [*newest[skip : skip + limit], *found[len(top) :]]
    details = await rows.read_details(db, user, [row.pk for row in chosen])
    wanted = [Wanted(row.key, row.pk, None, row.end) for row in chosen]
    messages = dict(
        zip(
            (row.pk for row in chosen),
            await load_scattered(db, store, wanted, viewer=user),
            strict=True,
        )
    )
    shown = [row for row in chosen if row.pk in details]
    unread = await _count(db, store, user, [*shown])
    items = [_item(row, details[row.pk], messages.get(row.pk), unread.get(row.pk)) for row in shown]
    counted = await _unread_total(db, store, user, newest, unread)
    return RoomPage(items, total, counted)


async def _with_ends(store: ListReader, project: str, found: Sequence[ActiveRoom]) -> list[_Row]:
    keys = [room_key(project, room.id) for room in found]
    ends = await store.newest(keys)
    made = []
    for room, key, end in zip(found, keys, ends, strict=True):
        live = None if end is None else end.last_message_ms
        made.append(_Row(room.pk, room.id, key, max(_ms(room.active_at), live or 0), end))
    return made


def _ms(time: datetime) -> int:
    return round(time.timestamp() * 1000)


def _item(
    row: _Row, details: RoomDetails, message: bytes | None, unread: tuple[int, int] | None
) -> bytes:
    body = details.body if row.end is None else overlay_room(details.body, row.end)
    read_seq, count = unread or (details.read_seq, 0)
    return b'%b,"role":"%b","read_seq":%d,"unread":%d,"last_message":%b,"members":%b}' % (
        body[:-1],
        details.role.encode(),
        read_seq,
        count,
        message or b"null",
        details.members,
    )


async def _unread_total(
    db: Database,
    store: ListReader,
    user: str,
    newest: Sequence[_Row],
    known: Mapping[int, tuple[int, int]],
) -> int:
    total = sum(known[row.pk][1] for row in newest if row.pk in known)
    others = [row for row in newest if row.pk not in known]
    for first in range(0, len(others), _COUNTED_AT_ONCE):
        if total >= UNREAD_MAX:
            break
        counted = await _count(db, store, user, others[first : first + _COUNTED_AT_ONCE])
        total += sum(count for _, count in counted.values())
    return min(total, UNREAD_MAX)


async def _count(
    db: Database, store: ListReader, user: str, chosen: Sequence[_Row]
) -> dict[int, tuple[int, int]]:
    """(read_seq, unread) by room."""
    readers = [Reader(row.key, row.pk, user) for row in chosen]
    counted = await count_unread(db, store, readers)
    return {
        row.pk: (unread.read_seq, unread.unread)
        for row, unread in zip(chosen, counted, strict=True)
        if unread is not None
    }
