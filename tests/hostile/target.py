"""Who is attacked: a broker, an api, and how an attacker gets a connection to them."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from urllib.parse import urlsplit

import psutil
import trio

from tests.support.lean_client import cut_frames, encode_client_frame, shake_hands
from tests.support.metrics import MetricsPage
from tests.support.tokens import make_token
from tests.support.wire_client import WireClient, open_wire_client

_UNUSABLE_SOON = (trio.BrokenResourceError, trio.ClosedResourceError, OSError)


@dataclass(frozen=True)
class Target:
    """Running servers, and a room that `mallory` is a member of. Goes through JSON."""

    broker_url: str
    broker_pid: int
    api_url: str
    api_pid: int
    room: str
    metrics_port: int
    """The broker's."""
    user: str = "mallory"

    @classmethod
    def from_json(cls, text: str) -> Target:
        return cls(**json.loads(text))

    def as_json(self) -> str:
        return json.dumps(asdict(self))

    def token(self, user: str | None = None) -> str:
        return make_token(user or self.user)

    def memory(self) -> int:
        """Bytes that both servers have in memory."""
        return sum(psutil.Process(pid).memory_info().rss for pid in (self.broker_pid, self.api_pid))

    def descriptors(self) -> int:
        """File descriptors that both servers have open."""
        return sum(psutil.Process(pid).num_fds() for pid in (self.broker_pid, self.api_pid))

    async def slow_consumers(self) -> float:
        """How many connections the broker has closed with 4508."""
        return await MetricsPage(self.metrics_port).value("parley_slow_consumers_total")

    @asynccontextmanager
    async def websocket(self, token: str | None = "") -> AsyncIterator[WireClient]:
        """A connection of mallory's (token None: of nobody)."""
        given = self.token() if token == "" else token
        async with open_wire_client(self.broker_url, given) as client:
            yield client

    @asynccontextmanager
    async def tcp(self, *, api: bool = False) -> AsyncIterator[trio.SocketStream]:
        """A connection that says nothing yet, to the broker or the api."""
        url = urlsplit(self.api_url if api else self.broker_url)
        stream = await trio.open_tcp_stream(url.hostname or "", url.port or 80)
        async with stream:
            yield stream

    @asynccontextmanager
    async def deaf(self, *, receive_bytes: int = 4096) -> AsyncIterator[trio.SocketStream]:
        """An authenticated WebSocket of which nobody reads, with a small buffer in the kernel."""
        url = urlsplit(self.broker_url)
        raw = trio.socket.socket()
        raw.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_RCVBUF, receive_bytes)
        await raw.connect((url.hostname, url.port))
        async with trio.SocketStream(raw) as stream:
            await shake_hands(stream, self.broker_url, self.token())
            yield stream


def handshake(target: str = "/v1/connect", **headers: str) -> bytes:
    """The head of a good handshake, with some headers more or different."""
    given = {
        "Host": "127.0.0.1",
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
        "Sec-WebSocket-Version": "13",
    } | headers
    lines = [f"{name}: {value}" for name, value in given.items()]
    return "\r\n".join([f"GET {target} HTTP/1.1", *lines, "", ""]).encode()


def text_frame(**fields: object) -> bytes:
    """One masked text frame of JSON."""
    return encode_client_frame(json.dumps(fields).encode())


async def send_quietly(stream: trio.SocketStream, data: bytes) -> bool:
    """Send; False if the server has ended the connection."""
    try:
        await stream.send_all(data)
    except _UNUSABLE_SOON:
        return False
    return True


async def read_all(stream: trio.SocketStream) -> bytes:
    """What comes until the server ends the connection."""
    data = bytearray()
    try:
        while chunk := await stream.receive_some(65536):
            data += chunk
    except _UNUSABLE_SOON:
        pass
    return bytes(data)


def http_status(answer: bytes) -> str:
    """`HTTP 400` of an answer; `closed` if there was none."""
    if not answer.startswith(b"HTTP/1.1 "):
        return "closed" if not answer else "no HTTP"
    return f"HTTP {answer[9:12].decode()}"


async def close_code(client: WireClient) -> str:
    """Wait for the end of a connection: how it was closed."""
    await client.wait(lambda: client.is_ended)
    return str(client.close_code)


def last_close_code(data: bytes) -> str:
    """The close code at the end of what was read; what came before may be cut anywhere."""
    at = data.rfind(b"\x88")
    while at >= 0:
        frames = cut_frames(bytearray(data[at:]))
        if len(frames) == 1 and frames[0][0] == 8 and at + 2 + data[at + 1] == len(data):
            return str(int.from_bytes(frames[0][1][:2], "big"))
        at = data.rfind(b"\x88", 0, at)
    return "1006"
