"""What never reached a node's inbox is delivered or announced, though no later event comes (A4)."""

from typing import Any

import pytest

from storage.redis.entries import pack_entry
from storage.redis.keys import user_channel
from tests.support.deployment import start_deployment
from tests.support.local_broker import LocalBroker, open_broker, replaced
from tests.support.rooms import PROJECT, key_of, message, open_storage
from tests.support.waiting import wait_until

ROOM = "general"
LEASE = 1.0
AUDIT = 0.2


@pytest.fixture
async def broker(redis_url, database_url):
    async with open_broker(
        redis_url, database_url, node_lease=LEASE, audit_interval=AUDIT
    ) as opened:
        await opened.storage.create_room(ROOM, "alice", "bob")
        await opened.storage.create_room("other", "alice", "bob")
        yield opened
        await opened.storage.flush()
        await opened.storage.check_rooms()


async def test_an_unlinked_inbox_is_noticed_under_a_blocked_reader(broker: LocalBroker):
    """M4 (test 6): XREAD BLOCK never notices; the heartbeat does, and nothing is missed."""
    async with broker.connect("alice") as alice:
        await alice.subscribe(ROOM)
        await broker.storage.publish(ROOM, "before")
        await alice.wait_messages(ROOM, 1)
        name = broker.node.name
        await broker.storage.store.client.execute("UNLINK", broker.inbox())
        await broker.storage.publish(ROOM, "into nowhere")
        await alice.wait_messages(ROOM, 2)
        assert broker.node.name != name, "a name is used once"
        await broker.storage.publish(ROOM, "after")
        await alice.wait_messages(ROOM, 3)
        assert not alice.unsubscribed
        await broker.wait_at_rest(ROOM)
        assert await broker.storage.nodes_of(key_of(ROOM)) == {broker.node.name}


async def test_the_last_event_of_a_quiet_room_is_not_lost(broker: LocalBroker):
    """M5 (test 6): an entry that vanished from the inbox, and no event after it."""
    async with broker.connect("alice") as alice:
        await alice.subscribe(ROOM)
        await publish_past(broker, "unseen")
        await alice.wait_messages(ROOM, 1)
        assert not alice.unsubscribed


async def test_a_node_that_was_taken_off_a_room_finds_out(broker: LocalBroker):
    """M5, A4: quiet rooms would work and this one be dead for ever."""
    async with broker.connect("alice") as alice:
        await alice.subscribe(ROOM)
        nodes = broker.storage.store.keys.room(key_of(ROOM)).nodes
        await broker.storage.store.client.execute("DEL", nodes)
        await broker.storage.publish(ROOM, "unseen")
        await alice.wait_messages(ROOM, 1)
        await broker.wait_at_rest(ROOM)


async def test_what_the_log_has_lost_too_is_announced(broker: LocalBroker):
    """A10: a gap that cannot be filled ends in `resync`, never in a jump."""
    async with broker.connect("alice") as alice:
        await alice.subscribe(ROOM)
        await broker.storage.publish(ROOM, "seen")
        await alice.wait_messages(ROOM, 1)
        # Until all is lost nobody looks: an audit in between would fill the gap from the log.
        with replaced(broker.storage.store.nodes, "audit", lambda _original: find_nothing):
            await publish_past(broker, "lost for good")
            await publish_past(broker, "lost too")
            await broker.storage.flush()
            log = broker.storage.store.keys.room(key_of(ROOM)).log
            await broker.storage.store.client.execute("XTRIM", log, "MAXLEN", 1)
        await alice.wait(lambda: alice.unsubscribed, what="resync")
        assert alice.unsubscribed[0]["code"] == "resync"
        answer = await alice.resume(ROOM)
        assert (answer["recovered"], answer["reason"], answer["seq"]) == (False, "trimmed", 3)


async def test_a_repeated_entry_is_delivered_once(broker: LocalBroker):
    """The inbox is read again from its cursor after a cut; a repeat is not shown twice."""
    async with broker.connect("alice") as alice:
        await alice.subscribe(ROOM)
        await broker.storage.publish(ROOM, "once")
        (entry,) = await broker.storage.log(ROOM)
        raw = pack_entry(entry)
        for _ in range(2):
            await broker.storage.store.client.execute("XADD", broker.inbox(), "*", "e", raw)
        await broker.storage.publish(ROOM, "twice")
        await alice.wait_messages(ROOM, 2)
        assert [data["content"] for data in alice.messages(ROOM)] == ["once", "twice"]


async def test_a_removal_among_the_missed_events_holds(broker: LocalBroker):
    """A12, A4: bob's removal was in the lost inbox; he sees nothing behind it."""
    async with broker.connect("alice") as alice, broker.connect("bob") as bob:
        for client in (alice, bob):
            await client.subscribe(ROOM)
        await broker.storage.store.client.execute("UNLINK", broker.inbox())
        await broker.storage.publish(ROOM, "for both")
        await broker.storage.remove_silently(ROOM, "bob")
        await broker.storage.announce(ROOM)
        await broker.storage.publish(ROOM, "for alice")
        await alice.wait_messages(ROOM, 2)
        await bob.wait(lambda: bob.unsubscribed, what="bob's removal")
        assert bob.unsubscribed[0]["code"] == "not_a_member"
        assert [data["content"] for data in bob.messages(ROOM)] == ["for both"]


async def find_nothing(*_arguments: Any) -> list[Any]:
    """An audit that sees no difference."""
    return []


async def publish_past(broker: LocalBroker, content: str) -> None:
    """Publish so that the node stays registered and its inbox never gets the event."""
    client = broker.storage.store.client
    nodes = broker.storage.store.keys.room(key_of(ROOM)).nodes
    gen = await client.execute("HGET", nodes, broker.node.name)
    assert isinstance(gen, bytes)
    draft = message(ROOM, content)
    await client.execute("DEL", nodes)
    await broker.storage.append(ROOM, draft)
    await client.execute("HSET", nodes, broker.node.name, gen)


# --- 5: a broker that was stopped for longer than its lease ---------------------------------------


async def test_a_broker_that_was_stopped_delivers_or_says_so(processes, redis_server, database_url):
    """A4, B6 (test 5): SIGSTOP beyond the lease; one room gets one event meanwhile and none after.

    The other node reaps it. When it goes on it takes a new name, and the client hears within 10 s.
    """
    system = await start_deployment(
        processes, redis_server, database_url, api=False, NODE_LEASE="1s", PRESENCE_GRACE="500ms"
    )
    async with (
        open_storage(redis_server.url, database_url) as storage,
        system.connect("alice", 1) as alice,
        system.connect("bob", 0) as bob,
    ):
        for room in (ROOM, "quiet"):
            await storage.create_room(room, "alice", "bob")
            await alice.subscribe(room)
            await bob.subscribe(room)
        system.brokers[1].pause()
        (mine,) = await storage.nodes_of(user_channel(PROJECT, "bob"))

        async def is_reaped() -> bool:
            found = await storage.store.client.execute("ZRANGE", "parley:leases", 0, -1)
            return found == [mine.encode()]

        await wait_until(is_reaped, what="the stopped node is reaped")
        assert await storage.online(ROOM) == {"bob"}
        await bob.publish(ROOM, "meanwhile")
        system.brokers[1].resume()
        await alice.wait_messages(ROOM, 1)
        await bob.publish("quiet", "afterwards")
        await alice.wait_messages("quiet", 1)
        assert not alice.unsubscribed
        assert not alice.ended.is_set()

        async def is_back() -> bool:
            return await storage.online(ROOM) == {"alice", "bob"}

        await wait_until(is_back, what="alice is online again")
        left = [event for event in bob.rooms[ROOM].events if event.event == "presence.left"]
        assert len(left) == 1, "she was gone for longer than the lease, once"
    await system.check_rooms()
