"""One pipelined connection to Redis, from its first byte to its loss.

A resource that is used once: `run` serves it until it is lost; whoever owns it then opens another.

    submit -> queue -> writer task -> socket -> Redis -> socket -> reader task -> on_reply

Law of this file:
- The writer sends everything queued since its last turn in one `send`; the reader feeds hiredis
  and calls the callbacks in order. No task, event or cancel scope exists per command.
- Replies are in order, so only the oldest unanswered command has a deadline that matters: a
  watchdog looks at it, and if it is overdue the connection is thrown away. A command whose own
  timeout is shorter than that of one before it may therefore wait for the longer one.
- Every callback is called exactly once. Losing the connection answers the rest in order with
  StorageUnavailable: "not_done" if the kernel never took the whole command, else "unknown".
- A callback must not raise. One that does is a bug: it is logged with its traceback and counted
  in the statistics (tests look there), and the others are answered all the same.
- Nothing is ever sent twice.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

import hiredis
import structlog
import trio

from config.limits import (
    REDIS_RECEIVE_BYTES,
    REDIS_UNANSWERED_MAX,
    REDIS_UNSENT_BYTES_MAX,
    REDIS_WATCHDOG_GRACE,
    REDIS_WATCHDOG_INTERVAL,
)
from storage.errors import Outcome, StorageUnavailable
from storage.redis.calls import Caller, OpenCall
from storage.redis.replies import (
    INCOMPLETE,
    PROTOCOL_ERRORS,
    LifeInDoubt,
    OnReply,
    Reply,
    build_reader,
    feed,
)
from storage.redis.sockets import CONNECTION_ERRORS, ByteSocket, describe

_log: Final = structlog.get_logger("storage.redis.connection")


@dataclass(slots=True)
class Traffic:
    """What went over one connection (or, added up, over all of a client's)."""

    commands: int = 0
    bytes_sent: int = 0
    bytes_received: int = 0
    callback_errors: int = 0
    last_round_trip: float | None = None

    def add(self, other: Traffic) -> None:
        """Count in what another connection did."""
        self.commands += other.commands
        self.bytes_sent += other.bytes_sent
        self.bytes_received += other.bytes_received
        self.callback_errors += other.callback_errors
        if other.last_round_trip is not None:
            self.last_round_trip = other.last_round_trip


class RedisConnection(Caller):
    """Commands in, replies out, in order, until the connection is lost.

    `command_timeout`: seconds after which an unanswered command loses the connection.
    """

    def __init__(
        self,
        socket: ByteSocket,
        *,
        command_timeout: float,
        round_trips: deque[float] | None = None,
    ) -> None:
        """Times of round trips, of one at a time, are appended to `round_trips`."""
        self._socket = socket
        self._round_trips = deque[float](maxlen=1) if round_trips is None else round_trips
        self._command_timeout = command_timeout
        self._now: Callable[[], float] = trio.lowlevel.current_clock().current_time
        self._scope = trio.CancelScope()
        self._lost: str | None = None
        # Commands not yet taken by the writer, those it is sending, and how far it is.
        self._queue: list[bytes] = []
        self._sending: list[bytes] = []
        self._sending_done = 0
        self._unsent_bytes = 0
        # The command that comes behind the queue and is packed when it is sent or followed.
        self._open: OpenCall | None = None
        self._parked_writer: trio.lowlevel.Task | None = None
        # Every command without a reply, sent or not: callback and deadline.
        self._waiting: deque[tuple[OnReply, float]] = deque()
        self._waiting_max = REDIS_UNANSWERED_MAX
        self._traffic = Traffic()
        # One command at a time is timed: how many replies are still before its own, and since when.
        self._timed_replies = 0
        self._timed_since = 0.0

    @property
    def lost(self) -> str | None:
        """Why the connection is useless, None while it is not."""
        return self._lost

    @property
    def in_flight(self) -> int:
        """Commands without a reply, sent or not."""
        return len(self._waiting)

    def traffic(self) -> Traffic:
        """What went over this connection so far (a copy)."""
        copy = Traffic()
        copy.add(self._traffic)
        copy.commands += len(self._waiting)
        return copy

    def submit(
        self, packed: bytes | OpenCall, on_reply: OnReply, timeout: float | None = None
    ) -> None:
        self._pack_open()
        waiting = self._waiting
        if len(waiting) >= self._waiting_max or self._unsent_bytes >= REDIS_UNSENT_BYTES_MAX:
            self._answer(on_reply, self._refusal())
            return
        deadline = self._now() + (self._command_timeout if timeout is None else timeout)
        waiting.append((on_reply, deadline))
        if isinstance(packed, bytes):
            self._queue.append(packed)
            self._unsent_bytes += len(packed)
        else:
            self._open = packed
        writer = self._parked_writer
        if writer is not None:
            self._parked_writer = None
            trio.lowlevel.reschedule(writer)

    def _pack_open(self) -> None:
        if self._open is not None:
            call, self._open = self._open, None
            self._queue.append(call.pack())
            self._unsent_bytes += len(self._queue[-1])

    def lose(self, reason: str) -> None:
        """Give the connection up; `run` then answers what is unanswered. May be called again."""
        if self._lost is None:
            self._lost = reason
            self._waiting_max = 0
            self._scope.cancel()

    async def run(self) -> None:
        """Serve until the connection is lost; raises nothing but cancellation (and bugs)."""
        try:
            with self._scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._lose_on_error, self._run_writer)
                    nursery.start_soon(self._lose_on_error, self._run_reader)
                    nursery.start_soon(self._run_watchdog)
        finally:
            self.lose("the connection was closed")
            self._socket.close()
            self._answer_waiting()

    async def _lose_on_error(self, serve: Callable[[], Awaitable[None]]) -> None:
        try:
            await serve()
        except CONNECTION_ERRORS as error:
            self.lose(f"the connection broke ({describe(error)})")
        except PROTOCOL_ERRORS as error:
            self.lose(f"the server does not speak Redis ({error})")

    async def _run_writer(self) -> None:
        socket = self._socket
        while True:
            if not self._queue and self._open is None:
                self._parked_writer = trio.lowlevel.current_task()
                await trio.lowlevel.wait_task_rescheduled(self._unpark_writer)
            self._pack_open()
            self._sending, self._queue = self._queue, []
            data = b"".join(self._sending)
            size = len(data)
            if self._timed_replies <= 0:
                self._timed_replies = len(self._waiting)
                self._timed_since = self._now()
            self._sending_done = 0 if socket.knows_progress else size
            done = await socket.send_some(data)
            if done < size:
                await self._send_rest(memoryview(data), done)
            self._sending = []
            self._unsent_bytes -= size
            self._traffic.bytes_sent += size

    async def _send_rest(self, data: memoryview, done: int) -> None:
        while done < len(data):
            self._sending_done = done
            done += await self._socket.send_some(data[done:])

    def _unpark_writer(self, _raise_cancel: object) -> trio.lowlevel.Abort:
        self._parked_writer = None
        return trio.lowlevel.Abort.SUCCEEDED

    async def _run_reader(self) -> None:
        reader = build_reader()
        buffer = bytearray(REDIS_RECEIVE_BYTES)
        traffic = self._traffic
        while True:
            size = await self._socket.receive_into(buffer)
            if size == 0:
                self.lose("the server closed the connection")
                return
            traffic.bytes_received += size
            feed(reader, buffer, size)
            answered, doubt = self._deliver(reader)
            traffic.commands += answered
            if self._timed_replies > 0:
                self._timed_replies -= answered
                if self._timed_replies <= 0:
                    traffic.last_round_trip = self._now() - self._timed_since
                    self._round_trips.append(traffic.last_round_trip)
            if doubt is not None:
                self.lose(doubt.reason)

    def _deliver(self, reader: hiredis.Reader) -> tuple[int, LifeInDoubt | None]:
        """Call the callbacks of all complete replies; their number, and the error that condemns.

        The replies behind such an error are still delivered: each says truly what happened.
        """
        waiting = self._waiting
        gets = reader.gets
        answered = 0
        doubt: LifeInDoubt | None = None
        while (reply := gets()) is not INCOMPLETE:
            if not waiting:
                raise hiredis.ProtocolError("a reply that nobody asked for")
            on_reply = waiting.popleft()[0]
            answered += 1
            if reply.__class__ is LifeInDoubt:
                doubt = reply
            try:
                on_reply(reply)
            except Exception:
                self._report_callback_error(on_reply)
        return answered, doubt

    async def _run_watchdog(self) -> None:
        while True:
            await trio.sleep(REDIS_WATCHDOG_INTERVAL)
            if not self._waiting or self._waiting[0][1] > self._now():
                continue
            overdue = self._waiting[0]
            await trio.sleep(REDIS_WATCHDOG_GRACE)
            if self._waiting and self._waiting[0] is overdue:
                self.lose("no answer within the deadline")

    def _answer_waiting(self) -> None:
        """Answer what the connection has left unanswered, oldest first."""
        self._pack_open()
        not_done = len(self._queue) + self._count_unsent()
        while self._waiting:
            outcome: Outcome = "not_done" if len(self._waiting) <= not_done else "unknown"
            on_reply = self._waiting.popleft()[0]
            self._answer(on_reply, StorageUnavailable("redis", outcome, self._lost or ""))
        self._queue.clear()
        self._sending.clear()

    def _count_unsent(self) -> int:
        """Commands of the broken-off send that the kernel did not take to their last byte."""
        end = 0
        for index, packed in enumerate(self._sending):
            end += len(packed)
            if end > self._sending_done:
                return len(self._sending) - index
        return 0

    def _refusal(self) -> StorageUnavailable:
        reason = self._lost or "too many commands wait for Redis"
        return StorageUnavailable("redis", "not_done", reason)

    def _answer(self, on_reply: OnReply, reply: Reply | Exception) -> None:
        try:
            on_reply(reply)
        except Exception:
            self._report_callback_error(on_reply)

    def _report_callback_error(self, on_reply: OnReply) -> None:
        self._traffic.callback_errors += 1
        _log.exception("a reply's callback raised", callback=repr(on_reply))
