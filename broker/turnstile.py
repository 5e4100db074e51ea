"""Where connections wait to be let in, when all of a dead node's clients come at once.

Some are let through at a time, in the order in which they came, so that each is done soon once it
has begun: thousands at once would all be too late, come back, and be too late again. Before the
queue is longer than anybody would wait, it says that it is full, and further handshakes are refused
while that is still cheap.

A node has two, one behind the other: one for handshakes, one for authentications (an `auth` frame
may come at any time). Whoever has been let in is served before others are: while those who went
through the first wait behind it, it lets one through at a time. One and not none, so that nobody
who keeps a node busy can close its door.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import trio

from config import limits


class Turnstile:
    """Lets ADMISSIONS_AT_ONCE through at a time; one, while `is_behind()`."""

    def __init__(self, is_behind: Callable[[], bool] | None = None) -> None:
        self._limiter = trio.CapacityLimiter(limits.ADMISSIONS_AT_ONCE)
        self._is_behind = is_behind
        self._waiting_since: dict[object, float] = {}

    @property
    def waiting(self) -> int:
        """How many wait for their turn."""
        return len(self._waiting_since)

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Wait for one's turn, and have it for the block. Raises TooSlowError after a long wait."""
        borrower = object()
        self._waiting_since[borrower] = trio.current_time()
        self._adjust()
        try:
            with trio.fail_after(limits.ADMISSION_WAIT_MAX):
                await self._limiter.acquire_on_behalf_of(borrower)
        finally:
            del self._waiting_since[borrower]
        try:
            yield
        finally:
            self._adjust()
            self._limiter.release_on_behalf_of(borrower)

    def is_full(self) -> bool:
        """Whether nobody else should queue: too many wait, or the first has waited for long."""
        if len(self._waiting_since) >= limits.ADMISSIONS_WAITING_MAX:
            return True
        first = next(iter(self._waiting_since.values()), None)
        return first is not None and trio.current_time() - first > limits.ADMISSION_WAIT

    def _adjust(self) -> None:
        if self._is_behind is not None:
            places = 1 if self._is_behind() else limits.ADMISSIONS_AT_ONCE
            self._limiter.total_tokens = places
