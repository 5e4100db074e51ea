"""Redis is emptied under connected clients: noticed, told, never renumbered, history whole.

What was answered but not archived is lost with Redis; its numbers are not given again.
"""

from collections import defaultdict
from contextlib import AsyncExitStack
from functools import partial
from typing import Any

import pytest
import trio

from storage.postgres.seeds import UNREPORTED_SKIP
from tests.integration.conftest import Start
from tests.support.client import ChatClient, ChatError
from tests.support.deployment import Deployment, seqs
from tests.support.waiting import wait_until

RESYNC_DEADLINE = 20.0


async def wait_resync(client: ChatClient, room: str = "room") -> None:
    await client.wait(
        lambda: (
            [(frame["room"], frame["code"]) for frame in client.unsubscribed] == [(room, "resync")]
        ),
        deadline=RESYNC_DEADLINE,
        what="unsubscribed with resync",
    )


async def test_the_next_publish_works_and_everybody_is_told(start: Start) -> None:
    """In a quiet room, too, where no publish is the sign."""
    system = await start()
    for room in ("room", "quiet"):
        await system.create_room(room, "alice", "bob")
    async with (
        system.connect("alice", 0) as alice,
        system.connect("bob", 1) as bob,
        system.connect("bob", 1) as listener,
    ):
        old = await alice.subscribe("room")
        await bob.subscribe("room")
        await listener.subscribe("quiet")
        for number in range(5):
            await alice.publish("room", f"before {number}")
        await bob.wait_messages("room", 5)
        await alice.wait_messages("room", 5)
        await system.wait_archived()
        system.redis.flush()
        sent = await alice.publish("room", "after")
        assert (sent["duplicate"], sent["seq"]) == (False, UNREPORTED_SKIP + 6)
        for client in (alice, bob):
            await wait_resync(client)
            position = client.rooms["room"].position
            assert position is not None
            assert (position.epoch, position.offset) == (old["epoch"], 5)
            again = await client.resume("room")
            assert (again["recovered"], again["reason"]) == (False, "epoch")
            assert again["epoch"] != old["epoch"]
            assert (again["events"], again["messages"]) == ([], [])
            assert (again["offset"], again["seq"]) == (sent["offset"], sent["seq"])
        await bob.publish("room", "on")
        for client in (alice, bob):
            await client.wait_messages("room", 6)
            assert client.messages("room")[-1]["content"] == "on"
        history = (await bob.call("history", room="room"))["messages"]
        assert seqs(history) == [1, 2, 3, 4, 5, sent["seq"], sent["seq"] + 1]
        assert (await bob.resume("room"))["members_online"] == 2
        await wait_resync(listener, "quiet")
        assert (await listener.resume("quiet"))["reason"] == "epoch"
        await alice.publish("quiet", "first")
        await listener.wait_messages("quiet", 1)
    assert await system.whole_history("room") == history
    await system.check_rooms()


async def test_lost_numbers_are_not_given_again(start: Start) -> None:
    """What was lost is known to who was sent it and to who answered it, on whichever node.

    The publisher's process holds no subscription, or it is the api, or nobody is subscribed at
    all: `bob` is in the first two rooms, on the other node.
    """
    rooms = ["socket", "rest", "answered"]
    system = await start(archiver=False)
    for room in rooms:
        await system.create_room(room, "alice", "bob")
    lost: dict[str, dict[str, Any]] = {}
    sent: dict[str, dict[str, Any]] = {}
    async with system.connect("alice", 0) as alice, system.connect("bob", 1) as bob:
        for room in rooms[:2]:
            await bob.subscribe(room)
        for number in range(5):
            for room in rooms:
                lost[room] = await alice.publish(room, f"lost {number}")
        for room in rooms[:2]:
            await bob.wait_messages(room, 5)
        system.redis.flush()

        async def publish_again(room: str) -> None:
            if room == "rest":
                sent[room] = await system.post(room, "after", "alice")
            else:
                client = alice if room == "socket" else bob
                sent[room] = await client.publish(room, "after")

        async with trio.open_nursery() as nursery:
            for room in rooms:
                nursery.start_soon(publish_again, room)
        for room in rooms:
            assert sent[room]["seq"] > lost[room]["seq"], room
            assert sent[room]["offset"] > lost[room]["offset"], room
        await bob.wait(lambda: len(bob.unsubscribed) == 2, deadline=RESYNC_DEADLINE)
        for room in rooms[:2]:
            again = await bob.resume(room)
            assert (again["recovered"], again["reason"]) == (False, "epoch")
        system.archiver = await system.processes.start_archiver()
        await system.check_rooms()
        for room in rooms:
            history = (await bob.call("history", room=room))["messages"]
            assert [message["id"] for message in history] == [sent[room]["message_id"]]


async def test_what_only_a_stopped_node_knows_is_not_given_again(start: Start) -> None:
    """It is stopped for longer than it is waited for; nobody else has seen what it answered."""
    system = await start(archiver=False)
    await system.create_room("room", "alice", "bob")
    async with system.connect("alice", 0) as alice, system.connect("bob", 1) as bob:
        lost = [await alice.publish("room", f"lost {number}") for number in range(5)]
        system.brokers[0].pause()
        try:
            system.redis.flush()
            sent = [await bob.publish("room", f"after {number}") for number in range(5)]
        finally:
            system.brokers[0].resume()
        system.archiver = await system.processes.start_archiver()
        assert not {one["seq"] for one in lost} & {one["seq"] for one in sent}
        await bob.subscribe("room")
        more = await bob.publish("room", "the stopped one is back")
        assert more["seq"] == sent[-1]["seq"] + 1
    await system.check_rooms()
    assert "given again" not in system.brokers[0].output()


async def test_a_repeat_of_an_archived_message_is_known(start: Start) -> None:
    system = await start()
    await system.create_room("room", "alice")
    async with system.connect("alice", 0) as alice:
        first = await alice.publish("room", "once", client_id="c1")
        await system.wait_archived()
        system.redis.flush()
        again = await alice.publish("room", "once", client_id="c1")
        assert again == first | {"duplicate": True}
    async with system.connect("alice", 1) as alice:
        assert await alice.publish("room", "once", client_id="c1") == again
    await system.check_rooms()
    assert [row["id"] for row in system.stored("room")] == [first["message_id"]]


class Record:
    """Every number that anybody was told, with the message it was told for."""

    def __init__(self) -> None:
        self.ids: dict[str, dict[int, set[str]]] = defaultdict(lambda: defaultdict(set))
        self.answered: dict[str, list[str]] = defaultdict(list)

    def note(self, room: str, seq: int, message_id: str) -> None:
        self.ids[room][seq].add(message_id)

    def repeated(self) -> list[tuple[str, int]]:
        return [
            (room, seq) for room, found in self.ids.items() for seq, ids in found.items()
            if len(ids) > 1
        ]  # fmt: skip


class Chatter:
    """Publishes without a pause and stays subscribed, whatever it is told."""

    def __init__(self, client: ChatClient, room: str, record: Record) -> None:
        self.client = client
        self.room = room
        self.record = record
        self.is_stopping = False
        self.sent = 0

    async def publish_on(self) -> None:
        while not self.is_stopping:
            try:
                answer = await self.client.publish(self.room, f"text {self.sent}")
            except ChatError as error:
                assert error.code == "unavailable", error
                continue
            self.sent += 1
            self.record.note(self.room, answer["seq"], answer["message_id"])
            self.record.answered[self.room].append(answer["message_id"])

    async def stay_subscribed(self) -> None:
        view = self.client.rooms[self.room]
        while not self.is_stopping:
            await wait_until(lambda: self.is_stopping or not view.is_subscribed, deadline=60)
            if view.is_subscribed:
                return
            assert self.client.unsubscribed[-1]["code"] == "resync"
            try:
                await self.client.resume(self.room)
            except ChatError as error:
                assert error.code == "unavailable", error


@pytest.mark.slow
async def test_no_number_repeats_under_load(start: Start) -> None:
    system = await start(NODE_LEASE="6s")
    rooms = ["one", "two", "three", "four"]
    for room in rooms:
        await system.create_room(room, "alice", "bob")
    record = Record()
    async with AsyncExitStack() as stack:
        chatters = []
        for place, room in enumerate([*rooms, *rooms]):
            user = "alice" if place < len(rooms) else "bob"
            client = await stack.enter_async_context(system.connect(user, place % 2))
            await client.subscribe(room)
            chatters.append(Chatter(client, room, record))
        async with trio.open_nursery() as nursery:
            for chatter in chatters:
                nursery.start_soon(chatter.publish_on)
                nursery.start_soon(chatter.stay_subscribed)
            for flushes in range(1, 4):
                await wait_rounds(chatters, 30)
                system.redis.flush()
                await wait_until(
                    partial(all_told, chatters, flushes),
                    deadline=RESYNC_DEADLINE,
                    what="everybody told",
                )
            await wait_rounds(chatters, 30)
            tail = {room: len(record.answered[room]) for room in rooms}
            await wait_rounds(chatters, 10)
            for chatter in chatters:
                chatter.is_stopping = True
        for chatter in chatters:
            for message in chatter.client.messages(chatter.room):
                record.note(chatter.room, message["seq"], message["id"])
    await system.check_rooms()
    await check_history(system, record, tail)


def all_told(chatters: list[Chatter], times: int) -> bool:
    return all(len(chatter.client.unsubscribed) >= times for chatter in chatters)


async def wait_rounds(chatters: list[Chatter], count: int) -> None:
    goals = [chatter.sent + count for chatter in chatters]
    await wait_until(
        lambda: all(c.sent >= goal for c, goal in zip(chatters, goals, strict=True)),
        deadline=30,
        what=f"{count} more publishes of everybody",
    )


async def check_history(system: Deployment, record: Record, tail: dict[str, int]) -> None:
    """Whole: everything answered after the last loss, and nothing under a number twice."""
    for room, begin in tail.items():
        history = await system.whole_history(room)
        for message in history:
            record.note(room, message["seq"], message["id"])
        found = {message["id"] for message in history}
        assert set(record.answered[room][begin:]) <= found
        assert [row["id"] for row in system.stored(room)] == [m["id"] for m in history]
    assert record.repeated() == []
