"""Redis or PostgreSQL stops under load: errors come promptly, connections stay, nothing is lost."""

from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest
import trio

from tests.integration.conftest import Start
from tests.support.client import ChatClient, ChatError
from tests.support.deployment import Deployment, room_path
from tests.support.servers import PostgresServer
from tests.support.waiting import pass_time, wait_until

# A command waits 3 s for an answer of Redis and a warm-up 5 s; nothing may take longer than this.
PATIENCE = 9.0
# Here the time itself is the condition: shorter than a node's lease, longer than any patience.
OUTAGE = 10.0
# Between two messages of a sender. Hundreds a second are load enough; as many as can be would only
# keep everything else of the run waiting.
PACE = 0.02
ROOMS = ["one", "two", "three"]


class Sender:
    """Publishes steadily, each message with a client_id until it has been answered."""

    def __init__(self, client: ChatClient, room: str, prefix: str) -> None:
        self.client = client
        self.room = room
        self.prefix = prefix
        self.is_stopping = False
        self.answers: dict[str, dict[str, Any]] = {}
        self.unavailable = 0
        self.slowest = 0.0

    async def run(self) -> None:
        while not self.is_stopping:
            await self.publish_until_answered(f"{self.prefix}-{len(self.answers)}")
            await pass_time(PACE)

    async def publish_until_answered(self, client_id: str) -> None:
        while True:
            began = trio.current_time()
            try:
                answer = await self.client.publish(self.room, client_id, client_id=client_id)
            except ChatError as error:
                assert error.code == "unavailable", error
                assert error.retry_after is not None
                self.unavailable += 1
                if self.is_stopping:
                    return
            else:
                self.answers[client_id] = answer
                return
            finally:
                self.slowest = max(self.slowest, trio.current_time() - began)


class Load:
    """Senders on both nodes, each subscribed to its room."""

    def __init__(self, senders: list[Sender]) -> None:
        self.senders = senders

    async def wait_rounds(self, count: int, *, deadline: float = 20.0) -> None:
        """Wait until everybody has been answered `count` times more."""
        goals = [len(sender.answers) + count for sender in self.senders]
        await wait_until(
            lambda: all(
                len(sender.answers) >= goal
                for sender, goal in zip(self.senders, goals, strict=True)
            ),
            deadline=deadline,
            what=f"{count} more answers for everybody",
        )

    def check_connections(self) -> None:
        for sender in self.senders:
            assert not sender.client.ended.is_set(), sender.client.close_code
            assert sender.client.errors == []


async def run_load(system: Deployment, disturb: Callable[[Load], Awaitable[None]]) -> Load:
    """Run senders while `disturb` does what it does; then everything must be everywhere, once."""
    for room in ROOMS:
        await system.create_room(room, "alice", "bob")
    async with AsyncExitStack() as stack:
        senders = []
        for place, room in enumerate([*ROOMS, *ROOMS]):
            user = "alice" if place < len(ROOMS) else "bob"
            client = await stack.enter_async_context(system.connect(user, place % 2))
            await client.subscribe(room)
            senders.append(Sender(client, room, f"{user}-{room}"))
        load = Load(senders)
        async with trio.open_nursery() as nursery:
            for sender in senders:
                nursery.start_soon(sender.run)
            await load.wait_rounds(20)
            await disturb(load)
            await load.wait_rounds(20, deadline=30)
            for sender in senders:
                sender.is_stopping = True
        load.check_connections()
        await check_delivered(load)
    await system.check_rooms()
    check_stored(system, load)
    return load


async def check_delivered(load: Load) -> None:
    """Every subscriber has everything that was answered, once, under the answer's numbers."""
    for room in ROOMS:
        senders = [sender for sender in load.senders if sender.room == room]
        answered = {key: value for s in senders for key, value in s.answers.items()}
        newest = max(answer["seq"] for answer in answered.values())
        for sender in senders:
            await sender.client.wait(
                lambda s=sender, n=newest: s.client.messages(s.room)[-1]["seq"] >= n,
                what="the newest message",
            )
            assert sender.client.unsubscribed == []
            messages = sender.client.messages(room)
            by_client_id = {message["client_id"]: message for message in messages}
            assert len(by_client_id) == len(messages)
            for client_id, answer in answered.items():
                found = by_client_id[client_id]
                assert (found["id"], found["seq"]) == (answer["message_id"], answer["seq"])


def check_stored(system: Deployment, load: Load) -> None:
    for room in ROOMS:
        rows = {row["client_id"]: row for row in system.stored(room)}
        assert len(rows) == len(system.stored(room))
        for sender in load.senders:
            if sender.room == room:
                for client_id, answer in sender.answers.items():
                    assert rows[client_id]["id"] == answer["message_id"]
                    assert rows[client_id]["seq"] == answer["seq"]


@pytest.mark.slow
@pytest.mark.timeout(120)
async def test_redis_hangs_under_load(start_private: Start) -> None:
    system = await start_private()

    async def disturb(load: Load) -> None:
        began = trio.current_time()
        system.redis.pause()
        await wait_until(lambda: all(sender.unavailable for sender in load.senders))
        await wait_until(lambda: trio.current_time() >= began + OUTAGE, deadline=OUTAGE)
        load.check_connections()
        system.redis.resume()

    load = await run_load(system, disturb)
    assert max(sender.slowest for sender in load.senders) < PATIENCE


@pytest.mark.slow
@pytest.mark.timeout(120)
async def test_redis_is_stopped_and_started_under_load(start_private: Start) -> None:
    """Its data is on disk: after a clean restart it is a new life, and nothing is lost."""
    system = await start_private()
    for room in ROOMS:
        await system.create_room(room, "alice")
    async with system.connect("alice", 0) as alice, system.connect("alice", 1) as other:
        for room in ROOMS:
            await alice.subscribe(room)
        sender = Sender(other, "one", "x")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(sender.run)
            await Load([sender]).wait_rounds(20)
            system.redis.stop()
            await wait_until(lambda: sender.unavailable)
            system.redis.start()
            await Load([sender]).wait_rounds(20)
            sender.is_stopping = True
        Load([sender]).check_connections()
        for room in ROOMS:
            await alice.wait(
                lambda r=room: not alice.rooms[r].is_subscribed, what=f"{room} resynced"
            )
            assert (await alice.resume(room))["reason"] == "epoch"
        assert {frame["code"] for frame in alice.unsubscribed} == {"resync"}
    assert sender.slowest < PATIENCE
    await system.check_rooms()
    rows = {row["client_id"]: row["id"] for row in system.stored("one")}
    assert rows.items() >= {k: a["message_id"] for k, a in sender.answers.items()}.items()


async def test_while_redis_hangs_everything_says_so(start_private: Start) -> None:
    system = await start_private(brokers=1)
    await system.create_room("room", "alice")
    async with system.connect("alice") as alice:
        await alice.subscribe("room")
        await alice.publish("room", "before")
        system.redis.pause()
        began = trio.current_time()
        commands: list[tuple[str, dict[str, Any]]] = [
            ("publish", {"room": "room", "content": "text"}),
            ("history", {"room": "room"}),
            ("subscribe", {"room": "room"}),
        ]
        for type_, fields in commands:
            with pytest.raises(ChatError) as refused:
                await alice.call(type_, **fields)
            assert refused.value.code == "unavailable"
            assert refused.value.retry_after is not None
        assert trio.current_time() - began < PATIENCE
        answer = await system.send(
            "POST", f"{room_path('room')}/messages", {"content": "text"}, timeout=PATIENCE
        )
        assert (answer.status, answer.json()["code"]) == (503, "unavailable")
        assert answer.headers["retry-after"]
        assert "time" in await alice.call("ping")
        system.redis.resume()
        await wait_until(lambda: publish_works(alice))
        assert not alice.ended.is_set()


async def publish_works(client: ChatClient) -> bool:
    try:
        await client.publish("room", "after")
    except ChatError as error:
        assert error.code == "unavailable"
        return False
    return True


@pytest.mark.slow
@pytest.mark.timeout(120)
async def test_postgres_is_stopped_under_load(
    start_private: Start, private_postgres: PostgresServer
) -> None:
    """Warm rooms and known roles need no PostgreSQL: nobody is refused anything meanwhile."""
    system = await start_private()

    async def disturb(load: Load) -> None:
        private_postgres.stop()
        began = trio.current_time()
        await wait_until(lambda: trio.current_time() >= began + OUTAGE, deadline=2 * OUTAGE)
        await load.wait_rounds(20)
        private_postgres.start()

    load = await run_load(system, disturb)
    assert sum(sender.unavailable for sender in load.senders) == 0
    assert max(sender.slowest for sender in load.senders) < PATIENCE


@pytest.mark.slow
@pytest.mark.parametrize("way", ["stopped", "hanging"])
async def test_without_postgres_what_needs_it_says_so(
    start_private: Start, private_postgres: PostgresServer, way: str
) -> None:
    system = await start_private()
    await system.create_room("warm", "alice")
    await system.create_room("cold", "alice")
    async with system.connect("alice") as alice:
        await alice.subscribe("warm")
        await alice.publish("warm", "before")
        if way == "stopped":
            private_postgres.stop()
        else:
            private_postgres.pause()
        for number in range(20):
            await alice.publish("warm", f"meanwhile {number}")
        await alice.wait_messages("warm", 21)
        for type_, fields in (
            ("publish", {"room": "cold", "content": "text"}),
            ("history", {"room": "warm"}),
            ("subscribe", {"room": "cold"}),
        ):
            began = trio.current_time()
            with pytest.raises(ChatError) as refused:
                await alice.call(type_, **fields)
            assert refused.value.code == "unavailable"
            assert trio.current_time() - began < PATIENCE
        answer = await system.send("GET", f"{room_path('warm')}/messages", timeout=PATIENCE)
        assert (answer.status, answer.json()["code"]) == (503, "unavailable")
        if way == "stopped":
            private_postgres.start()
        else:
            private_postgres.resume()
        await wait_until(lambda: history_works(alice), deadline=20)
        await alice.publish("cold", "after")
        assert [m["content"] for m in (await alice.call("history", room="warm"))["messages"]] == [
            "before",
            *(f"meanwhile {number}" for number in range(20)),
        ]
        assert not alice.ended.is_set()
    await system.check_rooms()


async def history_works(client: ChatClient) -> bool:
    try:
        await client.call("history", room="warm")
    except ChatError as error:
        assert error.code == "unavailable"
        return False
    return True


async def test_who_comes_during_an_outage_is_told_to_come_back(
    start_private: Start, private_postgres: PostgresServer
) -> None:
    """Nobody is let in on a guess, and nobody is told that the token is bad."""
    system = await start_private(brokers=1, api=False, archiver=False)
    private_postgres.stop()
    async with system.connect("alice", hello=False) as alice:
        assert await alice.wait_ended(deadline=PATIENCE) == 4503
    private_postgres.start()

    async def gets_in() -> bool:
        async with system.connect("alice", hello=False) as alice:
            await wait_until(lambda: alice.hello or alice.ended.is_set())
            return alice.hello is not None

    await wait_until(gets_in)
