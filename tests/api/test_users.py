"""Users and their tokens over REST."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tests.support.http import request
from tests.support.servers import fetch

TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")


async def test_a_user_is_created_and_found(api):
    answer = await api.send(
        "POST",
        "/v1/users",
        {
            "id": "alice@example.com",
            "username": "alice",
            "external_user_id": "ext|7",
            "display_name": "Alice Ångström",
            "email": "alice@example.com",
            "avatar_url": "https://example.com/a.png",
            "metadata": {"team": ["a", 1, None]},
            "unknown": "ignored",
        },
    )
    assert answer.status == 201
    assert answer.headers["location"] == "/v1/users/alice%40example.com"
    user = answer.json()
    found = await api.ok("GET", answer.headers["location"], status=200)
    assert found == user
    assert TIME.fullmatch(user.pop("created_at"))
    assert TIME.fullmatch(user.pop("updated_at"))
    assert user == {
        "id": "alice@example.com",
        "username": "alice",
        "external_user_id": "ext|7",
        "display_name": "Alice Ångström",
        "email": "alice@example.com",
        "avatar_url": "https://example.com/a.png",
        "status": "active",
        "metadata": {"team": ["a", 1, None]},
        "last_seen_at": None,
    }


async def test_without_an_id_a_user_gets_one(api):
    user = await api.ok("POST", "/v1/users", {}, status=201)
    assert re.fullmatch(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-.*", user["id"])
    assert user["metadata"] == {}


@pytest.mark.parametrize("field", ["id", "username", "external_user_id"])
async def test_what_is_taken_is_a_conflict_that_names_the_field(api, field):
    first = {"id": "u1", "username": "n1", "external_user_id": "x1"}
    await api.ok("POST", "/v1/users", first)
    second = {"id": "u2", "username": "n2", "external_user_id": "x2", field: first[field]}
    answer = await api.send("POST", "/v1/users", second)
    assert answer.status == 409
    assert answer.json()["code"] == "conflict"
    assert answer.json()["field"] == field


BAD_USERS: list[tuple[Any, int, str | None]] = [
    ({"id": "a/b"}, 400, "id"),
    ({"id": ".."}, 400, "id"),
    ({"id": "x" * 129}, 400, "id"),
    ({"id": 7}, 400, "id"),
    ({"username": ""}, 400, "username"),
    ({"display_name": "a\u0000"}, 400, "display_name"),
    ({"display_name": "x" * 257}, 413, "display_name"),
    ({"email": "nowhere"}, 400, "email"),
    ({"avatar_url": "javascript:alert(1)"}, 400, "avatar_url"),
    ({"avatar_url": "/relative"}, 400, "avatar_url"),
    ({"metadata": []}, 400, "metadata"),
    ({"metadata": {"big": "x" * 8200}}, 413, "metadata"),
    (b'{"metadata": {"n": 1e999}}', 400, "metadata"),
    (b'{"metadata": {"n": NaN}}', 400, "metadata"),
    (b'{"metadata": {"\\ud800": 1}}', 400, "metadata"),
    (b'{"metadata": {"deep": "\\u0000"}}', 400, "metadata"),
    (b'{"id": "a"', 400, None),
    (b"[]", 400, None),
    (b"", 400, None),
    (b"\xff\xfe", 400, None),
    (b'{"id": "' + b"[" * 100_000, 400, None),
    (b'{"metadata": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", 400, None),
]


async def test_bad_bodies_are_refused_by_field(api):
    for body, status, field in BAD_USERS:
        answer = await api.send("POST", "/v1/users", body, Content_Type="application/json")
        assert answer.headers["content-type"] == "application/problem+json"
        assert (answer.status, answer.json()["field"]) == (status, field), str(body)[:80]
    assert not fetch(api.services.settings.database_url, "SELECT 1 FROM users")


async def test_an_unknown_user_is_not_found(api):
    for path in ("/v1/users/nobody", "/v1/users/a%2Fb", "/v1/users/" + "x" * 200):
        assert await api.refused("GET", path) == (404, "not_found")


async def test_users_of_another_project_are_not_found(api):
    from broker.domain.api_keys import create_api_key

    await api.ok("POST", "/v1/users", {"id": "alice"})
    _, other = await create_api_key(api.services.db, "other")
    answer = await request("GET", f"{api.url}/v1/users/alice", key=other)
    assert answer.status == 404
    made = await request("POST", f"{api.url}/v1/users", key=other, body={"id": "alice"})
    assert made.status == 201


async def test_a_token_is_issued_and_verified(api):
    await api.ok("POST", "/v1/users", {"id": "alice"})
    issued = await api.ok("POST", "/v1/users/alice/token", {"ttl": "2h", "rooms": {"r": ["join"]}})
    assert TIME.fullmatch(issued["expires_at"])
    answer = await request("GET", f"{api.url}/v1/auth/verify", token=issued["token"])
    assert answer.json() == {
        "user": {"userId": "alice"},
        "project": "default",
        "expires_at": issued["expires_at"],
    }


async def test_a_token_without_a_body_lasts_a_day(api):
    await api.ok("POST", "/v1/users", {"id": "alice"})
    answer = await api.send("POST", "/v1/users/alice/token")
    assert answer.status == 200
    assert answer.headers["cache-control"] == "no-store"


BAD_TOKENS: list[tuple[Any, str]] = [
    ({"ttl": "soon"}, "ttl"),
    ({"ttl": 0}, "ttl"),
    ({"ttl": -5}, "ttl"),
    ({"ttl": 10**12}, "ttl"),
    ({"rooms": {"r": ["rule"]}}, "rooms"),
    ({"rooms": {"a/b": ["join"]}}, "rooms"),
    ({"rooms": ["r"]}, "rooms"),
]


async def test_bad_token_requests_are_refused_by_field(api):
    await api.ok("POST", "/v1/users", {"id": "alice"})
    for body, field in BAD_TOKENS:
        answer = await api.send("POST", "/v1/users/alice/token", body)
        assert (answer.status, answer.json()["field"]) == (400, field), body


async def test_no_token_for_somebody_who_does_not_exist(api):
    assert await api.refused("POST", "/v1/users/nobody/token", {}) == (404, "not_found")


async def test_revoking_voids_what_was_issued_and_not_what_is_issued_then(api):
    await api.ok("POST", "/v1/users", {"id": "alice"})
    old = (await api.ok("POST", "/v1/users/alice/token", {}))["token"]
    timeless = api.as_user("alice", iat=None)
    await timeless.ok("GET", "/v1/auth/verify")
    await api.ok("DELETE", "/v1/users/alice/tokens", status=204)
    new = (await api.ok("POST", "/v1/users/alice/token", {}))["token"]
    answer = await request("GET", f"{api.url}/v1/auth/verify", token=old)
    assert (answer.status, answer.json()["code"]) == (401, "unauthenticated")
    assert await timeless.refused("GET", "/v1/auth/verify") == (401, "unauthenticated")
    answer = await request("GET", f"{api.url}/v1/auth/verify", token=new)
    assert answer.status == 200
    assert await api.refused("DELETE", "/v1/users/nobody/tokens") == (404, "not_found")
