"""Whose commands are in tasks: users take turns, however many connections each has.

The rules: synchronous. A node has at most NODE_COMMANDS_AT_ONCE in tasks, of one user at most
COMMANDS_AT_ONCE. When one ends, the next is of the user who has waited longest since one of theirs
was begun; the commands of one user begin in their order, those of connections that have ended
meanwhile not at all. So a flood of commands from many connections waits behind itself, and what a
round of the event loop has to do stays little.

A publish into a warm room is in no task and is never here.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Protocol

from config import limits

Work = Callable[[], Awaitable[None]]


class Asking(Protocol):
    """A connection as it is seen here. `channel` is the same for all of its user's."""

    channel: str
    is_closed: bool


class Fairness:
    """The tasks of all commands of one node."""

    def __init__(self, start: Callable[[Work], None]) -> None:
        """`start` runs something in a task."""
        self._start = start
        self._at_work = 0
        self._working: dict[str, int] = {}
        self._waiting: dict[str, deque[tuple[Asking, Work]]] = {}
        self._ready: dict[str, None] = {}
        """Of those who wait: who has not begun as many as a user may. The first is the next."""

    @property
    def users_waiting(self) -> int:
        """Users who have not begun as many commands as a user may, and wait all the same."""
        return len(self._ready)

    def add(self, asking: Asking, work: Work) -> None:
        """Run a command of the connection's in a task, now or when it is its user's turn."""
        user = asking.channel
        waiting = self._waiting.get(user)
        if waiting is not None:
            waiting.append((asking, work))
        elif self._at_work < limits.NODE_COMMANDS_AT_ONCE and self._may_begin(user):
            self._begin(user, work)
        else:
            self._waiting[user] = deque(((asking, work),))
            if self._may_begin(user):
                self._ready[user] = None

    def take(self, user: str) -> bool:
        """Take a place for what needs no task, if there is one and nothing of the user's waits."""
        is_free = self._at_work < limits.NODE_COMMANDS_AT_ONCE and self._may_begin(user)
        if not is_free or user in self._waiting:
            return False
        self._count_begun(user)
        return True

    def give_back(self, user: str) -> None:
        """What has taken a place is done."""
        self._end(user)

    def _may_begin(self, user: str) -> bool:
        return self._working.get(user, 0) < limits.COMMANDS_AT_ONCE

    def _begin(self, user: str, work: Work) -> None:
        self._count_begun(user)
        self._start(partial(self._run, user, work))

    def _count_begun(self, user: str) -> None:
        self._at_work += 1
        self._working[user] = self._working.get(user, 0) + 1

    async def _run(self, user: str, work: Work) -> None:
        try:
            await work()
        finally:
            self._end(user)

    def _end(self, user: str) -> None:
        self._at_work -= 1
        left = self._working.pop(user) - 1
        if left:
            self._working[user] = left
        if user in self._waiting:
            self._ready.setdefault(user)
        while self._ready and self._at_work < limits.NODE_COMMANDS_AT_ONCE:
            self._begin_next(next(iter(self._ready)))

    def _begin_next(self, user: str) -> None:
        del self._ready[user]
        waiting = self._waiting[user]
        while waiting:
            asking, work = waiting.popleft()
            if not asking.is_closed:
                self._begin(user, work)
                break
        if not waiting:
            del self._waiting[user]
        elif self._may_begin(user):
            self._ready[user] = None
