"""A connection that has ended leaves nothing to the garbage collector.

A full collection stops a node for as long as it has connections to look at, so it hardly ever comes
(`COLLECT_ALL_AFTER_BROKER`), and whatever only it could free would stay.
"""

import gc
from collections import Counter
from functools import partial

import pytest
import trio
import trio_websocket
from wsproto.frame_protocol import FrameProtocol

from broker.connection import Connection
from broker.main import serve_broker
from broker.wire import Wire
from tests.hostile.target import text_frame
from tests.support.rooms import fault_settings, open_storage
from tests.support.tokens import make_token
from tests.support.waiting import wait_until
from tests.support.wire_client import open_wire_client

CONNECTIONS = 10
OF_A_CONNECTION = (Wire, Connection, trio_websocket.WebSocketConnection, FrameProtocol)
ONE_EACH = Counter(kind.__name__ for kind in OF_A_CONNECTION)


@pytest.mark.parametrize("ending", ["in order", "cut", "refused", "in fragments, cut"])
async def test_a_connection_leaves_no_cycle_behind(redis_url, database_url, name, ending):
    room = name("room")
    async with open_storage(redis_url, database_url) as storage:
        await storage.create_room(room, "alice")
    settings = fault_settings(redis_url, database_url, port=0)
    urls: list[str] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(partial(serve_broker, settings, ready=urls.append))
        await wait_until(lambda: bool(urls), deadline=30)
        gc.collect()
        gc.disable()
        try:
            for _ in range(CONNECTIONS):
                await live(urls[0], room, ending)
            # A loop over all connections may still name the one that it looked at last.
            await wait_until(lambda: left() <= ONE_EACH, deadline=20, what="nothing is left")
        finally:
            gc.enable()
        nursery.cancel_scope.cancel()


async def live(url: str, room: str, ending: str) -> None:
    """Connect, subscribe, publish, type and read; end."""
    async with open_wire_client(url, make_token("alice")) as client:
        commands: list[dict[str, object]] = [
            {"type": "subscribe"}, {"type": "publish", "content": "hello"},
            {"type": "typing", "active": True}, {"type": "read", "seq": 1}, {"type": "history"},
        ]  # fmt: skip
        for number, fields in enumerate(commands):
            await client.send_bytes(text_frame(**fields, id=number, room=room))
        await client.wait(lambda: sum(f["type"] == "reply" for f in client.frames) == 5)
        if ending == "in order":
            await client.send(8, (1000).to_bytes(2, "big"))
            await client.wait(lambda: client.is_ended)
        elif ending == "in fragments, cut":
            await client.send(1, b'{"type":', b'"ping","id":5}')  # trio-websocket begins
            await client.wait(lambda: client.frames[-1].get("id") == 5)
        elif ending == "refused":
            await client.send_bytes(b"\xff" * 10)
            await client.wait(lambda: client.is_ended)


def left() -> Counter[str]:
    """What there is of connections."""
    return Counter(
        type(one).__name__ for one in gc.get_objects() if isinstance(one, OF_A_CONNECTION)
    )
