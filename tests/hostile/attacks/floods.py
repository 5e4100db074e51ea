"""Floods of frames and commands by somebody with a good token, as fast as the socket takes them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import trio
import trio.lowlevel

from tests.hostile.force import Force
from tests.hostile.target import Target, text_frame
from tests.support.lean_client import encode_client_frame

_FRAMES_PER_SEND = 50
_PATIENCE = 30.0
Make = Callable[[int], bytes]


async def _flood(target: Target, force: Force, make: Make, *, ends: bool = False) -> Counter[str]:
    """Send frames until the time is over (with `ends`: until closed): how it ended."""

    async def attack() -> str:
        async with target.websocket() as client:
            number = 0
            with trio.move_on_after(_PATIENCE if ends else force.seconds):
                while not client.is_ended:
                    frames = (make(n) for n in range(number, number + _FRAMES_PER_SEND))
                    await client.send_bytes(b"".join(frames))
                    number += _FRAMES_PER_SEND
                    del client.frames[:]
                    await trio.lowlevel.checkpoint()
            return str(client.close_code) if client.is_ended else "open"

    return await force.each(attack)


async def pings_as_frames(target: Target, force: Force) -> Counter[str]:
    """Commands that are right and cost nothing."""
    return await _flood(target, force, lambda _: text_frame(type="ping", id=1), ends=True)


async def invalid_json(target: Target, force: Force) -> Counter[str]:
    """Frames that are no JSON at all."""
    return await _flood(
        target, force, lambda _: encode_client_frame(b'{"type":"publish",'), ends=True
    )


async def unknown_types(target: Target, force: Force) -> Counter[str]:
    """Objects that mean nothing."""
    return await _flood(target, force, lambda n: text_frame(type=f"nonsense{n}", id=n), ends=True)


async def oversize(target: Target, force: Force) -> Counter[str]:
    """Frames above the limit."""
    frame = encode_client_frame(b'{"type":"ping","x":"' + b"x" * 70_000 + b'"}')
    return await _flood(target, force, lambda _: frame, ends=True)


async def subscriptions(target: Target, force: Force) -> Counter[str]:
    """Subscriptions to rooms that are there and rooms that are not."""
    return await _flood(
        target,
        force,
        lambda n: text_frame(type="subscribe", id=n, room=target.room if n % 2 else f"no-room-{n}"),
    )


async def rooms(target: Target, force: Force) -> Counter[str]:
    """Messages into rooms that nobody has heard of."""
    return await _flood(
        target, force, lambda n: text_frame(type="publish", id=n, room=f"none-{n}", content="x")
    )


async def reactions(target: Target, force: Force) -> Counter[str]:
    """Reactions come and go."""
    return await _flood(
        target,
        force,
        lambda n: text_frame(
            type="unreact" if n % 2 else "react", id=n, room=target.room, seq=1, reaction="x"
        ),
    )


async def typing(target: Target, force: Force) -> Counter[str]:
    """Beginning and ceasing to type."""
    return await _flood(
        target,
        force,
        lambda n: text_frame(type="typing", id=n, room=target.room, active=n % 2 == 0),
    )


async def signals(target: Target, force: Force) -> Counter[str]:
    """The largest signals to everybody in the room."""
    data = "x" * 4000
    return await _flood(
        target,
        force,
        lambda n: text_frame(type="signal", id=n, room=target.room, name="noise", data=data),
    )


async def reads(target: Target, force: Force) -> Counter[str]:
    """Marks of what has been read."""
    return await _flood(
        target, force, lambda n: text_frame(type="read", id=n, room=target.room, seq=n + 1)
    )


async def history(target: Target, force: Force) -> Counter[str]:
    """The largest pages, read at once."""
    return await _flood(
        target, force, lambda n: text_frame(type="history", id=n, room=target.room, limit=100)
    )


async def refreshes(target: Target, force: Force) -> Counter[str]:
    """Good tokens, again and again: each one is verified and its user looked up."""
    token = target.token()
    return await _flood(target, force, lambda n: text_frame(type="refresh", id=n, token=token))


async def resumes_from_zero(target: Target, force: Force) -> Counter[str]:
    """`since: 0` in a loop (HAZARDS A11): everything the room has, each time."""
    async with target.websocket() as client:
        await client.send_bytes(text_frame(type="subscribe", id=1, room=target.room))
        await client.wait(
            lambda: any(f["type"] == "reply" for f in client.frames) or client.is_ended
        )
        epoch = next(f["result"]["epoch"] for f in client.frames if f["type"] == "reply")
    since = {"epoch": epoch, "offset": 0}
    return await _flood(
        target, force, lambda n: text_frame(type="subscribe", id=n, room=target.room, since=since)
    )


async def json_bombs(target: Target, force: Force) -> Counter[str]:
    """JSON that is hard to read or to keep: deep, long, wide, beyond every number."""
    bombs = [encode_client_frame(bomb) for bomb in json_bombs_of(60_000)]
    return await _flood(target, force, lambda n: bombs[n % len(bombs)])


def json_bombs_of(size: int) -> list[bytes]:
    """Objects of about so many bytes each."""
    head = b'{"type":"publish","id":1,"room":"r","content":"x","metadata":'
    keys = b",".join(b'"%d":0' % number for number in range(size // 12))
    same = b",".join([b'"k":0'] * (size // 8))
    return [
        head + b"[" * (size // 2) + b"]" * (size // 2) + b"}",
        head + b'{"a":' * (size // 8) + b"1" + b"}" * (size // 8) + b"}",
        head + b"1" * size + b"}",
        head + b"-0." + b"1" * size + b"}",
        head + b"1e999}",
        head + b"1e-" + b"9" * 1000 + b"}",
        head + b'{"a":"' + b"x" * size + b'"}}',
        head + b'{"a":"' + b"\\u0000" * (size // 6) + b'"}}',
        head + b"{" + keys + b"}}",
        head + b"{" + same + b"}}",
        b"{" + same + b',"type":"ping"}',
    ]
