"""Marks, receipts and recipients over REST, archived or not."""

from __future__ import annotations

from typing import Any

import pytest

from tests.api.conftest import Api


@pytest.fixture
async def room(api: Api) -> str:
    """A room of alice (owner), bob and carol (a reader) with three messages by alice."""
    members = ["bob", {"user": "carol", "role": "reader"}]
    await api.ok("POST", "/v1/rooms", {"id": "r", "created_by": "alice", "members": members})
    for number in range(1, 4):
        await api.as_user("alice").post("r", f"message {number}")
    return "r"


async def receipts(api: Api, room: str) -> dict[str, tuple[int, int]]:
    page = await api.ok("GET", f"/v1/rooms/{room}/receipts")
    assert page["total"] == len(page["items"])
    for item in page["items"]:
        for name in ("read", "delivered"):
            assert (item[f"{name}_at"] is not None) == (item[f"{name}_seq"] > 0), item
    return {i["user"]: (i["read_seq"], i["delivered_seq"]) for i in page["items"]}


async def test_marking_answers_how_far_and_what_is_left(api: Api, room: str):
    """Rulings 27 and 28: nothing goes back, beyond the newest is cut, all without `seq`."""
    path = f"/v1/rooms/{room}/read"
    bob = api.as_user("bob")
    assert await bob.ok("POST", path, {"seq": 1}, 200) == {"seq": 1, "unread": 2}
    assert await bob.ok("POST", path, {"seq": 0}, 200) == {"seq": 1, "unread": 2}
    await api.archive(room)
    assert await bob.ok("POST", path, {"seq": 2}, 200) == {"seq": 2, "unread": 1}
    assert await bob.ok("POST", path, {"seq": 99}, 200) == {"seq": 3, "unread": 0}
    carol = api.as_user("carol")
    assert await carol.ok("POST", path, None, 200) == {"seq": 3, "unread": 0}
    await api.archive(room)
    assert await carol.ok("POST", path, {"seq": 1}, 200) == {"seq": 3, "unread": 0}
    by_key = await api.ok("POST", path, {"user_id": "alice"}, 200)
    assert by_key == {"seq": 3, "unread": 0}


async def test_unread_leaves_out_deleted_own_and_system_messages(api: Api, room: str):
    """Ruling 27, with everything in the log, and again with everything in the archive."""
    bob, path = api.as_user("bob"), "/v1/rooms/r/read"
    await api.ok("POST", "/v1/rooms/r/messages", {"content": "x", "kind": "system"})
    await api.as_user("alice").post("r", "a reply", reply_to=1)
    await api.ok("POST", "/v1/rooms/r/messages", {"content": "by nobody"})
    expected = {"seq": 0, "unread": 5}
    assert await bob.ok("POST", path, {"seq": 0}) == expected
    await api.archive(room)
    assert await bob.ok("POST", path, {"seq": 0}) == expected
    for seq in (2, 4):
        await api.ok("DELETE", f"/v1/rooms/r/messages/{seq}")
    expected = {"seq": 0, "unread": 4}
    assert await bob.ok("POST", path, {"seq": 0}) == expected
    await api.archive(room)
    assert await bob.ok("POST", path, {"seq": 0}) == expected
    assert await bob.ok("POST", path, {"seq": 1}) == {"seq": 1, "unread": 3}
    await bob.post("r", "mine")
    assert await bob.ok("POST", path, {"seq": 0}) == {"seq": 7, "unread": 0}


async def test_a_message_that_is_deleted_before_it_is_archived(api: Api, room: str):
    bob, path = api.as_user("bob"), "/v1/rooms/r/read"
    await api.ok("DELETE", "/v1/rooms/r/messages/3")
    assert await bob.ok("POST", path, {"seq": 0}) == {"seq": 0, "unread": 2}
    await api.archive(room, batch=3, batches=1)
    assert await bob.ok("POST", path, {"seq": 0}) == {"seq": 0, "unread": 2}
    await api.archive(room)
    assert await bob.ok("POST", path, {"seq": 0}) == {"seq": 0, "unread": 2}


async def test_receipts_are_right_before_and_after_they_are_archived(api: Api, room: str):
    await api.as_user("bob").ok("POST", "/v1/rooms/r/read", {"seq": 2})
    expected = {"alice": (3, 3), "bob": (2, 2), "carol": (0, 0)}
    assert await receipts(api, room) == expected
    live = await api.ok("GET", "/v1/rooms/r/receipts")
    await api.archive(room)
    assert await receipts(api, room) == expected
    assert await api.ok("GET", "/v1/rooms/r/receipts") == live
    await api.services.store.client.execute("FLUSHALL")
    await api.services.store.rooms.refence(0)
    assert await api.ok("GET", "/v1/rooms/r/receipts") == live


async def test_receipts_in_parts(api: Api, room: str):
    page = await api.ok("GET", "/v1/rooms/r/receipts?page=2&limit=2")
    assert [item["user"] for item in page["items"]] == ["carol"]
    assert {**page, "items": []} == {
        "items": [], "page": 2, "limit": 2, "total": 3, "totalPages": 2,
    }  # fmt: skip


async def test_recipients_are_all_members_but_the_sender(api: Api, room: str):
    await api.as_user("bob").ok("POST", "/v1/rooms/r/read", {"seq": 2})

    async def recipients(seq: int) -> list[dict[str, Any]]:
        path = f"/v1/rooms/r/messages/{seq}/recipients"
        items: list[dict[str, Any]] = (await api.as_user("carol").ok("GET", path))["items"]
        return items

    for _ in range(2):
        bob, carol = await recipients(2)
        at = bob.pop("read_at")
        assert at is not None
        assert bob == {"user": "bob", "delivered": True, "read": True, "favorite": False}
        assert carol == {
            "user": "carol", "delivered": False, "read": False, "read_at": None,
            "favorite": False,
        }  # fmt: skip
        bob, _carol = await recipients(3)
        assert (bob["delivered"], bob["read"], bob["read_at"]) == (False, False, None)
        await api.archive(room)
    await api.as_user("bob").post("r", "mine")
    assert [item["user"] for item in await recipients(4)] == ["alice", "carol"]
    by_id = (await api.history("r"))["items"][1]["id"]
    page = await api.ok("GET", f"/v1/rooms/r/messages/{by_id}/recipients")
    assert page["total"] == 2
    missing = await api.refused("GET", "/v1/rooms/r/messages/9/recipients")
    assert missing == (404, "message_not_found")


async def test_recipients_say_whose_favourite_a_message_is(api: Api, room: str):
    pk = (await api.services.access.read("default", room, "bob")).room_pk
    await api.services.db.execute(
        "INSERT INTO favorites (room_pk, seq, user_id, project) VALUES ($1, 2, 'bob', 'default')",
        pk,
    )
    for seq, expected in ((2, [True, False]), (1, [False, False])):
        items = (await api.ok("GET", f"/v1/rooms/r/messages/{seq}/recipients"))["items"]
        assert [item["favorite"] for item in items] == expected


async def test_who_is_no_member_has_no_marks_and_sees_none(api: Api, room: str):
    """Ruling 40: reading marks need membership; ruling 9: a private room is not there."""
    await api.ok("POST", "/v1/rooms", {"id": "open", "kind": "public", "members": ["alice"]})
    dave = api.as_user("dave")
    joiner = api.as_user("erin", rooms={"r": ["join"]})
    for method, path in (("POST", "read"), ("GET", "receipts")):
        assert await dave.refused(method, f"/v1/rooms/open/{path}") == (403, "not_a_member")
        assert await dave.refused(method, f"/v1/rooms/r/{path}") == (404, "room_not_found")
        assert await joiner.refused(method, f"/v1/rooms/r/{path}") == (403, "not_a_member")
        assert await dave.refused(method, f"/v1/rooms/none/{path}") == (404, "room_not_found")
    assert await api.refused("POST", "/v1/rooms/r/read") == (400, "bad_request")
    key_user = await api.refused("POST", "/v1/rooms/r/read", {"user_id": "dave"})
    assert key_user == (403, "not_a_member")
    path = "/v1/rooms/r/messages/1/recipients"
    assert await dave.refused("GET", path) == (404, "room_not_found")
    assert (await joiner.ok("GET", path))["total"] == 2


@pytest.mark.parametrize("body", [{"seq": -1}, {"seq": "1"}, {"seq": 1.5}, {"seq": 2**63}, []])
async def test_a_bad_seq_is_refused_and_marks_nothing(api: Api, room: str, body: Any):
    answer = await api.as_user("bob").send("POST", "/v1/rooms/r/read", body)
    assert answer.status == 400
    if body:
        assert answer.json()["field"] == "seq"
    assert (await receipts(api, room))["bob"] == (0, 0)
