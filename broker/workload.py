"""The tasks of one connection: only so many at the same time, the rest wait in order.

The rules: synchronous. Whatever one client asks for at once, no more than COMMANDS_AT_ONCE of it
are begun or wait for their user's turn (see `fairness`). What waits here counts as waiting: too
much of it, and the peer is not read any more.
"""

from __future__ import annotations

from collections import deque
from functools import partial
from typing import Protocol

from broker.fairness import Asking, Work
from config import limits


class Turns(Protocol):
    """What is needed of `Fairness`."""

    def add(self, asking: Asking, work: Work) -> None:
        """Run it in a task when it is its user's turn."""
        ...


class Waiting(Protocol):
    """What is needed of `RoomQueue`."""

    def count_waiting(self, step: int) -> None:
        """One more or less waits."""
        ...


class Workload:
    """What one connection has in tasks, and what waits for one.

    The connection comes with each call: kept here, both would hold each other for ever.
    """

    __slots__ = ("_at_work", "_held", "_queue", "_turns")

    def __init__(self, turns: Turns, queue: Waiting) -> None:
        self._turns = turns
        self._queue = queue
        self._at_work = 0
        self._held: deque[Work] | None = None

    def add(self, asking: Asking, work: Work) -> None:
        """Run it in a task, now or when one of the others has ended."""
        if self._at_work < limits.COMMANDS_AT_ONCE:
            self._begin(asking, work)
            return
        if self._held is None:
            self._held = deque()
        self._held.append(work)
        self._queue.count_waiting(1)

    def clear(self) -> None:
        """The connection has ended: nothing that waits is begun any more."""
        self._held = None

    def _begin(self, asking: Asking, work: Work) -> None:
        self._at_work += 1
        self._turns.add(asking, partial(self._run, asking, work))

    async def _run(self, asking: Asking, work: Work) -> None:
        try:
            await work()
        finally:
            self._at_work -= 1
            if self._held:
                following = self._held.popleft()
                self._queue.count_waiting(-1)
                self._begin(asking, following)
