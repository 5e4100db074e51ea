"""Connections that never become a WebSocket, and requests that want to be two at once."""

from __future__ import annotations

from collections import Counter
from itertools import count

import trio

from tests.hostile.force import Force
from tests.hostile.target import Target, handshake, http_status, read_all, send_quietly
from tests.support.lean_client import cut_frames

_PATIENCE = 30.0
_SECOND = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"


async def half_open(target: Target, force: Force) -> Counter[str]:
    """A hundred times as many connections as attackers, on which nothing is said."""

    async def attack() -> str:
        async with trio.open_nursery() as nursery:
            closed = Counter[str]()

            async def stay() -> None:
                async with target.tcp() as stream:
                    with trio.move_on_after(_PATIENCE):
                        closed[http_status(await read_all(stream))] += 1

            for _ in range(100):
                nursery.start_soon(stay)
        return "closed" if closed["closed"] == 100 else str(dict(closed))

    return await force.each(attack)


def smuggling() -> list[bytes]:
    """Heads that parsers disagree about; each could hide a second request."""
    good = handshake()
    return [
        good + _SECOND,  # its bytes are frames, and broken ones
        handshake(**{"Content-Length": str(len(_SECOND))}) + _SECOND,
        handshake(**{"Transfer-Encoding": "chunked"}) + b"0\r\n\r\n" + _SECOND,
        good.replace(b"\r\n", b"\n"),
        good.replace(b"Host: 127.0.0.1", b"Host: 127.0.0.1\r\n folded"),
        good.replace(b"Host: 127.0.0.1", b"Host: 127.0.0.1\r\nHost: other"),
        good.replace(b"Host:", b"Host :"),
        good.replace(b"/v1/connect", b"http://elsewhere/v1/connect"),
        good.replace(b"HTTP/1.1\r\n", b"HTTP/1.0\r\n"),
        good.replace(b"Upgrade: websocket", b"Upgrade: h2c"),
        good.replace(b"127.0.0.1", b"127.0.0.1\x00"),
        handshake(Origin="https://attacker.example"),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ]


async def smuggled(target: Target, force: Force) -> Counter[str]:
    """Each of them: one answer, and never one to the request behind it."""
    numbers = count()

    async def attack() -> str:
        requests = smuggling()
        async with target.tcp() as stream:
            await send_quietly(stream, requests[next(numbers) % len(requests)])
            await send_quietly(stream, b"\r\n\r\n")
            data = b""
            with trio.move_on_after(_PATIENCE):
                data = await read_all(stream)
        return _outcome(data)

    return await force.each(attack)


def _outcome(data: bytes) -> str:
    if data.count(b"HTTP/1.1 ") != 1:
        return f"{data.count(b'HTTP/1.1 ')} answers: {data!r}"
    if not data.startswith(b"HTTP/1.1 101"):
        return http_status(data)
    frames = cut_frames(bytearray(data.partition(b"\r\n\r\n")[2]))
    return next((str(int.from_bytes(body[:2], "big")) for code, body in frames if code == 8), "?")
