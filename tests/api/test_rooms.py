"""Rooms over REST: creating, getting the one that is there, visibility, lists."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from broker.domain.api_keys import create_api_key
from tests.support.http import request
from tests.support.servers import fetch, run_sql

ROOM_FIELDS = {
    "id",
    "kind",
    "name",
    "topic",
    "avatar_url",
    "external_id",
    "default_role",
    "frozen",
    "retention_days",
    "metadata",
    "created_by",
    "created_at",
    "updated_at",
    "last_message_at",
    "member_count",
    "seq",
}


async def roles(api, room: str) -> dict[str, str]:
    page = await api.ok("GET", f"/v1/rooms/{room}/members")
    return {item["user"]: item["role"] for item in page["items"]}


async def test_a_room_is_created_with_its_members_and_an_owner(api):
    body = {
        "id": "team:1",
        "name": "Team",
        "topic": "work",
        "avatar_url": "https://example.com/r.png",
        "external_id": "crm/7",
        "metadata": {"a": 1},
        "retention_days": 30,
        "created_by": "alice",
        "members": ["bob", {"user": "carol", "role": "reader"}],
    }
    answer = await api.send("POST", "/v1/rooms", body)
    assert answer.status == 201, answer.body
    assert answer.headers["location"] == "/v1/rooms/team%3A1"
    room = answer.json()
    assert room.keys() == ROOM_FIELDS
    assert {name: room[name] for name in ("kind", "created_by", "member_count", "seq")} == {
        "kind": "group",
        "created_by": "alice",
        "member_count": 3,
        "seq": 0,
    }
    assert await api.ok("GET", answer.headers["location"]) == room
    assert await roles(api, "team:1") == {"alice": "owner", "bob": "member", "carol": "reader"}
    founders = fetch(api.services.settings.database_url, "SELECT read_seq FROM members")
    assert {row["read_seq"] for row in founders} == {0}
    assert not fetch(api.services.settings.database_url, "SELECT 1 FROM announcements")


async def test_a_key_without_a_creator_makes_a_room_without_an_owner(api):
    room = await api.ok("POST", "/v1/rooms", {"members": ["bob"]}, status=201)
    assert room["created_by"] is None
    assert await roles(api, room["id"]) == {"bob": "member"}


async def test_a_user_creates_group_and_direct_rooms_with_itself(api):
    await api.ok("POST", "/v1/users", {"id": "bob"})
    alice = api.as_user("alice")
    room = await alice.ok("POST", "/v1/rooms", {"members": ["bob"]}, status=201)
    assert await roles(alice, room["id"]) == {"alice": "owner", "bob": "member"}
    direct = await alice.ok("POST", "/v1/rooms", {"kind": "direct", "members": ["bob"]}, status=201)
    assert await roles(alice, direct["id"]) == {"alice": "member", "bob": "member"}
    again = await api.as_user("bob").ok(
        "POST", "/v1/rooms", {"kind": "direct", "members": ["alice"], "name": "other"}, status=200
    )
    assert again == direct


BAD_ROOMS: list[tuple[dict[str, Any], int, str, str]] = [
    ({"kind": "public"}, 403, "forbidden", "kind"),
    ({"created_by": "bob"}, 403, "forbidden", "created_by"),
    ({"members": ["nobody"]}, 404, "not_found", "members"),
    ({"kind": "direct", "members": ["alice"]}, 400, "bad_request", "members"),
    ({"kind": "direct", "members": ["bob", "carol"]}, 403, "forbidden", "members"),
    ({"user_id": "bob"}, 403, "forbidden", "user_id"),
    ({"id": "user:alice"}, 400, "bad_request", "id"),
    ({"id": "a/b"}, 400, "bad_request", "id"),
    ({"kind": "secret"}, 400, "bad_request", "kind"),
    ({"name": "x" * 300}, 413, "too_large", "name"),
    ({"members": "bob"}, 400, "bad_request", "members"),
    ({"members": ["a/b"]}, 400, "bad_request", "members"),
    ({"members": [{"user": "bob", "role": "owner"}]}, 400, "bad_request", "members"),
    ({"members": [f"u{n}" for n in range(101)]}, 400, "bad_request", "members"),
    ({"default_role": "owner"}, 400, "bad_request", "default_role"),
    ({"retention_days": 0}, 400, "bad_request", "retention_days"),
]


async def test_what_a_user_may_not_create(api):
    await api.ok("POST", "/v1/users", {"id": "bob"})
    for body, status, code, field in BAD_ROOMS:
        answer = await api.as_user("alice").send("POST", "/v1/rooms", body)
        problem = answer.json()
        assert (answer.status, problem["code"], problem["field"]) == (status, code, field), body
    assert not fetch(api.services.settings.database_url, "SELECT 1 FROM rooms")


async def test_an_id_is_taken_for_good_even_by_a_deleted_room(api):
    await api.ok("POST", "/v1/rooms", {"id": "r"})
    assert await api.refused("POST", "/v1/rooms", {"id": "r"}) == (409, "conflict")
    run_sql(
        api.services.settings.database_url,
        lambda connection: connection.execute("UPDATE rooms SET deleted_at = now()"),
    )
    assert await api.refused("POST", "/v1/rooms", {"id": "r"}) == (409, "conflict")


async def test_an_external_id_gives_the_room_that_has_it(api):
    first = await api.ok("POST", "/v1/rooms", {"external_id": "x", "name": "one"}, status=201)
    body = {"id": "other", "external_id": "x", "name": "two"}
    assert await api.ok("POST", "/v1/rooms", body, status=200) == first
    stranger = api.as_user("mallory")
    assert await stranger.refused("POST", "/v1/rooms", {"external_id": "x"}) == (409, "conflict")
    listed = await api.ok("GET", "/v1/rooms?external_id=x")
    assert listed["items"] == [first]


@pytest.mark.parametrize("by_key", [True, False])
async def test_a_raced_direct_room_is_one_room_with_one_winner(api, by_key):
    for user in ("ann", "ben"):
        await api.ok("POST", "/v1/users", {"id": user})
    statuses: list[int] = []
    ids: set[str] = set()

    async def create(one: str, two: str, number: int) -> None:
        who = api if by_key else api.as_user(one)
        body: dict[str, Any] = {"kind": "direct", "members": [one, two]}
        if number % 3 == 0:
            body["id"] = f"explicit-{number}"
        answer = await who.send("POST", "/v1/rooms", body)
        statuses.append(answer.status)
        ids.add(answer.json().get("id"))

    async with trio.open_nursery() as nursery:
        for number in range(50):
            pair = ("ann", "ben") if number % 2 else ("ben", "ann")
            nursery.start_soon(create, *pair, number)
    assert sorted(statuses) == [200] * 49 + [201]
    assert len(ids) == 1
    url = api.services.settings.database_url
    assert len(fetch(url, "SELECT 1 FROM rooms")) == 1
    assert len(fetch(url, "SELECT 1 FROM members")) == 2
    assert not fetch(url, "SELECT 1 FROM announcements")


async def test_a_room_of_others_is_answered_exactly_like_a_missing_one(api):
    await api.ok("POST", "/v1/rooms", {"id": "secret", "members": ["alice"]})
    mallory = api.as_user("mallory")
    for method, path, body in (
        ("GET", "", None),
        ("GET", "/members", None),
        ("GET", "/messages", None),
        ("GET", "/messages?before=7&limit=3", None),
        ("GET", "/messages/1", None),
        ("POST", "/messages", {"content": "x"}),
        ("POST", "/members", {"user": "mallory"}),
        ("DELETE", "/members/mallory", None),
        ("DELETE", "/members/alice", None),
        ("PATCH", "/members/alice", {"role": "admin"}),
    ):
        real = await mallory.send(method, f"/v1/rooms/secret{path}", body)
        missing = await mallory.send(method, f"/v1/rooms/absent{path}", body)
        assert real.status == missing.status == 404
        assert real.body == missing.body
        assert real.json()["code"] == "room_not_found"
        kept = {name for name in real.headers if name not in ("date",)}
        assert kept == {name for name in missing.headers if name not in ("date",)}


async def test_a_token_lists_for_its_own_user_only(api):
    alice = api.as_user("alice")
    assert await alice.refused("GET", "/v1/rooms?user_id=bob") == (403, "forbidden")
    assert (await alice.ok("GET", "/v1/rooms?user_id=alice"))["total"] == 0


async def test_a_key_acting_for_an_outsider_is_told_so(api):
    await api.ok("POST", "/v1/rooms", {"id": "secret", "members": ["alice"]})
    path = "/v1/rooms/secret?user_id=mallory"
    assert await api.refused("GET", path) == (403, "not_a_member")
    assert await api.ok("GET", "/v1/rooms/secret?user_id=alice")


async def test_capabilities_of_a_token_open_a_room(api):
    await api.ok("POST", "/v1/rooms", {"id": "secret", "members": ["alice"]})
    guest = api.as_user("guest", rooms={"secret": ["join"]})
    await guest.ok("GET", "/v1/rooms/secret")
    assert await guest.refused("POST", "/v1/rooms/secret/messages", {"content": "x"}) == (
        403,
        "forbidden",
    )
    writer = api.as_user("writer", rooms={"secret": ["publish"]})
    await writer.post("secret", "hello")
    assert "writer" not in await roles(api, "secret")


async def test_public_rooms_are_visible_to_all_of_the_project_only(api):
    await api.ok("POST", "/v1/rooms", {"id": "hall", "kind": "public"})
    await api.ok("POST", "/v1/rooms", {"id": "secret"})
    anybody = api.as_user("anybody")
    await anybody.ok("GET", "/v1/rooms/hall")
    listed = await anybody.ok("GET", "/v1/rooms")
    assert [room["id"] for room in listed["items"]] == ["hall"]
    assert await anybody.refused("GET", "/v1/rooms?kind=group") == (403, "forbidden")
    assert await anybody.refused("POST", "/v1/rooms/hall/messages", {"content": "x"}) == (
        403,
        "not_a_member",
    )
    stranger = api.as_user("anybody", project="other")
    assert await stranger.refused("GET", "/v1/rooms/hall") == (404, "room_not_found")
    _, key = await create_api_key(api.services.db, "other")
    answer = await request("GET", f"{api.url}/v1/rooms", key=key)
    assert answer.json()["total"] == 0


async def test_lists_come_in_pages(api):
    ids = [f"room-{number}" for number in range(7)]
    for room in ids:
        await api.ok("POST", "/v1/rooms", {"id": room})
    first = await api.ok("GET", "/v1/rooms?limit=3")
    third = await api.ok("GET", "/v1/rooms?page=3&limit=3")
    beyond = await api.ok("GET", "/v1/rooms?page=4&limit=3")
    assert [room["id"] for room in first["items"]] == ids[:3]
    assert [room["id"] for room in third["items"]] == ids[6:]
    assert beyond["items"] == []
    for page, number in ((first, 1), (third, 3), (beyond, 4)):
        assert {key: page[key] for key in ("page", "limit", "total", "totalPages")} == {
            "page": number,
            "limit": 3,
            "total": 7,
            "totalPages": 3,
        }
    for query in ("limit=101", "limit=0", "page=0", "page=x", "limit=-1", "kind=odd"):
        assert await api.refused("GET", f"/v1/rooms?{query}") == (400, "bad_request")


async def test_counters_of_a_room_are_live(api):
    await api.ok("POST", "/v1/rooms", {"id": "r", "members": ["alice"]})
    for number in range(3):
        message = await api.as_user("alice").post("r", str(number))
        if number == 1:
            await api.archive("r")
    for room in (
        await api.ok("GET", "/v1/rooms/r"),
        (await api.ok("GET", "/v1/rooms"))["items"][0],
    ):
        assert room["seq"] == 3
        assert room["last_message_at"] == message["created_at"]
    await api.archive("r")
    assert await api.ok("GET", "/v1/rooms/r") == room


async def test_rooms_by_token_can_be_turned_off(api):
    from dataclasses import replace

    from broker.domain import rooms
    from broker.domain.access import Actor
    from broker.protocol.errors import ProtocolError

    actor = Actor("default", "alice", "user")
    new = rooms.parse_new_room(rooms.RoomBody(), actor)
    rooms.check_may_create(new, actor, token_creates_rooms=True)
    with pytest.raises(ProtocolError, match="forbidden"):
        rooms.check_may_create(new, actor, token_creates_rooms=False)
    project = replace(actor, user=None, caller="project")
    rooms.check_may_create(new, project, token_creates_rooms=False)
