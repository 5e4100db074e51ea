"""A node against what an adversary found: long rejoins, ghosts of presence, silent readers."""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import pytest
import trio

from config import limits
from storage.errors import StorageUnavailable
from storage.redis.blocking import open_blocking
from tests.support.local_broker import LocalBroker, open_broker, replaced
from tests.support.proxy import open_proxy
from tests.support.rooms import key_of
from tests.support.servers import RedisServer
from tests.support.waiting import wait_until

ROOM = "general"
LEASE = 1.0


@pytest.fixture
async def broker(redis_url, database_url):
    async with open_broker(redis_url, database_url, node_lease=LEASE) as opened:
        await opened.storage.create_room(ROOM, "alice", "bob")
        await opened.storage.seeder.warm(key_of(ROOM))
        yield opened


async def lose_inbox(broker: LocalBroker) -> None:
    await broker.storage.store.client.execute("UNLINK", broker.inbox())


async def test_a_rejoin_may_take_longer_than_the_lease(broker: LocalBroker):
    """M4: thousands of rooms, or a slow PostgreSQL: the new inbox must outlive its own rejoin."""

    def slowly(original: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
        async def check_roles(*arguments: Any) -> None:
            with trio.move_on_after(1.5 * LEASE):
                await trio.Event().wait()
            await original(*arguments)

        return check_roles

    async with broker.connect("alice") as alice:
        await alice.subscribe(ROOM)
        with replaced(broker.node.repairer, "_check_roles", slowly):
            before = broker.node.name
            await lose_inbox(broker)
            await wait_until(lambda: broker.node.name != before)
            name = broker.node.name
            await broker.storage.publish(ROOM, "meanwhile")
            await alice.wait_messages(ROOM, 1)
            # Delivered by the rejoin itself; this one only by who reads the new inbox.
            with trio.move_on_after(3 * LEASE):
                await wait_until(lambda: broker.node.name != name)
            assert broker.node.name == name
            await broker.storage.publish(ROOM, "after")
            await alice.wait_messages(ROOM, 2)
        assert not alice.unsubscribed
        await broker.wait_at_rest(ROOM)


async def test_waiting_for_postgresql_takes_no_further_names(broker: LocalBroker):
    """P8: roles cannot be read for a while; the node waits under one name, not under hundreds."""
    failing = True

    def away(original: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
        async def check_roles(*arguments: Any) -> None:
            if failing:
                raise StorageUnavailable("postgres", "not_done", "away")
            await original(*arguments)

        return check_roles

    async with broker.connect("alice") as alice:
        await alice.subscribe(ROOM)
        with replaced(broker.node.repairer, "_check_roles", away):
            before = broker.node.name
            await lose_inbox(broker)
            await wait_until(lambda: broker.node.name != before)
            during = broker.node.name
            with trio.move_on_after(2 * LEASE):
                await wait_until(lambda: broker.node.name != during)
            assert broker.node.name == during
            failing = False
            await broker.storage.publish(ROOM, "meanwhile")
            await alice.wait_messages(ROOM, 1)


async def test_a_count_sent_after_the_reaping_leaves_no_ghost(broker: LocalBroker):
    """P5: a stopped node was reaped; it wakes and says how many connections are left, under its
    old name, before it knows."""
    async with broker.connect("alice") as staying:
        await staying.subscribe(ROOM)
        async with broker.connect("alice") as leaving:
            await leaving.subscribe(ROOM)
            nodes = broker.storage.store.nodes
            while await nodes.reap(broker.node.name, force=True) > 0:
                pass
        await broker.wait_at_rest(ROOM)
    await broker.wait_at_rest(ROOM)
    assert await broker.storage.online(ROOM) == set()


async def test_a_grace_that_redis_finds_too_short_is_waited_for(broker: LocalBroker):
    """P5: the clocks of two machines do not run alike."""
    nodes = broker.storage.store.nodes

    def longer(original: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def leave_due(key: str, node: str, user: str, grace_ms: int) -> Any:
            return await original(key, node, user, grace_ms + 200)

        return leave_due

    with replaced(nodes, "leave_due", longer):
        async with broker.connect("alice") as alice:
            await alice.subscribe(ROOM)
        await broker.wait_at_rest(ROOM)
    assert await broker.storage.online(ROOM) == set()


async def test_a_draining_node_announces_nobody(broker: LocalBroker):
    """P5, B8: whoever leaves while the node drains comes back elsewhere after the grace."""
    async with broker.connect("bob") as bob:
        await bob.subscribe(ROOM)
        async with broker.connect("alice") as alice:
            await alice.subscribe(ROOM)
            broker.node.begin_drain()
        await broker.node.upkeep.flush()
        await broker.storage.publish(ROOM, "a mark")
        await bob.wait_messages(ROOM, 1)
        events = [event.event for event in bob.rooms[ROOM].events]
        assert "presence.left" not in events
        assert await broker.storage.online(ROOM) == {"alice", "bob"}


async def test_clients_are_sent_away_if_redis_is_lost_during_a_rejoin(broker: LocalBroker):
    """A13: longer than the lease without Redis, and nobody is served on a guess."""
    told = trio.Event()
    broker.node.on_lease_lost = told.set

    async def refuse(*_arguments: Any) -> None:
        raise StorageUnavailable("redis", "not_done", "away")

    nodes = broker.storage.store.nodes
    with (
        replaced(nodes, "open_node", lambda _original: refuse),
        replaced(nodes, "heartbeat", partial(fail_after_first)),
        trio.fail_after(5 * LEASE),
    ):
        await lose_inbox(broker)
        await told.wait()


def fail_after_first(original: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    calls = 0

    async def heartbeat(*arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls > 1:
            raise StorageUnavailable("redis", "not_done", "away")
        return await original(*arguments)

    return heartbeat


async def test_an_inbox_read_that_hangs_is_given_up(
    redis_url, redis_server: RedisServer, database_url, monkeypatch: pytest.MonkeyPatch
):
    """P2: the way to Redis swallows everything, and nobody says so."""
    monkeypatch.setattr(limits, "INBOX_BLOCK", 0.2)
    monkeypatch.setattr(limits, "COMMAND_TIMEOUT", 0.5)
    async with (
        open_proxy(redis_server.port) as proxy,
        open_broker(
            redis_url, database_url, reader_url=proxy.replace_port(redis_url), audit_interval=60.0
        ) as broker,
    ):
        await broker.storage.create_room(ROOM, "alice", "bob")
        async with broker.connect("alice") as alice:
            await alice.subscribe(ROOM)
            made = proxy.connections_made
            proxy.pause()
            await wait_until(lambda: proxy.connections_made > made, what="another connection")
            await broker.storage.publish(ROOM, "after the silence")
            proxy.resume()
            await alice.wait_messages(ROOM, 1)


async def test_too_many_connections_in_redis_are_an_outage(private_redis: RedisServer):
    """An owner of a blocking connection waits for Redis; a refusal to take one more is no bug."""
    async with open_blocking(private_redis.url) as connection:
        await connection.execute("CONFIG", "SET", "maxclients", 1)
        with pytest.raises(StorageUnavailable):
            async with open_blocking(private_redis.url) as another:
                await another.execute("PING")


async def test_a_gap_that_cannot_be_filled_for_long_is_bounded(
    broker: LocalBroker, monkeypatch: pytest.MonkeyPatch
):
    """P4, P2: events wait for a repair that Redis does not answer, up to a limit; then a resync."""
    monkeypatch.setattr(limits, "PENDING_EVENTS_MAX", 50)

    async def refuse(*_arguments: Any) -> None:
        raise StorageUnavailable("redis", "unknown", "away")

    async with broker.connect("alice") as alice:
        await alice.subscribe(ROOM)
        room = broker.node.hub.rooms[key_of(ROOM)]
        with replaced(broker.storage.store.rooms, "subscribe", lambda _original: refuse):
            broker.node.request_repair(room)
            await broker.storage.publish_many(ROOM, 200)
            await alice.wait(lambda: alice.unsubscribed, what="resync")
        assert alice.unsubscribed[0]["code"] == "resync"
        assert (await alice.subscribe(ROOM))["offset"] == 200
