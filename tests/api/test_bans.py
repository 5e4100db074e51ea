"""Bans and blocks over REST: whom they keep out, and of what."""

from __future__ import annotations

import json

import pytest
import trio

from tests.support.servers import fetch

MEMBERS = [{"user": "adam", "role": "admin"}, "mary", {"user": "ruth", "role": "reader"}]
REFUSED = (403, "forbidden")
GONE = (404, "room_not_found")


@pytest.fixture
async def room(api):
    await api.ok("POST", "/v1/rooms", {"id": "r", "created_by": "olga", "members": MEMBERS})
    return "r"


@pytest.fixture
async def hall(api):
    await api.ok("POST", "/v1/rooms", {"id": "hall", "kind": "public", "created_by": "olga"})
    return "hall"


async def events(api, room: str):
    return [(entry.event, json.loads(entry.data)) for entry in await api.log(room)]


@pytest.mark.parametrize(
    ("actor", "target", "expected"),
    [
        (None, "mary", 204),
        ("olga", "adam", 204),
        ("adam", "mary", 204),
        ("adam", "adam", (409, "conflict")),
        ("adam", "olga", (403, "forbidden")),
        (None, "olga", (409, "conflict")),
        ("mary", "ruth", (403, "forbidden")),
        ("ruth", "mary", (403, "forbidden")),
        ("outsider", "mary", (404, "room_not_found")),
        (None, "a/b", (404, "not_found")),
        ("adam", "nobody", (404, "not_found")),
        (None, "stranger", 204),
    ],
)
async def test_who_may_ban_whom(api, room, actor, target, expected):
    who = api if actor is None else api.as_user(actor)
    path = f"/v1/rooms/r/bans/{target}"
    if expected != 204:
        assert await who.refused("PUT", path) == expected
        assert await events(api, "r") == []
        return
    for _ in range(2):
        await who.ok("PUT", path, status=204)
    assert await events(api, "r") == [
        ("member.removed", {"user": target, "by": actor, "reason": "banned"})
    ]
    page = await who.ok("GET", "/v1/rooms/r/bans")
    assert [(item["user"], item["by"]) for item in page["items"]] == [(target, actor)]
    assert page["total"] == 1
    for _ in range(2):
        await who.ok("DELETE", path, status=204)
    assert (await who.ok("GET", "/v1/rooms/r/bans"))["items"] == []
    assert len(await events(api, "r")) == 1


async def test_a_ban_keeps_out_of_a_group_whatever_the_token_says(api, room):
    for user in ("mary", "guest"):
        await api.as_user(user, rooms={"r": ["publish", "moderate"]}).post("r", "before")
        await api.ok("PUT", f"/v1/rooms/r/bans/{user}")
        banned = api.as_user(user, rooms={"r": ["join", "publish", "moderate"]})
        for method, path, body in (
            ("GET", "", None),
            ("GET", "/messages", None),
            ("POST", "/messages", {"content": "x"}),
            ("POST", "/join", {}),
            ("PATCH", "/members/ruth", {"muted_until": "2100-01-01T00:00:00Z"}),
            ("GET", "/bans", None),
        ):
            assert await banned.refused(method, f"/v1/rooms/r{path}", body) == GONE, path
        refused = await api.as_user("adam").refused("POST", "/v1/rooms/r/members", {"user": user})
        assert refused == (409, "conflict")
        assert await api.refused("POST", "/v1/rooms/r/members", {"user": user}) == (409, "conflict")
        assert await api.refused("POST", "/v1/rooms/r/join", {"user_id": user}) == REFUSED
        answer = await api.send("GET", f"/v1/rooms/r?user_id={user}")
        assert (answer.status, answer.json()["code"]) == REFUSED
        await api.ok("DELETE", f"/v1/rooms/r/bans/{user}")
        await api.ok("POST", "/v1/rooms/r/members", {"user": user})
        await api.as_user(user).post("r", "back")


async def test_a_ban_keeps_out_of_a_public_room(api, hall):
    bob = api.as_user("bob")
    await bob.ok("POST", "/v1/rooms/hall/join")
    await bob.post("hall", "before")
    await api.ok("PUT", "/v1/rooms/hall/bans/bob")
    moderator = api.as_user("bob", rooms={"hall": ["moderate"]})
    for method, path, body in (
        ("GET", "", None),
        ("GET", "/messages", None),
        ("GET", "/members", None),
        ("POST", "/messages", {"content": "x"}),
        ("POST", "/join", {}),
        ("PATCH", "/members/olga", {"muted_until": None}),
    ):
        assert await moderator.refused(method, f"/v1/rooms/hall{path}", body) == REFUSED, path
    await api.ok("DELETE", "/v1/rooms/hall/bans/bob")
    assert [item["content"] for item in (await bob.history("hall"))["items"]] == ["before"]
    assert await bob.refused("POST", "/v1/rooms/hall/messages", {"content": "x"}) == (
        403,
        "not_a_member",
    )


async def test_nobody_is_banned_from_a_direct_room(api):
    await api.ok("POST", "/v1/rooms", {"id": "d", "kind": "direct", "members": ["ann", "ben"]})
    for who in (api, api.as_user("ann")):
        assert await who.refused("PUT", "/v1/rooms/d/bans/ben") == (409, "conflict")


async def test_banning_while_joining_leaves_nobody_inside(api, hall):
    for turn in range(20):
        user = f"user{turn}"
        await api.ok("POST", "/v1/users", {"id": user})

        async def join(user=user) -> None:
            await api.as_user(user).send("POST", "/v1/rooms/hall/join", {})

        async def ban(user=user) -> None:
            await api.ok("PUT", f"/v1/rooms/hall/bans/{user}")

        async with trio.open_nursery() as nursery:
            for work in (join, ban) if turn % 2 else (ban, join):
                nursery.start_soon(work)
    url = api.services.settings.database_url
    assert [row["user_id"] for row in fetch(url, "SELECT user_id FROM members")] == ["olga"]


async def test_a_block_stops_direct_messages_and_nothing_else(api):
    await api.ok("POST", "/v1/rooms", {"id": "d", "kind": "direct", "members": ["ann", "ben"]})
    await api.ok("POST", "/v1/rooms", {"id": "g", "members": ["ann", "ben"]})
    ann, ben = api.as_user("ann"), api.as_user("ben")
    await ben.post("d", "before")
    for _ in range(2):
        await ann.ok("PUT", "/v1/me/blocks/ben", status=204)
    assert await ben.refused("POST", "/v1/rooms/d/messages", {"content": "x"}) == REFUSED
    await ben.post("g", "still")
    await ann.post("d", "to you")
    assert [m["content"] for m in (await ben.history("d"))["items"]] == ["before", "to you"]
    # Nobody is told, and the version has risen for every node.
    assert [event for event, _ in await events(api, "d")] == ["message.created", "message.created"]
    url = api.services.settings.database_url
    (row,) = fetch(url, "SELECT version FROM rooms WHERE id = 'd'")
    tail = await api.services.store.rooms.unarchived("default/d")
    assert tail.version == row["version"] > 0
    page = await ann.ok("GET", "/v1/me/blocks")
    assert [item["user"] for item in page["items"]] == ["ben"]
    assert (await ben.ok("GET", "/v1/me/blocks"))["items"] == []
    for _ in range(2):
        await ann.ok("DELETE", "/v1/me/blocks/ben", status=204)
    await ben.post("d", "after")


async def test_a_block_before_the_direct_room_holds_in_it(api):
    for user in ("ann", "ben"):
        await api.ok("POST", "/v1/users", {"id": user})
    await api.as_user("ann").ok("PUT", "/v1/me/blocks/ben", status=204)
    ben = api.as_user("ben")
    room = await ben.ok("POST", "/v1/rooms", {"kind": "direct", "members": ["ann"]}, status=201)
    path = f"/v1/rooms/{room['id']}/messages"
    assert await ben.refused("POST", path, {"content": "x"}) == REFUSED


async def test_what_can_not_be_blocked(api):
    ann = api.as_user("ann")
    assert await ann.refused("PUT", "/v1/me/blocks/ann") == (409, "conflict")
    assert await ann.refused("PUT", "/v1/me/blocks/nobody") == (404, "not_found")
    assert await ann.refused("PUT", "/v1/me/blocks/a%2Fb") == (404, "not_found")
    assert await api.refused("PUT", "/v1/me/blocks/ann") == (401, "unauthenticated")
