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
        if next(numbers) % 2:
            headers["Authorization"] = f"Bearer {target.token()}"
        chunk = b"10000\r\n%b\r\n" % (b"x" * 65536)
        async with target.tcp(api=True) as stream:
            await send_quietly(stream, _head("POST /v1/rooms", **headers))
            with trio.move_on_after(_PATIENCE):
                while await send_quietly(stream, chunk):
                    await trio.lowlevel.checkpoint()
                return http_status(await read_all(stream))
        return "not closed"

    return await force.each(attack)


async def unfinished_bodies(target: Target, force: Force) -> Counter[str]:
    """A body of which the end never comes, with a good token and without."""
    numbers = count()

    async def attack() -> str:
        headers = {"Content_Type": "application/json", "Content_Length": "100"}
        if next(numbers) % 2:
            headers["Authorization"] = f"Bearer {target.token()}"
        async with target.tcp(api=True) as stream:
            await send_quietly(stream, _head("POST /v1/rooms", **headers) + b'{"id":')
            with trio.move_on_after(_PATIENCE):
                return http_status(await read_all(stream))
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
        return "open"

    return await force.each(attack)


def odd() -> list[bytes]:
    """Requests that are no honest HTTP/1.1, or want to become something else."""
    upgrade = {
        "Upgrade": "websocket",
        "Connection": "Upgrade, close",
        "Sec_WebSocket_Version": "13",
    }
    ending = {"Connection": "close"}
    return [
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(9),
        _head("GET /v1/me", Upgrade="h2c", Connection="Upgrade, HTTP2-Settings, close",
              HTTP2_Settings="AAMAAABkAAQAAP__"),
        _head("GET /v1/connect", **upgrade, Sec_WebSocket_Key="dGhlIHNhbXBsZSBub25jZQ==")
        + encode_client_frame(b"{}"),
        _head("POST /v1/rooms", Content_Length="4", Transfer_Encoding="chunked") + b"0\r\n\r\n",
        _head("POST /v1/rooms", Content_Length="4, 5") + b"{}{}",
        _head("POST /v1/rooms", Content_Length="-1") + b"{}",
        _head("POST /v1/rooms", Transfer_Encoding="gzip, chunked") + b"0\r\n\r\n",
        _head("POST /v1/rooms", Transfer_Encoding="chunked") + b"ffffffffffffffffffff\r\n",
        _head("POST /v1/rooms", Content_Encoding="gzip", Content_Length="2",
              Content_Type="application/json", **ending) + b"\x1f\x8b",
        _head("GET /v1/me", **ending).replace(b"\r\n", b"\n"),
        _head("GET /v1/me").replace(b"Host: x", b"Host: x\r\n folded: y\r\nConnection: close"),
        _head("CONNECT elsewhere:80", **ending),
        _head("TRACE /v1/me", **ending),
        _head("GET http://elsewhere/v1/me", **ending),
    ]  # fmt: skip


async def odd_requests(target: Target, force: Force) -> Counter[str]:
    """Each of them has at most one answer, in HTTP/1.1."""
    numbers = count()

    async def attack() -> str:
        requests = odd()
        request = requests[next(numbers) % len(requests)]
        async with target.tcp(api=True) as stream:
            await send_quietly(stream, request)
            with trio.move_on_after(_PATIENCE):
                data = await read_all(stream)
                if data.count(b"HTTP/1.1 ") > 1 or data.startswith(b"HTTP/1.1 101"):
                    return f"{request!r}: {data!r}"
                return http_status(data)
        return f"not closed: {request!r}"

    return await force.each(attack)


async def json_bombs(target: Target, force: Force) -> Counter[str]:
    """Bodies that are hard to read."""
    bombs = json_bombs_of(1024 * 1024)
    numbers = count()

    async def attack() -> str:
        body = bombs[next(numbers) % len(bombs)]
        head = _head(
            f"POST /v1/rooms/{target.room}/messages",
            Authorization=f"Bearer {target.token()}",
            Content_Type="application/json",
            Content_Length=str(len(body)),
            Connection="close",
        )
        async with target.tcp(api=True) as stream:
            await send_quietly(stream, head + body)
            with trio.move_on_after(_PATIENCE):
                return http_status(await read_all(stream))
        return "not closed"

    return await force.each(attack)
