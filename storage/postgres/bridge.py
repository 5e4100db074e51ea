"""The way from trio's thread to the asyncio thread and back.

A call is put into a queue and the other thread woken once for all that is in it; its outcome comes
back the same way. That costs about half of what one portal call per query costs.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, TypeVar, cast

import outcome
import trio

from storage.errors import StorageUnavailable

T = TypeVar("T")


class _Call:
    """One call on its way to the asyncio thread and back to `on_done`."""

    __slots__ = ("cancelled", "factory", "on_done", "raise_cancel", "result", "task")

    def __init__(
        self,
        factory: Callable[[], Awaitable[object]],
        on_done: Callable[[outcome.Outcome[Any]], object],
    ) -> None:
        self.factory = factory
        self.on_done = on_done
        self.task: asyncio.Task[object] | None = None
        self.cancelled = False
        self.raise_cancel: Callable[[], object] | None = None
        self.result: outcome.Outcome[object] | None = None


class Bridge:
    """Carries calls from trio tasks to the asyncio thread and their results back.

    `_inbound` and `_outbound` are filled by one thread and emptied by the other (deque operations
    are atomic); the flag beside each says that a wake-up is already under way.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._trio = trio.lowlevel.current_trio_token()
        self._inbound: deque[_Call] = deque()
        self._outbound: deque[_Call] = deque()
        self._inbound_woken = False
        self._outbound_woken = False

    async def call(self, factory: Callable[[], Awaitable[T]]) -> T:
        """Run the coroutine that `factory` makes on the asyncio thread; return what it returns."""
        await trio.lowlevel.checkpoint_if_cancelled()
        call = _Call(factory, partial(trio.lowlevel.reschedule, trio.lowlevel.current_task()))
        self._send(call)

        def abort(raise_cancel: Callable[[], object]) -> trio.lowlevel.Abort:
            # The caller goes on only when the other side has cleaned up.
            call.raise_cancel = raise_cancel
            self._loop.call_soon_threadsafe(self._cancel, call)
            return trio.lowlevel.Abort.FAILED

        return cast("T", await trio.lowlevel.wait_task_rescheduled(abort))

    def submit(
        self,
        factory: Callable[[], Awaitable[T]],
        on_done: Callable[[outcome.Outcome[T]], object],
    ) -> Callable[[], object]:
        """The same without a task that waits: `on_done` is called in trio's thread, never at once
        and never after the database was closed. Returns what cancels the call."""
        call = _Call(factory, on_done)
        self._send(call)
        return partial(self._loop.call_soon_threadsafe, self._cancel, call)

    def _send(self, call: _Call) -> None:
        self._inbound.append(call)
        if not self._inbound_woken:
            self._inbound_woken = True
            self._loop.call_soon_threadsafe(self._start_calls)

    def _start_calls(self) -> None:
        self._inbound_woken = False
        while self._inbound:
            call = self._inbound.popleft()
            if call.cancelled:
                self._finish(call)
                continue
            call.task = self._loop.create_task(_as_coroutine(call.factory))
            call.task.add_done_callback(partial(self._end_call, call))

    def _cancel(self, call: _Call) -> None:
        call.cancelled = True
        if call.task is not None:
            call.task.cancel()

    def _end_call(self, call: _Call, task: asyncio.Task[object]) -> None:
        if not task.cancelled():
            error = task.exception()
            call.result = outcome.Value(task.result()) if error is None else outcome.Error(error)
        self._finish(call)

    def _finish(self, call: _Call) -> None:
        self._outbound.append(call)
        if not self._outbound_woken:
            self._outbound_woken = True
            self._trio.run_sync_soon(self._deliver)

    def _deliver(self) -> None:
        self._outbound_woken = False
        while self._outbound:
            call = self._outbound.popleft()
            result = call.result
            if result is None:
                result = outcome.capture(call.raise_cancel or _raise_closed)
            call.on_done(result)


async def _as_coroutine(factory: Callable[[], Awaitable[object]]) -> object:
    return await factory()


def _raise_closed() -> object:
    raise StorageUnavailable("postgres", "unknown", "the database is being closed")
