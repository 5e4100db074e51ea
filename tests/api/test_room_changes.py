"""Rooms over REST: changing, deleting, joining and leaving, and what is announced of it."""

from __future__ import annotations

import json
from typing import Any

import pytest
import trio

from storage.postgres.room_changes import update_room
from tests.support.servers import fetch

MEMBERS = [{"user": "adam", "role": "admin"}, "mary", {"user": "ruth", "role": "reader"}]


@pytest.fixture
async def room(api):
    """A group with an owner, an admin, a member and a reader."""
    await api.ok("POST", "/v1/rooms", {"id": "r", "created_by": "olga", "members": MEMBERS})
    return "r"


def by(api, user):
    return api if user is None else api.as_user(user)


async def events(api, room: str = "r") -> list[tuple[str, dict[str, Any]]]:
    return [(entry.event, json.loads(entry.data)) for entry in await api.log(room)]


async def test_a_change_announces_what_has_changed_and_nothing_else(api, room):
    before = await api.ok("GET", "/v1/rooms/r")
    body = {
        "name": "New",
        "topic": None,
        "avatar_url": "https://example.com/r.png",
        "external_id": "crm/1",
        "default_role": "reader",
        "frozen": True,
        "retention_days": 7,
        "metadata": {"a": [1, None]},
    }
    after = await api.as_user("adam").ok("PATCH", "/v1/rooms/r", body, status=200)
    assert after == before | body | {"updated_at": after["updated_at"]}
    assert after["updated_at"] > before["updated_at"]
    assert await api.ok("GET", "/v1/rooms/r") == after
    del body["topic"]
    expected = {**body, "updated_at": after["updated_at"], "by": "adam"}
    assert await events(api) == [("room.updated", expected)]
    (entry,) = await api.log("r")
    assert (entry.sender, entry.ver) == ("adam", 1)
    again = await api.ok("PATCH", "/v1/rooms/r", body)
    assert again == after
    assert len(await events(api)) == 1
    emptied = await api.ok("PATCH", "/v1/rooms/r", {"metadata": None, "retention_days": None})
    assert (emptied["metadata"], emptied["retention_days"]) == ({}, None)
    last = (await events(api))[-1][1]
    assert last.keys() == {"metadata", "retention_days", "updated_at", "by"}
    assert last["by"] is None


async def test_counters_never_announce(api, room):
    await api.as_user("mary").post("r", "x")
    await api.archive("r")
    await api.ok("POST", "/v1/rooms/r/members", {"user": "zoe"})
    assert [event for event, _ in await events(api)] == ["member.added"]


@pytest.mark.parametrize(
    ("actor", "patch", "status", "code", "field"),
    [
        ("mary", {"name": "x"}, 403, "forbidden", None),
        ("ruth", {"name": "x"}, 403, "forbidden", None),
        ("outsider", {"name": "x"}, 404, "room_not_found", None),
        (None, {"name": "x" * 257}, 413, "too_large", "name"),
        (None, {"name": "a\nb"}, 400, "bad_request", "name"),
        (None, {"avatar_url": "javascript:x"}, 400, "bad_request", "avatar_url"),
        (None, {"external_id": ""}, 400, "bad_request", "external_id"),
        (None, {"external_id": "taken"}, 409, "conflict", "external_id"),
        (None, {"default_role": "owner"}, 400, "bad_request", "default_role"),
        (None, {"default_role": None}, 400, "bad_request", "default_role"),
        (None, {"frozen": None}, 400, "bad_request", "frozen"),
        (None, {"frozen": "yes"}, 400, "bad_request", "frozen"),
        (None, {"retention_days": 0}, 400, "bad_request", "retention_days"),
        (None, {"metadata": []}, 400, "bad_request", "metadata"),
        (None, {"metadata": {"a": "x" * 9000}}, 413, "too_large", "metadata"),
        (None, {"metadata": {"a": "\x00"}}, 400, "bad_request", "metadata"),
    ],
)
async def test_what_is_refused_changes_nothing(api, room, actor, patch, status, code, field):
    await api.ok("POST", "/v1/rooms", {"id": "other", "external_id": "taken"})
    before = await api.ok("GET", "/v1/rooms/r")
    answer = await by(api, actor).send("PATCH", "/v1/rooms/r", patch)
    problem = answer.json()
    assert (answer.status, problem["code"], problem["field"]) == (status, code, field)
    assert await api.ok("GET", "/v1/rooms/r") == before
    assert await events(api) == []


async def test_a_frozen_room_is_silent_for_members_and_not_for_admins(api, room):
    mary, adam = api.as_user("mary"), api.as_user("adam")
    await mary.post("r", "before")
    await adam.ok("PATCH", "/v1/rooms/r", {"frozen": True})
    refused = await mary.refused("POST", "/v1/rooms/r/messages", {"content": "x"})
    assert refused == (403, "forbidden")
    await adam.post("r", "announcement")
    await adam.ok("PATCH", "/v1/rooms/r", {"frozen": False})
    await mary.post("r", "after")


async def test_a_deleted_room_is_gone_for_tokens_and_kept_for_the_key(api, room):
    await api.as_user("mary").post("r", "kept")
    for user in ("adam", "mary"):
        assert await api.as_user(user).refused("DELETE", "/v1/rooms/r") == (403, "forbidden")
    assert await api.as_user("outsider").refused("DELETE", "/v1/rooms/r") == (404, "room_not_found")
    olga = api.as_user("olga")
    await olga.ok("DELETE", "/v1/rooms/r", status=204)
    (entry,) = [entry for entry in await api.log("r") if entry.event == "room.deleted"]
    data = json.loads(entry.data)
    assert (entry.sender, entry.ver, data["by"]) == ("olga", 1, "olga")
    missing = await olga.send("GET", "/v1/rooms/absent")
    for method, path, body in (
        ("GET", "", None),
        ("PATCH", "", {"name": "x"}),
        ("DELETE", "", None),
        ("GET", "/members", None),
        ("GET", "/messages", None),
        ("POST", "/messages", {"content": "x"}),
        ("POST", "/members", {"user": "mary"}),
        ("POST", "/join", {}),
        ("POST", "/leave", {}),
        ("PUT", "/bans/mary", None),
    ):
        answer = await olga.send(method, f"/v1/rooms/r{path}", body)
        assert answer.body == missing.body, (method, path)
    kept = await api.ok("GET", "/v1/rooms/r")
    assert kept["deleted_at"] == data["deleted_at"]
    assert [m["content"] for m in (await api.history("r"))["items"]] == ["kept"]
    assert (await api.ok("GET", "/v1/rooms/r/members"))["total"] == 4
    assert await api.refused("GET", "/v1/rooms/r?user_id=olga") == (404, "room_not_found")
    assert await api.refused("PATCH", "/v1/rooms/r", {"name": "x"}) == (404, "room_not_found")
    refused = await api.refused("POST", "/v1/rooms/r/messages", {"content": "x"})
    assert refused == (404, "room_not_found")
    assert await api.refused("POST", "/v1/rooms", {"id": "r"}) == (409, "conflict")
    assert (await api.ok("GET", "/v1/rooms"))["total"] == 0
    # Repeating it is harmless, and what it frees is free.
    await api.ok("DELETE", "/v1/rooms/r", status=204)
    assert len([e for e, _ in await events(api) if e == "room.deleted"]) == 1


async def test_a_deleted_direct_room_makes_way_for_another(api):
    body = {"kind": "direct", "members": ["ann", "ben"], "external_id": "x"}
    first = await api.ok("POST", "/v1/rooms", body, status=201)
    path = f"/v1/rooms/{first['id']}"
    assert await api.as_user("ann").refused("DELETE", path) == (403, "forbidden")
    await api.ok("DELETE", path, status=204)
    second = await api.ok("POST", "/v1/rooms", body, status=201)
    assert second["id"] != first["id"]


async def test_joining_and_leaving_a_public_room(api):
    hall = {"id": "hall", "kind": "public", "default_role": "reader"}
    await api.ok("POST", "/v1/rooms", hall)
    bob = api.as_user("bob")
    member = await bob.ok("POST", "/v1/rooms/hall/join", status=200)
    assert (member["user"], member["role"]) == ("bob", "reader")
    assert await bob.ok("POST", "/v1/rooms/hall/join", {}, status=200) == member
    for _ in range(2):
        await bob.ok("POST", "/v1/rooms/hall/leave", status=204)
    assert [(event, data["by"]) for event, data in await events(api, "hall")] == [
        ("member.added", "bob"),
        ("member.removed", "bob"),
    ]
    assert (await events(api, "hall"))[1][1]["reason"] == "left"


async def test_only_members_and_keys_join_a_group(api, room):
    outsider = api.as_user("outsider")
    missing = await outsider.send("POST", "/v1/rooms/absent/join", {})
    refused = await outsider.send("POST", "/v1/rooms/r/join", {})
    assert (refused.status, refused.body) == (404, missing.body)
    guest = api.as_user("guest", rooms={"r": ["publish"]})
    assert await guest.refused("POST", "/v1/rooms/r/join", {}) == (403, "forbidden")
    assert (await api.as_user("mary").ok("POST", "/v1/rooms/r/join"))["role"] == "member"
    joined = await api.ok("POST", "/v1/rooms/r/join", {"user_id": "nina"})
    assert (joined["user"], joined["role"]) == ("nina", "member")
    await api.ok("POST", "/v1/rooms/r/leave?user_id=nina", status=204)
    for path in ("join", "leave"):
        answer = await api.send("POST", f"/v1/rooms/r/{path}", {})
        assert (answer.status, answer.json()["field"]) == (400, "user_id")


async def test_leaving_a_group_is_repeatable_and_tells_outsiders_nothing(api, room):
    mary, outsider = api.as_user("mary"), api.as_user("outsider")
    for _ in range(3):
        await mary.ok("POST", "/v1/rooms/r/leave", status=204)
    real = await outsider.send("POST", "/v1/rooms/r/leave", {})
    missing = await outsider.send("POST", "/v1/rooms/absent/leave", {})
    assert (real.status, real.body) == (missing.status, missing.body) == (404, missing.body)
    assert len(await events(api)) == 1


async def test_an_owner_leaves_only_as_the_last_and_nobody_a_direct_room(api, room):
    olga = api.as_user("olga")
    assert await olga.refused("POST", "/v1/rooms/r/leave", {}) == (409, "conflict")
    for user in ("adam", "mary", "ruth"):
        await api.as_user(user).ok("POST", "/v1/rooms/r/leave", status=204)
    await olga.ok("POST", "/v1/rooms/r/leave", status=204)
    await api.ok("POST", "/v1/rooms", {"id": "d", "kind": "direct", "members": ["ann", "ben"]})
    for path in ("join", "leave"):
        assert await api.as_user("ann").refused("POST", f"/v1/rooms/d/{path}", {}) == (
            409,
            "conflict",
        )


async def test_a_change_that_was_not_announced_is_by_the_next_request(api, room):
    access = await api.services.access.read("default", "r", None)
    await update_room(
        api.services.db, access.room_pk, {"name": "x"}, by=None, permit=lambda _: None
    )
    assert await events(api) == []
    await api.ok("PATCH", "/v1/rooms/r", {"name": "x"})
    assert [event for event, _ in await events(api)] == ["room.updated"]


async def test_handing_over_while_leaving_keeps_exactly_one_owner(api):
    """The legal outcomes: olga stays as admin or is gone, mary owns the room either way."""
    for turn in range(25):
        name = f"room{turn}"
        body = {"id": name, "created_by": "olga", "members": ["mary"]}
        await api.ok("POST", "/v1/rooms", body)
        olga = api.as_user("olga")
        answers: dict[str, int] = {}

        async def hand_over(who=olga, name=name, answers=answers) -> None:
            path = f"/v1/rooms/{name}/members/mary"
            answers["hand over"] = (await who.send("PATCH", path, {"role": "owner"})).status

        async def leave(who=olga, name=name, answers=answers) -> None:
            answers["leave"] = (await who.send("POST", f"/v1/rooms/{name}/leave", {})).status

        async with trio.open_nursery() as nursery:
            for work in (hand_over, leave) if turn % 2 else (leave, hand_over):
                nursery.start_soon(work)
        found = fetch(
            api.services.settings.database_url,
            "SELECT user_id, role FROM members m JOIN rooms r ON r.pk = room_pk WHERE r.id = $1",
            name,
        )
        roles = {row["user_id"]: row["role"] for row in found}
        assert answers["hand over"] == 200, answers
        if answers["leave"] == 204:
            assert roles == {"mary": "owner"}
        else:
            assert (answers["leave"], roles) == (409, {"mary": "owner", "olga": "admin"})
        kinds = [(event, data["user"]) for event, data in await events(api, name)]
        assert kinds[:2] == [("member.updated", "olga"), ("member.updated", "mary")]
        assert kinds[2:] == ([("member.removed", "olga")] if len(roles) == 1 else [])
