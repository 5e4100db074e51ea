"""The way out of one connection: whole frames in, bytes to a socket that may be slow.

The rules: a frame is sent whole and in order, whoever writes it (`post` for our frames,
`send_all` for what trio-websocket writes); frames are never interleaved. One non-blocking send is
tried at once; what the kernel does not take is kept, and only while something is kept a writer
task runs. More than `send_queue_bytes` kept makes a slow consumer: what has not begun to leave is
dropped, and the connection closes with 4508. After our close frame nothing is sent any more, not
even trio-websocket's echo of the peer's close frame. What is posted `soon` leaves with what follows
it, a moment later at the latest (see `held_back`).

All but `send_all` and the waiting is synchronous: no await means atomic. Nothing here reads the
socket or knows what a frame means. TLS is not here: over TLS the same class would hand its bytes
to an SSL object instead of `socket.send`, so nobody else calls the socket.
"""

from __future__ import annotations

import socket
from collections import deque
from itertools import islice
from typing import Final

import trio

from broker.protocol import errors
from broker.protocol.frames import encode_close_frame, end_of_frame
from broker.wire_context import OutboxContext

_BUFFERS_PER_SEND: Final = 64  # far below the kernel's limit of 1024; enough to fill any buffer
_CLOSE_OPCODE: Final = 0x88


class Outbox(trio.abc.SendStream):
    """Everything that is written to one socket.

    `close_code` and `close_reason` are what we ended the connection with (None: we did not).
    `is_closing`: nothing is taken any more. `is_ended`: the socket is closed.
    """

    __slots__ = (
        "_context",
        "_flushed",
        "_held",
        "_is_writing",
        "_kept",
        "_kept_bytes",
        "_sent",
        "_socket",
        "close_code",
        "close_reason",
        "is_closing",
        "is_ended",
    )

    def __init__(self, raw_socket: socket.socket, context: OutboxContext) -> None:
        """Take over a connected, non-blocking socket."""
        self._socket = raw_socket
        self._context = context
        # None: open, nothing kept or held, as `post` asks first. A closing outbox has one.
        self._kept: deque[bytes] | None = None
        self._held = b""  # waits for company until `send_held`; nothing is kept beside it
        self._kept_bytes = 0
        self._sent = 0  # bytes of the first kept piece that have left already
        self._is_writing = False
        self._flushed: trio.Event | None = None
        self.is_closing = False
        self.is_ended = False
        self.close_code: int | None = None
        self.close_reason = ""

    @property
    def kept_bytes(self) -> int:
        """Bytes that wait for the peer to read."""
        return self._kept_bytes

    def post(self, frame: bytes) -> None:
        """Send one whole frame, or several joined ones, after everything posted before.

        Never blocks and never raises. Dropped when the connection is closing or lost.
        """
        if self._kept is None:
            try:
                sent = self._socket.send(frame)
            except BlockingIOError:
                sent = 0
            except OSError:
                self._lose()
                return
            if sent != len(frame):
                self._keep(frame, sent)
        elif self._held:
            frames, self._held, self._kept = self._held + frame, b"", None
            self.post(frames)
        elif not self.is_closing:
            self._keep(frame, 0)

    def post_soon(self, frame: bytes) -> None:
        """The same for a frame that more is likely to follow at once: they share a send."""
        if self._kept is None:
            self._held, self._kept = frame, deque()
            self._context.send_soon(self)
        elif self._held:
            self._held += frame
        else:
            self.post(frame)

    def send_held(self) -> None:
        """Send what has waited for company; called by whoever was told to `send_soon`."""
        if self._held:
            self.post(b"")

    def disconnect(self, code: int, reason: str = "") -> None:
        """End the connection: our close frame after what is kept, then nothing more.

        The first call counts. The peer has a bounded time to read the rest and to answer.
        """
        if self.is_closing:
            return
        self.close_code = code
        self.close_reason = reason or errors.close_reason(code)
        self._send_last(encode_close_frame(code, self.close_reason))
        self._context.watch_closing(self, is_slow=code == errors.TOO_SLOW)

    def is_abandoned(self) -> bool:
        """Whether the peer has gone, and nothing that it sent before waits in the kernel."""
        try:
            return not self._socket.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return False
        except OSError:
            return True

    def has_unread(self) -> bool:
        """Whether bytes of the peer wait in the kernel."""
        try:
            return bool(self._socket.recv(1, socket.MSG_PEEK))
        except OSError:
            return False

    def fileno(self) -> int:
        """The socket's descriptor, -1 when it is closed."""
        return self._socket.fileno()

    def end(self, code: int | None = None, reason: str = "") -> None:
        """Close the socket now, whatever is kept; a `code` is remembered if there was none."""
        if self.is_ended:
            return
        if code is not None and self.close_code is None:
            self.close_code = code
            self.close_reason = reason or errors.close_reason(code)
        self.is_ended = True
        self._drop_all()
        trio.lowlevel.notify_closing(self._socket)
        self._socket.close()

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """What trio-websocket writes: exactly one frame, or the answer to the handshake.

        Returns before the peer has it: what waits is bounded like every posted frame. Dropped
        silently after our close frame. Cancelled only before anything is sent.
        """
        await trio.lowlevel.checkpoint()
        if self.is_ended:
            raise trio.ClosedResourceError
        if not self.is_closing and len(data) > 0:
            if data[0] == _CLOSE_OPCODE:
                self._send_last(bytes(data))
            else:
                self.post(bytes(data))

    async def wait_send_all_might_not_block(self) -> None:
        """Until nothing is kept, or the socket is closed."""
        await trio.lowlevel.checkpoint()
        self.send_held()
        while self._kept:
            if self._flushed is None:
                self._flushed = trio.Event()
            await self._flushed.wait()

    async def aclose(self) -> None:
        """Close the socket now, without waiting for what is kept."""
        self.end()
        await trio.lowlevel.checkpoint()

    def _send_last(self, frame: bytes) -> None:
        """Our close frame: taken even above the limit, and nothing after it."""
        if not self._kept:
            self.post(frame)
        else:
            self._kept.append(frame)
            self._kept_bytes += len(frame)
        self.is_closing = True
        if self._kept is None:
            self._kept = deque()

    def _keep(self, frame: bytes, sent: int) -> None:
        if self._kept is None:
            self._kept = deque()
            self._sent = sent
        self._kept.append(frame)
        self._kept_bytes += len(frame) - sent
        if self._kept_bytes > self._context.send_queue_bytes:
            self._drop_unsent()
            self._context.count_slow_consumer()
            self.disconnect(errors.TOO_SLOW)
        if not self._is_writing and self._kept:
            self._is_writing = True
            self._context.start_task(self._run_writer)

    def _drop_unsent(self) -> None:
        """Forget every frame that has not begun to leave; the peer must get the rest of one."""
        assert self._kept is not None
        first = self._kept[0]
        rest = first[self._sent : end_of_frame(first, self._sent)] if self._sent else b""
        self._kept = deque([rest] if rest else [])
        self._kept_bytes = len(rest)
        self._sent = 0

    def _lose(self) -> None:
        # The reader will see the broken socket and what the peer said before; if nobody reads
        # (backpressure), the watch ends it.
        self.is_closing = True
        self._drop_all()
        self._context.watch_closing(self)

    def _drop_all(self) -> None:
        self.is_closing = True
        self._kept = deque()
        self._held = b""
        self._kept_bytes = 0
        self._sent = 0
        self._wake()

    def _wake(self) -> None:
        if self._flushed is not None:
            self._flushed.set()
            self._flushed = None

    async def _run_writer(self) -> None:
        """Send what is kept whenever the kernel has room; ends when nothing is left."""
        try:
            while self._kept:
                await trio.lowlevel.wait_writable(self._socket)
                self._flush(self._kept)
        except trio.ClosedResourceError:
            pass  # `end` was called: nothing is kept any more
        finally:
            self._is_writing = False

    def _flush(self, kept: deque[bytes]) -> None:
        buffers: list[bytes | memoryview] = list(islice(kept, _BUFFERS_PER_SEND))
        if not buffers:
            return
        if self._sent:
            buffers[0] = memoryview(buffers[0])[self._sent :]
        try:
            count = self._socket.sendmsg(buffers)
        except BlockingIOError:
            return
        except OSError:
            self._lose()
            return
        self._kept_bytes -= count
        self._note_progress()
        sent = self._sent + count
        while kept and sent >= len(kept[0]):
            sent -= len(kept.popleft())
        self._sent = sent
        if not kept:
            if not self.is_closing:
                self._kept = None
            self._wake()

    def _note_progress(self) -> None:
        """The peer's side has taken kept bytes: a sign of life while a pong waits behind them."""
