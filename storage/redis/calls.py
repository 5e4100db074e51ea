"""Awaitable calls on top of `submit`: one command, a pipeline, redis-py's methods.

Law of this file: nothing here knows sockets or connections. A call enters the queue in the same
synchronous section in which it is made (before the first `await` gives way), so calls reach
Redis in the order in which they were made. Cancelling a call abandons its answer: the command may
have run (outcome unknown), and the replies of others stay where they belong.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import cached_property, partial
from typing import Final, Protocol

import trio

from storage.redis.commands import RedisCommands
from storage.redis.replies import OnReply, Reply, pack

_PENDING: Final = object()


class OpenCall(Protocol):
    """A command that may still grow while it is the last in the queue."""

    def pack(self) -> bytes:
        """The command as it is sent; from now on it must not grow."""
        ...


class _Waiter:
    """One task waiting for one reply; cheaper than an event and a result box."""

    __slots__ = ("_reply", "_task")

    def __init__(self) -> None:
        self._reply: object = _PENDING
        self._task: trio.lowlevel.Task | None = None

    def handle_reply(self, reply: Reply | Exception) -> None:
        self._reply = reply
        task = self._task
        if task is not None:
            self._task = None
            trio.lowlevel.reschedule(task)

    async def wait(self) -> Reply | Exception:
        if self._reply is _PENDING:
            self._task = trio.lowlevel.current_task()
            await trio.lowlevel.wait_task_rescheduled(self._abandon)
        else:
            await trio.lowlevel.checkpoint()
        return self._reply  # type: ignore[return-value]

    def _abandon(self, _raise_cancel: object) -> trio.lowlevel.Abort:
        self._task = None
        return trio.lowlevel.Abort.SUCCEEDED


class _Collector:
    """Replies of one pipeline, each into its own place; the last one wakes the task."""

    def __init__(self, count: int) -> None:
        self.replies: list[Reply | Exception] = [None] * count
        self._missing = count
        self.waiter = _Waiter()

    def handle_reply(self, index: int, reply: Reply | Exception) -> None:
        self.replies[index] = reply
        self._missing -= 1
        if self._missing == 0:
            self.waiter.handle_reply(None)


class Caller(ABC):
    """Whatever has `submit` can also be awaited."""

    @abstractmethod
    def submit(
        self, packed: bytes | OpenCall, on_reply: OnReply, timeout: float | None = None
    ) -> None:
        """Queue one packed command; never blocks, never raises.

        One that is open is packed when it is sent, or when another is queued behind it.
        `on_reply` is called exactly once, synchronously: with the raw reply, a redis-py
        ResponseError, or StorageUnavailable. `timeout` is in seconds (None: the client's own).
        """

    async def execute(
        self, *args: bytes | str | int | float, timeout: float | None = None
    ) -> Reply:
        """One command and its raw reply.

        Raises StorageUnavailable (not done, unknown) and redis.exceptions.ResponseError.
        """
        return await self.execute_packed(pack(*args), timeout)

    async def execute_packed(self, packed: bytes, timeout: float | None = None) -> Reply:
        """The same for a command that is packed already."""
        await trio.lowlevel.checkpoint_if_cancelled()
        waiter = _Waiter()
        self.submit(packed, waiter.handle_reply, timeout)
        reply = await waiter.wait()
        if isinstance(reply, Exception):
            raise reply
        return reply

    async def pipeline(
        self,
        commands: Sequence[Sequence[bytes | str | int | float]],
        timeout: float | None = None,
    ) -> list[Reply | Exception]:
        """Several commands in one send, one after the other; each error in its place as a value.

        No transaction: if the connection is lost some may have run and others not.
        """
        return await self.pipeline_packed([pack(*command) for command in commands], timeout)

    async def pipeline_packed(
        self, packed: Sequence[bytes], timeout: float | None = None
    ) -> list[Reply | Exception]:
        """The same for commands that are packed already."""
        await trio.lowlevel.checkpoint_if_cancelled()
        if not packed:
            await trio.lowlevel.checkpoint()
            return []
        collector = _Collector(len(packed))
        for index, command in enumerate(packed):
            self.submit(command, partial(collector.handle_reply, index), timeout)
        await collector.waiter.wait()
        return collector.replies

    @cached_property
    def commands(self) -> RedisCommands:
        """redis-py's methods (`info`, `xrange`, ...) over this transport, with its results."""
        return RedisCommands(self.execute_packed)
