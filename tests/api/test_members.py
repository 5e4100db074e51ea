"""Members over REST: who may change whom, what is announced, and that it holds at once."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest
import trio

from tests.support.servers import fetch, run_sql


@pytest.fixture
async def room(api):
    """A group with an owner, an admin, two members and a reader."""
    members = [
        {"user": "adam", "role": "admin"},
        "mary",
        "mike",
        {"user": "ruth", "role": "reader"},
    ]
    await api.ok("POST", "/v1/rooms", {"id": "r", "created_by": "olga", "members": members})
    return "r"


async def roles(api) -> dict[str, str]:
    page = await api.ok("GET", "/v1/rooms/r/members")
    return {item["user"]: item["role"] for item in page["items"]}


def by(api, user):
    return api if user is None else api.as_user(user)


async def events(api) -> list[tuple[str, dict[str, Any]]]:
    return [(entry.event, json.loads(entry.data)) for entry in await api.log("r")]


async def test_adding_a_member_is_announced_with_its_profile(api, room):
    await api.ok("POST", "/v1/users", {"id": "nina", "display_name": "Nina"})
    answer = await api.as_user("adam").send("POST", "/v1/rooms/r/members", {"user": "nina"})
    assert answer.status == 201, answer.body
    assert answer.headers["location"] == "/v1/rooms/r/members/nina"
    member = answer.json()
    assert member.pop("joined_at").endswith("Z")
    assert member == {
        "user": "nina",
        "role": "member",
        "muted_until": None,
        "display_name": "Nina",
        "avatar_url": None,
    }
    ((event, data),) = await events(api)
    assert event == "member.added"
    assert data.pop("joined_at").endswith("Z")
    assert data == {**member, "by": "adam"}
    (entry,) = await api.log("r")
    assert (entry.sender, entry.ver) == ("adam", 1)
    again = await api.as_user("adam").send("POST", "/v1/rooms/r/members", {"user": "nina"})
    assert again.status == 200
    assert len(await events(api)) == 1


async def test_many_are_added_at_once_all_or_none(api, room):
    users = [f"u{number:02}" for number in range(40)]
    body = {"users": [*users, "mary"], "role": "reader"}
    page = await api.ok("POST", "/v1/rooms/r/members", body, status=201)
    assert [item["user"] for item in page["items"]] == sorted([*users, "mary"])
    assert (await roles(api))["mary"] == "member"
    announced = await events(api)
    assert [data["user"] for _, data in announced] == users
    assert {data["by"] for _, data in announced} == {None}
    assert [entry.ver for entry in await api.log("r")] == list(range(1, 41))
    # A token creates no users: nobody is added.
    body = {"users": ["u00", "new1", "new2"]}
    answer = await api.as_user("olga").send("POST", "/v1/rooms/r/members", body)
    assert (answer.status, answer.json()["code"], answer.json()["field"]) == (
        404,
        "not_found",
        "users",
    )
    assert len(await events(api)) == 40


BAD_ADDITIONS: list[dict[str, Any]] = [
    {},
    {"user": "a", "users": ["b"]},
    {"users": []},
    {"users": [f"u{n}" for n in range(101)]},
    {"user": "a/b"},
    {"user": "a", "role": "emperor"},
    {"user": "a", "role": "owner"},
    {"user": 7},
]


async def test_bad_additions_are_refused(api, room):
    for body in BAD_ADDITIONS:
        answer = await api.refused("POST", "/v1/rooms/r/members", body)
        assert answer == (400, "bad_request"), body


@pytest.mark.parametrize(
    ("actor", "target", "expected"),
    [
        (None, "mary", 204),
        ("olga", "mary", 204),
        ("olga", "adam", 204),
        ("adam", "mary", 204),
        ("adam", "olga", (403, "forbidden")),
        (None, "olga", (409, "conflict")),
        ("mary", "mike", (403, "forbidden")),
        ("ruth", "mike", (403, "forbidden")),
        ("mary", "mary", 204),
        ("ruth", "ruth", 204),
        ("adam", "adam", 204),
        ("olga", "olga", (409, "conflict")),
        (None, "nobody", 204),
        ("outsider", "mary", (404, "room_not_found")),
        ("outsider", "outsider", (404, "room_not_found")),
    ],
)
async def test_who_may_remove_whom(api, room, actor, target, expected):
    before = await roles(api)
    who, path = by(api, actor), f"/v1/rooms/r/members/{target}"
    if expected == 204:
        await who.ok("DELETE", path, status=204)
        assert target not in await roles(api)
        if target in before:
            ((event, data),) = await events(api)
            reason = "left" if actor == target else "removed"
            assert (event, data) == (
                "member.removed",
                {"user": target, "by": actor, "reason": reason},
            )
        else:
            assert await events(api) == []
    else:
        assert await who.refused("DELETE", path) == expected
        assert await roles(api) == before
        assert await events(api) == []


async def test_the_last_owner_may_leave(api):
    await api.ok("POST", "/v1/rooms", {"id": "r", "created_by": "olga"})
    await api.as_user("olga").ok("DELETE", "/v1/rooms/r/members/olga", status=204)
    assert await roles(api) == {}


@pytest.mark.parametrize(
    ("actor", "target", "patch", "expected"),
    [
        (None, "mary", {"role": "admin"}, 200),
        ("olga", "mary", {"role": "reader"}, 200),
        ("adam", "mary", {"role": "admin"}, 200),
        ("adam", "olga", {"role": "member"}, (403, "forbidden")),
        ("adam", "mary", {"role": "owner"}, (403, "forbidden")),
        ("adam", "olga", {"muted_until": "2100-01-01T00:00:00Z"}, (403, "forbidden")),
        ("mary", "mike", {"muted_until": "2100-01-01T00:00:00Z"}, (403, "forbidden")),
        ("adam", "mary", {"muted_until": "2100-01-01T00:00:00Z"}, 200),
        ("adam", "mary", {"muted_until": None}, 200),
        ("adam", "nobody", {"role": "member"}, (404, "not_found")),
        ("adam", "mary", {"muted_until": "tomorrow"}, (400, "bad_request")),
        ("adam", "mary", {"muted_until": "2100-01-01T00:00:00"}, (400, "bad_request")),
        ("adam", "mary", {}, (400, "bad_request")),
        ("outsider", "mary", {"role": "admin"}, (404, "room_not_found")),
    ],
)
async def test_who_may_change_whom(api, room, actor, target, patch, expected):
    path = f"/v1/rooms/r/members/{target}"
    if expected != 200:
        assert await by(api, actor).refused("PATCH", path, patch) == expected
        assert await events(api) == []
        return
    member = await by(api, actor).ok("PATCH", path, patch, status=200)
    if "role" in patch:
        assert member["role"] == patch["role"]
    if patch.get("muted_until"):
        assert member["muted_until"] == "2100-01-01T00:00:00.000Z"
    announced = await events(api)
    if patch == {"muted_until": None}:
        assert announced == []
    else:
        assert announced == [("member.updated", {**member, "by": actor})]


async def test_handing_over_makes_the_old_owner_an_admin(api, room):
    await api.as_user("olga").ok("PATCH", "/v1/rooms/r/members/mary", {"role": "owner"})
    changed = await roles(api)
    assert (changed["mary"], changed["olga"]) == ("owner", "admin")
    assert [(data["user"], data["role"]) for _, data in await events(api)] == [
        ("olga", "admin"),
        ("mary", "owner"),
    ]


async def test_a_muted_member_is_silent_until_then(api, room):
    path = "/v1/rooms/r/members/mary"
    await api.ok("PATCH", path, {"muted_until": "2100-01-01T00:00:00Z"})
    mary = api.as_user("mary")
    assert await mary.refused("POST", "/v1/rooms/r/messages", {"content": "x"}) == (
        403,
        "forbidden",
    )
    assert (await mary.history("r"))["items"] == []
    await api.ok("PATCH", path, {"muted_until": None})
    await mary.post("r", "x")


async def test_a_direct_room_keeps_its_two_members(api):
    await api.ok("POST", "/v1/rooms", {"id": "r", "kind": "direct", "members": ["ann", "ben"]})
    for who in (api, api.as_user("ann")):
        for method, path, body in (
            ("POST", "/v1/rooms/r/members", {"user": "carl"}),
            ("DELETE", "/v1/rooms/r/members/ann", None),
            ("DELETE", "/v1/rooms/r/members/ben", None),
            ("PATCH", "/v1/rooms/r/members/ben", {"role": "admin"}),
        ):
            assert await who.refused(method, path, body) == (409, "conflict")


async def test_a_removed_member_neither_reads_nor_writes_from_the_answer_on(api, room):
    mary = api.as_user("mary")
    await mary.post("r", "before")
    await api.ok("DELETE", "/v1/rooms/r/members/mary")
    for method, path, body in (
        ("POST", "/v1/rooms/r/messages", {"content": "after"}),
        ("GET", "/v1/rooms/r/messages", None),
        ("GET", "/v1/rooms/r", None),
    ):
        assert await mary.refused(method, path, body) == (404, "room_not_found")
    await api.ok("POST", "/v1/rooms/r/members", {"user": "mary"})
    assert [item["content"] for item in (await mary.history("r"))["items"]] == ["before"]


async def test_a_new_member_has_read_what_was_there(api, room):
    for number in range(3):
        await api.as_user("mike").post("r", str(number))
    await api.ok("POST", "/v1/rooms/r/members", {"user": "nina"})
    await api.archive("r")
    await api.as_user("mike").post("r", "later")
    await api.ok("POST", "/v1/rooms/r/members", {"user": "paul"})
    url = api.services.settings.database_url
    rows = fetch(url, "SELECT user_id, read_seq FROM members WHERE user_id IN ('nina', 'paul')")
    assert {row["user_id"]: row["read_seq"] for row in rows} == {"nina": 3, "paul": 4}


async def test_log_order_is_version_order_under_contention(api, room):
    """Two callers add and remove the same user: the log ends with what PostgreSQL says."""

    async def repeat(method: str) -> None:
        for _ in range(15):
            if method == "POST":
                await api.send("POST", "/v1/rooms/r/members", {"user": "bob"})
            else:
                await api.send("DELETE", "/v1/rooms/r/members/bob")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(repeat, "POST")
        nursery.start_soon(repeat, "DELETE")
    entries = await api.log("r")
    assert [entry.ver for entry in entries] == list(range(1, len(entries) + 1))
    assert [entry.offset for entry in entries] == list(range(1, len(entries) + 1))
    kinds = [entry.event for entry in entries]
    assert all(one != two for one, two in pairwise(kinds))
    assert (kinds[-1] == "member.added") == ("bob" in await roles(api))
    assert not fetch(api.services.settings.database_url, "SELECT 1 FROM announcements")


async def test_a_change_that_was_not_announced_is_by_the_next_request(api, room):
    """The API died between commit and announcement; repeating the request makes it hold."""
    from storage.postgres.members import remove_member

    access = await api.services.access.read("default", "r", None)
    await remove_member(
        api.services.db, access.room_pk, "mary", by=None, reason="removed", permit=lambda _: None
    )
    assert await events(api) == []
    await api.ok("DELETE", "/v1/rooms/r/members/mary", status=204)
    assert [event for event, _ in await events(api)] == ["member.removed"]


async def test_members_are_listed_in_pages_by_id(api, room):
    first = await api.ok("GET", "/v1/rooms/r/members?limit=2")
    assert [item["user"] for item in first["items"]] == ["adam", "mary"]
    assert (first["total"], first["totalPages"]) == (5, 3)
    last = await api.ok("GET", "/v1/rooms/r/members?limit=2&page=3")
    assert [item["user"] for item in last["items"]] == ["ruth"]


async def test_deleted_users_can_not_be_added(api, room):
    await api.ok("POST", "/v1/users", {"id": "gone"})
    run_sql(
        api.services.settings.database_url,
        lambda c: c.execute("UPDATE users SET deleted_at = now() WHERE id = 'gone'"),
    )
    assert await api.refused("POST", "/v1/rooms/r/members", {"user": "gone"}) == (404, "not_found")
