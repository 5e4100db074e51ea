"""Floods of frames and commands by somebody with a good token, as fast as the socket takes them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from itertools import count
from typing import Any, NamedTuple

import trio
import trio.lowlevel

from config.limits import RATE_REFUSED_MAX
from tests.hostile.force import Force
from tests.hostile.target import Target, text_frame
from tests.support.lean_client import encode_client_frame
from tests.support.wire_client import WireClient

_FRAMES_PER_SEND = 50
_PATIENCE = 90.0
Make = Callable[[int], bytes]


async def _flood(target: Target, force: Force, make: Make) -> Counter[str]:
    """Send frames, and read the answers, until closed: how it ended."""

    async def attack() -> str:
        async with target.websocket() as client:
            number = refused = 0
            with trio.move_on_after(_PATIENCE):
                while not client.is_ended:
                    frames = (make(n) for n in range(number, number + _FRAMES_PER_SEND))
                    await client.send_bytes(b"".join(frames))
                    number += _FRAMES_PER_SEND
                    refused += sum(f.get("code") == "rate_limited" for f in client.frames)
                    del client.frames[:]
                    await trio.lowlevel.checkpoint()
            if not client.is_ended:
                return "not closed"
            if refused > RATE_REFUSED_MAX:
                return f"{client.close_code} after {refused} were refused"
            return str(client.close_code)

    return await force.each(attack)


async def pings_as_frames(target: Target, force: Force) -> Counter[str]:
    """Commands that are right and cost nothing."""
    return await _flood(target, force, lambda _: text_frame(type="ping", id=1))


async def invalid_json(target: Target, force: Force) -> Counter[str]:
    """Frames that are no JSON at all."""
    return await _flood(target, force, lambda _: encode_client_frame(b'{"type":"publish",'))


async def unknown_types(target: Target, force: Force) -> Counter[str]:
    """Objects that mean nothing."""
    return await _flood(target, force, lambda n: text_frame(type=f"nonsense{n}", id=n))


async def oversize(target: Target, force: Force) -> Counter[str]:
    """Frames above the limit."""
    frame = encode_client_frame(b'{"type":"ping","x":"' + b"x" * 70_000 + b'"}')
    return await _flood(target, force, lambda _: frame)


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
    """Pages of one message, read at once."""
    return await _flood(
        target, force, lambda n: text_frame(type="history", id=n, room=target.room, limit=1)
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
    bombs = json_bombs_of(60_000, target.room)
    numbers = count()

    async def attack() -> str:
        bomb = bombs[next(numbers) % len(bombs)]
        async with target.websocket() as client:
            await client.wait(lambda: bool(client.frames) or client.is_ended)  # hello
            await client.send_bytes(encode_client_frame(bomb.data))
            await client.send_bytes(text_frame(type="ping", id="after"))
            with trio.move_on_after(_PATIENCE):
                await client.wait(lambda: client.is_ended or bomb.ids <= _answers(client).keys())
            answers, code = _answers(client), client.close_code
        expected = {**dict.fromkeys(bomb.ids, bomb.frame), "after": "reply"}
        return f"`{bomb.frame}`" if answers == expected else f"{bomb.what}: {answers} {code}"

    return await force.each(attack)


def _answers(client: WireClient) -> dict[Any, str]:
    """How each frame was answered."""
    return {
        frame["id"]: frame.get("code") or frame["type"]
        for frame in client.frames
        if frame["type"] in ("reply", "error")
    }


class Bomb(NamedTuple):
    """One object, and what exactly it meets."""

    what: str
    data: bytes
    frame: str
    """As a frame: an error's code, or `reply`."""
    status: str
    """As a body that makes a message."""

    @property
    def ids(self) -> set[Any]:
        """Of the answers that come; what has no id is answered only if it fails, and of what is too
        deep to be read nobody knows the id."""
        if b'"id":1,' not in self.data:
            return {"after"}
        return {None if self.what.startswith("deep") else 1, "after"}


def json_bombs_of(size: int, room: str) -> list[Bomb]:
    """Objects of about so many bytes each."""
    head = b'{"type":"publish","id":1,"room":"%b","content":"x","metadata":' % room.encode()
    keys = b",".join(b'"%d":0' % number for number in range(size // 12))
    same = b",".join([b'"k":0'] * (size // 8))
    bad, large = ("bad_request", "HTTP 400"), ("too_large", "HTTP 413")
    good = ("reply", "HTTP 201")
    return [
        Bomb("deep lists", head + b"[" * (size // 2) + b"]" * (size // 2) + b"}", *bad),
        Bomb("deep objects", head + b'{"a":' * (size // 8) + b"1" + b"}" * (size // 8) + b"}",
             *bad),
        Bomb("a long integer", head + b"1" * size + b"}", *bad),
        Bomb("a long fraction", head + b"-0." + b"1" * size + b"}", *bad),
        Bomb("infinite", head + b"1e999}", *bad),
        Bomb("metadata that are a number", head + b"1e-" + b"9" * 1000 + b"}", *bad),
        Bomb("a long exponent", head + b'{"a":1e-' + b"9" * 1000 + b"}}", *good),
        Bomb("a long text", head + b'{"a":"' + b"x" * size + b'"}}', *large),
        Bomb("many NULs", head + b'{"a":"' + b"\\u0000" * (size // 6) + b'"}}', *bad),
        Bomb("many keys", head + b"{" + keys + b"}}", *large),
        # One key a hundred thousand times is one key: such a message is like any other.
        Bomb("one key, often", head + b"{" + same + b"}}", *good),
        Bomb("a wide ping", b"{" + same + b',"type":"ping"}', "reply", "HTTP 400"),
    ]  # fmt: skip
