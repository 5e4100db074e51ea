"""The tasks of one connection: only so many at the same time, the rest wait in order.

The rules: synchronous. Whatever one client asks for at once, no more than COMMANDS_AT_ONCE of it
are begun or wait for their user's turn (see `fairness`). What waits here counts as waiting: too
much of it, and the peer is not read any more.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable
from functools import partial

from config import limits

Work = Callable[[], Awaitable[None]]


class Workload:
    """What one connection has in tasks, and what waits for one."""

    __slots__ = ("_at_work", "_count_waiting", "_held", "_start")

    def __init__(self, start: Callable[[Work], None], count_waiting: Callable[[int], None]) -> None:
        """`start` runs something in a task; `count_waiting` hears of one more or less."""
        self._start = start
        self._count_waiting = count_waiting
        self._at_work = 0
        self._held: deque[Work] | None = None

    def add(self, work: Work) -> None:
        """Run it in a task, now or when one of the others has ended."""
        if self._at_work < limits.COMMANDS_AT_ONCE:
            self._begin(work)
            return
        if self._held is None:
            self._held = deque()
        self._held.append(work)
        self._count_waiting(1)

    def clear(self) -> None:
        """The connection has ended: nothing that waits is begun any more."""
        self._held = None
        self._start = _start_nothing  # or the connection and this would hold each other for ever

    def _begin(self, work: Work) -> None:
        self._at_work += 1
        self._start(partial(self._run, work))

    async def _run(self, work: Work) -> None:
        try:
            await work()
        finally:
            self._at_work -= 1
            if self._held:
                following = self._held.popleft()
                self._count_waiting(-1)
                self._begin(following)


def _start_nothing(_work: Work) -> None:
    """Nothing is held any more, so nothing comes here."""
