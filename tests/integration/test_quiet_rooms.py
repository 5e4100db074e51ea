"""Rooms with more people online than are named: counts instead of names, and back."""

from contextlib import AsyncExitStack
from typing import Any

import pytest

from tests.integration.conftest import Start
from tests.support.client import ChatClient

ROOM = "square"


def told(client: ChatClient) -> list[tuple[str, int]]:
    """(event, online) of the presence that the client was told."""
    return [
        (event.event, event.data["online"])
        for event in client.rooms[ROOM].events
        if event.event.startswith("presence.")
    ]


@pytest.mark.slow
async def test_above_the_limit_and_back(start: Start) -> None:
    """Ruling 46: the limit is QUIET_ROOM_USERS; nobody is named above it, nor are typists; every
    node tells its own subscribers the count, and only if it has changed."""
    system = await start(archiver=False, QUIET_ROOM_USERS="3", PRESENCE_GRACE="0s")
    users = [f"user{number}" for number in range(6)]
    await system.create_room(ROOM, "first", "second", *users)
    async with AsyncExitStack() as stack:
        first, second = [
            await stack.enter_async_context(system.connect(user, node))
            for node, user in enumerate(("first", "second"))
        ]
        clients: dict[str, ChatClient] = {}
        for client in (first, second):
            await client.subscribe(ROOM)
        for number, user in enumerate(users):
            clients[user] = await stack.enter_async_context(system.connect(user, number % 2))
            assert (await clients[user].subscribe(ROOM))["members_online"] == number + 3
        for client in (first, second):
            await client.wait(lambda c=client: told(c)[-1:] == [("presence.count", 8)])
            named = [event for event, _online in told(client) if event == "presence.joined"]
            assert len(named) in (2, 3)
            assert ("presence.count", 4) in told(client), "at once, when it becomes quiet"
        await clients["user0"].call("typing", room=ROOM, active=True)
        await clients["user0"].call("typing", room=ROOM, active=False)
        await clients["user0"].call("signal", room=ROOM, name="still.heard")
        await first.wait_event(ROOM, "signal")
        assert not [e for e in first.rooms[ROOM].events if e.event.startswith("typing.")]
        assert (await first.call("presence", room=ROOM))["count"] == 8
        before = {client: len(told(client)) for client in (first, second)}
        await clients["user0"].call("unsubscribe", room=ROOM)
        for client in (first, second):
            await client.wait(lambda c=client: told(c)[-1] == ("presence.count", 7))
            assert len(told(client)) == before[client] + 1
        for user in users[1:5]:
            await clients[user].call("unsubscribe", room=ROOM)
        for client in (first, second):
            await client.wait(lambda c=client: told(c)[-1] == ("presence.left", 3))
        await clients["user5"].call("typing", room=ROOM, active=True)
        for client in (first, second):
            await client.wait_event(ROOM, "typing.started")
        await clients["user5"].call("unsubscribe", room=ROOM)
        await second.wait(lambda: told(second)[-1] == ("presence.left", 2))


async def test_a_room_that_is_quiet_when_one_comes(start: Start) -> None:
    """Whoever comes later is told the count by the reply, and its changes like everybody."""
    system = await start(archiver=False, api=True, QUIET_ROOM_USERS="1", PRESENCE_GRACE="0s")
    users: list[Any] = ["a", "b", "c"]
    await system.create_room(ROOM, *users)
    async with system.connect("a", 0) as a, system.connect("b", 0) as b:
        for client in (a, b):
            await client.subscribe(ROOM)
        async with system.connect("c", 1) as c:
            assert (await c.subscribe(ROOM))["members_online"] == 3
            await b.call("unsubscribe", room=ROOM)
            await c.wait(lambda: told(c) == [("presence.count", 2)], what="on a node of its own")
