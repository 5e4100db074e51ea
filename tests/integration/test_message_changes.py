"""Edits, deletions and reactions over two nodes and REST: who may, what all see, what is stored."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.support.client import ChatClient, ChatError
from tests.support.deployment import Deployment, room_path
from tests.support.tokens import make_token

Name = Callable[[str], str]


async def refusal(client: ChatClient, type_: str, **fields: Any) -> tuple[str, str | None]:
    with pytest.raises(ChatError) as caught:
        await client.call(type_, **fields)
    return caught.value.code, caught.value.frame["field"]


async def look(shared: Deployment, room: str, seq: int, user: str | None = None) -> Any:
    return await shared.ok("GET", f"{room_path(room)}/messages/{seq}", user=user)


async def test_everybody_sees_an_edit_with_what_has_changed(shared: Deployment, name: Name) -> None:
    room, alice, bob = name("room"), name("alice"), name("bob")
    await shared.create_room(room, alice, bob)
    async with shared.connect(alice, 0) as writer, shared.connect(bob, 1) as reader:
        await reader.subscribe(room)
        sent = await writer.publish(room, "helo", metadata={"a": 1})
        answer = await writer.call("edit", room=room, seq=1, content="hello", metadata={"a": 1})
        assert answer == {"offset": sent["offset"] + 1}
        event = await reader.wait_event(room, "message.edited")
        assert event.offset == answer["offset"]
        edited_at = event.data.pop("edited_at")
        assert edited_at == event.time
        assert event.data == {
            "id": sent["message_id"],
            "seq": 1,
            "sender": alice,
            "by": alice,
            "content": "hello",
        }
        message = await look(shared, room, 1)
        assert (message["content"], message["metadata"]) == ("hello", {"a": 1})
        assert message["edited_at"] == edited_at
        nothing = {"offset": None}
        assert await writer.call("edit", room=room, seq=1, content="hello") == nothing
        assert await writer.call("edit", room=room, seq=1, metadata={"a": 1.0}) != nothing
        url = "https://example.com/a"
        await writer.call("edit", room=room, seq=1, content="", attachments=[{"url": url}])
        message = await look(shared, room, 1)
        assert message["content"] is None
        assert [one["url"] for one in message["attachments"]] == [url]
        assert (await refusal(writer, "edit", room=room, seq=1, attachments=[])) == (
            "bad_request",
            "content",
        )
    await shared.wait_archived()
    assert await look(shared, room, 1) == message


async def test_a_deleted_message_keeps_its_seq_and_shows_nothing(
    shared: Deployment, name: Name
) -> None:
    room, alice, bob = name("room"), name("alice"), name("bob")
    await shared.create_room(room, bob, created_by=alice)
    async with shared.connect(alice, 0) as owner, shared.connect(bob, 1) as writer:
        await owner.subscribe(room)
        sent = await writer.publish(room, "secret", mentions=[alice], metadata={"a": 1})
        await owner.call("react", room=room, seq=1, reaction="👍")
        await owner.call("delete", room=room, seq=1)
        event = await owner.wait_event(room, "message.deleted")
        assert event.data == {
            "id": sent["message_id"],
            "seq": 1,
            "sender": bob,
            "by": alice,
            "deleted_at": event.time,
        }
        for client in (owner, writer):
            assert await client.call("delete", room=room, seq=1) == {"offset": None}
        assert (await refusal(writer, "edit", room=room, seq=1, content="x"))[0] == "conflict"
        assert (await refusal(writer, "react", room=room, seq=1, reaction="x"))[0] == "conflict"
        unreact = await owner.call("unreact", room=room, seq=1, reaction="👍")
        assert unreact == {"offset": None}
        for _ in range(2):
            (message,) = (await writer.call("history", room=room))["messages"]
            assert message["deleted_by"] == alice
            assert message["deleted_at"] == event.time
            assert (message["content"], message["metadata"], message["reactions"]) == (None, {}, {})
            assert (message["attachments"], message["mentions"]) == ([], [])
            path = f"{room_path(room)}/messages/1?deleted=true"
            assert (await shared.ok("GET", path))["content"] == "secret"
            assert (await shared.send("GET", path, user=alice)).status == 403
            await shared.wait_archived()


async def test_reactions_are_sets_and_limited(shared: Deployment, name: Name) -> None:
    room, alice, bob = name("room"), name("alice"), name("bob")
    await shared.create_room(room, alice)
    await shared.ok("POST", f"{room_path(room)}/members", {"user": bob, "role": "reader"})
    async with shared.connect(alice, 0) as writer, shared.connect(bob, 1) as reader:
        await writer.subscribe(room)
        sent = await writer.publish(room, "text")
        answer = await reader.call("react", room=room, seq=1, reaction="👍")
        event = await writer.wait_event(room, "reaction.added")
        assert event.offset == answer["offset"] == sent["offset"] + 1
        assert event.data == {
            "message_id": sent["message_id"],
            "seq": 1,
            "user": bob,
            "reaction": "👍",
        }
        assert await reader.call("react", room=room, seq=1, reaction="👍") == {"offset": None}
        assert await writer.call("unreact", room=room, seq=1, reaction="👍") == {"offset": None}
        for number in range(19):
            await writer.call("react", room=room, seq=1, reaction=f"r{number}")
        code = await refusal(writer, "react", room=room, seq=1, reaction="one more")
        assert code == ("limit_reached", None)
        await writer.call("react", room=room, seq=1, reaction="👍")
        await reader.call("unreact", room=room, seq=1, reaction="👍")
        removed = await writer.wait_event(room, "reaction.removed")
        assert removed.data["user"] == bob
        message = await look(shared, room, 1, user=bob)
        assert message["reactions"]["👍"] == {"count": 1, "users": [alice], "mine": False}
        assert len(message["reactions"]) == 20
        await shared.wait_archived()
        assert await look(shared, room, 1, user=bob) == message


async def test_who_may_change_what(shared: Deployment, name: Name) -> None:
    """Rulings 29 and 31: sender or key edits; sender, admin, owner, `moderate`, key delete."""
    room, people = name("room"), ("owner", "admin", "member", "other", "reader", "stranger")
    ids = {who: name(who) for who in people}
    await shared.create_room(room, created_by=ids["owner"])
    for who, role in (("admin", "admin"), ("member", "member"), ("other", "member"),
                      ("reader", "reader")):  # fmt: skip
        body = {"user": ids[who], "role": role}
        await shared.ok("POST", f"{room_path(room)}/members", body)
    edits = {"member": None, "owner": "forbidden", "admin": "forbidden", "other": "forbidden",
             "reader": "forbidden", "stranger": "room_not_found"}  # fmt: skip
    deletes = {"member": None, "owner": None, "admin": None, "other": "forbidden",
               "reader": "forbidden", "stranger": "room_not_found"}  # fmt: skip
    seq = 0
    for number, who in enumerate(people):
        async with (
            shared.connect(ids["member"], number % 2) as member,
            shared.connect(ids[who], 1) as client,
        ):
            seq = (await member.publish(room, "text"))["seq"]
            for type_, expected, fields in (
                ("edit", edits[who], {"content": "new"}),
                ("delete", deletes[who], {}),
            ):
                if expected is None:
                    done = await client.call(type_, room=room, seq=seq, **fields)
                    assert done["offset"] is not None
                else:
                    found = await refusal(client, type_, room=room, seq=seq, **fields)
                    assert found == (expected, None), (who, type_)
    path = f"{room_path(room)}/messages"
    message = await shared.post(room, "text", ids["member"])
    edited = await shared.ok("PATCH", f"{path}/{message['seq']}", {"content": "by key"})
    assert edited["content"] == "by key"
    acting = {"content": "x", "user_id": ids["owner"]}
    refused = await shared.send("PATCH", f"{path}/{message['seq']}", acting)
    assert (refused.status, refused.json()["code"]) == (403, "forbidden")
    assert (await shared.send("DELETE", f"{path}/{message['id']}")).status == 204
    assert (await look(shared, room, message["seq"]))["deleted_by"] is None


async def test_a_moderator_by_token_deletes_and_does_not_edit(
    shared: Deployment, name: Name
) -> None:
    room, alice, zoe = name("room"), name("alice"), name("zoe")
    await shared.create_room(room, alice)
    await shared.post(room, "text", alice)
    token = make_token(zoe, rooms={room: ["moderate"]})
    async with ChatClient.connect(shared.brokers[0].url, token) as client:
        assert (await refusal(client, "edit", room=room, seq=1, content="x"))[0] == "forbidden"
        assert (await refusal(client, "react", room=room, seq=1, reaction="x"))[0] == "forbidden"
        assert (await client.call("delete", room=room, seq=1))["offset"] is not None
    assert (await look(shared, room, 1))["deleted_by"] == zoe


async def test_messages_that_do_not_exist(shared: Deployment, name: Name) -> None:
    room, alice = name("room"), name("alice")
    await shared.create_room(room, alice)
    async with shared.connect(alice) as client:
        await client.publish(room, "text")
        for seq in (0, 2, 2**53):
            for type_, fields in (
                ("edit", {"content": "x"}),
                ("delete", {}),
                ("react", {"reaction": "x"}),
                ("unreact", {"reaction": "x"}),
            ):
                found = await refusal(client, type_, room=room, seq=seq, **fields)
                assert found == ("message_not_found", "seq")
