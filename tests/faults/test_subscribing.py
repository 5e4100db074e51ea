"""Subscribing against everything that may come between: flushed scripts, cuts, cancellation."""

import random
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import pytest
import trio

from broker import handlers
from broker.protocol.commands import Subscribe
from storage.errors import StorageUnavailable
from storage.redis.outcomes import Appended, Snapshot
from storage.redis.script_loader import ScriptSet
from tests.support.local_broker import LocalBroker, LocalClient, open_broker, replaced
from tests.support.proxy import TcpProxy, open_proxy
from tests.support.rooms import Storage, key_of, message, open_storage
from tests.support.seen import ChatError, ConnectionEnded
from tests.support.servers import RedisServer
from tests.support.waiting import wait_until

ROOM = "general"
TURNS = 150
CUTS = 40


@pytest.fixture
async def broker(redis_url, database_url):
    async with open_broker(redis_url, database_url) as opened:
        await opened.storage.create_room(ROOM, "alice", "bob")
        await opened.storage.seeder.warm(key_of(ROOM))
        yield opened
        await opened.wait_at_rest(ROOM)
        await opened.storage.flush()
        await opened.storage.check_rooms()


# --- 15: antiphase, forgotten scripts, cut connections (B4, B9) -----------------------------------


async def come_and_go(client: LocalClient, rng: random.Random, phase: int) -> None:
    """Subscribe and unsubscribe in turns; what fails is tried again. Ends subscribed."""
    for turn in range(TURNS):
        is_coming = turn % 2 == phase
        await until_done(client, "subscribe" if is_coming else "unsubscribe")
        for _ in range(rng.choice([0, 1, 3, 20])):
            await trio.lowlevel.checkpoint()
    await until_done(client, "subscribe")


async def until_done(client: LocalClient, type_: str) -> None:
    while True:
        try:
            await client.call(type_, room=ROOM)
        except ChatError as error:
            assert error.code == "unavailable", error
            await wait_until(lambda: True)
        else:
            return


async def count_up(storage: Storage, stop: trio.Event) -> int:
    """Publish numbered events until told to stop; repeats what has an unknown outcome."""
    number = 0
    while not stop.is_set():
        number += 1
        draft = message(ROOM, f"{number}", client_id=f"{number}")
        await until_appended(storage, draft)
    return number


async def until_appended(storage: Storage, draft: Any) -> None:
    while True:
        try:
            outcome = await storage.store.rooms.publish(key_of(ROOM), draft)
        except StorageUnavailable:
            await wait_until(lambda: storage.store.client.is_connected)
            continue
        if isinstance(outcome, Appended) or outcome.kind == "sent":
            return
        await storage.mend(key_of(ROOM), outcome)


async def disturb(server: RedisServer, rng: random.Random, clients: list[LocalClient]) -> None:
    """Flush the scripts and cut connections at random moments. Some scripts are known again at
    once, as if another process had loaded them, so that calls in flight change their order."""
    scripts = ScriptSet.load()
    for _ in range(CUTS):
        await wait_frames(clients, rng.randint(1, 60))
        if rng.random() < 0.9:
            server.command("SCRIPT", "FLUSH")
            for name in rng.sample(["subscribe", "leave", "presence"], rng.randrange(3)):
                server.command("SCRIPT", "LOAD", scripts[name].text)
        else:
            server.command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")


async def wait_frames(clients: list[LocalClient], count: int) -> None:
    """Wait until so many more frames have come."""
    wanted = count + sum(len(client.frames) for client in clients)
    await wait_until(
        lambda: sum(len(client.frames) for client in clients) >= wanted, deadline=20, what="frames"
    )


async def test_a_subscribed_connection_never_misses(
    broker: LocalBroker, redis_url, redis_server: RedisServer, database_url
):
    """B4, B9 (test 15): two connections subscribe and unsubscribe in antiphase while scripts are
    forgotten and connections cut; whoever is subscribed sees every number, and at rest Redis knows
    exactly what the hub holds."""
    rng = random.Random(random.randrange(2**32))
    stop = trio.Event()
    async with (
        open_storage(redis_url, database_url, name="publisher") as publisher,
        broker.connect("alice") as alice,
        broker.connect("bob") as bob,
    ):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(count_up, publisher, stop)
            async with trio.open_nursery() as turns:
                for phase, client in enumerate((alice, bob)):
                    turns.start_soon(come_and_go, client, random.Random(rng.random()), phase)
                turns.start_soon(disturb, redis_server, rng, [alice, bob])
            stop.set()
        await until_appended(publisher, message(ROOM, "the last"))
        for client in (alice, bob):
            await until_seen(client, "the last")
            assert not client.breaches, client.breaches
        await broker.wait_at_rest(ROOM)
        for client in (alice, bob):
            await until_done(client, "unsubscribe")
        await broker.wait_at_rest(ROOM)
        assert await broker.storage.nodes_of(key_of(ROOM)) == set()
        assert await broker.storage.online(ROOM) == set()


async def until_seen(client: LocalClient, content: str) -> None:
    def is_seen() -> bool:
        said = client.messages(ROOM)
        return bool(said) and said[-1]["content"] == content

    await client.wait(is_seen, what=content)


async def test_a_leave_that_is_late_does_not_undo_a_newer_join(broker: LocalBroker):
    """B4: its first try was cut off; the repeat arrives behind the next subscribe."""
    called, go_on, done = trio.Event(), trio.Event(), trio.Event()

    def delay(leave: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def leave_late(*arguments: Any, **more: Any) -> Any:
            called.set()
            await go_on.wait()
            await leave(*arguments, **more)
            done.set()

        return leave_late

    async with broker.connect("alice") as alice:
        await alice.subscribe(ROOM)
        with replaced(broker.storage.store.nodes, "leave", delay):
            await alice.call("unsubscribe", room=ROOM)
            await called.wait()
            await alice.subscribe(ROOM)
            go_on.set()
            await done.wait()
        await broker.storage.publish(ROOM, "delivered at once")
        await alice.wait_messages(ROOM, 1, deadline=2.0)


# --- B9: two connections, one room, different positions -------------------------------------------


@pytest.mark.parametrize("delay", [0.0, 0.002])
async def test_late_comers_get_each_event_once(
    redis_url, redis_server: RedisServer, database_url, delay
):
    """B9: the inbox ahead of the reply, and the reply ahead of the inbox."""
    async with open_proxy(redis_server.port) as proxy:
        slow_inbox = proxy.replace_port(redis_url)
        proxy.delay = delay
        async with (
            open_storage(redis_url, database_url) as publisher,
            open_broker(redis_url, database_url, reader_url=slow_inbox) as broker,
            broker.connect("alice") as alice,
        ):
            await publisher.create_room(ROOM, "alice")
            await alice.subscribe(ROOM)
            stop = trio.Event()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(count_up, publisher, stop)
                for _ in range(30):
                    async with broker.connect("alice") as late:
                        await late.subscribe(ROOM)
                        await late.wait_messages(ROOM, 3)
                stop.set()
            await publisher.publish(ROOM, "the last")
            await until_seen(alice, "the last")
            await publisher.flush()
            await publisher.check_rooms()


# --- 16: cancelled at every step, cut in the middle of the reply (B5) -----------------------------


class CancelAt(trio.abc.Instrument):
    """Cancels the scope after the n-th step of the task that runs in it."""

    def __init__(self, at: int) -> None:
        self.at = at
        self.steps = 0
        self.scope = trio.CancelScope()
        self.task: trio.lowlevel.Task | None = None

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        if task is self.task:
            self.steps += 1
            if self.steps == self.at:
                self.scope.cancel()


async def subscribe_and_cancel(broker: LocalBroker, client: LocalClient, at: int) -> bool:
    """Run a subscribe that is cancelled at its n-th step; False if it was over before."""
    instrument = CancelAt(at)
    # As the connection does before it begins a command.
    client.connection.allowance.take(Subscribe, trio.current_time())
    async with trio.open_nursery() as nursery:

        async def run() -> None:
            instrument.task = trio.lowlevel.current_task()
            with instrument.scope:
                command = Subscribe(id=1, room=ROOM)
                await handlers.subscribe(client.connection, broker.services, command)

        trio.lowlevel.add_instrument(instrument)
        nursery.start_soon(run)
    trio.lowlevel.remove_instrument(instrument)
    return instrument.scope.cancelled_caught


async def test_a_subscribe_may_be_cancelled_at_every_step(broker: LocalBroker):
    """B5 (test 16): nothing is left behind, and the next subscribe is as if there were none."""
    cancelled = 0
    for at in range(1, 200):
        async with broker.connect("alice", check=False) as alice:
            was_cancelled = await subscribe_and_cancel(broker, alice, at)
            cancelled += was_cancelled
            if was_cancelled:
                assert not alice.connection.subscriptions
                assert not broker.node.hub.rooms
                assert [frame["type"] for frame in alice.frames] == ["hello"]
        await broker.wait_at_rest(ROOM)
        assert await broker.storage.online(ROOM) == set()
        assert await broker.storage.nodes_of(key_of(ROOM)) == set()
        if not was_cancelled:
            break
    assert cancelled >= 2, "it reads the role with the unread count, and subscribes"


async def test_a_live_subscription_survives_a_cancelled_repeat(broker: LocalBroker):
    """B9: subscribing again and being cancelled leaves the first subscription as it was."""
    async with broker.connect("alice") as alice:
        await alice.subscribe(ROOM)
        number = 0
        for at in range(1, 200):
            was_cancelled = await subscribe_and_cancel(broker, alice, at)
            number += 1
            await broker.storage.publish(ROOM, f"{number}")
            await until_seen(alice, f"{number}")
            if not was_cancelled:
                break
        assert len(alice.messages(ROOM)) == number


async def test_a_connection_that_ends_during_its_subscribe_leaves_nothing(
    broker: LocalBroker, redis_server: RedisServer
):
    """B5: also when its script runs behind everything the clean-up said, since Redis had forgotten
    this one and another process had loaded the others again."""
    scripts = ScriptSet.load()
    rooms = broker.storage.store.rooms
    for is_forgotten in (False, True, True):
        async with broker.connect("alice", check=False) as alice:
            if is_forgotten:
                redis_server.command("SCRIPT", "FLUSH")
                for name in ("presence", "leave"):
                    redis_server.command("SCRIPT", "LOAD", scripts[name].text)
            ended = trio.Event()
            with replaced(rooms, "subscribe", partial(ending, alice, ended)):
                await alice.send({"type": "subscribe", "id": 1, "room": ROOM})
                await ended.wait()
        await broker.wait_at_rest(ROOM)
        assert await broker.storage.online(ROOM) == set()
        assert await broker.storage.nodes_of(key_of(ROOM)) == set()


def ending(
    client: LocalClient, ended: trio.Event, original: Callable[..., Awaitable[Any]]
) -> Callable[..., Awaitable[Any]]:
    """The connection ends right behind the section that queues the script."""

    async def subscribe(*arguments: Any) -> Any:
        async def end() -> None:
            client.close()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(end)
            outcome = await original(*arguments)
        if isinstance(outcome, Snapshot):
            trio.lowlevel.current_trio_token().run_sync_soon(ended.set)
        return outcome

    return subscribe


@pytest.mark.parametrize("was_live", [False, True])
async def test_a_subscription_that_ends_during_its_subscribe_is_not_answered_as_live(
    broker: LocalBroker, was_live
):
    """P2, A6: bob is removed between his script and its answer. He is told, whatever was first."""
    async with broker.connect("bob") as bob, broker.connect("alice") as alice:
        await alice.subscribe(ROOM)
        if was_live:
            await bob.subscribe(ROOM)

        async def remove_bob() -> None:
            await broker.storage.remove_silently(ROOM, "bob")
            await broker.storage.announce(ROOM)
            await alice.wait_event(ROOM, "member.removed")

        rooms = broker.storage.store.rooms
        with (
            replaced(rooms, "subscribe", partial(followed_by, remove_bob)),
            pytest.raises(ChatError, match="room_not_found"),
        ):
            await bob.subscribe(ROOM)
        await broker.storage.publish(ROOM, "for alice")
        await alice.wait_messages(ROOM, 1)
        assert not bob.connection.subscriptions
        assert not bob.messages(ROOM)


async def test_a_resync_during_a_subscribe_is_no_silence(broker: LocalBroker):
    """P2: the room's subscriptions end (a new life, a gap) while one is under way: it is made
    again, and what is answered is live."""
    async with broker.connect("alice") as alice, broker.connect("bob") as bob:
        await alice.subscribe(ROOM)

        async def end_all() -> None:
            broker.node.repairer.end_for_resync(broker.node.hub.rooms[key_of(ROOM)])

        rooms = broker.storage.store.rooms
        with replaced(rooms, "subscribe", partial(followed_by, end_all)):
            answer = await bob.subscribe(ROOM)
        assert answer["epoch"]
        await alice.wait(lambda: alice.unsubscribed, what="alice's resync")
        await broker.storage.publish(ROOM, "for bob")
        await bob.wait_messages(ROOM, 1)


def followed_by(
    then: Callable[[], Awaitable[None]], original: Callable[..., Awaitable[Any]]
) -> Callable[..., Awaitable[Any]]:
    """Something happens between the first call's script and the arrival of its answer."""
    calls = 0

    async def subscribe(*arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        is_first = calls == 1
        outcome = await original(*arguments)
        if is_first:
            await then()
        return outcome

    return subscribe


async def test_a_reply_cut_in_the_middle_leaves_nothing(
    redis_url, redis_server: RedisServer, database_url
):
    """B5 (test 16): the outcome is unknown to the node; what it says next is absolute."""
    async with open_proxy(redis_server.port) as proxy:
        url = proxy.replace_port(redis_url)
        async with open_broker(url, database_url, reader_url=redis_url) as broker:
            await broker.storage.create_room(ROOM, "alice")
            for count in (1, 7, 30, 80):
                async with broker.connect("alice") as alice:
                    rooms = broker.storage.store.rooms
                    with (
                        replaced(rooms, "subscribe", partial(cut_behind, proxy, count)),
                        pytest.raises((ChatError, ConnectionEnded)),
                    ):
                        await alice.subscribe(ROOM)
                    assert not broker.node.hub.rooms
                await wait_until(lambda: broker.storage.store.client.is_connected)
                await broker.wait_at_rest(ROOM)
                assert await broker.storage.online(ROOM) == set()
                assert await broker.storage.nodes_of(key_of(ROOM)) == set()
            await broker.storage.check_rooms()


def cut_behind(proxy: TcpProxy, count: int, original: Callable[..., Any]) -> Callable[..., Any]:
    """The connection to Redis is cut when so many bytes of the answer have come."""

    def subscribe(*arguments: Any) -> Any:
        proxy.cut_after(count, "to_client")
        return original(*arguments)

    return subscribe
