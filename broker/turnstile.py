"""Where connections wait to be authenticated, when all of a dead node's clients come at once.

Some are let through at a time, in the order in which they came, so that each is done soon once it
has begun: thousands at once would all be too late, come back, and be too late again. Before the
queue is longer than anybody would wait, it says that it is full, and further handshakes are refused
while that is still cheap.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

from config import limits


class Turnstile:
    """Lets ADMISSIONS_AT_ONCE through at a time."""

    def __init__(self) -> None:
        self._limiter = trio.CapacityLimiter(limits.ADMISSIONS_AT_ONCE)
        self._waiting_since: dict[object, float] = {}

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Wait for one's turn, and have it for the block. Raises TooSlowError after a long wait."""
        borrower = object()
        self._waiting_since[borrower] = trio.current_time()
        try:
            with trio.fail_after(limits.ADMISSION_WAIT_MAX):
                await self._limiter.acquire_on_behalf_of(borrower)
        finally:
            del self._waiting_since[borrower]
        try:
            yield
        finally:
            self._limiter.release_on_behalf_of(borrower)

    def is_full(self) -> bool:
        """Whether nobody else should queue: too many wait, or the first has waited for long."""
        if len(self._waiting_since) >= limits.ADMISSIONS_WAITING_MAX:
            return True
        first = next(iter(self._waiting_since.values()), None)
        return first is not None and trio.current_time() - first > limits.ADMISSION_WAIT
