"""Read and delivered marks of real clients on two nodes: what is answered, told, kept."""

from collections.abc import Callable

import pytest
import trio

from tests.support.client import ChatClient, ChatError
from tests.support.deployment import Deployment, room_path
from tests.support.seen import Event
from tests.support.waiting import wait_until

Name = Callable[[str], str]


def told(client: ChatClient, room: str, kind: str = "read") -> list[Event]:
    events = client.rooms[room].events
    return [event for event in events if event.event == f"receipt.{kind}"]


async def fill(shared: Deployment, room: str, user: str, count: int) -> None:
    for number in range(count):
        await shared.post(room, f"message {number}", user)


async def test_a_mark_is_answered_and_told_on_the_other_node(shared: Deployment, name: Name):
    room, alice, bob = name("room"), name("alice"), name("bob")
    await shared.create_room(room, alice, bob)
    await fill(shared, room, alice, 3)
    async with shared.connect(alice, 0) as one, shared.connect(bob, 1) as two:
        await one.subscribe(room)
        reply = await two.subscribe(room)
        assert (reply["read_seq"], reply["unread"]) == (0, 3)
        assert await two.call("delivered", room=room, seq=3) == {"seq": 3, "unread": 3}
        assert await two.call("read", room=room, seq=2) == {"seq": 2, "unread": 1}
        assert await two.call("read", room=room, seq=1) == {"seq": 2, "unread": 1}
        assert await two.call("delivered", room=room, seq=1) == {"seq": 3, "unread": 1}
        for client in (one, two):
            await client.wait(lambda c=client: told(c, room) and told(c, room, "delivered"))
            (read,), (delivered,) = told(client, room), told(client, room, "delivered")
            assert (read.data["user"], read.data["seq"], read.offset) == (bob, 2, None)
            assert read.data["at"] == read.time
            assert (delivered.data["user"], delivered.data["seq"]) == (bob, 3)
            assert set(delivered.data) == {"user", "seq", "at"}


async def test_publishing_moves_the_own_mark_without_a_receipt(shared: Deployment, name: Name):
    """Ruling 27: as Stream does, and no `receipt.read`; in PostgreSQL too."""
    room, alice, bob = name("room"), name("alice"), name("bob")
    await shared.create_room(room, alice, bob)
    await fill(shared, room, alice, 2)
    async with shared.connect(alice, 0) as one, shared.connect(bob, 1) as two:
        await one.subscribe(room)
        await two.publish(room, "an answer")
        assert await two.call("read", room=room, seq=1) == {"seq": 3, "unread": 0}
        assert (await two.subscribe(room))["read_seq"] == 3
        await shared.wait_archived()
        assert (await two.subscribe(room))["read_seq"] == 3
        # A receipt would have been told before this one.
        await two.publish(room, "more")
        await one.publish(room, "and more")
        await two.call("read", room=room, seq=5)
        await one.wait(lambda: told(one, room))
        assert [event.data["seq"] for event in told(one, room)] == [5]
    items = (await shared.ok("GET", f"{room_path(room)}/receipts"))["items"]
    assert {item["user"]: item["read_seq"] for item in items} == {alice: 5, bob: 5}


async def test_two_devices_marking_backwards_never_take_a_mark_back(shared: Deployment, name: Name):
    """Ruling 28, two hundred marks from two nodes at once: what is answered only rises."""
    room, alice, bob = name("room"), name("alice"), name("bob")
    await shared.create_room(room, alice, bob)
    await fill(shared, room, alice, 10)
    async with (
        shared.connect(alice, 0) as watcher,
        shared.connect(bob, 0) as one,
        shared.connect(bob, 1) as two,
    ):
        await watcher.subscribe(room)
        answers: dict[int, list[int]] = {0: [], 1: []}

        async def mark(place: int, device: ChatClient) -> None:
            for step in range(100):
                seq = (10 - step) % 11 if place else (step * 7) % 11
                answer = await device.call("read", room=room, seq=seq)
                assert answer["seq"] >= seq
                assert answer["unread"] == 10 - answer["seq"]
                answers[place].append(answer["seq"])

        async with trio.open_nursery() as nursery:
            for place, device in enumerate((one, two)):
                nursery.start_soon(mark, place, device)
        for seqs in answers.values():
            assert seqs == sorted(seqs)
            assert seqs[-1] == 10
        await watcher.wait(
            lambda: told(watcher, room)[-1:] and told(watcher, room)[-1].data["seq"] == 10
        )
        seqs = [event.data["seq"] for event in told(watcher, room)]
        assert seqs == sorted(set(seqs))
        # At once and then the newest a second later: few, however many marks there were.
        assert len(seqs) <= 4
        assert (await one.subscribe(room))["read_seq"] == 10
        await shared.wait_archived()
        assert (await two.subscribe(room))["read_seq"] == 10


async def test_a_reader_marks_and_an_outsider_does_not(shared: Deployment, name: Name):
    """Rulings 28 and 40: readers may; `not_a_member` in a public room."""
    room, public, reader, guest = name("room"), name("public"), name("reader"), name("guest")
    owner = name("owner")
    members = {"members": [{"user": reader, "role": "reader"}], "created_by": owner}
    await shared.ok("POST", "/v1/rooms", {"id": room, **members})
    await shared.ok("POST", "/v1/rooms", {"id": public, "kind": "public", "created_by": owner})
    await shared.post(room, "x", owner)
    async with shared.connect(reader, 0) as one, shared.connect(guest, 1) as two:
        assert await one.call("read", room=room, seq=1) == {"seq": 1, "unread": 0}
        for type_ in ("read", "delivered"):
            with pytest.raises(ChatError) as refused:
                await two.call(type_, room=public, seq=0)
            assert refused.value.code == "not_a_member"
            with pytest.raises(ChatError) as refused:
                await two.call(type_, room=room, seq=0)
            assert refused.value.code == "room_not_found"
        reply = await two.subscribe(public)
        assert (reply["read_seq"], reply["unread"]) == (None, None)


async def test_who_was_removed_marks_no_more_and_is_archived_quietly(
    shared: Deployment, name: Name
):
    room, alice, bob = name("room"), name("alice"), name("bob")
    await shared.create_room(room, alice, bob)
    await fill(shared, room, alice, 3)
    async with shared.connect(bob, 1) as client:
        await client.call("read", room=room, seq=1)
        await shared.remove_member(room, bob)
        with pytest.raises(ChatError) as refused:
            await client.call("read", room=room, seq=2)
        assert refused.value.code == "room_not_found"
        await shared.wait_archived()
        await shared.ok("POST", f"{room_path(room)}/members", {"user": bob})
        reply = await client.subscribe(room)
        assert (reply["read_seq"], reply["unread"]) == (3, 0)


async def test_marks_after_the_room_has_gone_cold(start, redis_server, name: Name):
    """The room expires from Redis between the marks; older marks are still older."""
    deployment = await start(ROOM_LOG_TTL="1s", ARCHIVE_INTERVAL="10ms")
    await deployment.create_room("room", "alice", "bob")
    await fill(deployment, "room", "alice", 3)
    async with deployment.connect("bob", 0) as one, deployment.connect("bob", 1) as two:
        assert await one.call("read", room="room", seq=2) == {"seq": 2, "unread": 1}
        await wait_until(lambda: not deployment.room_hash("room"), what="the room is cold")
        assert await one.call("read", room="room", seq=1) == {"seq": 2, "unread": 1}
        assert await two.call("delivered", room="room", seq=1) == {"seq": 2, "unread": 1}
        await wait_until(lambda: not deployment.room_hash("room"), what="the room is cold")
        reply = await two.subscribe("room")
        assert (reply["read_seq"], reply["unread"]) == (2, 1)
