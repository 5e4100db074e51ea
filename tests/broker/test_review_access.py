"""Subscriptions and connections against tokens, removals and revocations that come in between."""

import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio
import trio.testing

from broker import admission
from broker.connection import Connection
from broker.domain import users
from broker.domain.user_changes import revoke_user_tokens
from config import limits
from storage.redis.keys import user_channel
from tests.support.local_broker import LocalBroker, LocalClient, open_broker, replaced
from tests.support.rooms import PROJECT, key_of
from tests.support.seen import ChatError, ConnectionEnded
from tests.support.tokens import make_token
from tests.support.waiting import wait_until

ROOM = "general"
JOIN = {ROOM: ["join"]}


@pytest.fixture
async def broker(redis_url, database_url):
    async with open_broker(redis_url, database_url) as opened:
        await opened.storage.create_room(ROOM, "alice", "bob")
        await opened.storage.seeder.warm(key_of(ROOM))
        yield opened


async def remove_bob(broker: LocalBroker, witness: LocalClient) -> None:
    await broker.storage.remove_silently(ROOM, "bob")
    await broker.storage.announce(ROOM)
    await witness.wait_event(ROOM, "member.removed")


async def test_a_member_whose_capability_is_gone_ends_with_the_membership(broker: LocalBroker):
    """P7, B16c: the subscription needed no membership when it began; since the refresh it does."""
    async with broker.connect("alice") as alice, broker.connect("bob", rooms=JOIN) as bob:
        await alice.subscribe(ROOM)
        await bob.subscribe(ROOM)
        await bob.call("refresh", token=make_token("bob"))
        assert not bob.unsubscribed, "bob is a member"
        await remove_bob(broker, alice)
        await bob.wait(lambda: bob.unsubscribed, what="the end of the subscription")
        assert key_of(ROOM) not in bob.connection.subscriptions


async def test_a_removed_member_loses_the_room_with_the_capability(broker: LocalBroker):
    """P7, B16c: the removal left the subscription to the capability, and the refresh takes that."""
    async with broker.connect("alice") as alice, broker.connect("bob", rooms=JOIN) as bob:
        await alice.subscribe(ROOM)
        await bob.subscribe(ROOM)
        await remove_bob(broker, alice)
        assert not bob.unsubscribed, "the capability still holds"
        await bob.call("refresh", token=make_token("bob"))
        await bob.wait(lambda: bob.unsubscribed, what="the end of the subscription")
        assert bob.unsubscribed[0]["code"] == "forbidden"


async def test_a_new_capability_outlives_the_membership(broker: LocalBroker):
    """The other way round: a member's new token gives the room by itself."""
    async with broker.connect("alice") as alice, broker.connect("bob") as bob:
        await alice.subscribe(ROOM)
        await bob.subscribe(ROOM)
        await bob.call("refresh", token=make_token("bob", rooms=JOIN))
        await remove_bob(broker, alice)
        await broker.storage.publish(ROOM, "still here")
        await bob.wait_messages(ROOM, 1)
        assert not bob.unsubscribed


async def test_a_refresh_overtakes_a_subscribe(broker: LocalBroker):
    """P7: the old token's capability was looked at, but the new one is what counts."""
    reading, going = trio.Event(), trio.Event()

    def pausing(original: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def read(*arguments: Any) -> Any:
            access = await original(*arguments)
            reading.set()
            await going.wait()
            return access

        return read

    async with broker.connect("carol", rooms=JOIN) as carol:
        with replaced(broker.services.access, "read_and_count", pausing):
            await carol.send({"type": "subscribe", "id": "late", "room": ROOM})
            await reading.wait()
            await carol.call("refresh", token=make_token("carol"))
            going.set()
            await wait_until(lambda: not carol.connection.has_work)
        assert key_of(ROOM) not in carol.connection.subscriptions
        assert key_of(ROOM) not in broker.node.hub.rooms


async def test_a_revocation_during_the_admission_ends_the_connection(
    broker: LocalBroker, monkeypatch: pytest.MonkeyPatch
):
    """P7, B16a: PostgreSQL was read before the revocation, the connection opens after it."""
    original = users.admit_user
    is_first = True

    async def admit_user(*arguments: Any, **options: Any) -> None:
        nonlocal is_first
        await original(*arguments, **options)
        if is_first:
            is_first = False
            storage = broker.storage
            await revoke_user_tokens(storage.db, storage.announcer, PROJECT, "bob")
            # Behind the revocation in the inbox: when it was delivered, so was the other.
            await storage.publish(ROOM, "a mark")
            await alice.wait_messages(ROOM, 1)

    async with broker.connect("alice") as alice:
        await alice.subscribe(ROOM)
        monkeypatch.setattr(admission, "admit_user", admit_user)
        with pytest.raises((ConnectionEnded, AssertionError)):
            async with broker.connect("bob") as bob:
                await bob.wait_ended(deadline=1.0)
        await wait_until(lambda: not broker.holds_channel("bob"))


async def test_a_revocation_ends_all_who_are_just_being_admitted(
    broker: LocalBroker, monkeypatch: pytest.MonkeyPatch
):
    """P7, B16 (test 24): a hundred of them; a token made in the same second is good."""
    count = 100
    original = users.admit_user
    held, release = 0, trio.Event()

    async def admit_and_wait(*arguments: Any, **options: Any) -> None:
        nonlocal held
        await original(*arguments, **options)
        held += 1
        await release.wait()

    old = make_token("bob")
    with monkeypatch.context() as patched:
        patched.setattr(admission, "admit_user", admit_and_wait)
        patched.setattr(limits, "ADMISSIONS_AT_ONCE", count)
        clients = [LocalClient(old) for _ in range(count)]
        for client in clients:
            client.peer.receiver = Connection(client.peer, broker.services)
            client.connection.open()
        await wait_until(lambda: held == count, what="all are between the row and their channel")
        await revoke_user_tokens(broker.storage.db, broker.storage.announcer, PROJECT, "bob")
        fresh = make_token("bob", iat=time.time() + 0.001)
        release.set()
        for client in clients:
            assert await client.wait_ended() == 4403
    again = LocalClient(fresh)
    again.peer.receiver = Connection(again.peer, broker.services)
    again.connection.open()
    await again.wait(lambda: again.hello, what="hello")
    again.close()


async def test_a_connection_that_is_gone_is_not_admitted(broker: LocalBroker):
    """P8: it ended before its admission began; nothing of it stays in the hub."""
    client = LocalClient(make_token("bob"))
    connection = client.peer.receiver = Connection(client.peer, broker.services)
    connection.open()
    client.close()
    async with broker.connect("alice"):
        await trio.testing.wait_all_tasks_blocked(0.05)
        assert user_channel(PROJECT, "bob") not in broker.node.hub.channels


async def test_revocations_by_the_thousand_lose_nobody_else(broker: LocalBroker):
    """P4: every connection of a user is looked at again; PostgreSQL is asked by a few at a time."""
    under_way, most = 0, 0

    def counting(original: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def fetchrow(*arguments: Any, **options: Any) -> Any:
            nonlocal under_way, most
            under_way += 1
            most = max(most, under_way)
            try:
                return await original(*arguments, **options)
            finally:
                under_way -= 1

        return fetchrow

    async with broker.connect("alice") as alice:
        with replaced(broker.storage.db, "fetchrow", counting):
            for _ in range(200):
                alice.connection.recheck()
            await trio.testing.wait_all_tasks_blocked(0.05)
            with pytest.raises(ChatError):
                await alice.call("history", room="unknown")
            await wait_until(lambda: under_way == 0)
        assert most < 50
