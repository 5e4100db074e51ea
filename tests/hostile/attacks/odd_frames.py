"""Frames that no library would send: floods of control frames and fragments, broken ones."""

from __future__ import annotations

from collections import Counter
from itertools import count

import trio
import trio.lowlevel

from tests.hostile.force import Force
from tests.hostile.target import Target, close_code, handshake
from tests.support.lean_client import encode_client_frame

_PATIENCE = 30.0
_DEFLATE = "permessage-deflate; client_max_window_bits; server_no_context_takeover"


def _broken() -> list[tuple[bytes, str]]:
    """Frames, and the code that each meets."""
    whole = bytearray(encode_client_frame(b'{"type":"ping"}'))
    unmasked = bytes((0x81, 2)) + b"{}"
    reserved = bytes((whole[0] | 0x40,)) + bytes(whole[1:])
    long_ping = bytes((0x89, 0xFE)) + (200).to_bytes(2, "big") + bytes(204)
    return [
        (unmasked, "1002"),
        (reserved, "1002"),
        (long_ping, "1002"),
        (encode_client_frame(b"\xff\xfe"), "1007"),
        (encode_client_frame(b"x", opcode=2), "1003"),
        (encode_client_frame(b"x", opcode=3), "1002"),
        (encode_client_frame(b"x", opcode=11), "1002"),
        (encode_client_frame(b"x", opcode=0), "1002"),
        (encode_client_frame((1005).to_bytes(2, "big"), opcode=8), "1002"),
        (encode_client_frame((999).to_bytes(2, "big"), opcode=8), "1002"),
        (encode_client_frame((1000).to_bytes(2, "big") + b"\xff", opcode=8), "1007"),
        (encode_client_frame(b"\x03", opcode=8), "1002"),
    ]


async def control_frames(target: Target, force: Force) -> Counter[str]:
    """Pings and pongs without end."""
    frames = (encode_client_frame(b"x" * 125, opcode=9) + encode_client_frame(b"", opcode=10)) * 25
    return await _flood(target, force, frames)


async def fragments(target: Target, force: Force) -> Counter[str]:
    """Messages of many small fragments, each within its limit."""
    begin, middle = (
        bytearray(encode_client_frame(b"{")),
        bytearray(encode_client_frame(b" ", opcode=0)),
    )
    begin[0] &= 0x7F
    middle[0] &= 0x7F
    message = bytes(begin) + bytes(middle) * 900 + encode_client_frame(b'"type":"ping"}', opcode=0)
    return await _flood(target, force, message)


async def broken(target: Target, force: Force) -> Counter[str]:
    """Frames that break the protocol, one on each connection."""
    numbers = count()

    async def attack() -> str:
        frames = _broken()
        frame, code = frames[next(numbers) % len(frames)]
        async with target.websocket() as client:
            await client.send_bytes(frame)
            with trio.move_on_after(_PATIENCE):
                found = await close_code(client)
                return found if found == code else f"{frame!r}: {found}"
        return "not closed"

    return await force.each(attack)


async def compression(target: Target, force: Force) -> Counter[str]:
    """permessage-deflate is offered, and a compressed bomb sent as if it had been taken."""

    async def attack() -> str:
        async with target.tcp() as stream:
            await stream.send_all(handshake(**{"Sec-WebSocket-Extensions": _DEFLATE}))
            answer = await stream.receive_some(4096)
            if not answer.startswith(b"HTTP/1.1 101") or b"extensions" in answer.lower():
                return f"negotiated: {answer!r}"
        async with target.websocket() as client:
            bomb = bytearray(encode_client_frame(b"\xec\xc1\x01" + bytes(60_000)))
            bomb[0] |= 0x40
            await client.send_bytes(bytes(bomb))
            with trio.move_on_after(_PATIENCE):
                return await close_code(client)
        return "not closed"

    return await force.each(attack)


async def _flood(target: Target, force: Force, frames: bytes) -> Counter[str]:
    async def attack() -> str:
        async with target.websocket() as client:
            with trio.move_on_after(_PATIENCE):
                while not client.is_ended:
                    await client.send_bytes(frames)
                    await trio.lowlevel.checkpoint()
            return str(client.close_code) if client.is_ended else "not closed"

    return await force.each(attack)
