"""Typing, signals and presence as clients see them, over two nodes."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.support.client import ChatClient, ChatError
from tests.support.deployment import Deployment, room_path
from tests.support.tokens import make_token
from tests.support.waiting import wait_until

Name = Callable[[str], str]


def told(client: ChatClient, room: str, prefix: str) -> list[tuple[str, dict[str, Any]]]:
    """(event, data) of what the client got in the room."""
    return [
        (event.event, event.data)
        for event in client.rooms[room].events
        if event.event.startswith(prefix)
    ]


async def refusal(client: ChatClient, type_: str, **fields: Any) -> tuple[str, str | None]:
    with pytest.raises(ChatError) as refused:
        await client.call(type_, **fields)
    return refused.value.code, refused.value.field


@pytest.fixture
def room(name: Name) -> str:
    return name("room")


# --- presence -------------------------------------------------------------------------------------


async def test_who_is_there(shared: Deployment, name: Name, room: str) -> None:
    """Ruling 48: everybody subscribed counts, on every node; own events are sent too."""
    alice, bob = name("alice"), name("bob")
    await shared.create_room(room, alice, bob)
    async with (
        shared.connect(alice, 0) as a0,
        shared.connect(alice, 1) as a1,
        shared.connect(bob, 1) as b1,
    ):
        for client in (a0, a1, b1):
            await client.subscribe(room)
        here = await b1.call("presence", room=room)
        assert set(here) == {"users", "count"}
        assert here["count"] == 2
        assert [(u["user"], u["connections"]) for u in here["users"]] == [(alice, 2), (bob, 1)]
        joined = {data["user"]: data for _event, data in told(a0, room, "presence.joined")}
        assert set(joined) == {alice, bob}
        for user in here["users"]:
            assert set(joined[user["user"]]) == {"user", "since", "online"}
            assert joined[user["user"]]["since"] == user["since"]
        assert (await a0.call("presence", room=room, limit=1))["count"] == 2
        assert len((await a0.call("presence", room=room, limit=1))["users"]) == 1
        path = f"{room_path(room)}/presence"
        assert await shared.ok("GET", path) == here
        assert await shared.ok("GET", path, user=bob) == here
        assert len((await shared.ok("GET", f"{path}?limit=1"))["users"]) == 1


async def test_what_may_not_be_asked(shared: Deployment, name: Name, room: str) -> None:
    alice, mallory, public = name("alice"), name("mallory"), name("public")
    await shared.create_room(room, alice)
    await shared.create_room(public, alice, kind="public")
    async with shared.connect(mallory) as client:
        assert await refusal(client, "presence", room=room) == ("room_not_found", None)
        assert await client.call("presence", room=public) == {"users": [], "count": 0}
        for limit in (0, 1001, "1"):
            assert await refusal(client, "presence", room=public, limit=limit) == (
                "bad_request", "limit",
            )  # fmt: skip
    for limit in ("0", "1001", "x"):
        answer = await shared.send("GET", f"{room_path(public)}/presence?limit={limit}")
        assert (answer.status, answer.json()["field"]) == (400, "limit")
    answer = await shared.send("GET", f"{room_path(room)}/presence", user=mallory)
    assert (answer.status, answer.json()["code"]) == (404, "room_not_found")


async def test_a_users_presence(shared: Deployment, name: Name, room: str) -> None:
    """Ruling 17: a token sees whom it shares a room with, in shared rooms; a key sees all."""
    alice, bob, mallory = name("alice"), name("bob"), name("mallory")
    private, public = name("private"), name("public")
    await shared.create_room(room, alice, bob)
    await shared.create_room(private, alice)
    await shared.create_room(public, mallory, kind="public")
    path = f"/v1/users/{alice}/presence"
    assert await shared.ok("GET", path) == {"online": False, "last_seen_at": None, "rooms": []}
    async with shared.connect(alice, 0) as client:
        for each in (room, private, public):
            await client.subscribe(each)
        seen = await shared.ok("GET", path)
        assert (seen["online"], seen["rooms"]) == (True, sorted([room, private, public]))
        theirs = await shared.ok("GET", path, user=bob)
        assert (theirs["online"], theirs["rooms"]) == (True, [room])
        own = await shared.ok("GET", path, user=alice)
        assert (own["online"], own["rooms"]) == (True, sorted([room, private]))
        as_bob = await shared.ok("GET", f"{path}?user_id={bob}")
        assert as_bob["rooms"] == [room]
        for viewer, user in ((mallory, alice), (bob, mallory), (bob, name("nobody"))):
            answer = await shared.send("GET", f"/v1/users/{user}/presence", user=viewer)
            assert (answer.status, answer.json()["code"]) == (404, "not_found")
    answer = await shared.send("GET", "/v1/users/no%20id/presence")
    assert (answer.status, answer.json()["code"]) == (404, "not_found")

    async def is_gone() -> bool:
        found = await shared.ok("GET", path)
        return found["online"] is False and found["rooms"] == []

    await wait_until(is_gone, what="nobody is there after the grace")


async def test_last_seen_at_is_in_the_users_document(shared: Deployment, name: Name) -> None:
    alice = name("alice")

    async def last_seen() -> Any:
        return (await shared.ok("GET", f"/v1/users/{alice}"))["last_seen_at"]

    async with shared.connect(alice):
        came = await wait_until(last_seen, what="seen coming")
        assert await last_seen() == came

    async def is_later() -> bool:
        return bool(await last_seen() > came)

    await wait_until(is_later, what="seen going")
    assert (await shared.ok("GET", f"/v1/users/{alice}/presence"))["last_seen_at"] > came


async def test_a_reconnect_within_the_grace_is_not_told(
    shared: Deployment, name: Name, room: str
) -> None:
    """Promise 5: to another node, without a word before."""
    alice, bob = name("alice"), name("bob")
    await shared.create_room(room, alice, bob)
    async with shared.connect(bob, 1) as watcher:
        await watcher.subscribe(room)
        async with shared.connect(alice, 0, check=False) as first:
            await first.subscribe(room)
            await watcher.wait(lambda: len(told(watcher, room, "presence.")) == 2)
            await first.vanish()
        async with shared.connect(alice, 1) as second:
            await second.subscribe(room)
            own = told(second, room, "presence.")

            async def is_counted() -> bool:
                users = (await watcher.call("presence", room=room))["users"]
                return [u["connections"] for u in users if u["user"] == alice] == [1]

            await wait_until(is_counted)
            await watcher.call("ping")
            assert len(told(watcher, room, "presence.")) == 2
            assert own == []


async def test_who_is_made_to_leave_is_gone_at_once(
    shared: Deployment, name: Name, room: str
) -> None:
    """No grace: it is not awaited back, and the event says when."""
    alice, bob = name("alice"), name("bob")
    await shared.create_room(room, alice, bob)
    async with shared.connect(alice, 0) as watcher, shared.connect(bob, 1) as client:
        await watcher.subscribe(room)
        await client.subscribe(room)
        await shared.remove_member(room, bob)
        await client.wait(lambda: client.unsubscribed)
        left = await watcher.wait_event(room, "presence.left", deadline=2.0)
        assert set(left.data) == {"user", "last_seen_at", "online"}
        assert (left.data["user"], left.data["online"]) == (bob, 1)
        assert left.data["last_seen_at"] == left.time
        users = (await watcher.call("presence", room=room))["users"]
        assert [user["user"] for user in users] == [alice]


# --- typing ---------------------------------------------------------------------------------------


async def test_typing_reaches_everybody_but_the_connection_it_came_from(
    shared: Deployment, name: Name, room: str
) -> None:
    alice, bob = name("alice"), name("bob")
    await shared.create_room(room, alice, bob)
    async with (
        shared.connect(alice, 0) as one,
        shared.connect(alice, 0) as same_node,
        shared.connect(alice, 1) as other_node,
        shared.connect(bob, 1) as peer,
    ):
        clients = (one, same_node, other_node, peer)
        for client in clients:
            await client.subscribe(room)
        assert await one.call("typing", room=room, active=True) == {}
        assert await one.call("typing", room=room, active=True) == {}
        await peer.wait_event(room, "typing.started")
        assert await one.call("typing", room=room, active=False) == {}
        assert await one.call("typing", room=room, active=False) == {}
        for client in clients[1:]:
            await client.wait_event(room, "typing.stopped")
        await one.call("ping")
        for client in clients[1:]:
            assert told(client, room, "typing.") == [
                ("typing.started", {"user": alice, "expires_in": 6}),
                ("typing.stopped", {"user": alice}),
            ]
        assert told(one, room, "typing.") == []
        assert all(
            event.offset is None for event in peer.rooms[room].events
            if event.event.startswith("typing.")
        )  # fmt: skip


@pytest.mark.parametrize("way", ["publish", "disconnect", "unsubscribe", "vanish", "removal"])
async def test_what_ends_typing(shared: Deployment, name: Name, room: str, way: str) -> None:
    alice, bob = name("alice"), name("bob")
    await shared.create_room(room, alice, bob)
    async with shared.connect(bob, 1) as peer:
        await peer.subscribe(room)
        async with shared.connect(alice, 0, check=False) as client:
            await client.subscribe(room)
            await client.call("typing", room=room, active=True)
            await peer.wait_event(room, "typing.started")
            match way:
                case "publish":
                    await client.publish(room, "text")
                case "unsubscribe":
                    await client.call("unsubscribe", room=room)
                case "vanish":
                    await client.vanish()
                case "removal":
                    await shared.remove_member(room, alice)
            if way != "disconnect":
                await peer.wait_event(room, "typing.stopped", deadline=4.0)
        await peer.wait_event(room, "typing.stopped", deadline=4.0)
        assert [event for event, _data in told(peer, room, "typing.")] == [
            "typing.started", "typing.stopped",
        ]  # fmt: skip


async def test_typing_needs_no_subscription_and_a_role(
    shared: Deployment, name: Name, room: str
) -> None:
    alice, bob, mallory = name("alice"), name("bob"), name("mallory")
    public = name("public")
    await shared.create_room(room, alice, bob)
    await shared.create_room(public, bob, kind="public")
    reader = name("reader")
    await shared.ok("POST", f"{room_path(room)}/members", {"user": reader, "role": "reader"})
    async with shared.connect(bob, 1) as peer:
        await peer.subscribe(room)
        async with shared.connect(alice) as client:
            await client.call("typing", room=room, active=True)
            await peer.wait_event(room, "typing.started")
        for user, where, code in (
            (mallory, room, "room_not_found"), (mallory, public, "not_a_member"),
            (reader, room, "forbidden"),
        ):  # fmt: skip
            async with shared.connect(user) as client:
                for active in (True, False):
                    fields = {"room": where, "active": active}
                    assert await refusal(client, "typing", **fields) == (code, None)
                assert await refusal(client, "signal", room=where, name="x") == (code, None)
        muted = {"muted_until": "2100-01-01T00:00:00Z"}
        await shared.ok("PATCH", f"{room_path(room)}/members/{alice}", muted)
        async with shared.connect(alice) as client:
            assert await refusal(client, "typing", room=room, active=True) == ("forbidden", None)
            assert await refusal(client, "signal", room=room, name="x") == ("forbidden", None)
        await shared.ok("PATCH", room_path(room), {"frozen": True})
        async with shared.connect(bob) as client:
            assert await refusal(client, "typing", room=room, active=True) == ("forbidden", None)
            assert await refusal(client, "typing", room=room, active="yes") == (
                "bad_request", "active",
            )  # fmt: skip
            assert await refusal(client, "typing", room=room) == ("bad_request", "active")
        started = told(peer, room, "typing.started")
        assert [data["user"] for _event, data in started] == [alice]


async def test_typing_in_several_places_does_not_flap(
    shared: Deployment, name: Name, room: str
) -> None:
    """One connection's end leaves the others typing; the last one ends it."""
    alice, bob = name("alice"), name("bob")
    await shared.create_room(room, alice, bob)
    async with (
        shared.connect(alice, 0) as phone,
        shared.connect(alice, 0) as tablet,
        shared.connect(alice, 1) as desk,
        shared.connect(bob, 1) as peer,
    ):
        await peer.subscribe(room)
        for client in (phone, tablet, desk):
            await client.call("typing", room=room, active=True)
        for client in (desk, phone):
            await client.call("typing", room=room, active=False)
        # What had been told would be there before this.
        await tablet.call("signal", room=room, name="mark")
        await peer.wait_event(room, "signal")
        assert [event for event, _data in told(peer, room, "typing.")] == ["typing.started"]
        await tablet.call("typing", room=room, active=False)
        await peer.wait_event(room, "typing.stopped")


# --- signals --------------------------------------------------------------------------------------


async def test_a_signal(shared: Deployment, name: Name, room: str) -> None:
    alice, bob = name("alice"), name("bob")
    await shared.create_room(room, alice, bob)
    async with (
        shared.connect(alice, 0) as one,
        shared.connect(alice, 1) as two,
        shared.connect(bob, 1) as peer,
    ):
        for client in (one, two, peer):
            await client.subscribe(room)
        data: dict[str, Any] = {"x": [1, None, "é"], "y": {"z": 0.5}}
        assert await one.call("signal", room=room, name="cursor.moved", data=data) == {}
        assert await one.call("signal", room=room, name="wave") == {}
        assert await one.call("signal", room=room, name="big", data="x" * 4094) == {}
        for client in (two, peer):
            await client.wait(lambda c=client: len(told(c, room, "signal")) == 3)
            assert told(client, room, "signal")[:2] == [
                ("signal", {"user": alice, "name": "cursor.moved", "data": data}),
                ("signal", {"user": alice, "name": "wave", "data": None}),
            ]
        assert told(one, room, "signal") == []
        for fields, code, field in (
            ({"name": "big", "data": "x" * 4095}, "too_large", "data"),
            ({"name": ""}, "bad_request", "name"),
            ({"name": "n" * 65}, "bad_request", "name"),
            ({"name": "a b"}, "bad_request", "name"),
            ({"name": "x", "data": "\ud800"}, "bad_request", "data"),
            ({}, "bad_request", "name"),
        ):  # fmt: skip
            assert await refusal(one, "signal", room=room, **fields) == (code, field), fields
        assert (await shared.ok("GET", f"{room_path(room)}/messages"))["items"] == []


async def test_a_token_may_give_the_role(shared: Deployment, name: Name, room: str) -> None:
    """The capability `publish` types and signals like a member."""
    alice, guest = name("alice"), name("guest")
    await shared.create_room(room, alice)
    async with shared.connect(alice, 1) as peer:
        await peer.subscribe(room)
        token = make_token(guest, rooms={room: ["publish"]})
        async with ChatClient.connect(shared.brokers[0].url, token) as client:
            await client.call("typing", room=room, active=True)
            await client.call("signal", room=room, name="x")
            await peer.wait_event(room, "signal")
            assert [event for event, _data in told(peer, room, "typing.")] == ["typing.started"]
