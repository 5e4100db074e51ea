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

from collections.abc import Callable
from types import TracebackType

import trio

from config import limits


class Turnstile:
    """Lets ADMISSIONS_AT_ONCE through at a time; one, while `is_behind()`."""

    def __init__(self, is_behind: Callable[[], bool] | None = None) -> None:
        self._is_behind = is_behind
        self._inside = 0
        self._waiting_since: dict[trio.lowlevel.Task, float] = {}
        self._too_late: set[trio.lowlevel.Task] = set()

    @property
    def waiting(self) -> int:
        """How many wait for their turn."""
        return len(self._waiting_since)

    def turn(self) -> Turn:
        """Wait for one's turn, and have it for the block. Raises TooSlowError after a long wait,
        if somebody calls `tick`."""
        return Turn(self)

    def tick(self) -> None:
        """Give up on those who have waited for too long; one clock for all is cheaper than one
        for each."""
        too_early = trio.current_time() - limits.ADMISSION_WAIT_MAX
        while self._waiting_since:
            task, since = next(iter(self._waiting_since.items()))
            if since > too_early:
                return
            del self._waiting_since[task]
            self._too_late.add(task)
            trio.lowlevel.reschedule(task)

    def is_full(self) -> bool:
        """Whether nobody else should queue: too many wait, or the first has waited for long."""
        if len(self._waiting_since) >= limits.ADMISSIONS_WAITING_MAX:
            return True
        first = next(iter(self._waiting_since.values()), None)
        return first is not None and trio.current_time() - first > limits.ADMISSION_WAIT

    def may_pass(self) -> bool:
        """Whether there is a place inside."""
        is_behind = self._is_behind is not None and self._is_behind()
        return self._inside < (1 if is_behind else limits.ADMISSIONS_AT_ONCE)

    async def enter(self) -> None:
        """Wait for a place and take it; see `turn`. At once if nobody waits and there is one."""
        self._let_in()
        if not self._waiting_since and self.may_pass():
            self._inside += 1
            return
        task = trio.lowlevel.current_task()
        self._waiting_since[task] = trio.current_time()

        def give_up(_raise_cancel: object) -> trio.lowlevel.Abort:
            del self._waiting_since[task]
            return trio.lowlevel.Abort.SUCCEEDED

        await trio.lowlevel.wait_task_rescheduled(give_up)
        if task in self._too_late:
            self._too_late.discard(task)
            raise trio.TooSlowError

    def leave(self) -> None:
        """Give the place to the next."""
        self._inside -= 1
        self._let_in()

    def _let_in(self) -> None:
        while self._waiting_since and self.may_pass():
            task = next(iter(self._waiting_since))
            del self._waiting_since[task]
            self._inside += 1
            trio.lowlevel.reschedule(task)


class Turn:
    """One turn of a turnstile; cheaper than a generator for what everybody passes twice."""

    __slots__ = ("_turnstile",)

    def __init__(self, turnstile: Turnstile) -> None:
        self._turnstile = turnstile

    async def __aenter__(self) -> None:
        await self._turnstile.enter()

    async def __aexit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        self._turnstile.leave()
