"""A page that is kept is given without a task; what is not right any more never is."""

from __future__ import annotations

from typing import Any

import pytest

from broker import handlers
from config import limits
from tests.support.client import ChatError
from tests.support.local_broker import LocalBroker, LocalClient, open_broker, replaced
from tests.support.rooms import key_of
from tests.support.waiting import wait_until

ROOM = "general"


class _Slow:
    """How many pages took a task."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, work: Any) -> Any:
        async def counted(*given: Any) -> None:
            self.count += 1
            await work(*given)

        return counted


@pytest.fixture
def slow():
    found = _Slow()
    with replaced(handlers, "history", found):
        yield found


@pytest.fixture
async def broker(redis_url, database_url):
    async with open_broker(redis_url, database_url) as opened:
        await opened.storage.create_room(ROOM, "alice", "bob")
        await opened.storage.seeder.warm(key_of(ROOM))
        yield opened


async def page(client: LocalClient, **fields: Any) -> dict[str, Any]:
    found: dict[str, Any] = await client.call("history", room=ROOM, **fields)
    return found


async def test_the_second_who_asks_gets_the_same_page_without_a_task(
    broker: LocalBroker, slow: _Slow
):
    async with broker.connect("alice") as alice:
        for number in range(3):
            await alice.publish(ROOM, f"message {number}")
        first = await page(alice)
        assert [message["seq"] for message in first["messages"]] == [1, 2, 3]
        assert slow.count == 1
        assert await page(alice) == await page(alice) == first
        assert slow.count == 1
        # Another page is another page.
        assert [m["seq"] for m in (await page(alice, before=3))["messages"]] == [1, 2]
        assert (await page(alice, after=1, limit=1))["has_more"] is True
        assert slow.count == 3
        assert (await page(alice, after=1, limit=1))["has_more"] is True
        assert (await page(alice, before=3))["has_more"] is False
        assert slow.count == 3
    # Each of them has given its place back.
    assert not broker.services.fairness._working


async def test_whoever_has_written_reads_it(broker: LocalBroker, slow: _Slow):
    async with broker.connect("alice") as alice:
        for number in range(1, 6):
            await alice.publish(ROOM, f"message {number}")
            found = await page(alice)
            assert found["messages"][-1]["content"] == f"message {number}"
            assert await page(alice) == found
            assert slow.count == number
        await alice.call("edit", room=ROOM, seq=2, content="other words")
        assert (await page(alice))["messages"][1]["content"] == "other words"
        await alice.call("delete", room=ROOM, seq=3)
        assert (await page(alice))["messages"][2]["content"] is None


async def test_a_page_with_reactions_is_its_viewers(broker: LocalBroker):
    async with broker.connect("alice") as alice, broker.connect("bob") as bob:
        await alice.publish(ROOM, "message")
        await bob.call("react", room=ROOM, seq=1, reaction="x")
        for client, mine in (*((alice, False), (bob, True)) * 2,):
            (message,) = (await page(client))["messages"]
            assert message["reactions"]["x"]["mine"] is mine


async def test_each_reader_is_looked_at_and_a_removed_one_gets_nothing(
    broker: LocalBroker, slow: _Slow
):
    async with broker.connect("alice") as alice, broker.connect("bob") as bob:
        await alice.publish(ROOM, "message")
        found = await page(alice)
        assert await page(bob) == found
        assert slow.count == 2
        assert await page(bob) == found
        assert slow.count == 2
        await broker.storage.remove_silently(ROOM, "bob")
        await broker.storage.announce(ROOM)
        with pytest.raises(ChatError) as refused:
            await page(bob)
        assert refused.value.code == "room_not_found"
        assert (await page(alice))["messages"] == found["messages"]


async def test_without_redis_it_is_unavailable_and_then_goes_on(broker: LocalBroker):
    async with broker.connect("alice") as alice:
        await alice.publish(ROOM, "message")
        found = await page(alice)
        broker.storage.store.client.disconnect_now()
        with pytest.raises(ChatError) as refused:
            await page(alice)
        assert refused.value.code == "unavailable"
        await wait_until(
            lambda: broker.storage.store.client.is_connected, what="there is a connection again"
        )
        assert (await page(alice))["messages"] == found["messages"]


async def test_what_redis_lost_is_in_the_page(broker: LocalBroker, slow: _Slow):
    """A room that is away, comes, is archived and is lost with everything is not as it was."""
    storage = broker.storage
    store, keys = storage.store, storage.store.keys.room(key_of(ROOM))
    gone = (keys.room, keys.log, keys.reads)
    async with broker.connect("alice") as alice:
        await alice.publish(ROOM, "message")
        await storage.flush()
        await store.client.execute("DEL", *gone)
        found = await page(alice)
        assert await page(alice) == found
        assert slow.count == 1
        await storage.publish(ROOM, "meanwhile")
        await storage.flush()
        await store.client.execute("DEL", *gone, keys.life)
        assert (await page(alice))["messages"][-1]["content"] == "meanwhile"
        assert slow.count == 2


async def test_commands_of_a_room_keep_their_order(broker: LocalBroker):
    """A page that waits for a publish shows it, and is answered behind it."""
    async with broker.connect("alice") as alice:
        await alice.publish(ROOM, "one")
        await page(alice)
        for number in range(2, 6):
            for frame in (
                {"type": "history", "id": f"before {number}", "room": ROOM},
                {"type": "publish", "id": f"write {number}", "room": ROOM, "content": "more"},
                {"type": "history", "id": f"after {number}", "room": ROOM},
            ):
                await alice.send(frame)
        names = [f"{name} {n}" for n in range(2, 6) for name in ("before", "write", "after")]

        def answers() -> list[dict[str, Any]]:
            return [frame for frame in alice.frames if frame.get("id") in names]

        await wait_until(lambda: len(answers()) == len(names), what="all are answered")
        assert [frame["id"] for frame in answers()] == names
        counts = [len(f["result"]["messages"]) for f in answers() if "write" not in f["id"]]
        assert counts == [1, 2, 2, 3, 3, 4, 4, 5]


async def test_a_connection_that_ends_meanwhile_leaves_nothing(broker: LocalBroker):
    async with broker.connect("alice", check=False) as alice:
        await alice.publish(ROOM, "message")
        await page(alice)
        await alice.send({"type": "history", "id": "late", "room": ROOM})
        assert broker.services.fairness._working
        alice.close()
    await wait_until(lambda: not broker.services.fairness._working, what="its place is free")


async def test_who_has_no_free_place_waits_like_the_others(broker: LocalBroker, slow: _Slow):
    fairness = broker.services.fairness
    async with broker.connect("alice") as alice:
        await alice.publish(ROOM, "message")
        found = await page(alice)
        channel = alice.connection.channel
        taken = 0
        while fairness.take(channel):
            taken += 1
        assert taken == limits.COMMANDS_AT_ONCE
        await alice.send({"type": "history", "id": "later", "room": ROOM})
        assert slow.count == 1
        fairness.give_back(channel)
        await wait_until(lambda: alice.frames[-1].get("id") == "later", what="it is answered")
        assert alice.frames[-1]["result"] == found
        assert slow.count == 2
        for _ in range(taken - 1):
            fairness.give_back(channel)
