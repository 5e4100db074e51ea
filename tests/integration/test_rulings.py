"""Rulings that no other test proves by itself; `docs/promises.md` says where the others are."""

from collections.abc import Callable

from tests.support.deployment import Deployment, room_path

Name = Callable[[str], str]


async def test_since_and_history_together(shared: Deployment, name: Name) -> None:
    """Ruling 20: messages come only if the position could not be resumed."""
    room, alice = name("room"), name("alice")
    await shared.create_room(room, alice)
    async with shared.connect(alice) as client:
        first = await client.subscribe(room)
        assert (first["recovered"], first["reason"], first["events"]) == (False, None, [])
        assert first["messages"] == []
        await client.publish(room, "one")
        since = {"epoch": first["epoch"], "offset": 0}
        both = await client.subscribe(room, since=since, history=10)
        assert both["recovered"] is True
        assert [event["event"] for event in both["events"]] == ["message.created"]
        assert both["messages"] == []
        void = await client.subscribe(room, since={"epoch": "other", "offset": 0}, history=10)
        assert (void["recovered"], void["reason"], void["events"]) == (False, "epoch", [])
        assert [message["content"] for message in void["messages"]] == ["one"]


async def test_replies_to_replies_and_to_deleted_messages(shared: Deployment, name: Name) -> None:
    """Ruling 33: any depth; the direct ones are listed and counted; a tombstone may be answered."""
    room, alice = name("room"), name("alice")
    await shared.create_room(room, alice)
    async with shared.connect(alice) as client:
        await client.publish(room, "root")
        await client.publish(room, "reply", reply_to=1)
        await client.publish(room, "reply to the reply", reply_to=2)
        await client.call("delete", room=room, seq=1)
        late = await client.publish(room, "reply to a tombstone", reply_to=1)
        assert late["seq"] == 4
        page = await client.call("history", room=room)
        assert [message["reply_count"] for message in page["messages"]] == [2, 1, 0, 0]
    replies = await shared.ok("GET", f"{room_path(room)}/messages/1/replies")
    assert [message["seq"] for message in replies["items"]] == [2, 4]


async def test_texts_and_ids_are_kept_as_they_are(shared: Deployment, name: Name) -> None:
    """Ruling 34: nothing is normalised, trimmed or folded; ids differ by case."""
    room, alice = name("room"), name("alice")
    texts = [" a ", "\t\r\n", "e\u0301", "\u00e9", "\u212b", "\u2028", "\ufeffx", "👍🏽\u200d"]
    await shared.create_room(room, alice)
    await shared.create_room(room.upper(), alice)
    async with shared.connect(alice) as client:
        for text in texts:
            await client.publish(room, text, metadata={text: text})
        upper = await client.call("history", room=room.upper())
        assert upper["messages"] == []
        for _ in ("live", "archived"):
            page = await client.call("history", room=room)
            assert [message["content"] for message in page["messages"]] == texts
            assert [message["metadata"] for message in page["messages"]] == [
                {text: text} for text in texts
            ]
            await shared.wait_archived()


async def test_a_message_was_created_at_one_time(shared: Deployment, name: Name) -> None:
    """Ruling 37: to the millisecond the same in the reply, the event, a resume and over REST."""
    room, alice = name("room"), name("alice")
    await shared.create_room(room, alice)
    async with shared.connect(alice) as client:
        now = await client.subscribe(room)
        answer = await client.publish(room, "text", client_id="a")
        again = await client.publish(room, "text", client_id="a")
        event = await client.wait_event(room, "message.created")
        resumed = await client.subscribe(room, since={"epoch": now["epoch"], "offset": 0})
        live = (await shared.page(room))["items"][0]
        await shared.wait_archived()
        archived = (await shared.page(room))["items"][0]
    times = {
        answer["created_at"], again["created_at"], event.time, event.data["created_at"],
        resumed["events"][0]["time"], resumed["events"][0]["data"]["created_at"],
        live["created_at"], archived["created_at"],
    }  # fmt: skip
    assert len(times) == 1


async def test_a_frame_with_an_id_has_one_answer_whatever_it_is(
    shared: Deployment, name: Name
) -> None:
    """Ruling 25: also `typing`; without an id only a failure; an id may repeat."""
    room, alice = name("room"), name("alice")
    await shared.create_room(room, alice)
    async with shared.connect(alice) as client:
        for frame_id in (7, 7, "7"):
            await client.send({"type": "typing", "id": frame_id, "room": room, "active": True})
        await client.send({"type": "typing", "room": room, "active": True})
        await client.send({"type": "typing", "room": "nowhere", "active": True})
        await client.wait(lambda: len(client.errors) == 1)
        await client.call("unsubscribe", room=room)
        answers = [frame["id"] for frame in client.frames if frame["type"] == "reply"]
        assert answers[:3] == [7, 7, "7"]
        assert len(answers) == 4
        assert client.errors[0]["code"] == "room_not_found"
