"""Rooms whose new messages are told together, on real servers: one statement, one inbox."""

from collections.abc import AsyncIterator

import msgspec
import pytest
import trio

from broker.domain.notifying import Notifier
from config.archive_limits import NOTIFIED_ROOMS_AT_ONCE
from config.limits import NOTIFIED_AT_ONCE
from config.metrics import Metrics
from storage.redis.entries import parse_entry
from storage.redis.keys import inbox_key, user_channel
from tests.support.waiting import wait_until
from tests.workers.archiver_parts import PROJECT, System, flush_everything, open_system
from workers.archiver.archiver import Archiver, ArchiverOptions
from workers.archiver.notifying import MessageNotices

NODE = "node1"


@pytest.fixture
async def system(redis_url: str, database_url: str) -> AsyncIterator[System]:
    async with open_system(redis_url, database_url) as opened:
        yield opened


async def connect(system: System, *users: str) -> None:
    """These users have a connection at the node."""
    client = system.store.client
    await client.execute("XADD", inbox_key(NODE), "*", "begin", "1")
    for user in users:
        nodes = system.store.keys.room(user_channel(PROJECT, user)).nodes
        await client.execute("HSET", nodes, NODE, "1")


async def heard(system: System) -> dict[tuple[str, str], list[dict[str, object]]]:
    """By (user, room): what has reached the node so far."""
    reply = await system.store.client.execute("XRANGE", inbox_key(NODE), "-", "+")
    assert isinstance(reply, list)
    found: dict[tuple[str, str], list[dict[str, object]]] = {}
    for _id, fields in reply[1:]:
        entry = parse_entry(fields[1])
        assert entry.event == "notification.message"
        user = entry.room.removeprefix(f"{PROJECT}//")
        found.setdefault((user, entry.sender or ""), []).append(msgspec.json.decode(entry.data))
    return found


async def tell(system: System) -> MessageNotices:
    """Archive everything; the notices of it, which nobody has told yet."""
    notices = MessageNotices(Notifier(system.database, system.store.rooms), Metrics())
    archiver = Archiver(
        database=system.database,
        store=system.store.archive,
        options=ArchiverOptions(batch=500, interval=0.001),
        metrics=Metrics(),
        note=notices.note,
    )
    await flush_everything(archiver, system)
    return notices


async def test_each_of_many_rooms_is_told_its_own(system: System):
    """More rooms and more users than are asked for at once; one room is gone meanwhile."""
    count = NOTIFIED_ROOMS_AT_ONCE + 5
    keys = [await system.create_room(f"room{number}") for number in range(count)]
    crowd = 2 * NOTIFIED_AT_ONCE // NOTIFIED_ROOMS_AT_ONCE
    await system.database.execute(
        "INSERT INTO members (room_pk, user_id, project) "
        "SELECT pk, 'user' || n, project FROM rooms, generate_series(1, $1) n",
        crowd,
    )
    await connect(system, "alice", "bob", f"user{crowd}", "stranger")
    for number, key in enumerate(keys):
        if number == 3:
            await system.publish(key, "first", mentions=["bob"])
        await system.publish(key, f"last of {number}", mentions=["stranger"])
    notices = await tell(system)
    await system.database.execute("UPDATE rooms SET deleted_at = now() WHERE id = 'room7'")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(notices.run)

        async def is_told() -> bool:
            return len(await heard(system)) >= 2 * (count - 1)

        await wait_until(is_told, what="all rooms are told")
        nursery.cancel_scope.cancel()
    assert await heard(system) == {
        (user, f"room{number}"): [
            {
                "seq": 1 + (number == 3), "sender": "alice", "kind": "text",
                "content": f"last of {number}",
                "mentioned": (user, number) == ("bob", 3), "unread": 1 + (number == 3),
            }
        ]
        for user in ("bob", f"user{crowd}")
        for number in range(count)
        if number != 7
    }  # fmt: skip


async def test_a_room_that_can_not_be_told_stops_no_other(system: System):
    """PostgreSQL refuses to look for who is mentioned in one of them."""
    keys = [await system.create_room(f"room{number}") for number in range(3)]
    await connect(system, "bob")
    for number, key in enumerate(keys):
        await system.publish(key, "hello", mentions=["\0"] if number == 1 else [])
    notices = await tell(system)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(notices.run)

        async def is_told() -> bool:
            return len(await heard(system)) >= 2

        await wait_until(is_told, what="the other rooms are told")
        nursery.cancel_scope.cancel()
    assert set(await heard(system)) == {("bob", "room0"), ("bob", "room2")}
