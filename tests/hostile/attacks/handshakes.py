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


def smuggling() -> list[tuple[str, bytes]]:
    """Heads that parsers disagree about, and what each meets; each could hide a second request."""
    good = handshake()
    host = b"Host: 127.0.0.1"
    return [
        # What follows a handshake are frames, and these are broken ones.
        ("1002", good + _SECOND),
        ("1002", handshake(**{"Content-Length": str(len(_SECOND))}) + _SECOND),
        ("1002", handshake(**{"Transfer-Encoding": "chunked"}) + b"0\r\n\r\n" + _SECOND),
        ("HTTP 400", good.replace(b"\r\n", b"\n")),
        ("HTTP 400", good.replace(host, b"Host: 127.0.0.1\r\n folded")),
        ("HTTP 400", good.replace(host, b"Host: 127.0.0.1\r\nHost: other")),
        ("HTTP 400", good.replace(b"Host:", b"Host :")),
        ("HTTP 404", good.replace(b"/v1/connect", b"http://elsewhere/v1/connect")),
        ("HTTP 400", good.replace(b"HTTP/1.1\r\n", b"HTTP/1.0\r\n")),
        ("HTTP 426", good.replace(b"Upgrade: websocket", b"Upgrade: h2c")),
        ("HTTP 400", good.replace(b"127.0.0.1", b"127.0.0.1\x00")),
        ("HTTP 403", handshake(Origin="https://attacker.example")),
        ("HTTP 400", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    ]


async def smuggled(target: Target, force: Force) -> Counter[str]:
    """Each of them: one answer, and never one to the request behind it."""
    numbers = count()

    async def attack() -> str:
        requests = smuggling()
        expected, request = requests[next(numbers) % len(requests)]
        async with target.tcp() as stream:
            await send_quietly(stream, request)
            await send_quietly(stream, b"\r\n\r\n")
            data = b""
            with trio.move_on_after(_PATIENCE):
                data = await read_all(stream)
        found = _outcome(data)
        return found if found == expected else f"{request!r}: {found}"

    return await force.each(attack)


def _outcome(data: bytes) -> str:
    if data.count(b"HTTP/1.1 ") != 1:
        return f"{data.count(b'HTTP/1.1 ')} answers: {data!r}"
    if not data.startswith(b"HTTP/1.1 101"):
        return http_status(data)
    frames = cut_frames(bytearray(data.partition(b"\r\n\r\n")[2]))
    return next((str(int.from_bytes(body[:2], "big")) for code, body in frames if code == 8), "?")
