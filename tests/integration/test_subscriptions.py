"""Subscribe in all its forms: the reply, resuming, history, repeating it, ending it."""

from collections.abc import Callable
from typing import Any

import pytest
import trio

from config import limits
from tests.integration.conftest import Start, strict_token
from tests.support.client import ChatClient, ChatError, Position
from tests.support.deployment import Deployment, room_path, seqs
from tests.support.lean_client import open_lean_client
from tests.support.processes import ServerProcess
from tests.support.tokens import make_token
from tests.support.waiting import wait_until

Name = Callable[[str], str]

REPLY_FIELDS = [
    "room", "epoch", "offset", "seq", "role", "members_online", "unread", "read_seq",
    "recovered", "reason", "events", "messages",
]  # fmt: skip


@pytest.fixture
async def room(shared: Deployment, name: Name) -> str:
    """A room of alice and bob (with the suffix of this test) with five messages of bob's."""
    room = name("room")
    await shared.create_room(room, name("alice"), name("bob"))
    async with shared.connect(name("bob"), 1) as bob:
        for number in range(1, 6):
            await bob.publish(room, f"text {number}")
    return room


def position(result: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {"epoch": result["epoch"], "offset": result["offset"]} | changes


async def test_the_reply(shared: Deployment, name: Name, room: str) -> None:
    async with shared.connect(name("alice")) as alice:
        result = await alice.subscribe(room)
        assert list(result) == REPLY_FIELDS
        assert result == {
            "room": room, "epoch": result["epoch"], "offset": 5, "seq": 5, "role": "member",
            "members_online": 1, "unread": 5, "read_seq": 0, "recovered": False, "reason": None,
            "events": [], "messages": [],
        }  # fmt: skip
        await alice.publish(room, "mine")
        again = await alice.subscribe(room)
        # Publishing has moved one's own mark.
        assert (again["unread"], again["read_seq"], again["offset"]) == (0, 6, 6)
        async with shared.connect(name("bob"), 1) as bob:
            theirs = await bob.subscribe(room)
            assert (theirs["unread"], theirs["read_seq"]) == (1, 5)
            assert theirs["members_online"] == 2
        await shared.wait_archived()
        assert (await alice.subscribe(room))["unread"] == 0


async def test_since(shared: Deployment, name: Name, room: str) -> None:
    async with shared.connect(name("alice")) as alice:
        now = await alice.subscribe(room)
        events: dict[int, Any] = {}
        for offset in range(6):
            result = await alice.subscribe(room, since=position(now, offset=offset))
            assert (result["recovered"], result["reason"]) == (True, None)
            assert [event["offset"] for event in result["events"]] == list(range(offset + 1, 6))
            assert result["messages"] == []
            for event in result["events"]:
                assert list(event) == ["event", "offset", "time", "data"]
                assert events.setdefault(event["offset"], event) == event
        history = await alice.call("history", room=room)
        assert [events[offset]["data"] for offset in sorted(events)] == history["messages"]
        for since, reason in (
            (position(now, offset=6), "ahead"),
            (position(now, offset=2**53), "ahead"),
            (position(now, epoch="another"), "epoch"),
            (position(now, epoch="another", offset=0), "epoch"),
        ):
            result = await alice.subscribe(room, since=since)
            assert (result["recovered"], result["reason"]) == (False, reason)
            assert (result["events"], result["messages"]) == ([], [])
            assert position(result) == position(now)


async def test_history(shared: Deployment, name: Name, room: str) -> None:
    async with shared.connect(name("alice")) as alice:
        now = await alice.subscribe(room)
        page = (await alice.call("history", room=room))["messages"]
        for since, count, wanted in (
            (None, 0, []),
            (None, 1, [5]),
            (None, 3, [3, 4, 5]),
            (None, 100, [1, 2, 3, 4, 5]),
            (position(now, epoch="x"), 2, [4, 5]),
            (position(now, offset=9), 2, [4, 5]),
            (position(now, offset=3), 2, []),
            (position(now), 100, []),
        ):
            given = {} if since is None else {"since": since}
            result = await alice.subscribe(room, history=count, **given)
            assert seqs(result["messages"]) == wanted
            assert result["messages"] == [m for m in page if m["seq"] in wanted]


async def test_pages(shared: Deployment, name: Name, room: str) -> None:
    async with shared.connect(name("alice"), 1) as alice:
        for fields, wanted, has_more in (
            ({}, [1, 2, 3, 4, 5], False),
            ({"limit": 2}, [4, 5], True),
            ({"limit": 5}, [1, 2, 3, 4, 5], False),
            ({"before": 3}, [1, 2], False),
            ({"before": 4, "limit": 2}, [2, 3], True),
            ({"before": 1}, [], False),
            ({"before": 0}, [], False),
            ({"before": 99, "limit": 1}, [5], True),
            ({"after": 3}, [4, 5], False),
            ({"after": 0, "limit": 2}, [1, 2], True),
            ({"after": 5}, [], False),
            ({"after": 99}, [], False),
        ):
            result = await alice.call("history", room=room, **fields)
            assert list(result) == ["messages", "has_more"]
            assert (seqs(result["messages"]), result["has_more"]) == (wanted, has_more), fields


async def test_subscribing_again_doubles_nothing(shared: Deployment, name: Name, room: str) -> None:
    """While messages come in: each answer is fresh, every event comes once."""
    async with shared.connect(name("alice")) as alice, shared.connect(name("bob"), 1) as bob:
        await alice.subscribe(room)
        last = 0

        async def publish() -> None:
            nonlocal last
            for number in range(60):
                last = (await bob.publish(room, f"more {number}"))["offset"]

        async with trio.open_nursery() as nursery:
            nursery.start_soon(publish)
            for _ in range(30):
                result = await alice.subscribe(room)
                assert result["offset"] >= 5
        view = alice.rooms[room]
        await alice.wait(lambda: view.position is not None and view.position.offset == last)
        offsets = [event.offset for event in view.events if event.offset is not None]
        assert len(offsets) == len(set(offsets))
        await alice.call("unsubscribe", room=room)
        await bob.publish(room, "unheard")
        await alice.call("ping")
        assert view.position == Position(result["epoch"], last)


async def test_unsubscribe(shared: Deployment, name: Name, room: str) -> None:
    async with shared.connect(name("alice")) as alice, shared.connect(name("bob"), 1) as bob:
        # What one is not subscribed to can be left all the same.
        assert await alice.call("unsubscribe", room=room) == {}
        assert await alice.call("unsubscribe", room="nowhere") == {}
        before = await alice.subscribe(room)
        await bob.publish(room, "heard")
        await alice.wait_messages(room, 1)
        assert await alice.call("unsubscribe", room=room) == {}
        await bob.publish(room, "unheard")
        # A room in one order: had it been sent to alice, it would be there before this answer.
        result = await alice.subscribe(room, since=position(before, offset=6))
        assert [event["data"]["content"] for event in result["events"]] == ["unheard"]
        await bob.publish(room, "heard again")
        await alice.wait_messages(room, 3)


async def test_frames_of_a_room_take_effect_in_the_order_sent(
    shared: Deployment, name: Name, room: str
) -> None:
    async with shared.connect(name("alice"), check=False) as alice:
        number = 100
        for turn in range(20):
            for type_, fields in (
                ("publish", {"content": f"{turn} unheard"}),
                ("subscribe", {}),
                ("publish", {"content": f"{turn} heard"}),
                ("unsubscribe", {}),
            ):
                number += 1
                await alice.send({"type": type_, "id": number, "room": room, **fields})
        await alice.wait(lambda: any(frame.get("id") == number for frame in alice.frames))
        replies = [frame["id"] for frame in alice.frames if frame["type"] == "reply"]
        assert replies == list(range(101, number + 1))
        heard = [message["content"] for message in alice.messages(room)]
        assert set(heard) <= {f"{turn} heard" for turn in range(20)}
        history = (await alice.call("history", room=room))["messages"]
        assert [m["content"] for m in history[5:]] == [
            f"{turn} {what}" for turn in range(20) for what in ("unheard", "heard")
        ]


async def test_only_so_many(shared: Deployment, strict_broker: ServerProcess, name: Name) -> None:
    """Three on the strict broker; repeating one is none more, and what failed counts nothing."""
    alice = name("alice")
    rooms = [name(f"room{number}") for number in range(5)]
    for room in rooms:
        await shared.create_room(room, alice)
    async with ChatClient.connect(strict_broker.url, strict_token(alice)) as client:
        for _ in range(4):
            with pytest.raises(ChatError) as refused:
                await client.subscribe("nowhere")
            assert refused.value.code == "room_not_found"
        for room in [*rooms[:3], *rooms[:3]]:
            await client.subscribe(room)
        for room in rooms[3:]:
            with pytest.raises(ChatError) as refused:
                await client.subscribe(room)
            assert (refused.value.code, refused.value.field) == ("limit_reached", "room")
        await client.call("unsubscribe", room=rooms[0])
        await client.subscribe(rooms[3])
        with pytest.raises(ChatError) as refused:
            await client.subscribe(rooms[0])
        assert refused.value.code == "limit_reached"
        assert (await shared.remove_member(rooms[1], alice)).status == 204
        await client.wait(lambda: client.unsubscribed)
        await client.subscribe(rooms[4])
        # What is subscribed is delivered, what is not is not.
        for room in (rooms[2], rooms[3], rooms[4], rooms[0]):
            await client.publish(room, "text")
        for room in (rooms[2], rooms[3], rooms[4]):
            await client.wait_messages(room, 1)
        assert client.messages(rooms[0]) == []


async def test_presence_counts_connections_on_all_nodes(
    shared: Deployment, name: Name, room: str
) -> None:
    async with shared.connect(name("bob"), 1) as bob:
        assert (await bob.subscribe(room))["members_online"] == 1
        async with shared.connect(name("alice"), 0) as one, shared.connect(name("alice"), 1) as two:
            for client in (one, two):
                assert (await client.subscribe(room))["members_online"] == 2
            await one.call("unsubscribe", room=room)
            assert (await bob.subscribe(room))["members_online"] == 2
        await bob.wait_event(room, "presence.left")
        # One's own coming is told, too.
        assert [
            (event.event, event.data["user"], event.data["online"])
            for event in bob.rooms[room].events
            if event.event.startswith("presence.")
        ] == [
            ("presence.joined", name("bob"), 1),
            ("presence.joined", name("alice"), 2),
            ("presence.left", name("alice"), 1),
        ]


async def test_a_long_resume_is_told_to_reload(shared: Deployment, name: Name) -> None:
    """Too many events, or too many bytes: `too_large`, never a frame that no client takes."""
    many, large, alice = name("many"), name("large"), name("alice")
    above = limits.RESUME_EVENTS_MAX + 1
    await shared.create_room(many, alice)
    await shared.create_room(large, alice)
    async with open_lean_client(shared.brokers[0].url, make_token(alice)) as sender:
        await sender.call_all("publish", [{"room": many, "content": "x"}] * above)
        await sender.call_all("publish", [{"room": large, "content": "x" * 30_000}] * 30)
    async with shared.connect(alice, 1) as client:
        for room, offset, reason in (
            (many, 0, "too_large"),
            (many, 1, None),
            (large, 0, "too_large"),
            (large, 20, None),
        ):
            now = await client.subscribe(room)
            result = await client.subscribe(room, since=position(now, offset=offset), history=100)
            assert (result["recovered"], result["reason"]) == (reason is None, reason)
            assert len(result["events"]) == (0 if reason else now["offset"] - offset)
            assert bool(result["messages"]) == (reason is not None)
        page = await client.call("history", room=large, limit=100)
        assert page["has_more"] is True
        assert len(page["messages"]) < 30


async def test_pages_of_large_messages_end_early(shared: Deployment, name: Name) -> None:
    room, alice = name("room"), name("alice")
    await shared.create_room(room, alice)
    async with open_lean_client(shared.brokers[0].url, make_token(alice)) as sender:
        await sender.call_all(
            "publish", [{"room": room, "content": f"{n}" + "ü" * 16_000} for n in range(60)]
        )
    async with shared.connect(alice, 1) as client:
        newest = await client.subscribe(room, history=100)
        assert 10 < len(newest["messages"]) < 30
        assert seqs(newest["messages"])[-1] == 60
        found: list[dict[str, Any]] = []
        has_more = True
        while has_more:
            bound = {"before": found[0]["seq"]} if found else {}
            page = await client.call("history", room=room, limit=100, **bound)
            found[:0] = page["messages"]
            has_more = page["has_more"]
        assert seqs(found) == list(range(1, 61))
        after = await client.call("history", room=room, limit=100, after=0)
        assert after["has_more"] is True
        assert seqs(after["messages"]) == list(range(1, len(after["messages"]) + 1))


async def test_a_log_that_was_trimmed(start: Start) -> None:
    system = await start(brokers=1, ROOM_LOG_LENGTH="10")
    await system.create_room("room", "alice")
    async with open_lean_client(system.brokers[0].url, make_token("alice")) as sender:
        await sender.call_all("publish", [{"room": "room", "content": "x"}] * 350)
    await system.wait_archived()
    async with system.connect("alice") as client:
        await client.publish("room", "one more")
        now = await client.subscribe("room")
        assert now["offset"] == 351
        trimmed = await client.subscribe("room", since=position(now, offset=1), history=3)
        assert (trimmed["recovered"], trimmed["reason"]) == (False, "trimmed")
        assert seqs(trimmed["messages"]) == [349, 350, 351]
        kept = await client.subscribe("room", since=position(now, offset=341), history=3)
        assert (kept["recovered"], len(kept["events"]), kept["messages"]) == (True, 10, [])
    await system.check_rooms()


async def test_member_events_are_numbered_with_the_messages(
    shared: Deployment, name: Name, room: str
) -> None:
    """A new member begins where the room is; others see it come."""
    carol = name("carol")
    async with shared.connect(name("alice")) as alice, shared.connect(carol, 1) as new:
        before = await alice.subscribe(room)
        body = {"user": carol, "role": "reader"}
        await shared.ok("POST", f"{room_path(room)}/members", body)
        added = await alice.wait_event(room, "member.added")
        assert added.offset == before["offset"] + 1
        assert added.data == {
            "user": carol, "role": "reader", "joined_at": added.data["joined_at"],
            "muted_until": None, "display_name": None, "avatar_url": None, "by": None,
        }  # fmt: skip
        mine = await new.subscribe(room, history=10)
        assert (mine["role"], mine["read_seq"], mine["unread"]) == ("reader", 5, 0)
        assert seqs(mine["messages"]) == [1, 2, 3, 4, 5]
        with pytest.raises(ChatError) as refused:
            await new.publish(room, "no")
        assert refused.value.code == "forbidden"


async def test_who_vanishes_is_gone_after_the_grace(
    shared: Deployment, name: Name, room: str
) -> None:
    async with shared.connect(name("bob"), 1) as bob:
        await bob.subscribe(room)
        async with shared.connect(name("alice"), 0) as alice:
            await alice.subscribe(room)
            await bob.wait_event(room, "presence.joined")
            await alice.vanish()
            await alice.wait_ended()
        await bob.wait_event(room, "presence.left")

        async def is_alone() -> bool:
            return bool((await bob.subscribe(room))["members_online"] == 1)

        await wait_until(is_alone)
