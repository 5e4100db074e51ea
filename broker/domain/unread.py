"""How many messages a user has not read: one rule for subscribing, marking, lists, notifications.

Law of this file:
- Unread is a message above the user's read mark that is not deleted, not the user's own and not of
  kind `system`; replies count. At most UNREAD_MAX; nobody but members has unread messages.
- Right at once: Redis is read FIRST (marks, and the events that may not be archived), then one
  statement of PostgreSQL counts what is archived, together with its watermark, and then the events
  above *that* are added. Deletions that are not archived are handed to PostgreSQL, so that a
  deleted message is never counted, whichever of both knows it.
- Who subscribes is counted the other way round, since the script that subscribes reads Redis too:
  PostgreSQL first, together with the rights, and once more if the script knows of what was not
  archived then. Redis is not asked before, since nearly always what it knows is archived by then.
- While the archiver is far behind (LAG_EVENTS_MAX events of one room) the messages behind those
  that were looked at count as unread, whatever they are, and deletions behind them not yet.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple, Protocol

import msgspec

from storage.postgres.pool import Database
from storage.postgres.unread import (
    UNREAD_MAX,
    ArchivedUnread,
    UnreadAsked,
    count_archived,
    count_archived_of,
)
from storage.redis.entries import parse_entry
from storage.redis.outcomes import UnreadInputs

_SYSTEM: Final = "system"


class InputsReader(Protocol):
    """What is needed of `RoomStore`."""

    async def unread_inputs(
        self, asked: Sequence[tuple[str, Sequence[str]]]
    ) -> list[UnreadInputs]: ...


class Reader(NamedTuple):
    """Whose unread messages in which room (`key` is R)."""

    key: str
    room_pk: int
    user: str


class Unread(NamedTuple):
    """A member's read mark and how much lies above it."""

    read_seq: int
    unread: int


class _Created(NamedTuple):
    offset: int
    seq: int
    sender: str | None


class _Data(msgspec.Struct):
    kind: str = "text"
    seq: int = 0


_decode: Final = msgspec.json.Decoder(_Data).decode


@dataclass(slots=True)
class Tail:
    """What unarchived events of a room mean for its unread messages."""

    seq: int
    """The room's newest message; -1 if Redis does not know the room."""
    reached: int
    """The newest message that was looked at; those behind it can only be guessed."""
    behind: int = 0
    """Events behind those that were looked at: there are no more messages, whatever was skipped."""
    created: list[_Created] = field(default_factory=list)
    """New messages that may count."""
    gone: set[int] = field(default_factory=set)
    """Messages that were deleted."""


def parse_tail(lag: Sequence[bytes], *, offset: int, seq: int) -> Tail:
    """Understand the entries up to the room's `offset`, of which the last may be left out."""
    tail = Tail(seq, seq)
    reached, reached_seq = offset, seq
    for raw in lag:
        entry = parse_entry(raw)
        reached, reached_seq = entry.offset, entry.seq
        if entry.event == "message.created":
            if _decode(entry.data).kind != _SYSTEM:
                tail.created.append(_Created(entry.offset, entry.seq, entry.sender))
        elif entry.event == "message.deleted":
            tail.gone.add(_decode(entry.data).seq)
    if reached < offset:
        tail.reached, tail.behind = reached_seq, offset - reached
    return tail


def add_tail(archived: ArchivedUnread, tail: Tail, user: str) -> int:
    """The archived count (made without `tail.gone`) with what is not archived yet."""
    read_seq = archived.read_seq
    count = archived.unread
    for created in tail.created:
        if (
            created.offset > archived.archived_offset
            and created.seq > read_seq
            and created.sender != user
            and created.seq not in tail.gone
        ):
            count += 1
    unseen = tail.seq - max(tail.reached, archived.seq, read_seq)
    count += min(max(0, unseen), tail.behind)
    return min(count, UNREAD_MAX)


async def count_unread(
    db: Database, rooms: InputsReader, readers: Sequence[Reader]
) -> list[Unread | None]:
    """Read mark and unread messages of each, in the order asked; None for who is no member.

    One round trip to Redis and one statement, however many are asked for (a few hundred at most).
    Raises StorageUnavailable. Safe to cancel (reads only).
    """
    by_room: dict[str, list[int]] = {}
    for place, reader in enumerate(readers):
        by_room.setdefault(reader.key, []).append(place)
    inputs = await rooms.unread_inputs(
        [(key, [readers[place].user for place in places]) for key, places in by_room.items()]
    )
    tails: dict[str, Tail] = {}
    marks: dict[int, int] = {}
    for (key, places), found in zip(by_room.items(), inputs, strict=True):
        tails[key] = parse_tail(found.lag, offset=found.offset, seq=found.seq)
        marks.update(zip(places, found.read_seqs, strict=True))
    asked = [
        UnreadAsked(
            reader.room_pk,
            reader.user,
            marks[place],
            _gone_above(tails[reader.key], marks[place]),
        )
        for place, reader in enumerate(readers)
    ]
    counted = await count_archived(db, asked)
    return [
        None
        if archived is None
        else Unread(archived.read_seq, add_tail(archived, tails[reader.key], reader.user))
        for reader, archived in zip(readers, counted, strict=True)
    ]


class UnreadSoFar(NamedTuple):
    """A count whose second half is still to be read from Redis, with something else at once."""

    reader: Reader
    archived: ArchivedUnread

    async def finish(
        self, db: Database, lag: Sequence[bytes], *, offset: int, seq: int, read_seq: int
    ) -> Unread:
        """The count at the instant at which Redis gave these values.

        `lag` are the entries above `archived.archived_offset`, `read_seq` the mark (-1: unknown).
        PostgreSQL is asked again only if a read mark or a deletion is not archived yet, or entries
        were archived and trimmed since.
        """
        tail = parse_tail(lag, offset=offset, seq=seq)
        archived = self.archived
        unseen = tail.gone - {created.seq for created in tail.created}
        # A log that is longer than it may be is trimmed as the archiver catches up.
        first = parse_entry(lag[0]).offset if lag else offset + 1
        is_trimmed = first > archived.archived_offset + 1
        has_read = read_seq > archived.read_seq
        if is_trimmed or has_read or any(gone > archived.read_seq for gone in unseen):
            mark = max(read_seq, archived.read_seq)
            gone = _gone_above(tail, mark)
            again = UnreadAsked(self.reader.room_pk, self.reader.user, mark, gone, until=seq)
            archived = await count_archived_of(db, again) or archived._replace(unread=0)
        return Unread(archived.read_seq, add_tail(archived, tail, self.reader.user))


def _gone_above(tail: Tail, seq: int) -> list[int]:
    return [gone for gone in tail.gone if gone > seq]
