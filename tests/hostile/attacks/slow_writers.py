"""Who begins something and does not end it: request heads, handshakes, frames, messages."""

from __future__ import annotations

from collections import Counter

import trio

from tests.hostile.force import Force
from tests.hostile.target import (
    Target,
    close_code,
    http_status,
    last_close_code,
    read_all,
    send_quietly,
)
from tests.support.lean_client import encode_client_frame
from tests.support.waiting import pass_time

_HEAD = b"GET /v1/connect HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nX-More: "
_PATIENCE = 40.0


async def half_heads(target: Target, force: Force) -> Counter[str]:
    """Slowloris: one byte of the request head each half second."""
    return await force.each(lambda: trickle(target, api=False))


async def trickle(target: Target, *, api: bool) -> str:
    """A head of which a byte comes each half second; what the server says in the end."""
    async with target.tcp(api=api) as stream, trio.open_nursery() as nursery:

        async def write() -> None:
            for byte in _HEAD * 2:
                if not await send_quietly(stream, bytes([byte])):
                    return
                await pass_time(0.5)

        nursery.start_soon(write)
        with trio.move_on_after(_PATIENCE):
            status = http_status(await read_all(stream))
            nursery.cancel_scope.cancel()
            return status
        nursery.cancel_scope.cancel()
    return "not closed"


async def nothing_said(target: Target, force: Force) -> Counter[str]:
    """A connection, and nothing more."""
    return await force.each(lambda: stay_silent(target, api=False))


async def stay_silent(target: Target, *, api: bool) -> str:
    """Say nothing; what the server says in the end."""
    async with target.tcp(api=api) as stream:
        with trio.move_on_after(_PATIENCE):
            return http_status(await read_all(stream))
    return "not closed"


async def no_token(target: Target, force: Force) -> Counter[str]:
    """A WebSocket, and never a token."""

    async def attack() -> str:
        async with target.websocket(None) as client:
            with trio.move_on_after(_PATIENCE):
                return await close_code(client)
        return "not closed"

    return await force.each(attack)


async def huge_heads(target: Target, force: Force) -> Counter[str]:
    """A head without end, as fast as it goes."""
    return await force.each(lambda: send_endless_head(target, "/v1/connect", api=False))


async def send_endless_head(target: Target, path: str, *, api: bool) -> str:
    """Two megabytes of headers; what the server says in the end."""
    async with target.tcp(api=api) as stream:
        await send_quietly(stream, b"GET %b HTTP/1.1\r\n" % path.encode())
        for number in range(2000):
            if not await send_quietly(stream, b"X-%d: %b\r\n" % (number, b"y" * 1000)):
                break
        with trio.move_on_after(_PATIENCE):
            return http_status(await read_all(stream))
    return "not closed"


async def huge_length(target: Target, force: Force) -> Counter[str]:
    """A frame that says it has 2^62 bytes, and then nothing."""

    async def attack() -> str:
        async with target.websocket() as client:
            await client.send_bytes(b"\x81\xff" + (2**62).to_bytes(8, "big") + bytes(4))
            with trio.move_on_after(_PATIENCE):
                return await close_code(client)
        return "not closed"

    return await force.each(attack)


async def half_frames(target: Target, force: Force) -> Counter[str]:
    """Nearly a whole frame of the largest size, a byte now and then, and in the end none."""

    async def attack() -> str:
        async with target.deaf() as stream:
            frame = encode_client_frame(b"x" * 65_000)
            await send_quietly(stream, frame[:-200])
            with force.while_it_lasts():
                for byte in frame[-200:-1]:
                    if not await send_quietly(stream, bytes([byte])):
                        return "closed while it wrote"
                    await pass_time(0.2)
            with trio.move_on_after(_PATIENCE):
                return last_close_code(await read_all(stream))
        return "not closed"

    return await force.each(attack)


async def fragments_for_ever(target: Target, force: Force) -> Counter[str]:
    """A message in fragments of one byte that never ends."""

    async def attack() -> str:
        async with target.websocket() as client:
            begin = bytearray(encode_client_frame(b"{"))
            begin[0] &= 0x7F
            await client.send_bytes(bytes(begin))
            piece = bytearray(encode_client_frame(b" ", opcode=0))
            piece[0] &= 0x7F
            for _ in range(1000):
                if client.is_ended:
                    break
                await client.send_bytes(bytes(piece) * 100)
            with trio.move_on_after(_PATIENCE):
                return await close_code(client)
        return "not closed"

    return await force.each(attack)
