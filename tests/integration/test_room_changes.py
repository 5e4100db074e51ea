"""Changed and deleted rooms, bans and blocks as connections on two nodes see them."""

from collections.abc import Callable
from typing import Any

import pytest
import trio

from tests.support.client import ChatClient, ChatError
from tests.support.deployment import Deployment, room_path

Name = Callable[[str], str]


async def refusal(client: ChatClient, type_: str, **fields: object) -> str:
    """The code that a command is refused with."""
    with pytest.raises(ChatError) as refused:
        await client.call(type_, **fields)
    return refused.value.code


async def test_a_change_reaches_every_node_and_a_resume(shared: Deployment, name: Name) -> None:
    room, alice, bob = name("room"), name("alice"), name("bob")
    await shared.create_room(room, bob, created_by=alice)
    async with shared.connect(alice, 0) as here, shared.connect(bob, 1) as there:
        before = await here.subscribe(room)
        await there.subscribe(room)
        await shared.ok("PATCH", room_path(room), {"name": "New", "frozen": True}, user=alice)
        for client in (here, there):
            event = await client.wait_event(room, "room.updated")
            assert event.offset == 1
            assert event.data == {
                "name": "New",
                "frozen": True,
                "updated_at": event.data["updated_at"],
                "by": alice,
            }
        # What was cached about the room holds no longer, from the answer on.
        assert await refusal(there, "publish", room=room, content="x") == "forbidden"
        await here.publish(room, "announcement")
        since = {"epoch": before["epoch"], "offset": 0}
        resumed = await there.subscribe(room, since=since)
        assert [e["event"] for e in resumed["events"]] == ["room.updated", "message.created"]


async def test_a_deleted_room_ends_its_subscriptions_on_both_nodes(
    shared: Deployment, name: Name
) -> None:
    room, alice, bob = name("room"), name("alice"), name("bob")
    await shared.create_room(room, bob, created_by=alice)
    async with shared.connect(alice, 0) as here, shared.connect(bob, 1) as there:
        for client in (here, there):
            await client.subscribe(room)
        await shared.ok("DELETE", room_path(room), user=alice)
        for client in (here, there):
            for type_, fields in (
                ("publish", {"content": "x"}),
                ("history", {}),
                ("subscribe", {"history": 5}),
            ):
                assert await refusal(client, type_, room=room, **fields) == "room_not_found"
            await client.wait(lambda c=client: c.unsubscribed)
            assert [frame["code"] for frame in client.unsubscribed] == ["room_not_found"]
            last = client.rooms[room].events[-1]
            assert (last.event, last.data["by"]) == ("room.deleted", alice)
            assert not client.ended.is_set()


async def test_a_ban_ends_every_subscription_also_of_visitors(
    shared: Deployment, name: Name
) -> None:
    room, alice, member, visitor = name("hall"), name("alice"), name("member"), name("visitor")
    await shared.create_room(room, member, created_by=alice, kind="public")
    async with (
        shared.connect(alice, 0) as witness,
        shared.connect(member, 1) as inside,
        shared.connect(visitor, 1) as outside,
    ):
        for client in (witness, inside, outside):
            await client.subscribe(room)
        for user, client in ((member, inside), (visitor, outside)):
            await shared.ok("PUT", f"{room_path(room)}/bans/{user}", user=alice)
            for type_, fields in (
                ("publish", {"content": "x"}),
                ("history", {}),
                ("subscribe", {}),
            ):
                assert await refusal(client, type_, room=room, **fields) == "forbidden"
            await client.wait(lambda c=client: c.unsubscribed)
            assert [frame["code"] for frame in client.unsubscribed] == ["forbidden"]
        await witness.publish(room, "alone")
        await witness.wait_messages(room, 1)
        removed = [e.data for e in witness.rooms[room].events if e.event == "member.removed"]
        assert removed == [
            {"user": user, "by": alice, "reason": "banned"} for user in (member, visitor)
        ]
        for client in (inside, outside):
            await client.call("ping")
            assert client.messages(room) == []
        await shared.ok("DELETE", f"{room_path(room)}/bans/{visitor}", user=alice)
        await outside.subscribe(room)


async def test_a_ban_beats_a_capability_on_a_live_connection(
    shared: Deployment, name: Name
) -> None:
    room, alice, guest = name("room"), name("alice"), name("guest")
    await shared.create_room(room, created_by=alice)
    token = {"rooms": {room: ["publish"]}}
    async with shared.connect_with(guest, token, 1) as client:
        await client.subscribe(room)
        await client.publish(room, "by capability")
        await shared.ok("PUT", f"{room_path(room)}/bans/{guest}", user=alice)
        assert await refusal(client, "publish", room=room, content="x") == "room_not_found"
        await client.wait(lambda: client.unsubscribed)
        assert client.unsubscribed[0]["code"] == "forbidden"


async def test_a_block_holds_on_every_node_from_the_answer_on(
    shared: Deployment, name: Name
) -> None:
    room, ann, ben = name("room"), name("ann"), name("ben")
    await shared.create_room(room, ann, ben, kind="direct")
    async with shared.connect(ben, 0) as here, shared.connect(ben, 1) as there:
        for client in (here, there):
            await client.subscribe(room)
            await client.publish(room, "cached")
        for _ in range(3):
            await shared.ok("PUT", f"/v1/me/blocks/{ben}", user=ann)
            for client in (here, there):
                assert await refusal(client, "publish", room=room, content="x") == "forbidden"
            await shared.ok("DELETE", f"/v1/me/blocks/{ben}", user=ann)
            for client in (here, there):
                await client.publish(room, "again")
        assert here.unsubscribed == there.unsubscribed == []
        history = await shared.whole_history(room)
        assert [message["content"] for message in history] == ["cached"] * 2 + ["again"] * 6


async def test_publishing_while_the_room_is_deleted_is_stored_or_refused(
    shared: Deployment, name: Name
) -> None:
    for turn in range(5):
        room, alice, bob = name(f"room{turn}"), name("alice"), name("bob")
        await shared.create_room(room, bob, created_by=alice)
        accepted: list[dict[str, Any]] = []
        async with shared.connect(alice, 0) as one, shared.connect(bob, 1) as two:

            async def publish(client: ChatClient, room: str = room, kept=accepted) -> None:
                while True:
                    try:
                        kept.append(await client.publish(room, "x"))
                    except ChatError as error:
                        assert error.code == "room_not_found", error
                        return

            async with trio.open_nursery() as nursery:
                for client in (one, two):
                    nursery.start_soon(publish, client)
                await shared.ok("DELETE", room_path(room))
        await shared.wait_archived()
        assert [row["id"] for row in shared.stored(room)] == [
            answer["message_id"] for answer in sorted(accepted, key=lambda a: a["seq"])
        ]
