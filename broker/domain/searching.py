"""Searching a room: all words, newest first, in the messages that are archived.

Law of this file:
- What the log has and PostgreSQL has not yet is applied to what was found: a deleted message is
  never shown, and an edited one comes back when its new text has been archived. So the log is read
  first, as for pages (`history`).
- The walk goes stretch by stretch from the newest and takes more stretches a step while they hold
  little. It ends with the page, with the room, or with its time: then the page is what was found
  so far, perhaps nothing, and says that there is more. A search never costs more than that, however
  its words lie.

Who may read is decided by the caller (`roles`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import msgspec

from broker.domain.history import UnarchivedReader
from broker.domain.message_rows import MessageRows, reactions_in
from broker.protocol.errors import ProtocolError
from broker.protocol.text import fits_utf8, has_forbidden
from config.limits import (
    SEARCH_BYTES_MAX,
    SEARCH_STEP_MAX,
    SEARCH_STEP_SECONDS,
    SEARCH_STRETCHES_MAX,
    SEARCH_WALK_SECONDS,
    SEARCH_WORDS_MAX,
)
from storage.postgres.messages import SEQ_MAX, read_page, select_some
from storage.postgres.pool import Database
from storage.postgres.search import STRETCH_BITS, SearchPlan, find_seqs, parse_search
from storage.redis.entries import Entry


@dataclass(frozen=True, slots=True)
class SearchQuery:
    """What to look for: messages with all words of `text` below the seq `before`."""

    text: str
    limit: int
    before: int | None = None
    bytes_max: int | None = None


@dataclass(frozen=True, slots=True)
class Found:
    """Messages, newest first. `next_before` continues the search, None at its end."""

    bodies: list[bytes]
    next_before: int | None
    users: bytes

    @property
    def items(self) -> bytes:
        """The messages as one JSON array."""
        return b"[" + b",".join(self.bodies) + b"]"


@dataclass(slots=True)
class _Walk:
    """Seqs found so far, and the seq above which everything has been looked at."""

    seqs: list[int]
    before: int


class _Target(msgspec.Struct, gc=False):
    seq: int


async def search_room(
    db: Database,
    rooms: UnarchivedReader,
    key: str,
    *,
    room_pk: int,
    query: SearchQuery,
    viewer: str | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Found:
    """What is found as of now; `key` is R. Safe to cancel (reads only).

    Raises ProtocolError (`bad_request`, `too_large`: q) and StorageUnavailable.
    """
    check_text(query.text)
    tail = await rooms.unarchived(key)
    entries = tail.entries if tail is not None else []
    plan = await parse_search(db, room_pk, query.text)
    if plan is None:
        raise ProtocolError("room_not_found")
    if not plan.query:
        raise ProtocolError("bad_request", "`q` holds no word to look for.", "q")
    if plan.words > SEARCH_WORDS_MAX:
        raise ProtocolError("bad_request", f"`q` has at most {SEARCH_WORDS_MAX} words.", "q")
    walk = await _walk(db, room_pk, plan, query, clock)
    return await _load(db, room_pk, walk, query, entries, viewer)


def check_text(text: str) -> None:
    """Raise ProtocolError for a text that can not be searched for."""
    if has_forbidden(text):
        raise ProtocolError("bad_request", "`q` is text.", "q")
    if not fits_utf8(text, SEARCH_BYTES_MAX):
        raise ProtocolError("too_large", f"`q` has at most {SEARCH_BYTES_MAX} bytes.", "q")


async def _walk(
    db: Database,
    room_pk: int,
    plan: SearchPlan,
    query: SearchQuery,
    clock: Callable[[], float],
) -> _Walk:
    before = min(SEQ_MAX if query.before is None else query.before, plan.seq + 1)
    walk = _Walk([], before)
    newest = (before - 1) >> STRETCH_BITS
    width = 1
    began = stepped = clock()
    # One more than the page holds tells whether there is another page.
    while newest >= 0 and before > 1 and len(walk.seqs) <= query.limit:
        oldest = max(0, newest - width + 1)
        missing = query.limit + 1 - len(walk.seqs)
        walk.seqs += await find_seqs(
            db, room_pk, plan, stretches=(oldest, newest), before=before, limit=missing
        )
        walk.before = oldest << STRETCH_BITS
        newest = oldest - 1
        now = clock()
        if now - began > SEARCH_WALK_SECONDS:
            break
        width = next_width(width, now - stepped)
        stepped = now
    if len(walk.seqs) > query.limit:
        del walk.seqs[query.limit :]
        walk.before = walk.seqs[-1]
    return walk


def next_width(width: int, took: float) -> int:
    """How many stretches the next step takes after one of `width` took so many seconds."""
    factor = SEARCH_STEP_SECONDS / max(took, SEARCH_STEP_SECONDS / SEARCH_STEP_MAX)
    return max(1, min(int(width * factor), SEARCH_STRETCHES_MAX))


async def _load(
    db: Database,
    room_pk: int,
    walk: _Walk,
    query: SearchQuery,
    entries: Sequence[Entry],
    viewer: str | None,
) -> Found:
    next_before = walk.before if walk.before > 1 else None
    if not walk.seqs:
        return Found([], next_before, b"{}")
    asked = reactions_in(entries)
    page = await read_page(
        db, room_pk, select_some(walk.seqs), viewer=viewer, names_of=[], asked=asked
    )
    if page is None:
        raise ProtocolError("room_not_found")
    live = [entry for entry in entries if entry.offset > page.archived_offset]
    rows = MessageRows(viewer=viewer, reveal=False)
    rows.add_archived(page.seqs, page.bodies, frozenset(asked.seqs))
    rows.apply(live, asked, page.present)
    hidden = _changed(live)
    bodies: list[bytes] = []
    size = 0
    for seq, body in reversed(list(zip(page.seqs, rows.bodies(), strict=True))):
        if seq in hidden or is_deleted(body):
            continue
        size += len(body) + 1
        if bodies and query.bytes_max is not None and size > query.bytes_max:
            return Found(bodies, seq + 1, page.users or b"{}")
        bodies.append(body)
    return Found(bodies, next_before, page.users or b"{}")


def _changed(live: Sequence[Entry]) -> frozenset[int]:
    """Messages whose text is another by now than the one that was searched."""
    changes = ("message.edited", "message.deleted")
    return frozenset(
        msgspec.json.decode(entry.data, type=_Target).seq
        for entry in live
        if entry.event in changes
    )


class _Deleted(msgspec.Struct, gc=False):
    deleted_at: str | None


def is_deleted(body: bytes) -> bool:
    """Whether a message was deleted after it had been found."""
    return msgspec.json.decode(body, type=_Deleted).deleted_at is not None
