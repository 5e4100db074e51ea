"""Races of presence and typing over two nodes, two hundred rounds each; a node that dies.

Two brokers run in this process on one Redis, so that their commands meet in every order.
"""

import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest
import trio

from tests.support.deployment import start_deployment
from tests.support.local_broker import LocalBroker, LocalClient, open_broker, replaced
from tests.support.processes import Processes
from tests.support.rooms import key_of
from tests.support.seen import ConnectionEnded
from tests.support.servers import RedisServer
from tests.support.waiting import pass_time, wait_until

ROOM = "general"
ROUNDS = 200
USERS = ("alice", "bob", "carol")


@pytest.fixture
async def brokers(redis_url: str, database_url: str) -> AsyncIterator[tuple[LocalBroker, ...]]:
    async with (
        open_broker(redis_url, database_url) as one,
        open_broker(redis_url, database_url) as two,
    ):
        await one.storage.create_room(ROOM, "witness", *USERS)
        await one.storage.seeder.warm(key_of(ROOM))
        yield (one, two)
        await one.storage.flush()
        await one.storage.check_rooms()


def events_of(client: LocalClient, prefix: str) -> list[tuple[str, str]]:
    """(event, user) of what the client was told."""
    return [
        (event.event, event.data["user"])
        for event in client.rooms[ROOM].events
        if event.event.startswith(prefix)
    ]


def check_alternating(events: list[tuple[str, str]], first: str, second: str) -> None:
    """For each user the two take turns, and the second is the last."""
    for user in USERS:
        own = [event for event, who in events if who == user]
        assert own == [first, second] * (len(own) // 2), (user, own)


def without_repeats(events: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """The events, each user's typing.started only once in a row (it may be told again)."""
    kept: list[tuple[str, str]] = []
    types: set[str] = set()
    for event, user in events:
        if event == "typing.stopped":
            types.discard(user)
        elif user in types:
            continue
        else:
            types.add(user)
        kept.append((event, user))
    return kept


async def some_steps(rng: random.Random) -> None:
    for _ in range(rng.choice([0, 0, 1, 2, 5, 20])):
        await trio.lowlevel.checkpoint()


@pytest.mark.slow
@pytest.mark.timeout(120)
async def test_coming_and_going_on_two_nodes(brokers: tuple[LocalBroker, ...]) -> None:
    """Three users on both nodes at once: subscribed, dropped, unsubscribed in every order. Each is
    told to have come and gone in turns, both nodes tell the same, and nobody is left."""
    rng = random.Random(random.randrange(2**32))

    async def come_and_go(user: str, seed: float) -> None:
        own = random.Random(seed)
        for _ in range(ROUNDS):
            async with own.choice(brokers).connect(user, check=False) as client:
                await client.send({"type": "subscribe", "id": "s", "room": ROOM})
                await some_steps(own)
                if own.random() < 0.3:
                    await client.send({"type": "unsubscribe", "id": "u", "room": ROOM})
                    await some_steps(own)

    async with brokers[0].connect("witness") as here, brokers[1].connect("witness") as there:
        witnesses = (here, there)
        for client in witnesses:
            await client.subscribe(ROOM)
        async with trio.open_nursery() as nursery:
            for user in USERS:
                for _ in range(2):
                    nursery.start_soon(come_and_go, user, rng.random())

        async def is_empty() -> bool:
            return await brokers[0].storage.online(ROOM) == {"witness"}

        await wait_until(is_empty, deadline=20, what="nobody is left")

        def told(client: LocalClient) -> list[tuple[str, str]]:
            return [event for event in events_of(client, "presence.") if event[1] in USERS]

        def agree() -> bool:
            """A last `left` may be of an earlier leaving, with more to come: both must say so."""
            last = [{user: event for event, user in told(client)} for client in witnesses]
            gone = dict.fromkeys(USERS, "presence.left")
            return last == [gone, gone] and told(here) == told(there)

        await wait_until(agree, deadline=20, what="both nodes tell the same")
        for client in witnesses:
            check_alternating(told(client), "presence.joined", "presence.left")


@pytest.mark.slow
@pytest.mark.timeout(120)
async def test_typing_in_every_order_on_two_nodes(brokers: tuple[LocalBroker, ...]) -> None:
    """Each user types, stops, publishes, unsubscribes and vanishes on both nodes: every stop is
    of a start, and in the end nobody types."""
    for broker in brokers:
        # As if three seconds passed with every step: else nearly everything would be swallowed.
        live = broker.services.store.live
        live._limits = replace(live._limits, typing_pause_ms=1)
    rng = random.Random(random.randrange(2**32))

    async def act(user: str, seed: float) -> None:
        own = random.Random(seed)
        rounds = 0
        while rounds < ROUNDS:
            async with own.choice(brokers).connect(user, check=False) as client:
                await client.subscribe(ROOM)
                for _ in range(own.randint(1, 12)):
                    rounds += 1
                    await one_step(client, own)

    async def one_step(client: LocalClient, own: random.Random) -> None:
        way = own.choice(["on", "on", "on", "off", "publish", "unsubscribe"])
        frames: dict[str, dict[str, Any]] = {
            "on": {"type": "typing", "active": True},
            "off": {"type": "typing", "active": False},
            "publish": {"type": "publish", "content": "text"},
            "unsubscribe": {"type": "unsubscribe"},
        }
        try:
            await client.send(frames[way] | {"room": ROOM})
        except ConnectionEnded as ended:
            raise AssertionError("no command ends a connection") from ended
        await some_steps(own)

    async with brokers[0].connect("witness") as here, brokers[1].connect("witness") as there:
        witnesses = (here, there)
        for client in witnesses:
            await client.subscribe(ROOM)
        async with trio.open_nursery() as nursery:
            for user in USERS:
                for _ in range(2):
                    nursery.start_soon(act, user, rng.random())
        await wait_until(
            lambda: not any(len(broker.node.live.typists) for broker in brokers), what="all done"
        )

        def agree() -> bool:
            last = [{user: event for event, user in events_of(c, "typing.")} for c in witnesses]
            stopped = dict.fromkeys(USERS, "typing.stopped")
            both = [events_of(client, "typing.") for client in witnesses]
            return last == [stopped, stopped] and both[0] == both[1]

        await wait_until(agree, deadline=20, what="everybody's last stop is told on both nodes")
        for client in witnesses:
            told = without_repeats(events_of(client, "typing."))
            check_alternating(told, "typing.started", "typing.stopped")
        assert not here.errors


async def test_silence_ends_typing_and_repeating_keeps_it_up(
    brokers: tuple[LocalBroker, ...],
) -> None:
    """Ruling 47: one typing.started in 3 s, however often it is said; stopped after 6 s."""
    one, two = brokers
    async with one.connect("alice") as alice, two.connect("witness") as witness:
        await witness.subscribe(ROOM)
        while len(started := events_at(witness, "typing.started")) < 2:
            await alice.call("typing", room=ROOM, active=True)
            await pass_time(0.2)
        assert started[1] - started[0] >= 3.0
        silent_since = time.time()
        await witness.wait_event(ROOM, "typing.stopped", deadline=12.0)
        assert events_at(witness, "typing.stopped")[0] - silent_since > 5.0
        # What had been said too early was told once more, and that was all.
        assert len(events_at(witness, "typing.started")) <= 3


def events_at(client: LocalClient, name: str) -> list[float]:
    """When these events happened, in seconds since 1970."""
    return [
        datetime.fromisoformat(event.time).timestamp()
        for event in client.rooms[ROOM].events
        if event.event == name
    ]


@pytest.mark.slow
async def test_a_node_dies_while_its_user_types(
    processes: Processes, redis_server: RedisServer, database_url: str
) -> None:
    """Ruling 47: nobody says that it has stopped; clients drop it after `expires_in`. The user goes
    on typing, on the other node, and that ends as usual."""
    system = await start_deployment(processes, redis_server, database_url, archiver=False)
    await system.create_room(ROOM, "alice", "bob")
    async with system.connect("bob", 1) as bob:
        await bob.subscribe(ROOM)
        async with system.connect("alice", 0, check=False) as alice:
            await alice.call("typing", room=ROOM, active=True)
            started = await bob.wait_event(ROOM, "typing.started")
            assert started.data == {"user": "alice", "expires_in": 6}
            system.brokers[0].kill()
        async with system.connect("alice", 1) as alice:
            await pass_time(3.0)
            await alice.call("typing", room=ROOM, active=True)
            await bob.wait(lambda: len(typing_of(bob)) == 2)
            # The dead node's word is good for 6 s; then the end is an end.
            await pass_time(3.5)
            await alice.call("typing", room=ROOM, active=False)
            await bob.wait_event(ROOM, "typing.stopped")
        assert typing_of(bob) == ["typing.started", "typing.started", "typing.stopped"]


def typing_of(client: Any) -> list[str]:
    return [e.event for e in client.rooms[ROOM].events if e.event.startswith("typing.")]


async def test_an_end_that_overtook_its_start_is_told_again(
    brokers: tuple[LocalBroker, ...],
) -> None:
    """The connection is gone while its user's role is still being read for `typing.started`."""
    broker = brokers[0]
    begun, may_go_on = trio.Event(), trio.Event()

    def late(original: Callable[..., Awaitable[int]]) -> Callable[..., Awaitable[int]]:
        async def begin_typing(*args: Any, **given: Any) -> int:
            begun.set()
            await may_go_on.wait()
            return await original(*args, **given)

        return begin_typing

    async with brokers[1].connect("witness") as witness:
        await witness.subscribe(ROOM)
        with replaced(broker.node.live.rules, "begin_typing", late):
            async with broker.connect("alice") as alice:
                await alice.send({"type": "typing", "room": ROOM, "active": True})
                await begun.wait()
            typists = broker.node.live.typists
            await wait_until(lambda: not typists._ended, what="the end has been told")
            may_go_on.set()
            await witness.wait_event(ROOM, "typing.stopped")
        told = [event for event, _user in events_of(witness, "typing.")]
        assert told == ["typing.started", "typing.stopped"]
