"""Who asks for much and takes it slowly, or not at all. The room holds large messages."""

from __future__ import annotations

from collections import Counter
from itertools import count

import trio

from tests.hostile.force import Force
from tests.hostile.target import Target, last_close_code, read_all, send_quietly, text_frame
from tests.support.lean_client import encode_client_frame
from tests.support.waiting import pass_time, wait_until

_PATIENCE = 40.0


async def pages_unread(target: Target, force: Force) -> Counter[str]:
    """Pages are asked for until the server has had enough; nothing is read before."""
    return await _be_deaf(target, force, sips=False)


async def one_byte_at_a_time(target: Target, force: Force) -> Counter[str]:
    """The same, but a byte is read now and then, so that the connection does not look dead."""
    return await _be_deaf(target, force, sips=True)


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
                return "closed"
        return "served"

    return await force.each(attack)


async def _be_deaf(target: Target, force: Force, *, sips: bool) -> Counter[str]:
    before = await target.slow_consumers()
    begun = count(1)

    async def attack() -> str:
        mine = next(begun)

        async def is_enough() -> bool:
            """Everybody who began before, too: they wait for each other."""
            return await target.slow_consumers() - before >= mine

        async with target.deaf() as stream:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_ask_pages, target, stream)
                if sips:
                    nursery.start_soon(_sip, stream)
                await wait_until(is_enough, deadline=_PATIENCE, what="the server has had enough")
                nursery.cancel_scope.cancel()
            with trio.move_on_after(20):
                return last_close_code(await read_all(stream))
        return "not closed"

    return await force.each(attack)


async def _sip(stream: trio.SocketStream) -> None:
    while await stream.receive_some(1):
        await pass_time(0.05)


async def _ask_pages(target: Target, stream: trio.SocketStream) -> None:
    """Ask for more pages than an outbox holds, and answer pings that were not read.

    Who is silent is lost, which is another bound.
    """
    pages = text_frame(type="history", id=1, room=target.room, limit=100) * 20
    is_taken = await send_quietly(stream, pages)
    while is_taken:
        await pass_time(0.2)
        is_taken = await send_quietly(stream, encode_client_frame(b"", opcode=10))
