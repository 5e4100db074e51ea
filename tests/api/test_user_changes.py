"""Users over REST: lists, changes, bans, deletion and who inherits, names, the audit."""

from __future__ import annotations

import json
from typing import Any

import pytest
import trio

from storage.postgres.removals import begin_removal
from tests.support.servers import fetch

DENIED = (403, "forbidden")


async def make_users(api, *names: str) -> None:
    for name in names:
        await api.ok("POST", "/v1/users", {"id": name, "display_name": name.title()})


async def events(api, room: str) -> list[tuple[str, dict[str, Any]]]:
    return [(entry.event, json.loads(entry.data)) for entry in await api.log(room)]


async def test_users_are_listed_in_pages_oldest_first(api):
    for number in range(5):
        body = {"id": f"u{number}", "username": f"n{number}", "external_user_id": f"x{number}"}
        await api.ok("POST", "/v1/users", body)
    page = await api.ok("GET", "/v1/users?limit=2&page=2")
    assert [item["id"] for item in page["items"]] == ["u2", "u3"]
    assert (page["total"], page["totalPages"], page["page"], page["limit"]) == (5, 3, 2, 2)
    for query in ("username=n3", "external_user_id=x3", "username=n3&external_user_id=x3"):
        found = await api.ok("GET", f"/v1/users?{query}")
        assert [item["id"] for item in found["items"]] == ["u3"]
        assert found["total"] == 1
    assert (await api.ok("GET", "/v1/users?username=n3&external_user_id=x1"))["items"] == []
    assert await api.as_user("u1").refused("GET", "/v1/users") == DENIED
    assert await api.refused("GET", "/v1/users?limit=101") == (400, "bad_request")


async def test_a_token_learns_names_of_people_it_shares_a_room_with(api):
    await make_users(api, "ann", "ben", "carl", "dora", "eve")
    await api.ok("POST", "/v1/rooms", {"id": "one", "members": ["ann", "ben"]})
    await api.ok("POST", "/v1/rooms", {"id": "two", "members": ["ann", "carl"]})
    await api.ok("POST", "/v1/rooms", {"id": "three", "members": ["dora", "eve"]})
    ann = api.as_user("ann")
    found = await ann.ok("GET", "/v1/users?ids=ben,carl,dora,ann,nobody")
    assert found == {
        "items": [
            {"id": name, "username": None, "display_name": name.title(), "avatar_url": None}
            for name in ("ann", "ben", "carl")
        ]
    }
    await api.ok("DELETE", "/v1/rooms/two")
    assert [u["id"] for u in (await ann.ok("GET", "/v1/users?ids=ben,carl"))["items"]] == ["ben"]
    everybody = await api.ok("GET", "/v1/users?ids=dora,ben")
    assert [user["id"] for user in everybody["items"]] == ["ben", "dora"]
    for ids in ("", "a/b", ",".join(f"u{n}" for n in range(101))):
        assert await ann.refused("GET", f"/v1/users?ids={ids}") == (400, "bad_request")


async def test_a_key_changes_every_field_and_a_user_its_own(api):
    before = await api.ok("POST", "/v1/users", {"id": "ann", "username": "a"})
    body = {
        "username": "b",
        "external_user_id": "x",
        "display_name": "Ann",
        "email": "ann@example.com",
        "avatar_url": "https://example.com/a.png",
        "metadata": {"a": 1},
    }
    after = await api.ok("PATCH", "/v1/users/ann", body, status=200)
    assert after == before | body | {"updated_at": after["updated_at"]}
    assert after["updated_at"] > before["updated_at"]
    assert await api.ok("PATCH", "/v1/users/ann", body) == after
    ann = api.as_user("ann")
    assert await ann.ok("GET", "/v1/me") == after
    own = {"display_name": None, "email": None, "avatar_url": None, "metadata": None}
    changed = await ann.ok("PATCH", "/v1/me", own, status=200)
    assert changed == after | own | {"metadata": {}, "updated_at": changed["updated_at"]}
    for field, value in (("username", "c"), ("external_user_id", "y"), ("status", "active")):
        answer = await ann.send("PATCH", "/v1/me", {field: value})
        assert (answer.status, answer.json()["code"], answer.json()["field"]) == (*DENIED, field)
    assert await ann.refused("PATCH", "/v1/users/ann", {}) == DENIED
    assert await api.refused("GET", "/v1/me") == (401, "unauthenticated")


@pytest.mark.parametrize(
    ("patch", "status", "code", "field"),
    [
        ({"username": "taken"}, 409, "conflict", "username"),
        ({"external_user_id": "taken"}, 409, "conflict", "external_user_id"),
        ({"username": ""}, 400, "bad_request", "username"),
        ({"email": "nobody"}, 400, "bad_request", "email"),
        ({"avatar_url": "javascript:x"}, 400, "bad_request", "avatar_url"),
        ({"status": "asleep"}, 400, "bad_request", "status"),
        ({"status": None}, 400, "bad_request", "status"),
        ({"metadata": 7}, 400, "bad_request", "metadata"),
        ({"display_name": "x" * 257}, 413, "too_large", "display_name"),
    ],
)
async def test_what_a_user_can_not_become(api, patch, status, code, field):
    await api.ok("POST", "/v1/users", {"id": "b", "username": "taken", "external_user_id": "taken"})
    before = await api.ok("POST", "/v1/users", {"id": "ann"})
    answer = await api.send("PATCH", "/v1/users/ann", patch)
    problem = answer.json()
    assert (answer.status, problem["code"], problem["field"]) == (status, code, field)
    assert await api.ok("GET", "/v1/users/ann") == before
    assert await api.refused("PATCH", "/v1/users/nobody", {}) == (404, "not_found")


async def test_a_banned_user_acts_no_more(api):
    await make_users(api, "ann")
    ann = api.as_user("ann")
    await ann.ok("GET", "/v1/me")
    assert (await api.ok("PATCH", "/v1/users/ann", {"status": "banned"}))["status"] == "banned"
    assert await ann.refused("GET", "/v1/me") == DENIED
    assert await api.refused("POST", "/v1/users/ann/token", {}) == DENIED
    await api.ok("PATCH", "/v1/users/ann", {"status": "active"})
    await ann.ok("GET", "/v1/me")
    url = api.services.settings.database_url
    assert not fetch(url, "SELECT 1 FROM user_announcements")


async def test_a_deleted_user_leaves_nothing_but_messages_and_the_id(api):
    body = {"username": "a", "external_user_id": "x", "display_name": "Ann", "email": "a@b"}
    await api.ok("POST", "/v1/users", {"id": "ann", **body})
    await make_users(api, "ben")
    await api.ok("POST", "/v1/rooms", {"id": "g", "members": ["ann", "ben"]})
    await api.ok("POST", "/v1/rooms", {"id": "d", "kind": "direct", "members": ["ann", "ben"]})
    await api.ok("POST", "/v1/rooms", {"id": "gone", "members": ["ann"]})
    await api.ok("DELETE", "/v1/rooms/gone")
    ann = api.as_user("ann")
    await ann.post("g", "kept")
    await ann.ok("PUT", "/v1/me/blocks/ben")
    await api.ok("DELETE", "/v1/users/ann", status=204)
    assert await ann.refused("GET", "/v1/me") == DENIED
    assert await api.refused("GET", "/v1/users/ann") == (404, "not_found")
    assert await api.refused("DELETE", "/v1/users/ann") == (404, "not_found")
    assert await api.refused("POST", "/v1/users", {"id": "ann"}) == (409, "conflict")
    assert await api.refused("POST", "/v1/rooms/g/members", {"user": "ann"}) == (404, "not_found")
    page = await api.as_user("ben").history("g")
    assert [(m["content"], m["sender"]) for m in page["items"]] == [("kept", "ann")]
    assert page["users"] == {}
    for room in ("g", "d"):
        assert (await events(api, room))[-1] == (
            "member.removed",
            {"user": "ann", "by": None, "reason": "deleted"},
        )
    url = api.services.settings.database_url
    assert not fetch(url, "SELECT 1 FROM members WHERE user_id = 'ann'")
    assert not fetch(url, "SELECT 1 FROM blocks")
    (row,) = fetch(url, "SELECT * FROM users WHERE id = 'ann'")
    assert row["removal"] is None
    for field in ("username", "external_user_id", "display_name", "email", "avatar_url"):
        assert row[field] is None
    await api.ok("POST", "/v1/users", {"id": "ann2", **body})
    assert await api.refused("DELETE", "/v1/users/ben?messages=all") == (400, "bad_request")


@pytest.mark.parametrize(
    ("members", "heir"),
    [
        (["mary", {"user": "zed", "role": "admin"}, {"user": "adam", "role": "admin"}], "zed"),
        (["zoe", "mary"], "zoe"),
        ([], None),
    ],
)
async def test_who_inherits_a_room(api, members, heir):
    await api.ok("POST", "/v1/rooms", {"id": "r", "created_by": "olga"})
    for member in members:
        body = {"user": member} if isinstance(member, str) else member
        await api.ok("POST", "/v1/rooms/r/members", body)
    await api.ok("DELETE", "/v1/users/olga")
    page = await api.ok("GET", "/v1/rooms/r/members")
    assert [m["user"] for m in page["items"] if m["role"] == "owner"] == ([heir] if heir else [])
    found = (await events(api, "r"))[len(members) :]
    assert [(event, data["user"]) for event, data in found] == [
        ("member.removed", "olga"),
        *([("member.updated", heir)] if heir else []),
    ]


async def test_a_removal_that_was_broken_off_is_finished_by_anybody(api):
    for number in range(60):
        await api.ok("POST", "/v1/rooms", {"id": f"r{number}", "members": ["ann", "ben"]})
    await begin_removal(api.services.db, "default", "ann", "keep", by=None)
    url = api.services.settings.database_url
    assert len(fetch(url, "SELECT 1 FROM members WHERE user_id = 'ann'")) == 60
    assert await api.services.user_changes.finish_removals(3600.0, 10) == 0
    assert await api.services.user_changes.finish_removals(0.0, 10) == 1
    assert not fetch(url, "SELECT 1 FROM members WHERE user_id = 'ann'")
    assert not fetch(url, "SELECT 1 FROM users WHERE removal IS NOT NULL")
    assert [event for event, _ in await events(api, "r59")] == ["member.removed"]


async def test_adding_while_deleting_leaves_no_membership(api):
    for turn in range(15):
        user, room = f"user{turn}", f"room{turn}"
        await make_users(api, user)
        await api.ok("POST", "/v1/rooms", {"id": room})

        async def add(user=user, room=room) -> None:
            await api.send("POST", f"/v1/rooms/{room}/members", {"user": user})

        async def delete(user=user) -> None:
            await api.ok("DELETE", f"/v1/users/{user}")

        async with trio.open_nursery() as nursery:
            for work in (add, delete) if turn % 2 else (delete, add):
                nursery.start_soon(work)
        kinds = [event for event, _ in await events(api, room)]
        assert kinds in ([], ["member.added", "member.removed"])
    assert not fetch(api.services.settings.database_url, "SELECT 1 FROM members")


async def test_who_did_what_when(api):
    await make_users(api, "ann", "ben")
    await api.ok("POST", "/v1/rooms", {"id": "r", "created_by": "ann"})
    ann = api.as_user("ann")
    await ann.ok("POST", "/v1/rooms/r/members", {"user": "ben"})
    await ann.ok("PATCH", "/v1/rooms/r", {"name": "New"})
    await ann.ok("PUT", "/v1/rooms/r/bans/ben")
    await ann.ok("DELETE", "/v1/rooms/r/bans/ben")
    await ann.ok("DELETE", "/v1/rooms/r")
    page = await api.ok("GET", "/v1/audit?entity=room:r")
    assert [(row["actor"], row["action"]) for row in page["items"]] == [
        ("ann", "room.deleted"),
        ("ann", "ban.removed"),
        ("ann", "member.removed"),
        ("ann", "room.updated"),
        ("ann", "member.added"),
        ("ann", "room.created"),
    ]
    assert page["items"][3]["detail"]["name"] == "New"
    assert "display_name" not in page["items"][4]["detail"]
    await ann.ok("PATCH", "/v1/me", {"email": "secret@example.com"})
    await api.ok("DELETE", "/v1/users/ann/tokens")
    await api.ok("PATCH", "/v1/users/ann", {"status": "banned"})
    await api.ok("DELETE", "/v1/users/ann")
    about = await api.ok("GET", "/v1/audit?entity=user:ann")
    assert [(row["actor"], row["action"], row["detail"]) for row in about["items"]] == [
        (None, "user.deleted", {"messages": "keep"}),
        (None, "user.updated", {"fields": ["status"], "status": "banned"}),
        (None, "tokens.revoked", {}),
        ("ann", "user.updated", {"fields": ["email"]}),
        (None, "user.created", {}),
    ]
    whole = await api.ok("GET", "/v1/audit?limit=4&page=2")
    assert (whole["total"], len(whole["items"]), whole["totalPages"]) == (13, 4, 4)
    assert await api.as_user("ben").refused("GET", "/v1/audit") == DENIED
