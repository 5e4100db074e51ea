"""A resume that is too large ends in a reload, not in a loop, and is no amplifier (A11)."""

import pytest

from tests.support.deployment import start_deployment
from tests.support.local_broker import open_broker
from tests.support.rooms import open_storage
from tests.support.seen import Position

ROOM = "general"
MESSAGES = 490
MESSAGE_BYTES = 32_000
HOSTILE_CALLS = 200
# What those calls may make Redis send in all; one unbounded tail would be 15 MB.
HOSTILE_BYTES_MAX = 10_000_000


async def test_a_large_resume_is_refused_and_the_connection_lives(
    processes, redis_server, database_url
):
    """A11 (test 19): fewer events than RESUME_EVENTS_MAX, but 15 MB of them."""
    system = await start_deployment(
        processes, redis_server, database_url, brokers=1, api=False, archiver=False,
        SEND_QUEUE_BYTES=str(1024 * 1024),
    )  # fmt: skip
    async with (
        open_storage(redis_server.url, database_url) as storage,
        system.connect("alice") as alice,
        system.connect("mallory") as mallory,
    ):
        await storage.create_room(ROOM, "alice", "mallory")
        await storage.create_room("other", "alice", "mallory")
        for _ in range(MESSAGES):
            await storage.publish(ROOM, "x" * MESSAGE_BYTES)
        epoch = (await storage.hash_of(ROOM))["epoch"]
        answer = await alice.resume(ROOM, Position(epoch, 0))
        assert (answer["recovered"], answer["reason"], answer["events"]) == (False, "too_large", [])
        answer = await alice.resume(ROOM, Position(epoch, MESSAGES - 5))
        assert (answer["recovered"], len(answer["events"])) == (True, 5)
        await storage.publish(ROOM, "small")
        await alice.wait_messages(ROOM, 6)

        await alice.subscribe("other")
        before = bytes_sent(redis_server)
        for number in range(1, HOSTILE_CALLS + 1):
            answer = await mallory.resume(ROOM, Position(epoch, 0))
            assert answer["reason"] == "too_large"
            if number % 20 == 0:
                await alice.publish("other", f"{number}")
        await alice.wait_messages("other", HOSTILE_CALLS // 20)
        assert bytes_sent(redis_server) - before < HOSTILE_BYTES_MAX
        assert not alice.ended.is_set()
        assert not mallory.ended.is_set()
        await storage.flush()
        await storage.check_rooms()


@pytest.mark.parametrize("count", [5, 260])
async def test_unread_counts_what_the_archiver_has_not_written(redis_url, database_url, count):
    """Exactly as long as it is a little behind; a long backlog is estimated by seq."""
    async with open_broker(redis_url, database_url) as broker:
        await broker.storage.create_room(ROOM, "alice", "bob")
        async with broker.connect("alice") as alice:
            await broker.storage.publish(ROOM, sender="bob")
            await broker.storage.flush()
            for _ in range(count):
                await broker.storage.publish(ROOM, sender="bob")
            assert (await alice.subscribe(ROOM))["unread"] == count + 1
            await broker.storage.flush()
            assert (await alice.subscribe(ROOM))["unread"] == count + 1
            await alice.publish(ROOM, "now she has read everything")
            assert (await alice.subscribe(ROOM))["unread"] == 0
        await broker.storage.flush()
        await broker.storage.check_rooms()


def bytes_sent(redis_server) -> int:
    """Bytes that Redis has sent since it was started."""
    lines = redis_server.command("INFO", "stats").decode().splitlines()
    (line,) = [line for line in lines if line.startswith("total_net_output_bytes:")]
    return int(line.partition(":")[2])
