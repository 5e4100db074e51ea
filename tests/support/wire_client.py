"""A WebSocket client that sends any frame, also what no library would: fragments, bad UTF-8.

It keeps what it receives and checks nothing.
"""

import contextlib
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import trio

from tests.support.lean_client import cut_frames, encode_client_frame, shake_hands

_RECEIVE_BYTES = 256 * 1024


class WireClient:
    """One connection; get it from `open_wire_client`."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self._buffer = bytearray()
        self._changed = trio.Event()
        self._sending = trio.Lock()
        self.frames: list[dict[str, Any]] = []
        """Every text frame received, in order."""
        self.is_ended = False
        self.close_code: int | None = None
        """The server's; 1006 if the connection ended without one."""

    async def send(self, opcode: int, *parts: bytes) -> None:
        """Send one message in as many fragments as there are parts; nothing if it has ended."""
        data = bytearray()
        for place, part in enumerate(parts):
            frame = bytearray(encode_client_frame(part, opcode=0 if place else opcode))
            if place < len(parts) - 1:
                frame[0] &= 0x7F
            data += frame
        await self.send_bytes(bytes(data))

    async def send_bytes(self, data: bytes) -> None:
        """Send bytes as they are; nothing if the connection has ended."""
        try:
            async with self._sending:
                await self._stream.send_all(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            await self.wait(lambda: self.is_ended)

    async def wait(self, condition: Callable[[], bool]) -> None:
        """Wait until something that was received makes the condition true."""
        while not condition():
            await self._changed.wait()

    async def receive(self) -> None:
        """Take frames until the connection ends."""
        try:
            data = b"-"
            while data:
                for opcode, payload in cut_frames(self._buffer):
                    await self._take(opcode, payload)
                self._note_change()
                data = await self._stream.receive_some(_RECEIVE_BYTES)
                self._buffer += data
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        self.is_ended = True
        if self.close_code is None:
            self.close_code = 1006
        self._note_change()

    def begin(self, rest: bytes) -> None:
        """What came with the handshake's answer."""
        self._buffer += rest

    async def _take(self, opcode: int, payload: bytes) -> None:
        if opcode == 9:
            await self._answer(encode_client_frame(payload, opcode=10))
        elif opcode == 8:
            self.close_code = int.from_bytes(payload[:2], "big")
            await self._answer(encode_client_frame(payload[:2], opcode=8))
        elif opcode == 1:
            self.frames.append(json.loads(payload))

    async def _answer(self, data: bytes) -> None:
        # Not `send_bytes`: the receiver can not wait for the end that it finds itself.
        with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            async with self._sending:
                await self._stream.send_all(data)

    def _note_change(self) -> None:
        self._changed.set()
        self._changed = trio.Event()


@asynccontextmanager
async def open_wire_client(url: str, token: str | None) -> AsyncIterator[WireClient]:
    """Connect; with a token, in the query. Does not wait for `hello`."""
    target = urlsplit(url)
    stream = await trio.open_tcp_stream(target.hostname or "", target.port or 80)
    async with stream, trio.open_nursery() as nursery:
        client = WireClient(stream)
        client.begin(await shake_hands(stream, url, token))
        nursery.start_soon(client.receive)
        yield client
        nursery.cancel_scope.cancel()
