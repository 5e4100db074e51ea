"""The test client notices when a server breaks a promise."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
import trio
import trio_websocket

from broker.protocol.schemas.examples import EVENTS, RESULTS, plain, server_frame
from tests.support.client import ChatClient, ChatError, ConnectionEnded
from workers.embedded.ports import LOOPBACK

HELLO = server_frame("hello")
SUBSCRIBED = plain(RESULTS["subscribe"]) | {
    "epoch": "e", "offset": 2, "recovered": False, "events": [],
}  # fmt: skip
MESSAGE = plain(EVENTS["message.created"])


def event(offset: int | None, room: str = "r") -> dict[str, Any]:
    return {
        "type": "event", "event": "message.created", "room": room, "offset": offset,
        "time": "2026-01-02T03:04:05.678Z", "data": MESSAGE | {"seq": offset},
    }  # fmt: skip


@asynccontextmanager
async def scripted(
    *after_subscribe: dict[str, Any], subscribed: Any = None, hello: Any = None
) -> AsyncIterator[str]:
    """A server that says hello, answers anything, and sends frames after a subscribe reply."""

    async def serve(request: trio_websocket.WebSocketRequest) -> None:
        connection = await request.accept()
        await connection.send_message(json.dumps(hello or HELLO))
        with suppress(trio_websocket.ConnectionClosed):
            while True:
                command = json.loads(await connection.get_message())
                if command["type"] == "leave":
                    await connection.aclose(4401, "no")
                    return
                answer = {"type": "reply", "id": command["id"], "result": {}}
                if command["type"] == "subscribe":
                    answer["result"] = SUBSCRIBED | (subscribed or {})
                if command["type"] == "fail":
                    answer = server_frame("error") | {"id": command["id"]}
                await connection.send_message(json.dumps(answer))
                for frame in after_subscribe if command["type"] == "subscribe" else ():
                    await connection.send_message(json.dumps(frame))

    async with trio.open_nursery() as nursery:
        server = await nursery.start(trio_websocket.serve_websocket, serve, LOOPBACK, 0, None)
        yield f"ws://{LOOPBACK}:{server.port}/v1/connect"
        nursery.cancel_scope.cancel()


async def test_keeps_events_and_the_position() -> None:
    async with scripted(event(3), event(4)) as url, ChatClient.connect(url, "t") as client:
        await client.subscribe("r")
        await client.wait_messages("r", 2)
        position = client.rooms["r"].position
        assert position is not None
        assert position.as_since() == {"epoch": "e", "offset": 4}


async def subscribe_until_breach(url: str) -> None:
    async with ChatClient.connect(url, "t") as client:
        await client.subscribe("r")
        await client.wait(lambda: client.breaches)


@pytest.mark.parametrize("frames", [[event(4)], [event(3), event(3)], [event(3, room="other")]])
async def test_notices_holes_repetitions_and_strangers(frames: list[dict[str, Any]]) -> None:
    async with scripted(*frames) as url:
        with pytest.raises(AssertionError):
            await subscribe_until_breach(url)


async def test_notices_an_incomplete_recovery() -> None:
    body = {
        "event": "message.created", "offset": 2, "time": "2026-01-02T03:04:05.678Z",
        "data": MESSAGE,
    }  # fmt: skip
    async with scripted(subscribed={"recovered": True, "offset": 3, "events": [body]}) as url:
        async with ChatClient.connect(url, "t", check=False) as client:
            await client.subscribe("r", since={"epoch": "e", "offset": 1})
        assert client.breaches == ["r: recovered up to 2, not 3"]


@pytest.mark.parametrize(
    "hello", [HELLO | {"user": 5}, HELLO | {"colour": "red"}, {"type": "hello"}]
)
async def test_notices_a_frame_that_is_not_as_documented(hello: dict[str, Any]) -> None:
    async with scripted(hello=hello) as url:
        with pytest.raises(AssertionError, match="hello, at"):
            async with ChatClient.connect(url, "t", check=False):
                pass


async def test_notices_a_reply_to_another_command() -> None:
    async with scripted(subscribed={"epoch": ""}) as url:
        with pytest.raises(AssertionError, match=r"reply\.subscribe, at `result/epoch`"):
            async with ChatClient.connect(url, "t", check=False) as client:
                await client.subscribe("r")


async def test_errors_and_ends_are_raised_as_themselves() -> None:
    async with scripted() as url:
        with pytest.raises(ChatError, match="rate_limited: Too many"):
            async with ChatClient.connect(url, "t") as client:
                await client.call("fail")
        with pytest.raises(ConnectionEnded) as ended:
            async with ChatClient.connect(url, "t") as client:
                await client.call("leave")
        assert ended.value.code == 4401
        async with ChatClient.connect(url, "t") as client:
            await client.vanish()
            await client.wait_ended()
