"""Favourites: marking, the list, who may still see what, and what ends a mark."""

from __future__ import annotations

from typing import Any

import pytest

from storage.postgres import favorites as rows
from tests.support.servers import fetch


@pytest.fixture
async def bob(api):
    for room in ("r1", "r2"):
        body = {"id": room, "created_by": "alice", "members": ["bob"]}
        await api.ok("POST", "/v1/rooms", body)
        for number in range(3):
            await api.as_user("alice").post(room, f"{room} {number}")
    return api.as_user("bob")


def place(room: str, message: Any) -> str:
    return f"/v1/rooms/{room}/messages/{message}/favorite"


async def listed(who, query: str = "") -> list[tuple[str, int]]:
    found = (await who.ok("GET", f"/v1/me/favorites{query}"))["items"]
    return [(message["room"], message["seq"]) for message in found]


@pytest.mark.parametrize("archived", [False, True])
async def test_marked_messages_are_listed_last_marked_first(api, bob, archived):
    if archived:
        await api.archive("r1")
        await api.archive("r2")
    for room, seq in (("r1", 2), ("r2", 3), ("r1", 1), ("r1", 2)):
        assert await bob.ok("PUT", place(room, seq), status=204) is None
    assert await listed(bob) == [("r1", 1), ("r2", 3), ("r1", 2)]
    page = await bob.ok("GET", "/v1/me/favorites?page=2&limit=2")
    assert (page["total"], page["totalPages"], page["page"], page["limit"]) == (3, 2, 2, 2)
    assert page["items"] == [await bob.ok("GET", "/v1/rooms/r1/messages/2")]
    assert (await bob.ok("GET", "/v1/me/favorites?page=7"))["total"] == 3
    assert await listed(api.as_user("alice")) == []
    for _ in range(2):
        assert await bob.ok("DELETE", place("r1", 1), status=204) is None
    assert await listed(bob) == [("r2", 3), ("r1", 2)]


async def test_a_favourite_is_as_it_is_now(api, bob):
    alice = api.as_user("alice")
    message = await bob.ok("GET", "/v1/rooms/r1/messages/2")
    await bob.ok("PUT", place("r1", message["id"]))
    await alice.ok("PATCH", "/v1/rooms/r1/messages/2", {"content": "changed"})
    await bob.ok("PUT", "/v1/rooms/r1/messages/2/reactions/yes")
    for archived in (False, True):
        if archived:
            await api.archive("r1")
        found = (await bob.ok("GET", "/v1/me/favorites"))["items"]
        assert found == [await bob.ok("GET", "/v1/rooms/r1/messages/2")]
        assert found[0]["content"] == "changed"
    for number in range(60):
        await alice.post("r1", f"more {number}")
    await alice.ok("DELETE", "/v1/rooms/r1/messages/2")
    found = (await bob.ok("GET", "/v1/me/favorites"))["items"]
    assert [(one["seq"], one["content"]) for one in found] == [(2, None)]
    assert await bob.refused("PUT", place("r1", 2)) == (409, "conflict")
    await bob.ok("DELETE", place("r1", 2))
    assert await listed(bob) == []


async def test_many_users_of_a_reaction_are_cut_also_when_another_message_changes(api, bob):
    for number in range(12):
        await api.ok("POST", "/v1/rooms/r1/members", {"user": f"u{number:02}"})
        await api.as_user(f"u{number:02}").ok("PUT", "/v1/rooms/r1/messages/3/reactions/yes")
    await bob.ok("PUT", place("r1", 3))
    await api.archive("r1")
    await bob.ok("PUT", "/v1/rooms/r1/messages/1/reactions/no")
    found = (await bob.ok("GET", "/v1/me/favorites"))["items"]
    assert found == [await bob.ok("GET", "/v1/rooms/r1/messages/3")]
    assert len(found[0]["reactions"]["yes"]["users"]) == 10
    rooms = (await bob.ok("GET", "/v1/me/rooms"))["items"]
    assert found[0] in [room["last_message"] for room in rooms]


async def test_only_what_one_may_read_is_marked_and_listed(api, bob):
    await api.ok("POST", "/v1/rooms", {"id": "pub", "kind": "public", "created_by": "alice"})
    await api.as_user("alice").post("pub", "to all")
    eve = api.as_user("eve")
    assert await eve.refused("PUT", place("r1", 1)) == (404, "room_not_found")
    await eve.ok("PUT", place("pub", 1))
    opened = api.as_user("eve", rooms={"r1": ["join"]})
    await opened.ok("PUT", place("r1", 2))
    assert await listed(opened) == [("r1", 2), ("pub", 1)]
    assert await listed(eve) == [("pub", 1)]
    await api.ok("PUT", "/v1/rooms/pub/bans/eve")
    await api.ok("PUT", "/v1/rooms/r1/bans/eve")
    assert await listed(opened) == []
    await bob.ok("PUT", place("r1", 1))
    await bob.ok("PUT", place("r2", 1))
    await api.ok("DELETE", "/v1/rooms/r1/members/bob")
    found = await bob.ok("GET", "/v1/me/favorites")
    assert (found["total"], len(found["items"])) == (1, 1)
    await api.ok("POST", "/v1/rooms/r1/members", {"user": "bob"})
    assert await listed(bob) == [("r2", 1), ("r1", 1)]
    await api.ok("DELETE", "/v1/rooms/r2")
    assert await listed(bob) == [("r1", 1)]


async def test_what_can_not_be_marked(api, bob, monkeypatch):
    assert await bob.refused("PUT", place("r1", 99)) == (404, "message_not_found")
    assert await bob.refused("DELETE", place("r1", "x")) == (404, "message_not_found")
    assert await api.refused("PUT", place("r1", 1)) == (400, "bad_request")
    await api.ok("PUT", place("r1", 1) + "?user_id=bob")
    assert await listed(bob) == [("r1", 1)]
    assert await api.refused("GET", "/v1/me/favorites") == (401, "unauthenticated")
    monkeypatch.setattr(rows, "FAVORITES_MAX", 2)
    await bob.ok("PUT", place("r1", 2))
    assert await bob.refused("PUT", place("r1", 3)) == (409, "limit_reached")
    await bob.ok("PUT", place("r1", 2))


async def test_marks_end_with_their_user_and_with_the_row_of_their_message(api, bob):
    url = api.services.settings.database_url
    await bob.ok("PUT", place("r1", 1))
    await bob.ok("PUT", place("r1", 2))
    await api.as_user("alice").ok("PUT", place("r1", 1))
    await api.archive("r1")
    await api.services.db.execute("DELETE FROM messages WHERE seq = 2")
    assert await listed(bob) == [("r1", 1)]
    await api.ok("DELETE", "/v1/users/bob")
    assert fetch(url, "SELECT user_id FROM favorites") == [{"user_id": "alice"}]
