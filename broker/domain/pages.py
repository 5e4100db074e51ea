"""Which messages make a page, and joining archived rows with unarchived events: pure.

A page is chosen by seq among the archived messages (as many as the page could need) and those that
are only in the log, which are all newer. The laws of `history` hold; nothing here awaits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from broker.domain.message_rows import CREATED as CREATED
from broker.domain.message_rows import MessageRows, is_chosen
from storage.postgres.message_filters import NO_FILTER, MessageFilter
from storage.postgres.messages import (
    SEQ_MAX,
    ArchivedPage,
    ReactionsAsked,
    Selection,
    select_after,
    select_around,
    select_before,
    select_skip,
)
from storage.redis.entries import Entry


class PageQuery(NamedTuple):
    """Which messages: at most one of the bounds; none of them means the newest.

    `before` and `after` are exclusive, `around` includes its seq (half of the page is older),
    `skip` counts from the newest message and asks for the total. `bytes_max` ends a page early, on
    the side that is farther from what was asked; at least one message is always there. All of it is
    said among the messages of `chosen`.
    """

    limit: int
    before: int | None = None
    after: int | None = None
    around: int | None = None
    skip: int | None = None
    bytes_max: int | None = None
    chosen: MessageFilter = NO_FILTER


@dataclass(frozen=True, slots=True, weakref_slot=True, eq=False)
class Page:
    """Messages in rising order of seq; a page equals only itself.

    `newer_after` and `older_before` are the bounds of the neighbouring pages, None where there is
    nothing more. `users` is a JSON object (id → names) if it was asked for.
    """

    bodies: list[bytes]
    seqs: list[int]
    newer_after: int | None
    older_before: int | None
    total: int | None = None
    users: bytes | None = None

    @property
    def items(self) -> bytes:
        """The messages as one JSON array."""
        return b"[" + b",".join(self.bodies) + b"]"

    @property
    def has_more_before(self) -> bool:
        """Whether the room has messages older than the page."""
        return self.older_before is not None

    @property
    def has_more_after(self) -> bool:
        """Whether the room has messages newer than the page."""
        return self.newer_after is not None

    @property
    def first_seq(self) -> int | None:
        """Seq of the oldest message of the page."""
        return self.seqs[0] if self.seqs else None

    @property
    def last_seq(self) -> int | None:
        """Seq of the newest message of the page."""
        return self.seqs[-1] if self.seqs else None


def selection_of(query: PageQuery, created_offsets: Sequence[int]) -> Selection:
    """What to ask PostgreSQL for, given the offsets of the chosen messages only the log has."""
    return _place_of(query, created_offsets).among(query.chosen)


def _place_of(query: PageQuery, created_offsets: Sequence[int]) -> Selection:
    if query.after is not None:
        return select_after(min(query.after, SEQ_MAX), query.limit)
    if query.around is not None:
        older = query.limit // 2
        return select_around(min(query.around, SEQ_MAX), older, query.limit - older)
    if query.skip is not None:
        return select_skip(min(query.skip, SEQ_MAX), query.limit, created_offsets)
    return select_before(_before(query), query.limit)


def merge_page(
    query: PageQuery,
    archived: ArchivedPage,
    entries: Sequence[Entry],
    asked: ReactionsAsked | None = None,
    *,
    viewer: str | None = None,
    reveal: bool = False,
) -> Page:
    """Join archived rows with the log's entries (in order, from the archive's edge or earlier).

    Pure. Entries at or below the rows' watermark are in the rows already and are left out.
    """
    live = [entry for entry in entries if entry.offset > archived.archived_offset]
    tail = {entry.seq: entry for entry in live if is_chosen(entry, query.chosen)}
    seqs = _select(query, archived.seqs, sorted(tail.keys() - set(archived.seqs)))
    question = asked or ReactionsAsked()
    # Asked about reactions, PostgreSQL has listed more users than are shown.
    is_quiet = not live and not question.seqs and len(seqs) == len(archived.seqs)
    bodies = (
        archived.bodies
        if is_quiet
        else _merge(seqs, tail, live, archived, question, viewer, reveal)
    )
    first, last = _fit(query, seqs, bodies)
    seqs, bodies = seqs[first:last], bodies[first:last]
    oldest = archived.oldest if archived.oldest is not None else min(tail, default=None)
    newest = max(tail, default=archived.newest)
    newer_after, older_before = _neighbours(query, seqs, oldest, newest)
    total = None if archived.total is None else archived.total + len(tail)
    return Page(bodies, seqs, newer_after, older_before, total, archived.users)


def _merge(
    seqs: Sequence[int],
    tail: Mapping[int, Entry],
    live: Sequence[Entry],
    archived: ArchivedPage,
    asked: ReactionsAsked,
    viewer: str | None,
    reveal: bool,
) -> list[bytes]:
    """The messages of the page as JSON: archived ones and those of the tail, as they are now."""
    rows = MessageRows(viewer=viewer, reveal=reveal)
    wanted = set(seqs)
    rows.add_archived(archived.seqs, archived.bodies, frozenset(asked.seqs), only=wanted)
    for seq in seqs:
        if seq in tail and seq not in rows:
            rows.add_created(tail[seq])
    rows.apply(live, asked, archived.present)
    return rows.bodies()


def _before(query: PageQuery) -> int:
    return SEQ_MAX if query.before is None else min(query.before, SEQ_MAX)


def _select(query: PageQuery, archived: Sequence[int], tail: Sequence[int]) -> list[int]:
    """The page's seqs: archived ones (as asked for) and unarchived ones, all of them newer."""
    limit = query.limit
    if query.after is not None:
        bound = query.after
        return [*archived, *(seq for seq in tail if seq > bound)][:limit]
    if query.around is not None:
        bound = query.around
        both = [*archived, *tail]
        older = [seq for seq in both if seq < bound]
        newer = [seq for seq in both if seq >= bound]
        half = limit // 2
        return (older[-half:] if half else []) + newer[: limit - half]
    if query.skip is not None:
        # PostgreSQL has skipped what the tail does not hold.
        end = max(0, len(tail) - query.skip)
        return [*archived, *tail[:end]][-limit:]
    bound = _before(query)
    return [*archived, *(seq for seq in tail if seq < bound)][-limit:]


def _fit(query: PageQuery, seqs: Sequence[int], bodies: Sequence[bytes]) -> tuple[int, int]:
    """The part [first, last) that fits `bytes_max`, grown from where the query points to."""
    count = len(seqs)
    if query.bytes_max is None or query.skip is not None or not count:
        return 0, count
    if sum(map(len, bodies)) + count + 1 <= query.bytes_max:
        return 0, count
    if query.after is not None:
        start = 0
    elif query.around is not None:
        bound = query.around
        start = next((place for place, seq in enumerate(seqs) if seq >= bound), count - 1)
    else:
        start = count - 1
    first, last = start, start + 1
    size = len(bodies[start]) + 2
    while first > 0 or last < count:
        takes_newer = last < count and (first == 0 or last - start <= start - first)
        size += len(bodies[last if takes_newer else first - 1]) + 1
        if size > query.bytes_max:
            break
        if takes_newer:
            last += 1
        else:
            first -= 1
    return first, last


def _neighbours(
    query: PageQuery, seqs: Sequence[int], oldest: int | None, newest: int | None
) -> tuple[int | None, int | None]:
    """Bounds of the newer and the older page; None where the room has nothing there."""
    if oldest is None or newest is None:
        return None, None
    if seqs:
        newer = seqs[-1] if seqs[-1] < newest else None
        older = seqs[0] if seqs[0] > oldest else None
        return newer, older
    if query.after is not None:
        return None, (query.after + 1 if oldest <= query.after else None)
    if query.around is not None:
        return None, (query.around if oldest < query.around else None)
    if query.skip is not None:
        return None, None
    return (query.before - 1 if query.before is not None else None), None


def senders_of(query: PageQuery, created: Sequence[Entry]) -> list[str]:
    """Who wrote the unarchived messages that can be on the page."""
    chosen = set(_select(query, (), [entry.seq for entry in created]))
    return sorted({e.sender for e in created if e.sender is not None and e.seq in chosen})
