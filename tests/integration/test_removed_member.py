"""Who was removed neither reads nor writes from the moment of the answer, on either node."""

from collections.abc import Callable
from contextlib import AsyncExitStack
from functools import partial
from typing import Any

import pytest
import trio

from tests.integration.conftest import Start
from tests.support.client import ChatClient, ChatError
from tests.support.deployment import Deployment, room_path
from tests.support.proxy import open_proxy
from tests.support.waiting import wait_until

Name = Callable[[str], str]


async def refusal(client: ChatClient, type_: str, **fields: Any) -> str:
    """The code that a command is refused with."""
    with pytest.raises(ChatError) as refused:
        await client.call(type_, **fields)
    return refused.value.code


async def check_shut_out(client: ChatClient, room: str) -> None:
    """Everything at once, as the first thing after the answer."""
    codes: list[str] = []

    async def ask(type_: str, **fields: Any) -> None:
        codes.append(await refusal(client, type_, room=room, **fields))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(lambda: ask("publish", content="not any more"))
        nursery.start_soon(lambda: ask("history"))
        nursery.start_soon(lambda: ask("subscribe", history=10))
        nursery.start_soon(lambda: ask("publish", content="not any more", client_id="c"))
    assert codes == ["room_not_found"] * 4


def check_last_event(client: ChatClient, room: str, user: str) -> None:
    """The removal is the last event of the room, and then the subscription ends."""
    last = client.rooms[room].events[-1]
    assert last.event == "member.removed"
    assert last.data == {"user": user, "by": None, "reason": "removed"}
    assert [(f["room"], f["code"]) for f in client.unsubscribed] == [(room, "not_a_member")]
    about_room = [
        frame
        for frame in client.frames
        if frame.get("room") == room
        and frame["type"] in ("event", "unsubscribed")
        and not frame.get("event", "").startswith("notification.")
    ]
    assert [frame["type"] for frame in about_room[-2:]] == ["event", "unsubscribed"]
    assert about_room[-2]["event"] == "member.removed"


async def test_neither_reads_nor_writes(shared: Deployment, name: Name) -> None:
    room, alice, bob = name("room"), name("alice"), name("bob")
    await shared.create_room(room, alice, bob)
    async with (
        shared.connect(alice, 0) as other,
        shared.connect(bob, 0) as here,
        shared.connect(bob, 1) as there,
        shared.connect(bob, 1) as unsubscribed,
    ):
        for client in (other, here, there):
            await client.subscribe(room)
        for client in (here, there, unsubscribed):
            await client.publish(room, "still here")
        assert (await shared.remove_member(room, bob)).status == 204
        async with trio.open_nursery() as nursery:
            for client in (here, there, unsubscribed):
                nursery.start_soon(check_shut_out, client, room)
        await other.publish(room, "alone")
        await other.wait_messages(room, 4)
        for client in (here, there):
            await client.wait(lambda c=client: c.unsubscribed)
            await client.call("ping")
            check_last_event(client, room, bob)
            assert not client.ended.is_set()
        for method, path in (
            ("GET", ""), ("GET", "/messages"), ("GET", "/messages/1"), ("GET", "/members")
        ):  # fmt: skip
            answer = await shared.send(method, room_path(room) + path, user=bob)
            assert answer.status == 404
        answer = await shared.send(
            "POST", f"{room_path(room)}/messages", {"content": "x"}, user=bob
        )
        assert (answer.status, answer.json()["code"]) == (404, "room_not_found")
        assert [m["content"] for m in other.messages(room)] == ["still here"] * 3 + ["alone"]


async def test_repeating_it_is_harmless_and_coming_back_shows_everything(
    shared: Deployment, name: Name
) -> None:
    room, alice, bob = name("room"), name("alice"), name("bob")
    await shared.create_room(room, alice, bob)
    async with shared.connect(alice, 0) as other, shared.connect(bob, 1) as client:
        before = await client.subscribe(room)
        for _ in range(2):
            assert (await shared.remove_member(room, bob)).status == 204
        await client.wait(lambda: client.unsubscribed)
        await other.publish(room, "meanwhile")
        await shared.ok("POST", f"{room_path(room)}/members", {"user": bob})
        since = {"epoch": before["epoch"], "offset": before["offset"]}
        back = await client.subscribe(room, since=since)
        assert back["recovered"] is True
        assert [e["event"] for e in back["events"]] == [
            "member.removed", "message.created", "member.added"
        ]  # fmt: skip
        await client.publish(room, "back")
        history = (await client.call("history", room=room))["messages"]
        assert [message["content"] for message in history] == ["meanwhile", "back"]


class Intruder:
    """Publishes (or subscribes and unsubscribes) as fast as it can, until told to stop."""

    def __init__(self, client: ChatClient, room: str) -> None:
        self.client = client
        self.room = room
        self.accepted: list[dict[str, Any]] = []
        self.is_removed = False
        self.is_stopping = False
        self.refused_after = 0

    async def publish_on(self) -> None:
        while not self.is_stopping:
            was_removed = self.is_removed
            try:
                answer = await self.client.publish(self.room, "text")
            except ChatError as error:
                assert error.code == "room_not_found", error
                self.refused_after += was_removed
            else:
                assert not was_removed, "published after the removal was answered"
                self.accepted.append(answer)

    async def subscribe_on(self) -> None:
        while not self.is_stopping:
            was_removed = self.is_removed
            try:
                await self.client.subscribe(self.room)
                assert not was_removed, "subscribed after the removal was answered"
                await self.client.call("unsubscribe", room=self.room)
            except ChatError as error:
                assert error.code == "room_not_found", error
                self.refused_after += was_removed


def all_refused(intruders: list[Intruder]) -> bool:
    return all(intruder.refused_after >= 3 for intruder in intruders)


@pytest.mark.parametrize("way", ["publish_on", "subscribe_on"])
async def test_in_the_middle_of_it_on_both_nodes(shared: Deployment, name: Name, way: str) -> None:
    for turn in range(4):
        room, alice, bob = name(f"room{turn}"), name("alice"), name(f"bob{turn}")
        await shared.create_room(room, alice, bob)
        async with AsyncExitStack() as stack:
            witness = await stack.enter_async_context(shared.connect(alice, turn % 2))
            await witness.subscribe(room)
            intruders = [
                Intruder(await stack.enter_async_context(shared.connect(bob, node)), room)
                for node in (0, 1, 0, 1)
            ]
            async with trio.open_nursery() as nursery:
                for intruder in intruders:
                    nursery.start_soon(getattr(intruder, way))
                for number in range(5):
                    await witness.publish(room, f"note {number}")
                assert (await shared.remove_member(room, bob)).status == 204
                for intruder in intruders:
                    intruder.is_removed = True
                await witness.publish(room, "alone")
                await wait_until(partial(all_refused, intruders))
                for intruder in intruders:
                    intruder.is_stopping = True
            removed = await witness.wait_event(room, "member.removed")
            assert removed.offset is not None
            for intruder in intruders:
                for answer in intruder.accepted:
                    assert answer["offset"] < removed.offset
                for event in intruder.client.rooms[room].events:
                    assert event.offset is None or event.offset <= removed.offset
                assert not intruder.client.rooms[room].is_subscribed
            history = await shared.whole_history(room)
            assert history[-1]["content"] == "alone"


async def test_a_lower_role_holds_at_once_on_both_nodes(shared: Deployment, name: Name) -> None:
    room, bob = name("room"), name("bob")
    await shared.create_room(room, bob)
    async with shared.connect(bob, 0) as here, shared.connect(bob, 1) as there:
        for client in (here, there):
            await client.subscribe(room)
        for _ in range(5):
            for client in (here, there):
                await client.publish(room, "text")
            path = f"{room_path(room)}/members/{bob}"
            await shared.ok("PATCH", path, {"role": "reader"})
            for client in (here, there):
                assert await refusal(client, "publish", room=room, content="no") == "forbidden"
            await shared.ok("PATCH", path, {"role": "member"})
        for client in (here, there):
            assert client.unsubscribed == []
            updated = await client.wait_event(room, "member.updated")
            assert (updated.data["user"], updated.data["role"]) == (bob, "reader")


async def test_a_public_room_is_still_read_by_whom_it_lost(shared: Deployment, name: Name) -> None:
    room, alice, bob = name("room"), name("alice"), name("bob")
    await shared.create_room(room, alice, bob, kind="public")
    async with shared.connect(alice, 0) as other, shared.connect(bob, 1) as client:
        await client.subscribe(room)
        assert (await shared.remove_member(room, bob)).status == 204
        assert await refusal(client, "publish", room=room, content="no") == "not_a_member"
        await other.publish(room, "for all")
        await client.wait_messages(room, 1)
        assert client.unsubscribed == []
        again = await client.subscribe(room)
        assert (again["role"], again["unread"], again["read_seq"]) == (None, None, None)


async def test_leaving_by_oneself(shared: Deployment, name: Name) -> None:
    room, alice, bob = name("room"), name("alice"), name("bob")
    await shared.create_room(room, alice, bob)
    async with shared.connect(alice, 0) as other, shared.connect(bob, 1) as client:
        await client.subscribe(room)
        await other.subscribe(room)
        answer = await shared.send("DELETE", f"{room_path(room)}/members/{bob}", user=bob)
        assert answer.status == 204
        assert await refusal(client, "history", room=room) == "room_not_found"
        removed = await other.wait_event(room, "member.removed")
        assert removed.data == {"user": bob, "by": bob, "reason": "left"}
        await client.wait(lambda: client.unsubscribed)
        assert client.rooms[room].events[-1].event == "member.removed"


async def test_on_the_way_to_redis_when_the_removal_was_answered(start: Start) -> None:
    """The role was read before, the script runs after: the script is what refuses.

    That is so of a publish, whose role is known. A subscribe may still be reading its role.
    """
    system = await start(brokers=0)
    async with open_proxy(system.redis.port) as proxy:
        slow = proxy.replace_port(system.redis.url)
        system.brokers.append(await system.processes.start_broker(REDIS_URL=slow))
        for turn in range(4):
            room = f"room{turn}"
            await system.create_room(room, "alice", "bob")
            async with system.connect("bob") as bob, system.connect("bob") as other:
                await bob.publish(room, "before")
                proxy.pause()
                codes: dict[str, str] = {}
                async with trio.open_nursery() as nursery:
                    for client, type_, fields in (
                        (bob, "publish", {"content": "too late"}),
                        (other, "subscribe", {}),
                    ):
                        nursery.start_soon(keep_refusal, codes, client, type_, room, fields)
                    # The frames are in when a later one has been answered.
                    for client in (bob, other):
                        await client.call("ping")
                    assert (await system.remove_member(room, "bob")).status == 204
                    assert "publish" not in codes
                    proxy.resume()
                assert codes == dict.fromkeys(("publish", "subscribe"), "room_not_found")
            assert [m["content"] for m in await system.whole_history(room)] == ["before"]
    await system.check_rooms()


async def keep_refusal(
    codes: dict[str, str], client: ChatClient, type_: str, room: str, fields: dict[str, Any]
) -> None:
    codes[type_] = await refusal(client, type_, room=room, **fields)
