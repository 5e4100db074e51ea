"""Who has read and got what: the marks of a room's members, and the recipients of a message.

What PostgreSQL has is put together with the marks in Redis, member by member, the greater one of
both: so whoever has just marked is listed so at once, archived or not. PostgreSQL says who the
members are. Marks are kept per member, not per message: that somebody has read a message is known
from a mark at or above it, and the time is that of the member's newest mark.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

import msgspec

from broker.protocol.events import iso_time
from storage.postgres.pool import Database
from storage.postgres.receipts import MemberMarks, favored_by, list_marks
from storage.redis.marks import UserMarks


class MarksReader(Protocol):
    """What is needed of `RoomStore`."""

    async def user_marks(self, key: str, users: Sequence[str]) -> list[UserMarks]: ...


class Receipt(msgspec.Struct):
    """How far a member has read, and got, a room's messages; times are null where no mark of the
    member's own says so (a new member starts at the room's newest message)."""

    user: str
    read_seq: int
    read_at: str | None
    delivered_seq: int
    delivered_at: str | None


class Recipient(msgspec.Struct):
    """What became of a message at one member."""

    user: str
    delivered: bool
    read: bool
    read_at: str | None
    favorite: bool


async def list_receipts(
    db: Database,
    rooms: MarksReader,
    key: str,
    *,
    room_pk: int,
    skip: int,
    limit: int,
    without: str | None = None,
) -> tuple[int, list[Receipt]]:
    """How many members there are but for `without`, and some of their marks, by user id.

    `key` is R. Raises StorageUnavailable. Safe to cancel (reads only).
    """
    total, members = await list_marks(db, room_pk, without=without, skip=skip, limit=limit)
    live = await rooms.user_marks(key, [member.user for member in members])
    return total, [_receipt(*both) for both in zip(members, live, strict=True)]


async def list_recipients(
    db: Database,
    rooms: MarksReader,
    key: str,
    *,
    room_pk: int,
    seq: int,
    sender: str | None,
    skip: int,
    limit: int,
) -> tuple[int, list[Recipient]]:
    """How many members there are but for the sender, and what became of the message at some."""
    total, receipts = await list_receipts(
        db, rooms, key, room_pk=room_pk, skip=skip, limit=limit, without=sender
    )
    favored = await favored_by(db, room_pk, seq, [receipt.user for receipt in receipts])
    return total, [
        Recipient(
            user=receipt.user,
            delivered=receipt.delivered_seq >= seq,
            read=receipt.read_seq >= seq,
            read_at=receipt.read_at if receipt.read_seq >= seq else None,
            favorite=receipt.user in favored,
        )
        for receipt in receipts
    ]


def _receipt(member: MemberMarks, live: UserMarks) -> Receipt:
    read, delivered = live[:2], live[2:]
    return Receipt(
        member.user,
        *_newer(member.read_seq, member.read_at, *read),
        *_newer(member.delivered_seq, member.delivered_at, *delivered),
    )


def _newer(seq: int, at: datetime | None, live_seq: int, live_ms: int) -> tuple[int, str | None]:
    if live_seq > seq:
        return live_seq, iso_time(live_ms) if live_ms else None
    return seq, None if at is None else iso_time(round(at.timestamp() * 1000))
