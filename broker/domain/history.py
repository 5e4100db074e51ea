"""Pages of a room's messages that are right at once, archived or not.

Law of this file:
- The room log above `archived` is read FIRST, then one statement of PostgreSQL gives the archived
  rows and the watermark they stand at, then the log's events above *that* watermark are applied in
  order. What is flushed between the two reads is in both and applied once; nothing is in neither.
- Choosing and merging is pure (`pages`). PostgreSQL is asked for as many rows as the page could
  need if nothing were unarchived, so a flush in between never leaves it short.
- Messages leave as bytes. Only those that an unarchived event touches are decoded.
- A message is never removed from a page: a deleted one keeps its seq and shows nothing, except to
  who may `reveal` it. Edits and reactions on a deleted message change nothing.

REST, the WebSocket's `history` and `subscribe … history` all come here. `load_page_as` looks at
the reader's rights too, on its way to the rows; elsewhere the caller has. Only `load_page_as` keeps
pages, for a moment, and by what Redis says now (`kept_pages`).
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

import trio

from broker.domain.access import Access, AccessReader, Actor, fetch_standing, standing_of
from broker.domain.kept_pages import Asked, KeptPages, Numbering, mark_of
from broker.domain.message_rows import MessageRows, is_chosen, message_id_of, reactions_in
from broker.domain.pages import CREATED, merge_page, selection_of, senders_of
from broker.domain.pages import Page as Page
from broker.domain.pages import PageQuery as PageQuery
from broker.domain.roles import Action
from broker.protocol.errors import ProtocolError
from broker.protocol.ids import is_room_id
from storage.errors import StorageUnavailable
from storage.postgres.messages import ArchivedPage, read_page, select_id, select_seq
from storage.postgres.pool import Database, RowReader
from storage.redis.entries import Entry
from storage.redis.keys import room_key


class UnarchivedReader(Protocol):
    """What is needed of `RoomStore`."""

    async def unarchived(self, key: str) -> UnarchivedTail | None: ...


class StampedReader(UnarchivedReader, Protocol):
    """The same, for pages that are kept."""

    async def unarchived_and_stamp(self, key: str) -> tuple[NumberedTail | None, bytes | None]: ...


class UnarchivedTail(Protocol):
    """A room's events that PostgreSQL may not have, and its live counters."""

    @property
    def offset(self) -> int: ...
    @property
    def seq(self) -> int: ...
    @property
    def entries(self) -> list[Entry]: ...


class NumberedTail(UnarchivedTail, Numbering, Protocol):
    """The same with all of the room's numbers."""


async def load_page(
    db: Database,
    rooms: UnarchivedReader,
    key: str,
    *,
    room_pk: int,
    query: PageQuery,
    viewer: str | None = None,
    reveal: bool = False,
    with_users: bool = False,
) -> Page:
    """The page as of now; `key` is R. Raises StorageUnavailable. Safe to cancel (reads only).

    `viewer`: whose reactions count as `mine` (None: the field is left out).
    """
    reading = _Reading(await rooms.unarchived(key), query, viewer, reveal, with_users)
    return reading.merge(await reading.read(db, room_pk))


async def load_page_as(
    db: Database,
    rooms: StampedReader,
    access: AccessReader,
    pages: KeptPages,
    actor: Actor,
    room: str,
    *,
    query: PageQuery,
    reveal: bool = False,
    with_users: bool = False,
) -> Page:
    """The page for who may read the room, one that is kept if it is still right.

    Raises what `AccessReader.read` and `Access.require` raise, whatever else fails.
    """
    if not is_room_id(room):
        raise ProtocolError("room_not_found")
    key = room_key(actor.project, room)
    began_at = trio.current_time()
    try:
        tail, stamp = await rooms.unarchived_and_stamp(key)
    except StorageUnavailable:
        # Who may not read is told so, not that there is nothing to be read now.
        (await access.read_as(actor, room)).require(Action.READ, actor, room)
        raise
    asked = Asked(key, query, with_users, actor.user, mark_of(tail, stamp), began_at)
    kept = None if reveal else pages.find(asked)
    if kept is not None:
        standing = kept.access.get(actor.user)
        if standing is None:
            standing = await access.read_as(actor, room)
            kept.admit(actor.user, standing)
        standing.require(Action.READ, actor, room)
        return kept.page

    reading = _Reading(tail, query, actor.user, reveal, with_users)
    found, archived = await _read_as(db, reading, access.known(key, actor.user), actor, room)
    standing = access.take_as(found, actor, room)
    standing.require(Action.READ, actor, room)
    page = reading.merge(archived)
    if not reveal:
        pages.keep(asked, page, standing)
    return page


async def _read_as(
    db: Database, reading: _Reading, known: Access | None, actor: Actor, room: str
) -> tuple[Access | None, ArchivedPage | None]:
    """The rights and the rows in one trip to PostgreSQL; no rows for who may not read.

    Of a room that this process knows as one to be read it is one statement: rows come with what
    their viewer is in the room, and with the room's name, so that what is known is only where to
    look.
    """
    if known is not None and known.refusal(Action.READ, actor, room) is not None:
        known = None  # or asking about a room that is hidden would cost more than about none

    async def work(connection: RowReader) -> tuple[Access | None, ArchivedPage | None]:
        if known is not None:
            archived = await reading.read(connection, known.room_pk)
            if archived is not None and archived.is_of(actor.project, room):
                return standing_of(archived.standing), archived
        found = await fetch_standing(connection, actor.project, room, actor.user)
        if found is None or found.refusal(Action.READ, actor, room) is not None:
            return found, None
        return found, await reading.read(connection, found.room_pk)

    return await db.run(work)


class _Reading:
    """A page on its way: what the log had, and with that what PostgreSQL is to be asked for."""

    __slots__ = ("_asked", "_entries", "_names", "_query", "_reveal", "_selection", "_viewer")

    def __init__(
        self,
        tail: UnarchivedTail | None,
        query: PageQuery,
        viewer: str | None,
        reveal: bool,
        with_users: bool,
    ) -> None:
        self._query, self._viewer, self._reveal = query, viewer, reveal
        self._entries = tail.entries if tail is not None else []
        created = [entry for entry in self._entries if is_chosen(entry, query.chosen)]
        self._names = senders_of(query, created) if with_users else None
        self._selection = selection_of(query, [entry.offset for entry in created])
        self._asked = reactions_in(self._entries)

    async def read(self, reader: RowReader, room_pk: int) -> ArchivedPage | None:
        """The archived half; also within a `work`."""
        return await read_page(
            reader,
            room_pk,
            self._selection,
            viewer=self._viewer,
            reveal=self._reveal,
            names_of=self._names,
            asked=self._asked,
        )

    def merge(self, archived: ArchivedPage | None) -> Page:
        """The page, of both halves."""
        if archived is None:
            archived = ArchivedPage(archived_offset=0, seq=0, seqs=[], bodies=[])
        return merge_page(
            self._query,
            archived,
            self._entries,
            self._asked,
            viewer=self._viewer,
            reveal=self._reveal,
        )


class Found(NamedTuple):
    """A message and the offset of its room at which it was so."""

    body: bytes
    offset: int


async def load_message(
    db: Database,
    rooms: UnarchivedReader,
    key: str,
    *,
    room_pk: int,
    wanted: int | str,
    viewer: str | None = None,
    reveal: bool = False,
) -> bytes | None:
    """One message by seq (int) or id (str) as of now, or None. Raises StorageUnavailable."""
    found = await find_message(
        db, rooms, key, room_pk=room_pk, wanted=wanted, viewer=viewer, reveal=reveal
    )
    return None if found is None else found.body


async def find_message(
    db: Database,
    rooms: UnarchivedReader,
    key: str,
    *,
    room_pk: int,
    wanted: int | str,
    viewer: str | None = None,
    reveal: bool = False,
) -> Found | None:
    """The same with the offset, for who wants to know whether it has changed since."""
    tail = await rooms.unarchived(key)
    entries = tail.entries if tail is not None else []
    asked = reactions_in(entries)
    selection = select_seq(wanted) if isinstance(wanted, int) else select_id(wanted)
    archived = await read_page(db, room_pk, selection, viewer=viewer, reveal=reveal, asked=asked)
    if archived is None:
        return None
    live = [entry for entry in entries if entry.offset > archived.archived_offset]
    rows = MessageRows(viewer=viewer, reveal=reveal)
    rows.add_archived(archived.seqs, archived.bodies, frozenset(asked.seqs))
    if not archived.seqs:
        for entry in live:
            if entry.event == CREATED and _is_wanted(entry, wanted):
                rows.add_created(entry)
    rows.apply(live, asked, archived.present)
    # What the archiver has flushed between the two reads may lie beyond the log as it was read.
    offset = max(0 if tail is None else tail.offset, archived.archived_offset)
    body = next(iter(rows.bodies()), None)
    return None if body is None else Found(body, offset)


def _is_wanted(entry: Entry, wanted: int | str) -> bool:
    if isinstance(wanted, int):
        return entry.seq == wanted
    return message_id_of(entry) == wanted
