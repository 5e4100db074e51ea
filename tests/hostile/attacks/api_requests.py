"""The REST API: slow and endless requests, answers that nobody takes, other protocols, JSON."""

from __future__ import annotations

from collections import Counter
from itertools import count

import trio
import trio.lowlevel

from tests.hostile.attacks.floods import json_bombs_of
from tests.hostile.attacks.slow_writers import send_endless_head, stay_silent, trickle
from tests.hostile.force import Force
from tests.hostile.target import Target, http_status, read_all, send_quietly
from tests.support.lean_client import encode_client_frame

_PATIENCE = 40.0


def _head(line: str, **headers: str) -> bytes:
    lines = [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([f"{line} HTTP/1.1", "Host: x", *lines, "", ""]).encode()


async def half_heads(target: Target, force: Force) -> Counter[str]:
    """Slowloris: one byte of the request head each half second."""
    return await force.each(lambda: trickle(target, api=True))


async def nothing_said(target: Target, force: Force) -> Counter[str]:
    """A connection, and nothing more."""
    return await force.each(lambda: stay_silent(target, api=True))


async def header_floods(target: Target, force: Force) -> Counter[str]:
    """A head without end."""
    return await force.each(lambda: send_endless_head(target, "/healthz", api=True))


async def endless_bodies(target: Target, force: Force) -> Counter[str]:
    """A chunked body without end, with a good token and without."""
    numbers = count()

    async def attack() -> str:
        headers = {"Content_Type": "application/json", "Transfer_Encoding": "chunked"}
        expected = "HTTP 401"
        if next(numbers) % 2:
            headers["Authorization"] = f"Bearer {target.token()}"
            expected = "HTTP 413"
        chunk = b"10000\r\n%b\r\n" % (b"x" * 65536)
        async with target.tcp(api=True) as stream:
            await send_quietly(stream, _head("POST /v1/rooms", **headers))
            with trio.move_on_after(_PATIENCE):
                while await send_quietly(stream, chunk):
                    await trio.lowlevel.checkpoint()
                status = http_status(await read_all(stream))
                return status if status == expected else f"{status}, not {expected}"
        return "not closed"

    return await force.each(attack)


async def unfinished_bodies(target: Target, force: Force) -> Counter[str]:
    """A body of which the end never comes, with a good token and without."""
    numbers = count()

    async def attack() -> str:
        headers = {"Content_Type": "application/json", "Content_Length": "100"}
        expected = "HTTP 401"
        if next(numbers) % 2:
            headers["Authorization"] = f"Bearer {target.token()}"
            expected = "HTTP 408"
        async with target.tcp(api=True) as stream:
            await send_quietly(stream, _head("POST /v1/rooms", **headers) + b'{"id":')
            with trio.move_on_after(_PATIENCE):
                status = http_status(await read_all(stream))
                return status if status == expected else f"{status}, not {expected}"
        return "not closed"

    return await force.each(attack)


async def answers_unread(target: Target, force: Force) -> Counter[str]:
    """Large pages are asked for, one behind the other, and nothing is read."""

    async def attack() -> str:
        token = f"Bearer {target.token()}"
        page = _head(f"GET /v1/rooms/{target.room}/messages?limit=100", Authorization=token)
        async with target.tcp(api=True) as stream:
            with force.while_it_lasts():
                while await send_quietly(stream, page):
                    await trio.lowlevel.checkpoint()
                return "closed"
        return "held"

    return await force.each(attack)


def odd() -> list[tuple[str, bytes]]:
    """Requests that are no honest HTTP/1.1, or want to become something else; what each meets."""
    upgrade = {
        "Upgrade": "websocket",
        "Connection": "Upgrade, close",
        "Sec_WebSocket_Version": "13",
        "Sec_WebSocket_Key": "dGhlIHNhbXBsZSBub25jZQ==",
    }
    ending = {"Connection": "close"}
    return [
        ("HTTP 505", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(9)),
        ("HTTP 401", _head("GET /v1/me", Upgrade="h2c", HTTP2_Settings="AAMAAABkAAQAAP__",
                           Connection="Upgrade, HTTP2-Settings, close")),
        ("HTTP 404", _head("GET /v1/connect", **upgrade)
                     + encode_client_frame(b"{}")),
        ("HTTP 400", _head("POST /v1/rooms", Content_Length="4", Transfer_Encoding="chunked")
                     + b"0\r\n\r\n"),
        ("HTTP 400", _head("POST /v1/rooms", Content_Length="4, 5") + b"{}{}"),
        ("HTTP 400", _head("POST /v1/rooms", Content_Length="-1") + b"{}"),
        ("HTTP 501", _head("POST /v1/rooms", Transfer_Encoding="gzip, chunked") + b"0\r\n\r\n"),
        ("HTTP 401", _head("POST /v1/rooms", Transfer_Encoding="chunked")
                     + b"ffffffffffffffffffff\r\n"),
        ("HTTP 401", _head("POST /v1/rooms", Content_Encoding="gzip", Content_Length="2",
                           Content_Type="application/json", **ending) + b"\x1f\x8b"),
        ("HTTP 401", _head("GET /v1/me", **ending).replace(b"\r\n", b"\n")),
        ("HTTP 401", _head("GET /v1/me").replace(b"Host: x", b"Host: x\r\n folded: y\r\n"
                                                 b"Connection: close")),
        ("HTTP 404", _head("CONNECT elsewhere:80", **ending)),
        ("HTTP 405", _head("TRACE /v1/me", **ending)),
        ("HTTP 401", _head("GET http://elsewhere/v1/me", **ending)),
    ]  # fmt: skip


async def odd_requests(target: Target, force: Force) -> Counter[str]:
    """Each of them has at most one answer, in HTTP/1.1."""
    numbers = count()

    async def attack() -> str:
        requests = odd()
        expected, request = requests[next(numbers) % len(requests)]
        async with target.tcp(api=True) as stream:
            await send_quietly(stream, request)
            with trio.move_on_after(_PATIENCE):
                data = await read_all(stream)
                if data.count(b"HTTP/1.1 ") > 1 or data.startswith(b"HTTP/1.1 101"):
                    return f"{request!r}: {data!r}"
                status = http_status(data)
                return status if status == expected else f"{status}, not {expected}: {request!r}"
        return f"not closed: {request!r}"

    return await force.each(attack)


async def json_bombs(target: Target, force: Force) -> Counter[str]:
    """Bodies that are hard to read."""
    bombs = json_bombs_of(1024 * 1024, target.room)
    numbers = count()

    async def attack() -> str:
        bomb = bombs[next(numbers) % len(bombs)]
        head = _head(
            f"POST /v1/rooms/{target.room}/messages",
            Authorization=f"Bearer {target.token()}",
            Content_Type="application/json",
            Content_Length=str(len(bomb.data)),
            Connection="close",
        )
        async with target.tcp(api=True) as stream:
            await send_quietly(stream, head + bomb.data)
            with trio.move_on_after(_PATIENCE):
                status = http_status(await read_all(stream))
                return status if status == bomb.status else f"{bomb.what}: {status}"
        return "not closed"

    return await force.each(attack)
