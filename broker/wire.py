"""One WebSocket connection between its socket and the application.

`Wire` is the stream under trio-websocket and the `Peer` that the application posts to. Every byte
from the socket passes the frame walker first: complete text messages go straight to the receiver,
in the reader's turn; the rest goes up to trio-websocket, which begins with the first of it, and
messages that it put together come back by `handle_passed_up`. Both ways keep one order.

The rules: the receiver is called synchronously, only between `begin` and the end, and never after
`disconnect`. An exception of the receiver closes this connection with 1011 and nothing else.
The handshake, and who runs trio-websocket, are in `wire_life`; writing is in `outbox`.
"""

from __future__ import annotations

import contextlib
import secrets
import socket
from collections.abc import Callable
from typing import Final

import structlog
import trio

from broker.frame_walker import FrameWalker, Step
from broker.handshake import Handshake
from broker.outbox import Outbox
from broker.peer import Receiver
from broker.protocol import errors
from broker.protocol.frames import encode_ping_frame
from broker.wire_context import WireContext
from config import wire_limits

_PING: Final = encode_ping_frame()

_logger: Final = structlog.get_logger(__name__)


class Wire(Outbox, trio.abc.Stream):
    """One connection; see the module. `due_tick`, `heard_at`, `is_paused` are for the keepalive.

    `is_begun`: the WebSocket was open for the application. `fault_code` tells with which code
    trio-websocket, once it has begun, gave up on the peer's frames, if it did.
    """

    __slots__ = (
        "_is_at_end",
        "_is_deaf",
        "_is_hasty",
        "_receiver",
        "_resumed",
        "_shared",
        "_steps",
        "_upward_since",
        "_walker",
        "due_tick",
        "fault_code",
        "handshake",
        "heard_at",
        "id",
        "is_begun",
        "is_paused",
    )

    def __init__(self, raw_socket: socket.socket, context: WireContext) -> None:
        """Take over a connected, non-blocking socket."""
        super().__init__(raw_socket, context)
        self._shared = context
        self._walker = FrameWalker(context.max_frame_bytes)
        self._receiver: Receiver | None = None
        self._resumed: trio.Event | None = None
        self._steps: list[Step] | None = None
        self._is_deaf = self._is_hasty = self._is_at_end = self.is_paused = self.is_begun = False
        self.fault_code: Callable[[], int | None] | None = None
        self._upward_since = self.heard_at = context.keepalive.now
        self.id = secrets.token_hex(8)
        self.handshake = Handshake("", "")
        self.due_tick = 0

    @property
    def is_answered(self) -> bool:
        """Whether the peer's close frame has come and we have sent ours: nothing is left to say."""
        return self.close_code is not None and self._walker.has_seen_close

    async def read_raw(self) -> bytes:
        """Bytes as they come, past the walker; empty at the end. Raises BrokenResourceError."""
        data = None
        while data is None:
            await trio.lowlevel.wait_readable(self._socket)
            data = self._read()
        return data

    def read_raw_now(self) -> bytes | None:
        """What has come already, past the walker; see `_read`. Raises BrokenResourceError."""
        return self._read()

    def give_rest(self, rest: bytes) -> None:
        """What came behind the request head already: frames."""
        if rest:
            self._steps = self._walker.walk(rest)

    def begin(self, receiver: Receiver) -> None:
        """The WebSocket is open: read on and hand messages to `receiver`."""
        self._receiver = receiver
        self.is_begun = True
        self._shared.keepalive.watch(self)

    def pause(self) -> None:
        """Stop reading; at most one turn of messages that were read already still comes."""
        self.is_paused = not self.is_closing

    def resume(self) -> None:
        """Read again; the time of the pause counts as heard."""
        self.is_paused = False
        self.heard_at = self._shared.keepalive.now
        self._wake_reader()

    def disconnect(self, code: int, reason: str = "") -> None:
        """See `Outbox.disconnect`; nothing is handed to the receiver any more."""
        super().disconnect(code, reason)
        self._is_deaf = True
        if self.is_paused:
            self.resume()  # or the peer's answer would never be read

    def ping(self) -> None:
        """Send a ping; its answer is just bytes that were heard."""
        self.post(_PING)

    def end(self, code: int | None = None, reason: str = "") -> None:
        """See `Outbox.end`; wakes the reader, who sees a closed stream."""
        self._shared.readers.release(self.fileno())
        super().end(code, reason)
        self._shared.keepalive.forget(self)
        self._wake_reader()

    def finish(self, peer_code: int | None) -> int:
        """The connection is over: close the socket and tell the receiver, once.

        The code told is ours if we ended it, else the peer's, else 1006. Returns it.
        """
        self.end()
        code = self.close_code or peer_code or errors.LOST
        receiver, self._receiver = self._receiver, None
        if receiver is not None:
            try:
                receiver.handle_closed(code)
            except Exception:
                _logger.exception("receiver_failed", connection=self.id)
        return code

    # --- for trio-websocket -------------------------------------------------------------------

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """What trio-websocket is to see next; empty at the end of the stream.

        May return more than `max_bytes`. Cancel-safe: nothing that was read is lost.
        """
        while True:
            await self._wait_turn()
            if self.is_ended:
                raise trio.ClosedResourceError
            if self._is_at_end:
                return self._walker.end()
            if self._steps is not None:
                await trio.lowlevel.checkpoint()
                upward = self._take_steps(self._steps)
            elif self._is_hasty:
                self._is_hasty = False
                await self._shared.wait_in_line()
                continue
            else:
                upward = await self._shared.readers.wait(self)
            if upward:
                return upward

    def read_now(self) -> bytes | None:
        """See `Readable`; all but whole messages is left to the reader's own task."""
        if self.is_paused:
            return b""
        data = self._read()
        if not data:
            self._is_at_end = data is not None
            return data
        self.heard_at = self._shared.keepalive.now
        self._is_hasty = len(data) == wire_limits.RECEIVE_BYTES
        upward = self._take_steps(self._walker.walk(data))
        if upward or self._steps is not None or self._is_hasty or self.is_paused:
            return upward
        return None

    async def handle_passed_up(self, message: str | bytes) -> None:
        """A message that trio-websocket has put together out of what went up."""
        await self._wait_turn()
        # What came before the peer's close frame is handled even when the socket is gone.
        if isinstance(message, str):
            self._deliver(message)
        else:
            self.disconnect(errors.UNSUPPORTED_DATA)
        self._walker.messages_up -= 1

    async def aclose(self) -> None:
        """Close in order: the close frame if there was none, what is kept, the peer's end.

        Bounded by the close timeout. When cancelled the socket is closed at once.
        """
        if not self.is_ended:
            fault = None if self.fault_code is None else self.fault_code()
            if fault is not None:
                super().disconnect(fault)
            self._shared.watch_closing(self)
            try:
                await self._linger()
            finally:
                self.end()
        await trio.lowlevel.checkpoint()

    async def _linger(self) -> None:
        # A socket closed with unread bytes resets the connection, and the peer would lose what
        # it has not read yet. So read on until the peer ends, or `watch_closing` ends this.
        try:
            await self.wait_send_all_might_not_block()
            if self.is_ended or self._walker.has_seen_close:
                return
            self._socket.shutdown(socket.SHUT_WR)
            while self._read() != b"":
                await trio.lowlevel.wait_readable(self._socket)
        except (OSError, trio.ClosedResourceError, trio.BrokenResourceError):
            return

    async def _wait_turn(self) -> None:
        """Until the application wants more, or the socket is closed."""
        while self.is_paused:
            if self.is_ended:
                raise trio.ClosedResourceError
            if self._resumed is None:
                self._resumed = trio.Event()
            await self._resumed.wait()

    def _wake_reader(self) -> None:
        if self._resumed is not None:
            self._resumed.set()
            self._resumed = None

    def _read(self) -> bytes | None:
        """What has come; empty at the end of the stream, None if there is nothing yet."""
        try:
            return self._socket.recv(wire_limits.RECEIVE_BYTES)
        except BlockingIOError:
            return None
        except OSError as error:
            raise trio.BrokenResourceError from error

    def _take_steps(self, steps: list[Step]) -> bytes:
        """Hand over the messages that are whole; the bytes that go up now."""
        upward: list[bytes] = []
        taken = 0
        for step in steps:
            if isinstance(step, str):
                if self.is_paused:
                    break
                self._deliver(step)
            elif isinstance(step, bytes):
                if len(upward) == wire_limits.FRAMES_UP_PER_TURN:
                    break
                upward.append(step)
            else:
                self._refuse(step)
            taken += 1
        self._steps = None if taken == len(steps) else steps[taken:]
        if upward and self._walker.is_busy:
            self._judge_upward()
        return b"".join(upward)

    def _refuse(self, code: int) -> None:
        # Not deaf: what went up before is still to be handled. The walker finds no close frame any
        # more, so the end of the stream tells the peer that its answer is not waited for.
        super().disconnect(code)
        if not self.kept_bytes and not self.is_ended:
            with contextlib.suppress(OSError):
                self._socket.shutdown(socket.SHUT_WR)

    def _deliver(self, text: str) -> None:
        if self._is_deaf or self._receiver is None:
            return
        try:
            self._receiver.handle_text(text)
        except Exception:
            # The barrier of the connection: nothing that a client sends may end more than this.
            _logger.exception("receiver_failed", connection=self.id)
            self.disconnect(errors.INTERNAL_ERROR)

    def _judge_upward(self) -> None:
        now = self._shared.keepalive.now
        if now - self._upward_since < wire_limits.CONTROL_FRAMES_SECONDS:
            self.disconnect(errors.TOO_MANY_FRAMES)
        self._upward_since = now
        self._walker.controls = self._walker.fragments = 0

    def _note_progress(self) -> None:
        self.heard_at = self._shared.keepalive.now
