"""Changes of members against what is under way: the answered hold, the committed come."""

import contextlib
import json
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio

from storage.redis.entries import Entry
from tests.support.deployment import start_deployment
from tests.support.local_broker import LocalBroker, LocalClient, open_broker, replaced
from tests.support.proxy import TcpProxy, open_proxy
from tests.support.rooms import PROJECT, Storage, open_storage
from tests.support.seen import ChatError
from tests.support.servers import RedisServer
from tests.support.waiting import wait_until
from workers.archiver.announcing import announce_late

ROOM = "general"
LATE = 2.0
"""Within this the effect of an abandoned change must be seen everywhere, in seconds."""


@pytest.fixture
async def storage(redis_url, database_url):
    """The storages of another process: an API, say."""
    async with open_storage(redis_url, database_url, name="other-process") as opened:
        yield opened
        await opened.flush()
        await opened.check_rooms()


@asynccontextmanager
async def stalled_broker(storage: Storage, redis_port: int) -> AsyncIterator[Any]:
    """A broker whose way to Redis can be paused."""
    async with open_proxy(redis_port) as proxy:
        settings = storage.settings
        url = proxy.replace_port(settings.redis_url)
        async with open_broker(url, settings.database_url, node_lease=60.0) as broker:
            yield broker, proxy


async def remove(storage: Storage, room: str, user: str) -> None:
    """What DELETE /members does until its answer."""
    await storage.remove_silently(room, user)
    await storage.announce(room)


# --- 8: a role that was read, then used later (A6) ------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "code"), [("public", "not_a_member"), ("group", "room_not_found")]
)
async def test_a_publish_under_way_does_not_outlive_the_removal(
    storage: Storage, redis_server: RedisServer, kind, code
):
    """A6 (test 8): the broker stalls between bob's role and the script; the removal is answered;
    bob's message must not land after it."""
    await storage.create_room(ROOM, "alice", "bob", kind=kind)
    async with (
        stalled_broker(storage, redis_server.port) as (broker, proxy),
        broker.connect("bob") as bob,
    ):
        await bob.publish(ROOM, "while a member")
        proxy.pause()
        await send(bob, "publish", room=ROOM, content="too late")
        await remove(storage, ROOM, "bob")
        proxy.resume()
        assert await code_of(bob) == code
        with pytest.raises(ChatError, match=code):
            await bob.publish(ROOM, "later still")
    entries = [json.loads(entry.data) for entry in await storage.log(ROOM)]
    assert [data.get("content") for data in entries] == ["while a member", None]


@pytest.mark.parametrize("hears_of_it", [False, True])
async def test_a_subscribe_under_way_does_not_outlive_the_removal(
    storage: Storage, redis_server: RedisServer, hears_of_it
):
    """A6 (test 8): bob would be subscribed for ever, since he missed his own removal: the node was
    not in the room yet (or it was, and hears of the removal before bob's answer)."""
    await storage.create_room(ROOM, "alice", "bob")
    await storage.publish(ROOM)
    async with (
        stalled_broker(storage, redis_server.port) as (broker, proxy),
        broker.connect("alice") as alice,
        broker.connect("bob") as bob,
    ):
        if hears_of_it:
            await alice.subscribe(ROOM)
        script_called = pause_before(broker, "subscribe", proxy)
        await send(bob, "subscribe", room=ROOM)
        await script_called.wait()
        await remove(storage, ROOM, "bob")
        proxy.resume()
        assert await code_of(bob) == "room_not_found"
        if not hears_of_it:
            await alice.subscribe(ROOM)
        await storage.publish(ROOM, "for alice")
        await alice.wait_messages(ROOM, 1)
        assert not bob.rooms[ROOM].events
        assert not bob.rooms[ROOM].is_subscribed
        await broker.wait_at_rest(ROOM)
        assert await storage.online(ROOM) == {"alice"}


def pause_before(broker: LocalBroker, name: str, proxy: TcpProxy) -> trio.Event:
    """The next call of the script finds the way to Redis paused; set when it is made."""
    rooms = broker.storage.store.rooms
    original = getattr(rooms, name)
    made = trio.Event()

    def paused(*arguments: Any) -> Any:
        proxy.pause()
        setattr(rooms, name, original)
        made.set()
        return original(*arguments)

    setattr(rooms, name, paused)
    return made


async def send(client: LocalClient, type_: str, **fields: Any) -> None:
    """Send a command without waiting for its answer."""
    await client.send({"type": type_, "id": "under way", **fields})


async def code_of(client: LocalClient) -> str:
    """The code of the error that answers what `send` sent."""

    def find() -> str | None:
        for frame in client.frames:
            if frame.get("id") == "under way":
                return str(frame.get("code"))
        return None

    return str(await client.wait(find, what="the answer"))


async def test_an_announcement_between_role_and_script_is_no_refusal_of_others(
    storage: Storage, redis_server: RedisServer
):
    """A6: `stale` is mended by reading again; only who was removed is refused."""
    await storage.create_room(ROOM, "alice", "bob")
    async with (
        stalled_broker(storage, redis_server.port) as (broker, proxy),
        broker.connect("alice") as alice,
    ):
        await alice.publish(ROOM, "one")
        proxy.pause()
        await send(alice, "publish", room=ROOM, content="two")
        await remove(storage, ROOM, "bob")
        proxy.resume()
        await alice.publish(ROOM, "three")
    contents = [json.loads(entry.data).get("content") for entry in await storage.log(ROOM)]
    assert contents == ["one", None, "two", "three"]


# --- 9: committed, then dead (A7) -----------------------------------------------------------------


def announcements(entries: list[Entry]) -> list[tuple[str, int]]:
    return [(entry.event, entry.ver) for entry in entries if entry.ver]


async def delete_room_silently(storage: Storage, room: str) -> None:
    """What deleting a room commits: the row, its version, its announcement."""
    await storage.db.execute(
        """
        WITH gone AS (
            UPDATE rooms SET deleted_at = now(), version = version + 1
            WHERE project = $1 AND id = $2 RETURNING pk, version
        )
        INSERT INTO announcements (room_pk, version, event, sender, data)
        SELECT pk, version, 'room.deleted', NULL, $3 FROM gone
        """,
        PROJECT,
        room,
        '{"by":null,"deleted_at":"2026-01-02T03:04:05.678Z"}',
    )


async def test_an_abandoned_removal_is_announced_by_the_archiver(
    storage: Storage, redis_url, database_url
):
    """A7 (test 9): within two seconds, exactly once."""
    await storage.create_room(ROOM, "alice", "bob")
    async with open_broker(redis_url, database_url) as broker, trio.open_nursery() as nursery:
        nursery.start_soon(announce_late, storage.announcer, broker.services.metrics)
        async with broker.connect("bob") as bob:
            await bob.subscribe(ROOM)
            await bob.publish(ROOM, "before")
            await storage.remove_silently(ROOM, "bob")
            await bob.wait(lambda: bob.unsubscribed, deadline=LATE, what="the removal")
            assert bob.unsubscribed[0]["code"] == "not_a_member"
            with pytest.raises(ChatError, match="room_not_found"):
                await bob.publish(ROOM, "after")
        await storage.announce(ROOM)
        assert announcements(await storage.log(ROOM)) == [("member.removed", 1)]
        assert await storage.db.fetchval("SELECT count(*) FROM announcements") == 0
        nursery.cancel_scope.cancel()


async def test_an_abandoned_deletion_is_announced_by_the_archiver(
    storage: Storage, redis_url, database_url
):
    """A7, B11 (test 9): the room ends for those who are in it, and takes nothing more."""
    await storage.create_room(ROOM, "alice")
    async with open_broker(redis_url, database_url) as broker, trio.open_nursery() as nursery:
        nursery.start_soon(announce_late, storage.announcer, broker.services.metrics)
        async with broker.connect("alice") as alice:
            await alice.subscribe(ROOM)
            await alice.publish(ROOM, "before")
            await delete_room_silently(storage, ROOM)
            await alice.wait(lambda: alice.unsubscribed, deadline=LATE, what="the deletion")
            assert alice.unsubscribed[0]["code"] == "room_not_found"
            with pytest.raises(ChatError, match="room_not_found"):
                await alice.publish(ROOM, "after")
        assert announcements(await storage.log(ROOM)) == [("room.deleted", 1)]
        nursery.cancel_scope.cancel()


async def test_an_api_may_be_killed_between_commit_and_announcement(
    processes, redis_server, database_url
):
    """A7 (test 9) with real processes: the API's way to Redis is paused, so it dies in between."""
    async with open_proxy(redis_server.port) as proxy:
        system = await start_deployment(processes, redis_server, database_url, brokers=1, api=False)
        processes.env["REDIS_URL"] = proxy.replace_port(redis_server.url)
        system.api = await processes.start_api()
        await system.create_room(ROOM, "alice", "bob")
        async with system.connect("bob") as bob, system.connect("alice") as alice:
            for client in (alice, bob):
                await client.subscribe(ROOM)
            proxy.pause()
            async with trio.open_nursery() as nursery:

                async def request() -> None:
                    with contextlib.suppress(OSError):
                        answer = await system.remove_member(ROOM, "bob")
                        raise AssertionError(f"it was to die, yet it said {answer}")

                nursery.start_soon(request)
                async with open_storage(redis_server.url, database_url) as storage:

                    async def is_committed() -> bool:
                        return await storage.members(ROOM) == {"alice"}

                    await wait_until(is_committed, what="the commit")
                system.api.kill()
            await bob.wait(lambda: bob.unsubscribed, deadline=LATE, what="the removal")
            await alice.publish(ROOM, "without bob")
            await alice.wait_messages(ROOM, 1)
            assert not bob.messages(ROOM)
        async with open_storage(redis_server.url, database_url) as storage:
            assert announcements(await storage.log(ROOM)) == [("member.removed", 1)]
        await system.check_rooms()


# --- 10: two announcers (A7) ----------------------------------------------------------------------


async def test_two_apis_keep_the_order_of_the_versions(storage: Storage, redis_url, database_url):
    """A7 (test 10): 200 changes by two APIs with delays between commit and announcement: the log
    has the versions in order, each once, and who may publish in the end is who is a member."""
    rng = random.Random(random.randrange(2**32))
    await storage.create_room(ROOM, "alice")
    lock = trio.Lock()
    done = 0

    async with (
        open_storage(redis_url, database_url, name="api-two") as second,
        open_broker(redis_url, database_url) as broker,
        broker.connect("alice") as alice,
        broker.connect("bob") as bob,
    ):
        await alice.subscribe(ROOM)

        def dawdle(announce: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
            async def announce_late_or_not(*arguments: Any, **more: Any) -> Any:
                for _ in range(rng.choice([0, 0, 5, 40])):
                    await trio.lowlevel.checkpoint()
                return await announce(*arguments, **more)

            return announce_late_or_not

        async def change_often(api: Storage) -> None:
            nonlocal done
            while done < 200:
                async with lock:
                    # Who is next is decided in the order of the commits, as by a row lock.
                    if "bob" in await api.members(ROOM):
                        await api.remove_silently(ROOM, "bob")
                    else:
                        await api.add_silently(ROOM, "bob")
                    done += 1
                await api.announce(ROOM)

        with (
            replaced(storage.store.rooms, "announce", dawdle),
            replaced(second.store.rooms, "announce", dawdle),
        ):
            async with trio.open_nursery() as nursery:
                for api in (storage, storage, second, second):
                    nursery.start_soon(change_often, api)
        await storage.announce(ROOM)
        log = announcements(await storage.log(ROOM))
        assert [version for _event, version in log] == list(range(1, done + 1))
        kinds = [event for event, _version in log]
        assert kinds == [("member.added", "member.removed")[at % 2] for at in range(done)]

        def seen() -> list[str]:
            events = [event.event for event in alice.rooms[ROOM].events]
            return [event for event in events if event.startswith("member.")]

        await alice.wait(lambda: seen() == kinds, what="all changes in order")
        is_member = "bob" in await storage.members(ROOM)
        if is_member:
            await bob.publish(ROOM, "still a member")
        else:
            with pytest.raises(ChatError, match="room_not_found"):
                await bob.publish(ROOM, "no member any more")
