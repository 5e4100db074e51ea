"""Pages of messages that were loaded a moment ago, for who asks while they are still right.

The rules: synchronous, nothing here is read or awaited. A page is kept under what it was asked by
and with the mark of its room, which was read from Redis before the page itself. It may be given to
whoever has read the same mark since:
- every event about a message of a room in Redis raises the room's offset, every change of the room
  or of who is in it the room's version;
- a room that is not in Redis has to come there before anything can happen in it, and stays for
  ROOM_LOG_TTL, which is longer than a page is kept;
- what changes without an event of the room (names and pictures of senders, messages that are
  wiped) renews the project's stamp before it is answered.
Only what retention removes, and a dead letter that is archived after all, is in none of these: it
may be seen, or missed, for as long as a page is kept.

A page shows the same to everybody who may read, but for `mine` at reactions: one that has any is
kept for its viewer alone. Whether somebody may read is kept beside the page, for as long as it.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import NamedTuple, Protocol

from broker.domain.access import Access
from broker.domain.pages import Page, PageQuery
from config import page_limits as limits
from storage.postgres.message_filters import NO_FILTER
from storage.redis.stand_call import Stand

Mark = Stand
"""How a room stood when Redis was asked: its numbers, and what else its pages depend on."""

_REACTED = b'"mine"'
"""A message can hold these bytes only as a name: quotes in its text are escaped."""


class Numbering(Protocol):
    """What is needed of a room as Redis has it."""

    @property
    def epoch(self) -> str: ...
    @property
    def offset(self) -> int: ...
    @property
    def version(self) -> int: ...


def mark_of(room: Numbering | None, stamp: bytes | None) -> Mark:
    """The mark in what Redis has answered."""
    return Mark(None if room is None else (room.epoch, room.offset, room.version), stamp)


class Asked(NamedTuple):
    """What a page is asked for, and by whom (None: the project); `key` is R."""

    key: str
    query: PageQuery
    with_users: bool
    viewer: str | None
    mark: Mark
    at: float
    """When Redis was asked, in seconds of the process's clock."""


_Place = tuple[str, PageQuery, bool, str | None, bool]


class Kept:
    """A page, and what those who have asked for it were in its room."""

    __slots__ = ("access", "answer", "ends_at", "mark", "page", "place", "size")

    def __init__(self, place: _Place, page: Page, mark: Mark, ends_at: float) -> None:
        self.place = place
        self.page = page
        self.mark = mark
        self.ends_at = ends_at
        self.size = len(page.users or b"") + sum(map(len, page.bodies)) + limits.KEPT_PAGE_OVERHEAD
        self.access: dict[str | None, Access] = {}
        self.answer: bytes | None = None
        """What a node answers with the page, once it was asked for again."""

    def is_right(self, mark: Mark, at: float) -> bool:
        """Whether the page is still right for who asked Redis at this time, and was told this."""
        return self.mark == mark and at < self.ends_at

    def admit(self, viewer: str | None, access: Access) -> None:
        """What the viewer is in the room, as read after the page's mark."""
        if len(self.access) < limits.KEPT_PAGE_VIEWERS:
            self.access[viewer] = access


class KeptPages:
    """The pages that one process keeps."""

    def __init__(self, room_log_ttl: float, bytes_max: int = limits.KEPT_PAGES_BYTES) -> None:
        """`room_log_ttl`: how long a room stays in Redis at least (seconds)."""
        self._lasts = min(limits.KEPT_PAGE_SECONDS, room_log_ttl / 2)
        self._bytes_max = bytes_max
        self._bytes = 0
        self._pages: OrderedDict[_Place, Kept] = OrderedDict()

    @property
    def size(self) -> int:
        """Bytes of what is kept."""
        return self._bytes

    def find(self, asked: Asked) -> Kept | None:
        """The page, if it is known to be right still."""
        for is_shared in (True, False):
            place = _place_of(asked, is_shared=is_shared)
            kept = self._pages.get(place)
            if kept is None:
                continue
            if kept.is_right(asked.mark, asked.at):
                self._pages.move_to_end(place)
                return kept
            self._drop(place)
        return None

    def peek(self, key: str, query: PageQuery, viewer: str, at: float) -> Kept | None:
        """A page without names that this viewer may find, if it turns out to be right."""
        for place in ((key, query, False, None, True), (key, query, False, viewer, False)):
            kept = self._pages.get(place)
            if kept is not None:
                self._pages.move_to_end(place)
                return kept if at < kept.ends_at and viewer in kept.access else None
        return None

    def keep_answer(self, kept: Kept, answer: bytes) -> None:
        """Keep what the page is answered with, if it is still kept itself and there is room."""
        is_there = self._pages.get(kept.place) is kept
        if is_there and self._bytes + len(answer) <= self._bytes_max:
            kept.answer = answer
            kept.size += len(answer)
            self._bytes += len(answer)

    def keep(self, asked: Asked, page: Page, access: Access) -> None:
        """Keep a page that was read after the mark, as was what its viewer is in the room."""
        if not is_keepable(asked.query) or access.deleted:
            return
        is_shared = asked.viewer is not None and _REACTED not in b",".join(page.bodies)
        place = _place_of(asked, is_shared=is_shared)
        kept = Kept(place, page, asked.mark, asked.at + self._lasts)
        kept.admit(asked.viewer, access)
        if kept.size > limits.KEPT_PAGE_BYTES_MAX:
            return
        self._drop(place)
        self._pages[place] = kept
        self._bytes += kept.size
        while self._bytes > self._bytes_max or self._oldest().ends_at <= asked.at:
            self._drop(next(iter(self._pages)))

    def _oldest(self) -> Kept:
        """That which was asked for least lately; what was just kept is always there."""
        return next(iter(self._pages.values()))

    def _drop(self, place: _Place) -> None:
        kept = self._pages.pop(place, None)
        if kept is not None:
            self._bytes -= kept.size


def is_keepable(query: PageQuery) -> bool:
    """Pages by number count the whole room, and filters are for looking around: not those."""
    return query.skip is None and query.chosen == NO_FILTER


def _place_of(asked: Asked, *, is_shared: bool) -> _Place:
    viewer = None if is_shared else asked.viewer
    return asked.key, asked.query, asked.with_users, viewer, is_shared
