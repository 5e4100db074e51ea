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

REST, the WebSocket's `history` and `subscribe … history` all come here. Who may read is decided by
the caller (`roles`); pages are never cached.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

from broker.domain.message_rows import MessageRows, is_chosen, message_id_of, reactions_in
from broker.domain.pages import CREATED, merge_page, selection_of, senders_of
from broker.domain.pages import Page as Page
from broker.domain.pages import PageQuery as PageQuery
from storage.postgres.messages import ArchivedPage, read_page, select_id, select_seq
from storage.postgres.pool import Database
from storage.redis.entries import Entry


class UnarchivedReader(Protocol):
    """What is needed of `RoomStore`."""

    async def unarchived(self, key: str) -> UnarchivedTail | None: ...


class UnarchivedTail(Protocol):
    """A room's events that PostgreSQL may not have, and its live counters."""

    @property
    def offset(self) -> int: ...
    @property
    def seq(self) -> int: ...
    @property
    def entries(self) -> list[Entry]: ...


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
    tail = await rooms.unarchived(key)
    entries = tail.entries if tail is not None else []
    created = [entry for entry in entries if is_chosen(entry, query.chosen)]
    names_of = senders_of(query, created) if with_users else None
    selection = selection_of(query, [entry.offset for entry in created])
    asked = reactions_in(entries)
    archived = await read_page(
        db, room_pk, selection, viewer=viewer, reveal=reveal, names_of=names_of, asked=asked
    )
    if archived is None:
        archived = ArchivedPage(archived_offset=0, seq=0, seqs=[], bodies=[])
    return merge_page(query, archived, entries, asked, viewer=viewer, reveal=reveal)


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
