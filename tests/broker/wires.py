"""A listener with a recording application, and a client that may send anything.

The client writes raw bytes over a real socket: what a WebSocket library would refuse to send is
the point of most tests here.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from typing import Any

import trio

from broker.listener import Listener, ListenerOptions
from broker.peer import Peer
from broker.protocol.frames import encode_text_frame
from broker.wire import Wire
from config.metrics import Metrics
from tests.support.waiting import wait_until

TEXT, BINARY, CLOSE, PING, PONG = 0x1, 0x2, 0x8, 0x9, 0xA
KEY = "dGhlIHNhbXBsZSBub25jZQ=="
GOOD_HEADERS = {
    "Host": "127.0.0.1",
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Key": KEY,
    "Sec-WebSocket-Version": "13",
}


class Recorder:
    """A receiver that writes down what it is told."""

    def __init__(self, peer: Peer, on_text: Callable[[Recorder, str], None] | None) -> None:
        assert isinstance(peer, Wire)
        self.peer = peer
        self.texts: list[str] = []
        self.closed: list[int] = []
        self._on_text = on_text

    def handle_text(self, text: str) -> None:
        assert not self.closed
        self.texts.append(text)
        if self._on_text is not None:
            self._on_text(self, text)

    def handle_closed(self, code: int) -> None:
        self.closed.append(code)


class RecordingApplication:
    """Opens a `Recorder` for every connection."""

    def __init__(self, on_text: Callable[[Recorder, str], None] | None = None) -> None:
        self.recorders: list[Recorder] = []
        self.ready: dict[str, object] = {"ready": True}
        self.refuses: str | None = None
        self._on_text = on_text

    def open_connection(self, peer: Peer) -> Recorder:
        self.recorders.append(Recorder(peer, self._on_text))
        return self.recorders[-1]

    def refusal(self) -> str | None:
        return self.refuses

    def turn(self) -> AbstractAsyncContextManager[None]:
        return nullcontext()

    def readiness(self) -> dict[str, object]:
        return self.ready


def echo(recorder: Recorder, text: str) -> None:
    """Answer every message with itself."""
    recorder.peer.post(encode_text_frame(text.encode()))


@asynccontextmanager
async def serve(application: Any, **options: Any) -> AsyncIterator[Listener]:
    """A running listener on a free port; every connection is ended on leaving."""
    listener = Listener(
        application=application, options=ListenerOptions(**options), metrics=Metrics()
    )
    async with trio.open_nursery() as nursery:
        await nursery.start(listener.run)
        try:
            yield listener
        finally:
            listener.abort()


def frame(
    opcode: int,
    payload: bytes = b"",
    *,
    fin: bool = True,
    rsv: int = 0,
    mask: bytes | None = b"\x11\x22\x33\x44",
) -> bytes:
    """A client frame; `mask=None` leaves it unmasked."""
    length = len(payload)
    head = bytes([(0x80 if fin else 0) | rsv << 4 | opcode])
    bit = 0 if mask is None else 0x80
    if length < 126:
        head += bytes([bit | length])
    elif length < 65536:
        head += bytes([bit | 126]) + length.to_bytes(2, "big")
    else:
        head += bytes([bit | 127]) + length.to_bytes(8, "big")
    if mask is None:
        return head + payload
    return head + mask + bytes(byte ^ mask[place % 4] for place, byte in enumerate(payload))


def text(content: str) -> bytes:
    """One whole masked text frame."""
    return frame(TEXT, content.encode())


def head(target: str = "/v1/connect", method: str = "GET", **changes: str | None) -> bytes:
    """A request head; a header's underscores stand for dashes, None leaves it out."""
    headers: dict[str, str | None] = dict(GOOD_HEADERS)
    for name, value in changes.items():
        header = name.replace("_", "-")
        known = {given.lower(): given for given in headers}
        headers[known.get(header.lower(), header)] = value
    lines = [f"{name}: {value}" for name, value in headers.items() if value is not None]
    return "\r\n".join([f"{method} {target} HTTP/1.1", *lines, "", ""]).encode()


class RawClient:
    """One TCP connection that parses what the server sends."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self.stream = stream
        self._data = b""
        self.is_at_end = False

    async def send(self, *parts: bytes) -> None:
        """Send bytes; a connection that the server has closed already is no error."""
        for part in parts:
            await self.stream.send_all(part)

    async def read_http(self) -> tuple[int, dict[str, str], bytes]:
        """Status, headers (lower case) and body of one HTTP answer."""
        while b"\r\n\r\n" not in self._data:
            if not await self._more():
                raise AssertionError(f"no HTTP answer: {self._data!r}")
        raw, self._data = self._data.split(b"\r\n\r\n", 1)
        first, *lines = raw.decode().split("\r\n")
        headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
        size = int(headers.get("content-length", "0"))
        while len(self._data) < size and await self._more():
            pass
        body, self._data = self._data[:size], self._data[size:]
        return int(first.split()[1]), headers, body

    async def read_frame(self) -> tuple[int, bytes] | None:
        """Opcode and payload of the next frame; None at the end of the stream."""
        while True:
            whole = self._parse()
            if whole is not None:
                return whole
            if not await self._more():
                return None

    async def read_text(self) -> str:
        """The next frame, which must be a text frame."""
        whole = await self.read_frame()
        assert whole is not None, "the connection has ended"
        assert whole[0] == TEXT, whole
        return whole[1].decode()

    async def read_close(self) -> tuple[int, str]:
        """Code and reason of the server's close frame, whatever comes before it."""
        while (whole := await self.read_frame()) is not None:
            if whole[0] == CLOSE:
                return int.from_bytes(whole[1][:2], "big"), whole[1][2:].decode()
        raise AssertionError("the connection ended without a close frame")

    async def read_to_end(self) -> list[tuple[int, bytes]]:
        """Every frame until the stream ends."""
        frames = []
        while (whole := await self.read_frame()) is not None:
            frames.append(whole)
        assert self._data == b"", "the stream ended in the middle of a frame"
        return frames

    def _parse(self) -> tuple[int, bytes] | None:
        data = self._data
        if len(data) < 2:
            return None
        length, at = data[1], 2
        assert length < 128, "a server frame is never masked"
        if length >= 126:
            at = 4 if length == 126 else 10
            if len(data) < at:
                return None
            length = int.from_bytes(data[2:at], "big")
        if len(data) < at + length:
            return None
        assert data[0] & 0xF0 == 0x80, "a server frame is whole and plain"
        self._data = data[at + length :]
        return data[0] & 0x0F, data[at : at + length]

    async def _more(self) -> bool:
        try:
            chunk = await self.stream.receive_some()
        except trio.BrokenResourceError:
            chunk = b""
        self._data += chunk
        self.is_at_end = not chunk
        return bool(chunk)


@asynccontextmanager
async def connect_raw(listener: Listener) -> AsyncIterator[RawClient]:
    """A TCP connection on which nothing was sent yet."""
    stream = await trio.open_tcp_stream("127.0.0.1", listener.port)
    async with stream:
        yield RawClient(stream)


@asynccontextmanager
async def connect(listener: Listener, **changes: Any) -> AsyncIterator[RawClient]:
    """An open WebSocket."""
    async with connect_raw(listener) as client:
        await client.send(head(**changes))
        status, _, body = await client.read_http()
        assert status == 101, (status, body)
        yield client


async def only(application: RecordingApplication) -> Recorder:
    """The recorder of the only connection, once there is one."""
    await wait_until(lambda: application.recorders)
    assert len(application.recorders) == 1
    return application.recorders[0]


async def ended(recorder: Recorder) -> int:
    """The code that the application was told, once it was."""
    await wait_until(lambda: recorder.closed)
    assert len(recorder.closed) == 1
    return recorder.closed[0]
