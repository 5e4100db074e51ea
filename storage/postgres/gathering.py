"""One statement for all who ask the same question at the same time.

The rules: those who ask the same in one turn of the loop gather, and so do those who ask while a
statement is under way; when it has ended the next one asks for all of them. A statement begins
after each of its callers has asked, so nobody is told what was true before: whoever has joined a
channel first, or has just written, reads what came of it. Nobody ever joins a statement that has
begun.

Callers have nothing to do with each other: each gets its own answer or its own copy of the error.
What PostgreSQL refuses may be the fault of one, so then each is asked for alone. Who is cancelled
leaves at once, and the statement goes on for the others; the last one takes it along.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, Final, Generic, Protocol, TypeVar, cast

import outcome
import trio

from storage.errors import StorageUnavailable

if TYPE_CHECKING:
    import asyncpg

Asked = TypeVar("Asked")
Found = TypeVar("Found")
Statement = Callable[["asyncpg.Connection", Sequence[Asked]], Awaitable[Sequence[Found]]]
"""Runs on the asyncio thread like the work of `Database.run`; answers in the order asked."""

# More gain little, since one statement's own costs are spread already, and the first of them would
# wait for what the last one needs. When so many wait, they do not wait for the one under way.
GATHERED_MAX: Final = 32


class Submit(Protocol):
    """Run a statement's work; the outcome comes in a call in trio's thread, once and not at once.

    Returns what cancels it.
    """

    def __call__(
        self,
        work: Callable[[asyncpg.Connection], Awaitable[Any]],
        on_done: Callable[[outcome.Outcome[Any]], None],
        /,
    ) -> Callable[[], object]: ...


class _Caller(Generic[Asked]):
    """One who waits; `task` is None as soon as it does not any more."""

    __slots__ = ("asked", "task")

    def __init__(self, asked: Asked, task: trio.lowlevel.Task) -> None:
        self.asked = asked
        self.task: trio.lowlevel.Task | None = task


class _Call(Generic[Asked]):
    """One statement that has begun, and who waits for it."""

    __slots__ = ("callers", "cancel")

    def __init__(self, callers: list[_Caller[Asked]]) -> None:
        self.callers = callers
        self.cancel: Callable[[], object] | None = None


class Gatherer(Generic[Asked, Found]):
    """All who ask one question. Used from trio's thread only."""

    def __init__(self, submit: Submit, statement: Statement[Asked, Found]) -> None:
        self._submit = submit
        self._statement = statement
        self._waiting: list[_Caller[Asked]] = []
        self._will_begin = False
        self._calls: list[_Call[Asked]] = []

    async def ask(self, asked: Asked) -> Found:
        """The answer to `asked` as of some instant from now on.

        Raises StorageUnavailable, and StorageRefused for what this caller asked.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        caller = _Caller(asked, trio.lowlevel.current_task())
        self._waiting.append(caller)
        if len(self._waiting) >= GATHERED_MAX:
            self._begin_next()
        elif not self._calls and not self._will_begin:
            self._will_begin = True
            trio.lowlevel.current_trio_token().run_sync_soon(self._begin_first)

        def leave(_raise_cancel: object) -> trio.lowlevel.Abort:
            caller.task = None
            self._cancel_abandoned()
            return trio.lowlevel.Abort.SUCCEEDED

        return cast("Found", await trio.lowlevel.wait_task_rescheduled(leave))

    def _begin_first(self) -> None:
        self._will_begin = False
        if not self._calls:
            self._begin_next()

    def _begin_next(self) -> None:
        waiting, self._waiting = self._waiting, []
        callers = [caller for caller in waiting if caller.task is not None]
        if callers:
            self._begin(callers)

    def _begin(self, callers: list[_Caller[Asked]]) -> None:
        call = _Call(callers)
        asked = [caller.asked for caller in callers]
        self._calls.append(call)
        call.cancel = self._submit(
            lambda connection: self._statement(connection, asked),
            lambda result: self._end(call, result),
        )

    def _end(self, call: _Call[Asked], result: outcome.Outcome[Sequence[Found]]) -> None:
        self._calls.remove(call)
        match result:
            case outcome.Value(found):
                for caller, one in zip(call.callers, found, strict=True):
                    _wake(caller, outcome.Value(one))
            case outcome.Error(StorageUnavailable() as error):
                for caller in call.callers:
                    _wake(caller, outcome.Error(_copy_of(error)))
            case outcome.Error(error) if len(call.callers) == 1:
                _wake(call.callers[0], outcome.Error(error))
            case _:
                for caller in call.callers:
                    if caller.task is not None:
                        self._begin([caller])
        if not self._calls:
            self._begin_next()

    def _cancel_abandoned(self) -> None:
        for call in self._calls:
            if call.cancel is not None and all(caller.task is None for caller in call.callers):
                call.cancel()
                call.cancel = None


def _wake(caller: _Caller[Any], result: outcome.Outcome[Any]) -> None:
    task, caller.task = caller.task, None
    if task is not None:
        trio.lowlevel.reschedule(task, result)


def _copy_of(error: StorageUnavailable) -> StorageUnavailable:
    """One for each: whoever raises an exception writes its own way into it."""
    copy = StorageUnavailable(error.backend, error.outcome, error.reason)
    copy.__cause__ = error
    return copy
