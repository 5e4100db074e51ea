"""Messages of several rooms as of now: the newest of each, or certain ones by seq.

The law of `history` holds: the ends of the rooms' logs are read first, one statement of PostgreSQL
second, and the events above each room's watermark are applied. What the end of a log is too short
to tell is read as a message or page of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from broker.domain.history import PageQuery, UnarchivedReader, load_message, load_page
from broker.domain.message_rows import CREATED, MessageRows, reactions_in
from storage.postgres.message_json import ArchivedMessage, Asked, read_some
from storage.postgres.messages import ReactionsAsked
from storage.postgres.pool import Database
from storage.redis.entries import Entry
from storage.redis.outcomes import RoomEnd


class EndReader(UnarchivedReader, Protocol):
    """What is needed of `RoomStore`."""

    async def newest(self, keys: Sequence[str]) -> list[RoomEnd | None]: ...


class Wanted(NamedTuple):
    """A message of a room: by seq, or None for its newest. `end` was read before."""

    key: str
    """R."""
    room_pk: int
    seq: int | None
    end: RoomEnd | None

    @property
    def entries(self) -> Sequence[Entry]:
        """Events that PostgreSQL may not have."""
        return () if self.end is None else self.end.entries


async def load_scattered(
    db: Database, store: EndReader, wanted: Sequence[Wanted], *, viewer: str
) -> list[bytes | None]:
    """The messages in the order wanted, None where there is none. Raises StorageUnavailable.

    Safe to cancel (reads only).
    """
    questions = [reactions_in(one.entries) for one in wanted]
    archived = await read_some(
        db,
        [
            Asked(one.room_pk, one.seq, list(zip(q.seqs, q.reactions, q.users, strict=True)))
            for one, q in zip(wanted, questions, strict=True)
        ],
        viewer=viewer,
    )
    found: list[bytes | None] = []
    for one, question, row in zip(wanted, questions, archived, strict=True):
        if row is None:
            found.append(None)
        elif _is_told(one, row):
            found.append(_merge(one, question, row, viewer))
        else:
            found.append(await _load_one(db, store, one, viewer))
    return found


def _live(one: Wanted, archived: ArchivedMessage) -> list[Entry]:
    return [entry for entry in one.entries if entry.offset > archived.archived_offset]


def _created(one: Wanted, live: Sequence[Entry]) -> Entry | None:
    """The event that made the message, if it is not archived."""
    for entry in reversed(live):
        if entry.event == CREATED and one.seq in (None, entry.seq):
            return entry
    return None


def _is_told(one: Wanted, archived: ArchivedMessage) -> bool:
    """Whether the entries hold all that is not archived of the message.

    There may be more before them; but whatever concerns a message is behind its making.
    """
    live = _live(one, archived)
    is_whole = not live or live[0].offset <= archived.archived_offset + 1
    return is_whole or _created(one, live) is not None


def _merge(
    one: Wanted, question: ReactionsAsked, archived: ArchivedMessage, viewer: str
) -> bytes | None:
    live = _live(one, archived)
    created = _created(one, live)
    messages = MessageRows(viewer=viewer, reveal=False)
    if created is not None:
        messages.add_created(created)
    elif archived.seq is not None:
        # Whatever the reactions are about, more users than are shown have been asked for.
        longer = [archived.seq] if question.seqs else []
        messages.add_archived([archived.seq], [archived.body], longer)
    messages.apply(live, question, archived.present)
    return next(iter(messages.bodies()), None)


async def _load_one(db: Database, store: EndReader, one: Wanted, viewer: str) -> bytes | None:
    if one.seq is not None:
        return await load_message(
            db, store, one.key, room_pk=one.room_pk, wanted=one.seq, viewer=viewer
        )
    query = PageQuery(limit=1)
    page = await load_page(db, store, one.key, room_pk=one.room_pk, query=query, viewer=viewer)
    return next(iter(page.bodies), None)
