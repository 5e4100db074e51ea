"""`notification.*`: what users hear of their rooms on every connection, unasked, from two nodes."""

from collections.abc import Callable
from typing import Any

from tests.support.client import ChatClient
from tests.support.deployment import Deployment, room_path
from tests.support.waiting import wait_until

Name = Callable[[str], str]


def heard(client: ChatClient, room: str, kind: str) -> list[dict[str, Any]]:
    return [
        frame["data"]
        for frame in client.frames
        if frame.get("event") == f"notification.{kind}" and frame["room"] == room
    ]


async def hear(client: ChatClient, room: str, kind: str, count: int = 1) -> list[dict[str, Any]]:
    await client.wait(lambda: len(heard(client, room, kind)) >= count, what=f"{count} {kind}")
    return heard(client, room, kind)


async def test_a_new_message_reaches_every_connection_but_the_senders(
    shared: Deployment, name: Name
):
    """Ruling 7: unasked, whether subscribed or not; content cut at 200 bytes, at a character."""
    room, alice, bob, carol = name("room"), name("alice"), name("bob"), name("carol")
    await shared.create_room(room, alice, bob)
    async with (
        shared.connect(alice, 0) as sender,
        shared.connect(bob, 0) as one,
        shared.connect(bob, 1) as two,
        shared.connect(carol, 1) as stranger,
    ):
        await sender.call("publish", room=room, content="é" * 150, mentions=[bob])
        for client in (one, two):
            (data,) = await hear(client, room, "message")
            assert data == {
                "seq": 1, "sender": alice, "kind": "text", "content": "é" * 100,
                "mentioned": True, "unread": 1,
            }  # fmt: skip
        await one.call("read", room=room, seq=1)
        for client in (one, two):
            (data,) = await hear(client, room, "read")
            assert data == {"read_seq": 1, "unread": 0}
        await two.call("publish", room=room, content="an answer")
        (data,) = await hear(sender, room, "message")
        assert (data["seq"], data["mentioned"], data["unread"]) == (2, False, 1)
        await stranger.call("ping")
        assert [f for f in stranger.frames if f.get("room") == room] == []


async def test_many_messages_are_told_together(shared: Deployment, name: Name):
    room, alice, bob = name("room"), name("alice"), name("bob")
    await shared.create_room(room, alice, bob)
    async with shared.connect(alice, 0) as sender, shared.connect(bob, 1) as reader:
        for number in range(100):
            mentions = [bob] if number == 98 else []
            await sender.call("publish", room=room, content=f"{number}", mentions=mentions)
        await reader.wait(
            lambda: (
                heard(reader, room, "message")[-1:]
                and heard(reader, room, "message")[-1]["seq"] == 100
            ),
            what="the newest",
        )
        told = heard(reader, room, "message")
        assert told[-1]["unread"] == 100
        assert any(data["mentioned"] for data in told)
        assert len(told) < 50
        seqs = [data["seq"] for data in told]
        assert seqs == sorted(set(seqs))


async def test_becoming_and_ceasing_to_be_a_member(shared: Deployment, name: Name):
    room, alice, bob = name("room"), name("alice"), name("bob")
    async with shared.connect(alice, 0) as one, shared.connect(bob, 1) as two:
        await shared.create_room(room, alice)
        (data,) = await hear(one, room, "added")
        assert (data["room"]["id"], data["room"]["member_count"]) == (room, 1)
        await shared.ok("POST", f"{room_path(room)}/members", {"user": bob})
        (data,) = await hear(two, room, "added")
        assert data["room"] == await shared.ok("GET", room_path(room))
        await shared.remove_member(room, bob)
        (data,) = await hear(two, room, "removed")
        assert data == {"reason": "removed"}
        await shared.post(room, "without bob", alice)
        await shared.ok("DELETE", room_path(room))
        (data,) = await hear(one, room, "removed")
        assert data == {"reason": "deleted"}
        await two.call("ping")
        assert heard(two, room, "message") == []


async def test_in_a_large_room_only_who_is_mentioned_is_told(shared: Deployment, name: Name):
    """NOTIFIED_MEMBERS_MAX: beyond it everybody else subscribes, or looks at the list of rooms."""
    room, alice, bob, carol = name("room"), name("alice"), name("bob"), name("carol")
    crowd = [name(f"crowd{number}") for number in range(210)]
    await shared.create_room(room, alice, bob, carol)
    for first in range(0, len(crowd), 100):
        body = {"users": crowd[first : first + 100]}
        await shared.ok("POST", f"{room_path(room)}/members", body)
    async with shared.connect(bob, 0) as one, shared.connect(carol, 1) as two:
        await shared.post(room, "for bob", alice, mentions=[bob, name("stranger")])
        (data,) = await hear(one, room, "message")
        assert data["mentioned"]
        await shared.post(room, "for carol", alice, mentions=[carol])
        await hear(two, room, "message")
        assert [data["seq"] for data in heard(two, room, "message")] == [2]
        assert [data["seq"] for data in heard(one, room, "message")] == [1]


async def test_what_was_deleted_before_it_is_told_is_not_told(start, name: Name):
    deployment = await start(archiver=False)
    await deployment.create_room("room", "alice", "bob")
    async with deployment.connect("bob", 1) as reader:
        await deployment.post("room", "stays", "alice")
        await deployment.post("room", "a slip", "alice")
        await deployment.ok("DELETE", f"{room_path('room')}/messages/2", user="alice")
        await deployment.processes.start("archiver")
        (data,) = await hear(reader, "room", "message")
        assert (data["seq"], data["content"], data["unread"]) == (1, "stays", 1)
        await wait_until(lambda: deployment.archive_backlog() == 0)
