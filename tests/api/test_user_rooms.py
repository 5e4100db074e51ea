"""`/v1/me/rooms` and `/v1/users/{id}/rooms`: order, newest messages, unread, right at once."""

from __future__ import annotations

from typing import Any

import pytest


@pytest.fixture
async def bob(api):
    for room in ("r1", "r2", "r3"):
        body = {"id": room, "created_by": "alice", "members": ["bob"]}
        await api.ok("POST", "/v1/rooms", body)
    return api.as_user("bob")


async def ids(who, query: str = "") -> list[str]:
    return [item["id"] for item in (await who.ok("GET", f"/v1/me/rooms{query}"))["items"]]


async def item(who, room: str) -> Any:
    found = (await who.ok("GET", "/v1/me/rooms"))["items"]
    return next(one for one in found if one["id"] == room)


async def test_a_room_moves_up_with_its_messages_archived_or_not(api, bob):
    alice = api.as_user("alice")
    assert await ids(bob) == ["r3", "r2", "r1"]
    await alice.post("r1", "one")
    assert await ids(bob) == ["r1", "r3", "r2"]
    await alice.post("r2", "two")
    await alice.post("r1", "three")
    assert await ids(bob) == ["r1", "r2", "r3"]
    before = await bob.ok("GET", "/v1/me/rooms")
    await api.archive("r1")
    half = await bob.ok("GET", "/v1/me/rooms")
    await api.archive("r2")
    assert await api.log("r2") == []
    after = await bob.ok("GET", "/v1/me/rooms")
    assert before == half == after
    await alice.post("r2", "four")
    assert await ids(bob) == ["r2", "r1", "r3"]
    await api.archive("r2")
    assert await ids(bob) == ["r2", "r1", "r3"]
    assert await ids(bob, "?page=2&limit=2") == ["r3"]


async def test_an_item_is_the_room_with_what_it_means_to_the_user(api, bob):
    alice = api.as_user("alice")
    await api.ok("PATCH", "/v1/users/alice", {"display_name": "Alice A."})
    await alice.post("r1", "one")
    sent = await alice.post("r1", "two")
    found = await bob.ok("GET", "/v1/me/rooms?limit=2")
    assert (found["page"], found["limit"], found["total"], found["totalPages"]) == (1, 2, 3, 2)
    assert found["unread_total"] == 2
    first = found["items"][0]
    room = await bob.ok("GET", "/v1/rooms/r1")
    assert room.items() <= first.items()
    assert first["last_message_at"] == sent["created_at"]
    assert first["last_message"] == await bob.ok("GET", "/v1/rooms/r1/messages/2")
    assert (first["role"], first["read_seq"], first["unread"]) == ("member", 0, 2)
    assert first["members"] == [
        {"user": "alice", "role": "owner", "display_name": "Alice A.", "avatar_url": None},
        {"user": "bob", "role": "member", "display_name": None, "avatar_url": None},
    ]
    other = found["items"][1]
    assert (other["last_message"], other["unread"], other["last_message_at"]) == (None, 0, None)
    by_key = await api.ok("GET", "/v1/users/bob/rooms?limit=2")
    assert by_key == found
    own = await item(alice, "r1")
    assert (own["role"], own["read_seq"], own["unread"]) == ("owner", 2, 0)


async def test_the_newest_message_is_as_it_is_now(api, bob):
    alice = api.as_user("alice")
    for archived in (True, False):
        sent = await alice.post("r1", "first")
        path = f"/v1/rooms/r1/messages/{sent['seq']}"
        if archived:
            await api.archive("r1")
        await alice.ok("PATCH", path, {"content": "changed"})
        await bob.ok("PUT", f"{path}/reactions/yes")
        last = (await item(bob, "r1"))["last_message"]
        assert (last["content"], last["edited_at"] is not None) == ("changed", True)
        assert last["reactions"]["yes"] == {"count": 1, "users": ["bob"], "mine": True}
        assert (await item(alice, "r1"))["last_message"]["reactions"]["yes"]["mine"] is False
        await alice.ok("DELETE", path)
        tombstone = (await item(bob, "r1"))["last_message"]
        assert tombstone["seq"] == sent["seq"]
        assert (tombstone["content"], tombstone["reactions"]) == (None, {})
        assert tombstone["deleted_at"] is not None
        assert tombstone == await bob.ok("GET", path)


async def test_many_changes_of_an_older_message_hide_no_newer_one(api, bob):
    alice = api.as_user("alice")
    await alice.post("r1", "one")
    last = await alice.post("r1", "two")
    for number in range(60):
        await alice.ok("PATCH", "/v1/rooms/r1/messages/1", {"content": f"edit {number}"})
    assert (await item(bob, "r1"))["last_message"]["seq"] == last["seq"]


async def test_deleted_rooms_and_ended_memberships_are_gone(api, bob):
    await api.ok("DELETE", "/v1/rooms/r2")
    await api.ok("DELETE", "/v1/rooms/r3/members/bob")
    found = await bob.ok("GET", "/v1/me/rooms")
    assert [one["id"] for one in found["items"]] == ["r1"]
    assert found["total"] == 1
    await api.ok("POST", "/v1/rooms/r3/members", {"user": "bob"})
    assert (await bob.ok("GET", "/v1/me/rooms"))["total"] == 2
    assert sorted(await ids(bob)) == ["r1", "r3"]


async def test_in_a_direct_room_the_other_one_is_shown(api):
    await api.ok("POST", "/v1/rooms", {"id": "d", "kind": "direct", "members": ["zoe", "ann"]})
    for user, other in (("zoe", "ann"), ("ann", "zoe")):
        shown = (await item(api.as_user(user), "d"))["members"]
        assert other in [member["user"] for member in shown]


async def test_five_of_many_members_are_shown_and_all_are_counted(api):
    users = [f"u{number:02}" for number in range(30)]
    await api.ok("POST", "/v1/rooms", {"id": "big", "members": users})
    found = await item(api.as_user("u29"), "big")
    assert [member["user"] for member in found["members"]] == users[:5]
    assert found["member_count"] == 30


async def test_a_user_without_rooms_and_a_user_who_is_not(api):
    await api.ok("POST", "/v1/users", {"id": "lone"})
    empty = await api.ok("GET", "/v1/users/lone/rooms")
    assert (empty["items"], empty["total"], empty["unread_total"]) == ([], 0, 0)
    assert await api.as_user("lone").ok("GET", "/v1/me/rooms?page=9") == empty | {"page": 9}
    assert await api.refused("GET", "/v1/users/nobody/rooms") == (404, "not_found")
    assert await api.refused("GET", "/v1/me/rooms") == (401, "unauthenticated")
    lone = api.as_user("lone")
    assert await lone.refused("GET", "/v1/users/lone/rooms") == (403, "forbidden")
    for query in ("?limit=101", "?page=0", "?limit=x"):
        assert await lone.refused("GET", f"/v1/me/rooms{query}") == (400, "bad_request")


async def test_more_rooms_than_redis_is_asked_about_keep_their_order(api):
    count = 230
    for number in range(count):
        body = {"id": f"m{number:03}", "members": ["eve"]}
        await api.ok("POST", "/v1/rooms", body)
    eve = api.as_user("eve")
    seen: list[str] = []
    for page in range(1, 6):
        seen += await ids(eve, f"?page={page}&limit=60")
    assert seen == [f"m{number:03}" for number in reversed(range(count))]
    await eve.post("m000", "up")
    await api.archive("m000")
    assert (await ids(eve))[0] == "m000"
    assert await ids(eve, "?page=23&limit=10") == [f"m{number:03}" for number in range(10, 0, -1)]
