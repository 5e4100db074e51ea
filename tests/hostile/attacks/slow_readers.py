"""Who asks for much and takes it slowly, or not at all. The room holds large messages."""

from __future__ import annotations

from collections import Counter

import trio
import trio.lowlevel

from tests.hostile.force import Force
from tests.hostile.target import Target, read_all, send_quietly, text_frame
from tests.support.lean_client import cut_frames
from tests.support.waiting import pass_time


async def pages_unread(target: Target, force: Force) -> Counter[str]:
    """Pages are asked for until the server has had enough; nothing is read before."""

    async def attack() -> str:
        async with target.deaf() as stream:
            await _ask_pages(target, stream, force.seconds)
            with trio.move_on_after(20):
                return _close_code(await read_all(stream))
        return "not closed"

    return await force.each(attack)


async def one_byte_at_a_time(target: Target, force: Force) -> Counter[str]:
    """The same, but a byte is read now and then, so that the connection does not look dead."""

    async def attack() -> str:
        async with target.deaf() as stream:

            async def sip() -> None:
                while await stream.receive_some(1):
                    await pass_time(0.05)

            async with trio.open_nursery() as nursery:
                nursery.start_soon(sip)
                await _ask_pages(target, stream, force.seconds)
                nursery.cancel_scope.cancel()
            with trio.move_on_after(20):
                return _close_code(await read_all(stream))
        return "not closed"

    return await force.each(attack)


async def just_below(target: Target, force: Force) -> Counter[str]:
    """One page after the other, read slowly, never so slowly that it is too much."""

    async def attack() -> str:
        page = text_frame(type="history", id=1, room=target.room, limit=20)
        async with target.deaf() as stream:
            with force.while_it_lasts():
                while await send_quietly(stream, page):
                    for _ in range(20):
                        if not await stream.receive_some(4096):
                            return "closed"
                        await pass_time(0.02)
        return "open"

    return await force.each(attack)


async def _ask_pages(target: Target, stream: trio.SocketStream, seconds: float) -> None:
    """Ask for large pages until the server takes no more, or (if it reads on) for a while."""
    page = text_frame(type="history", id=1, room=target.room, limit=100)
    with trio.move_on_after(seconds + 10):
        for _ in range(200):
            if not await send_quietly(stream, page):
                return
            await trio.lowlevel.checkpoint()


def _close_code(data: bytes) -> str:
    """The close code at the end of what was read; what came before may be cut anywhere."""
    at = data.rfind(b"\x88")
    while at >= 0:
        frames = cut_frames(bytearray(data[at:]))
        if len(frames) == 1 and frames[0][0] == 8 and at + 2 + data[at + 1] == len(data):
            return str(int.from_bytes(frames[0][1][:2], "big"))
        at = data.rfind(b"\x88", 0, at)
    return "1006"
