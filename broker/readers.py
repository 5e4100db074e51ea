"""Reading many connections in one task: the descriptors stay with the kernel between two reads.

Waiting for a socket by itself costs trio two changes of its epoll set, an event and a switch of
tasks for each frame. Here one task waits for a set of its own that holds all sockets, and whatever
is ready is read and handled in its turn. So the publishes of many connections also begin together.

The rules: a connection is in the set only while its own task waits in `wait`; that task goes on
when there is something that this one must not do (wait, give bytes to trio-websocket, end). Whoever
closes a socket releases it first. A turn reads each connection at most once and at most
`READS_PER_TURN` of them; the kernel puts who was read behind those who wait. An exception of one
connection's reading goes to its own task.
"""

from __future__ import annotations

import select
from typing import Protocol

import outcome
import trio

from config import wire_limits


class Readable(Protocol):
    """One connection as it is seen here."""

    def fileno(self) -> int:
        """The descriptor, as long as it is open."""
        ...

    def read_now(self) -> bytes | None:
        """Read and handle what has come. None: wait on; else what the own task is to go on with."""
        ...


class Readers:
    """The connections of one listener that wait for bytes."""

    def __init__(self, *, has_epoll: bool = hasattr(select, "epoll")) -> None:
        """Only Linux has it; elsewhere every connection waits by itself."""
        self._epoll = select.epoll() if has_epoll else None
        self._waiting: dict[int, tuple[Readable, trio.lowlevel.Task]] = {}

    async def wait(self, readable: Readable) -> bytes:
        """Until its own task has to go on; what `read_now` gave, empty when it was released.

        Raises what `read_now` raises. Cancel-safe.
        """
        fd = readable.fileno()
        if self._epoll is None:
            while True:
                await trio.lowlevel.wait_readable(fd)
                data = readable.read_now()
                if data is not None:
                    return data
        self._waiting[fd] = readable, trio.lowlevel.current_task()
        self._epoll.register(fd, select.EPOLLIN)

        def abort(_raise_cancel: object) -> trio.lowlevel.Abort:
            self._take(fd)
            return trio.lowlevel.Abort.SUCCEEDED

        found: bytes = await trio.lowlevel.wait_task_rescheduled(abort)
        return found

    def release(self, fd: int) -> None:
        """Let its task go on now, if it waits: the socket is about to be closed."""
        self._wake(fd, outcome.Value(b""))

    def _take(self, fd: int) -> trio.lowlevel.Task:
        assert self._epoll is not None
        self._epoll.unregister(fd)
        return self._waiting.pop(fd)[1]

    async def run(self) -> None:
        """Read whoever has sent something, until cancelled."""
        if self._epoll is None:
            return
        poll, waiting = self._epoll.poll, self._waiting
        while True:
            await trio.lowlevel.wait_readable(self._epoll.fileno())
            for fd, _flags in poll(0, wire_limits.READS_PER_TURN):
                if fd in waiting:
                    self._read(fd, waiting[fd][0])

    def close(self) -> None:
        """Nobody waits any more."""
        if self._epoll is not None:
            self._epoll.close()

    def _read(self, fd: int, readable: Readable) -> None:
        try:
            data = readable.read_now()
        except Exception as error:
            self._wake(fd, outcome.Error(error))
        else:
            if data is not None:
                self._wake(fd, outcome.Value(data))

    def _wake(self, fd: int, result: outcome.Outcome[bytes]) -> None:
        if fd in self._waiting:
            trio.lowlevel.reschedule(self._take(fd), result)
