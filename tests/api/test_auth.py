"""Credentials over REST: keys, tokens, who they may act for, and limits."""

from __future__ import annotations

import time

import pytest

from api.rates import RequestRates
from broker.domain.api_keys import create_api_key, list_api_keys, revoke_api_key
from tests.support.http import request
from tests.support.servers import fetch, run_sql
from tests.support.tokens import make_token
from tests.support.waiting import wait_until


async def test_without_a_credential_nothing_is_open_but_health_and_docs(api):
    nobody = api.as_nobody()
    document = await nobody.ok("GET", "/openapi.json")
    for path, methods in document["paths"].items():
        if not path.startswith("/v1/"):
            continue
        for method in methods:
            answer = await nobody.send(method.upper(), path.replace("{", "").replace("}", ""), {})
            assert answer.status == 401, (method, path)
            if method == "head":
                continue
            assert answer.json()["code"] == "unauthenticated"
            assert answer.headers["www-authenticate"] == "Bearer"
    for path in ("/healthz", "/readyz", "/docs"):
        assert (await nobody.send("GET", path)).status == 200


def bad_tokens() -> list[tuple[str, str]]:
    return [
        (make_token("alice", ttl=-10), "token_expired"),
        (make_token("alice", secret="x" * 40), "unauthenticated"),
        (make_token("alice", exp=None), "unauthenticated"),
        (make_token("alice", sub=None), "unauthenticated"),
        (make_token("a/b"), "unauthenticated"),
        (make_token("alice", algorithm="none", secret=""), "unauthenticated"),
        (make_token("alice", iat=time.time() + 60), "unauthenticated"),
        ("x.y.z", "unauthenticated"),
        ("é", "unauthenticated"),
    ]


async def test_bad_tokens_are_refused(api):
    for token, code in bad_tokens():
        header = {"Authorization": f"Bearer {token}"}
        answer = await request("GET", f"{api.url}/v1/auth/verify", headers=header)
        assert (answer.status, answer.json()["code"]) == (401, code), token


async def test_odd_headers_are_no_credential(api):
    for header in ("", "Bearer", "Bearer ", "Basic dXNlcjpwYXNz", "bearer"):
        given = {"Authorization": header}
        answer = await request("GET", f"{api.url}/v1/auth/verify", headers=given)
        assert answer.status == 401


async def test_the_scheme_is_case_insensitive(api):
    header = {"Authorization": f"bEARER {make_token('alice')}"}
    answer = await request("GET", f"{api.url}/v1/auth/verify", headers=header)
    assert answer.status == 200


async def test_a_token_creates_its_user_once_and_never_a_deleted_one(api):
    alice = api.as_user("alice", name="Alice A.")
    await alice.ok("GET", "/v1/auth/verify")
    user = await api.ok("GET", "/v1/users/alice")
    assert user["display_name"] == "Alice A."
    await api.as_user("alice", name="Other").ok("GET", "/v1/auth/verify")
    assert (await api.ok("GET", "/v1/users/alice"))["display_name"] == "Alice A."
    url = api.services.settings.database_url
    run_sql(url, lambda c: c.execute("UPDATE users SET deleted_at = now()"))
    assert await alice.refused("GET", "/v1/auth/verify") == (403, "forbidden")
    assert await api.refused("GET", "/v1/users/alice") == (404, "not_found")
    assert await api.refused("POST", "/v1/users", {"id": "alice"}) == (409, "conflict")


async def test_a_banned_user_may_do_nothing(api):
    alice = api.as_user("alice")
    await alice.ok("GET", "/v1/auth/verify")
    url = api.services.settings.database_url
    run_sql(url, lambda c: c.execute("UPDATE users SET status = 'banned'"))
    assert await alice.refused("GET", "/v1/auth/verify") == (403, "forbidden")
    assert await api.refused("POST", "/v1/users/alice/token", {}) == (403, "forbidden")
    assert await api.refused("GET", "/v1/rooms/r?user_id=alice") == (403, "forbidden")


async def test_what_takes_a_key_refuses_a_token_and_the_reverse(api):
    alice = api.as_user("alice")
    assert await alice.refused("GET", "/v1/project") == (403, "forbidden")
    assert await alice.refused("POST", "/v1/users", {}) == (403, "forbidden")
    assert await alice.refused("GET", "/v1/users/alice") == (403, "forbidden")
    assert await api.refused("GET", "/v1/auth/verify") == (401, "unauthenticated")
    project = await api.ok("GET", "/v1/project")
    assert project["id"] == "default"
    assert project["created_at"].endswith("Z")


async def test_the_key_wins_over_the_token(api):
    answer = await request("GET", f"{api.url}/v1/project", key=api.key, token=make_token("alice"))
    assert answer.status == 200
    answer = await request(
        "GET", f"{api.url}/v1/project", key="parley_wrong", token=make_token("alice")
    )
    assert (answer.status, answer.json()["code"]) == (401, "unauthenticated")


async def test_bad_keys_are_refused(api):
    for key in ("", "x", "parley_" + "A" * 43, "k" * 300, "é"):
        answer = await request("GET", f"{api.url}/v1/project", headers={"X-API-Key": key})
        assert (answer.status, answer.json()["code"]) == (401, "unauthenticated")


async def test_keys_are_stored_hashed_listed_short_and_revoked_within_a_second(api):
    db, url = api.services.db, api.services.settings.database_url
    key_id, key = await create_api_key(db, "shop")
    stored = fetch(url, "SELECT * FROM api_keys WHERE project = 'shop'")
    assert key not in str(stored)
    (listed,) = await list_api_keys(db, "shop")
    assert (listed.id, listed.prefix, listed.revoked_at) == (key_id, key[:12], None)
    answer = await request("GET", f"{api.url}/v1/project", key=key)
    assert answer.json()["id"] == "shop"
    assert (await list_api_keys(db, "shop"))[0].last_used_at is not None
    assert await revoke_api_key(db, key[:12]) == [key_id]

    async def is_refused() -> bool:
        return (await request("GET", f"{api.url}/v1/project", key=key)).status == 401

    await wait_until(is_refused, deadline=3)
    assert (await list_api_keys(db, "shop"))[0].revoked_at is not None
    assert await revoke_api_key(db, "nothing") == []
    assert len(await list_api_keys(db)) == 2


async def test_acting_for_an_unknown_user_creates_it(api):
    await api.ok("POST", "/v1/rooms", {"user_id": "carl"})
    assert (await api.ok("GET", "/v1/users/carl"))["status"] == "active"


def test_a_bucket_fills_again_and_tells_when():
    now = 0.0
    rates = RequestRates(10, lambda: now)
    taken = [rates.take(b"t") for _ in range(20)]
    assert all(state.retry_after is None for state in taken)
    assert [state.remaining for state in taken] == list(range(19, -1, -1))
    refused = rates.take(b"t")
    assert refused.retry_after == pytest.approx(0.1)
    assert refused.limit == 20
    assert refused.reset == 2
    assert rates.take(b"other").retry_after is None
    now = 0.1
    assert rates.take(b"t").retry_after is None
    assert rates.take(b"t").retry_after is not None
    now = 1000.0
    assert rates.take(b"t").remaining == 19


async def test_tokens_are_limited_and_keys_are_not(api):
    rates = api.services.auth._rates
    rates._rate, rates._size = 1.0, 2.0
    alice = api.as_user("alice")
    first = await alice.send("GET", "/v1/auth/verify")
    assert (first.status, first.headers["ratelimit-remaining"]) == (200, "1")
    await alice.send("GET", "/v1/auth/verify")
    refused = await alice.send("GET", "/v1/auth/verify")
    assert refused.status == 429
    assert refused.json()["code"] == "rate_limited"
    assert 0 < refused.json()["retry_after"] <= 1
    assert refused.headers["retry-after"] == "1"
    assert refused.headers["ratelimit-limit"] == "2"
    assert refused.headers["ratelimit-remaining"] == "0"
    for _ in range(5):
        answer = await api.send("GET", "/v1/project")
        assert answer.status == 200
        assert "ratelimit-limit" not in answer.headers
