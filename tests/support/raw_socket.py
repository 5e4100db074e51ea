"""A WebSocket whose texts are seen as they are: for answers that must be equal to the byte."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import msgspec
import trio
import trio_websocket

from tests.support.asyncapi import frame_fault

_ANSWER_DEADLINE = 15.0


class RawSocket:
    """One connection without any understanding; get it from `open_raw_socket`."""

    def __init__(self, connection: trio_websocket.WebSocketConnection) -> None:
        self._connection = connection

    async def send(self, frame: Any) -> None:
        """Send text or bytes as they are, anything else as JSON."""
        message = frame if isinstance(frame, str | bytes) else msgspec.json.encode(frame).decode()
        await self._connection.send_message(message)

    async def receive(self) -> str:
        """The next text, which must be a frame as documented."""
        with trio.fail_after(_ANSWER_DEADLINE):
            text = await self._connection.get_message()
        assert isinstance(text, str)
        assert (fault := frame_fault(json.loads(text))) is None, fault
        return text

    async def ask(self, frame: Any) -> str:
        """Send, and the next text."""
        await self.send(frame)
        return await self.receive()

    async def wait_closed(self) -> tuple[int, str]:
        """Wait for the end, dropping texts: close code and reason."""
        with trio.fail_after(_ANSWER_DEADLINE):
            while True:
                try:
                    await self._connection.get_message()
                except trio_websocket.ConnectionClosed as closed:
                    assert closed.reason is not None, "the connection was lost"
                    return closed.reason.code, closed.reason.reason or ""


@asynccontextmanager
async def open_raw_socket(
    url: str, token: str | None = None, *, wait_hello: bool = True
) -> AsyncIterator[RawSocket]:
    """Connect; with a token, wait for `hello` too."""
    target = urlsplit(url)
    query = "" if token is None else f"?token={token}"
    stream = await trio.open_tcp_stream(target.hostname or "", target.port or 80)
    async with stream, trio.open_nursery() as nursery:
        connection = await trio_websocket.wrap_client_stream(
            nursery, stream, target.netloc, target.path + query, message_queue_size=1000
        )
        socket = RawSocket(connection)
        if token is not None and wait_hello:
            assert '"type":"hello"' in await socket.receive()
        yield socket
        nursery.cancel_scope.cancel()
