"""A table of REST requests that are wrong, each with its status, code and field; nothing is stored.

One API serves the whole table. Whoever adds a route adds its lines: a test compares the table with
the OpenAPI document.
"""

from __future__ import annotations

import json
import re
from typing import Any, NamedTuple

from config.api_limits import API_BODY_BYTES_MAX
from tests.support.servers import fetch

TABLES = ("users", "rooms", "members", "messages", "reactions", "bans", "blocks", "audit")
ID = "01946e2f-7c1a-7b3c-9d4e-5f6071829304"
LONG = "x" * 257
DEEP = {"metadata": json.loads("[" * 40 + "]" * 40)}
JSON = {"Content-Type": "application/json"}


class Bad(NamedTuple):
    """One request (`who`: k key, t token of alice, o of owner olga, n nobody) and its refusal."""

    who: str
    request: str
    body: Any
    refusal: str
    field: str | None = None
    headers: dict[str, str] = {}  # noqa: RUF012


def bodies(who: str, request: str, *rows: tuple[Any, ...]) -> list[Bad]:
    return [Bad(who, request, *row) for row in rows]


def queries(who: str, request: str, *rows: tuple[str, ...]) -> list[Bad]:
    """Rows of query and field, all `400 bad_request`."""
    return [Bad(who, f"{request}?{query}", None, "400 bad_request", field) for query, field in rows]


LISTS = (
    ("page=0", "page"), ("page=x", "page"), ("page=1.5", "page"), ("page=-1", "page"),
    ("limit=0", "limit"), ("limit=101", "limit"), ("limit=", "limit"), ("limit=1&limit=2", "limit"),
    ("page=99999999999999999999", "page"),
)  # fmt: skip
BAD_JSON = tuple(
    (text, "400 bad_request")
    for text in (b"", b"{", b"null", b"[]", b'"x"', b"{}x", b"\xff", b"[" * 200_000)
)
NAMES: tuple[tuple[Any, ...], ...] = (
    ({"username": LONG}, "413 too_large", "username"),
    ({"username": ""}, "400 bad_request", "username"),
    ({"username": "a\x00"}, "400 bad_request", "username"),
    ({"username": 7}, "400 bad_request", "username"),
    ({"external_user_id": "é" * 129}, "413 too_large", "external_user_id"),
    ({"display_name": "a\nb"}, "400 bad_request", "display_name"),
    ({"display_name": ["x"]}, "400 bad_request", "display_name"),
    ({"email": "nobody"}, "400 bad_request", "email"),
    ({"avatar_url": "javascript:alert(1)"}, "400 bad_request", "avatar_url"),
    ({"avatar_url": "/relative"}, "400 bad_request", "avatar_url"),
    ({"avatar_url": "https://e.org/" + "x" * 2048}, "413 too_large", "avatar_url"),
    ({"metadata": []}, "400 bad_request", "metadata"),
    ({"metadata": {"a": "x" * 8192}}, "413 too_large", "metadata"),
    ({"metadata": {"a\x00": 1}}, "400 bad_request", "metadata"),
    (b'{"metadata": {"a": "\\ud800"}}', "400 bad_request", "metadata"),
    (b'{"metadata": {"a": NaN}}', "400 bad_request", "metadata"),
    (b'{"metadata": {"a": 1e999}}', "400 bad_request", "metadata"),
    (b'{"a\\u0000b": 1, "username": "x"}', "400 bad_request"),
    (DEEP | {"metadata": {"a": DEEP}}, "400 bad_request", "metadata"),
)
PROFILES = tuple(row for row in NAMES if not isinstance(row[0], dict) or "user" not in str(row[0]))
ROOMS = (
    ({"name": LONG}, "413 too_large", "name"),
    ({"name": 1}, "400 bad_request", "name"),
    ({"topic": "a\tb"}, "400 bad_request", "topic"),
    ({"external_id": ""}, "400 bad_request", "external_id"),
    ({"default_role": "owner"}, "400 bad_request", "default_role"),
    ({"frozen": "yes"}, "400 bad_request", "frozen"),
    ({"retention_days": 0}, "400 bad_request", "retention_days"),
    ({"retention_days": 36_501}, "400 bad_request", "retention_days"),
    ({"avatar_url": "data:text/html,x"}, "400 bad_request", "avatar_url"),
    ({"metadata": {"a": "x" * 8192}}, "413 too_large", "metadata"),
)
MESSAGES: tuple[tuple[Any, ...], ...] = (
    ({}, "400 bad_request", "content"),
    ({"content": ""}, "400 bad_request", "content"),
    ({"content": 5}, "400 bad_request", "content"),
    ({"content": "x" * 32_769}, "413 too_large", "content"),
    ({"content": "é" * 16_385}, "413 too_large", "content"),
    ({"content": "a\x00b"}, "400 bad_request", "content"),
    (b'{"content": "\\udfff"}', "400 bad_request", "content"),
    ({"content": "x", "kind": "NO"}, "400 bad_request", "kind"),
    ({"content": "x", "mentions": ["a b"]}, "400 bad_request", "mentions"),
    ({"content": "x", "mentions": [f"u{n}" for n in range(21)]}, "400 bad_request", "mentions"),
    ({"content": "x", "mentions": "bob"}, "400 bad_request", "mentions"),
    ({"content": "x", "reply_to": 99}, "404 message_not_found", "reply_to"),
    ({"content": "x", "reply_to": "1"}, "400 bad_request", "reply_to"),
    ({"content": "x", "client_id": ""}, "400 bad_request", "client_id"),
    ({"content": "x", "client_id": "x" * 65}, "400 bad_request", "client_id"),
    ({"content": "x", "metadata": [1]}, "400 bad_request", "metadata"),
    ({"content": "x", "metadata": {"a": "x" * 8192}}, "413 too_large", "metadata"),
    ({"attachments": [{}]}, "400 bad_request", "attachments"),
    ({"attachments": [{"url": "relative"}]}, "400 bad_request", "attachments"),
    ({"attachments": [{"url": "data:,x"}]}, "400 bad_request", "attachments"),
    ({"attachments": [{"url": "https://e.org"}] * 17}, "413 too_large", "attachments"),
    ({"attachments": [{"url": "https://e.org", "size": -1}]}, "400 bad_request", "attachments"),
    ({"content": "x", "user_id": "a/b"}, "400 bad_request", "user_id"),
)
ONE = "/v1/rooms/hall/messages/1"

TABLE: list[Bad] = [
    # --- credentials ---
    Bad("n", "GET /v1/project", None, "401 unauthenticated"),
    Bad("n", "GET /v1/project", None, "401 unauthenticated", None, {"X-API-Key": "wrong"}),
    Bad("n", "GET /v1/me", None, "401 unauthenticated", None, {"Authorization": "Bearer x.y.z"}),
    Bad("n", "GET /v1/me", None, "401 unauthenticated", None, {"Authorization": "Basic eDp5"}),
    Bad("n", "POST /v1/rooms", b"{", "401 unauthenticated"),
    Bad("n", "GET /v1/rooms?limit=0&limit=0", None, "401 unauthenticated"),
    Bad("t", "GET /v1/project", None, "403 forbidden"),
    Bad("t", "POST /v1/users", {}, "403 forbidden"),
    Bad("t", "DELETE /v1/users/bob", None, "403 forbidden"),
    Bad("t", "POST /v1/users/bob/token", None, "403 forbidden"),
    Bad("t", "DELETE /v1/users/bob/tokens", None, "403 forbidden"),
    Bad("t", "GET /v1/users/bob/rooms", None, "403 forbidden"),
    Bad("t", "POST /v1/messages", [], "403 forbidden"),
    Bad("t", "GET /v1/audit", None, "403 forbidden"),
    Bad("t", "GET /v1/users", None, "403 forbidden", "ids"),
    Bad("k", "GET /v1/me", None, "401 unauthenticated"),
    Bad("k", "PATCH /v1/me", {}, "401 unauthenticated"),
    Bad("k", "GET /v1/auth/verify", None, "401 unauthenticated"),
    Bad("k", "GET /v1/me/rooms", None, "401 unauthenticated"),
    Bad("k", "GET /v1/me/blocks", None, "401 unauthenticated"),
    Bad("t", "GET /v1/rooms/hall?user_id=bob", None, "403 forbidden", "user_id"),
    Bad("k", "GET /v1/rooms/hall?user_id=a%20b", None, "400 bad_request", "user_id"),
    Bad("k", "GET /v1/rooms/hall?user_id=..", None, "400 bad_request", "user_id"),
    Bad("k", "GET /v1/rooms/hall?user_id=a&user_id=b", None, "400 bad_request", "user_id"),
    Bad(
        "k", "POST /v1/rooms/hall/messages?user_id=olga", {"content": "x", "user_id": "alice"},
        "400 bad_request", "user_id",
    ),
    # --- paths and methods ---
    Bad("k", "GET /v1/nothing", None, "404 not_found"),
    Bad("k", "GET /v1/rooms/", None, "404 not_found"),
    Bad("k", "GET /v1/rooms/hall/", None, "404 not_found"),
    Bad("k", "GET /v1/rooms/a%2Fb/messages", None, "404 not_found"),
    Bad("k", "PUT /v1/rooms", None, "405 bad_request"),
    Bad("k", "DELETE /v1/users", None, "405 bad_request"),
    Bad("k", "POST /v1/me", None, "405 bad_request"),
    Bad("k", "BREW /v1/rooms/hall", None, "405 bad_request"),
    *[
        Bad("k", f"GET /v1/rooms/{room}{rest}", None, "404 room_not_found")
        for room in ("none", "user:bob", "%00", "a%20b", "%F0%9F%92%A9", "x" * 129, "%25", "%ff")
        for rest in ("", "/messages")
    ],
    *[
        Bad("k", f"GET /v1/users/{user}", None, "404 not_found")
        for user in ("none", "%00", "a%20b", "x" * 129, "%ff")
    ],
    *[
        Bad("k", f"GET /v1/rooms/hall/messages/{message}", None, "404 message_not_found")
        for message in ("0", "99", "-1", "1.0", "x", "%00", "9" * 30, ID, ID.upper())
    ],
    *[
        Bad("k", f"{method} /v1/messages/{ID}", body, "404 message_not_found")
        for method, body in (("GET", None), ("DELETE", None), ("PATCH", {"content": "x"}))
    ],
    # --- users ---
    *bodies("k", "POST /v1/users", *BAD_JSON, *NAMES),
    *bodies(
        "k", "POST /v1/users",
        ({"id": ""}, "400 bad_request", "id"),
        ({"id": "a/b"}, "400 bad_request", "id"),
        ({"id": ".."}, "400 bad_request", "id"),
        ({"id": "x" * 129}, "400 bad_request", "id"),
        ({"id": 7}, "400 bad_request", "id"),
        ({"id": "alice"}, "409 conflict", "id"),
        (b"{}", "415 bad_request", None, {"Content-Type": "text/plain"}),
        (b'{"a": "' + b"x" * API_BODY_BYTES_MAX + b'"}', "413 too_large"),
    ),
    *queries("k", "GET /v1/users", *LISTS, ("username=%00", "username"), ("ids=", "ids")),
    *queries("t", "GET /v1/users", ("ids=a%20b", "ids"), ("ids=" + "a," * 101, "ids")),
    *bodies("k", "PATCH /v1/users/bob", *BAD_JSON, *NAMES),
    *bodies(
        "k", "PATCH /v1/users/bob",
        ({"status": "deleted"}, "400 bad_request", "status"),
        ({"status": None}, "400 bad_request", "status"),
        ({"id": "bob"}, "400 bad_request", "id"),
        ({"created_at": "2026-01-01T00:00:00.000Z"}, "400 bad_request", "created_at"),
    ),
    Bad("k", "PATCH /v1/users/none", {"display_name": "x"}, "404 not_found"),
    Bad("k", "DELETE /v1/users/none", None, "404 not_found"),
    Bad("k", "DELETE /v1/users/bob?messages=burn", None, "400 bad_request", "messages"),
    *bodies(
        "k", "POST /v1/users/bob/token",
        ({"ttl": 0}, "400 bad_request", "ttl"),
        ({"ttl": "soon"}, "400 bad_request", "ttl"),
        ({"ttl": -5}, "400 bad_request", "ttl"),
        ({"ttl": []}, "400 bad_request", "ttl"),
        ({"rooms": []}, "400 bad_request", "rooms"),
        ({"rooms": {"hall": ["fly"]}}, "400 bad_request", "rooms"),
        ({"rooms": {"a/b": ["join"]}}, "400 bad_request", "rooms"),
        (b"{", "400 bad_request"),
    ),
    Bad("k", "POST /v1/users/none/token", None, "404 not_found"),
    Bad("k", "DELETE /v1/users/none/tokens", None, "404 not_found"),
    Bad("k", "GET /v1/users/none/rooms", None, "404 not_found"),
    *queries("k", "GET /v1/users/bob/rooms", *LISTS[:3]),
    *bodies("t", "PATCH /v1/me", *BAD_JSON, *PROFILES),
    *bodies(
        "t", "PATCH /v1/me",
        ({"status": "active"}, "403 forbidden", "status"),
        ({"username": "x"}, "403 forbidden", "username"),
        ({"id": "alice"}, "400 bad_request", "id"),
    ),
    *queries("t", "GET /v1/me/rooms", *LISTS),
    *queries("t", "GET /v1/me/blocks", *LISTS),
    Bad("t", "PUT /v1/me/blocks/alice", None, "409 conflict"),
    Bad("t", "PUT /v1/me/blocks/none", None, "404 not_found"),
    Bad("t", "DELETE /v1/me/blocks/a%2Fb", None, "404 not_found"),
    Bad("k", "DELETE /v1/me/blocks/bob", None, "401 unauthenticated"),
    Bad("k", "GET /v1/me/favorites", None, "401 unauthenticated"),
    Bad("t", "GET /v1/users/bob/export", None, "403 forbidden"),
    *[
        Bad("t", f"{method} /v1/rooms/secret/messages/1/favorite", None, "404 room_not_found")
        for method in ("PUT", "DELETE")
    ],
    Bad("t", "GET /v1/users/none/presence", None, "404 not_found"),
    Bad("t", "GET /v1/users/carl/presence", None, "404 not_found"),
    *queries("k", "GET /v1/audit", *LISTS, ("entity=%00", "entity")),
    Bad("k", "GET /v1/audit?entity=" + LONG * 2, None, "400 bad_request", "entity"),
    # --- rooms ---
    *bodies("k", "POST /v1/rooms", *BAD_JSON, *ROOMS),
    *bodies(
        "k", "POST /v1/rooms",
        ({"id": "a b"}, "400 bad_request", "id"),
        ({"id": "user:x"}, "400 bad_request", "id"),
        ({"id": "hall"}, "409 conflict", "id"),
        ({"kind": "secret"}, "400 bad_request", "kind"),
        ({"created_by": "a b"}, "400 bad_request", "created_by"),
        ({"members": "bob"}, "400 bad_request", "members"),
        ({"members": ["a b"]}, "400 bad_request", "members"),
        ({"members": [{"user": "bob", "role": "owner"}]}, "400 bad_request", "members"),
        ({"members": [f"u{n}" for n in range(101)]}, "400 bad_request", "members"),
        ({"kind": "direct", "members": ["bob"]}, "400 bad_request", "members"),
        ({"kind": "direct", "members": ["bob", "bob"]}, "400 bad_request", "members"),
        ({"kind": "direct", "members": ["a", "b", "c"]}, "400 bad_request", "members"),
    ),
    Bad("t", "POST /v1/rooms", {"kind": "public"}, "403 forbidden", "kind"),
    Bad("t", "POST /v1/rooms", {"created_by": "bob"}, "403 forbidden", "created_by"),
    *queries(
        "k", "GET /v1/rooms", *LISTS, ("kind=secret", "kind"), ("external_id=%00", "external_id")
    ),
    Bad("t", "GET /v1/rooms?kind=group", None, "403 forbidden", "kind"),
    *bodies("k", "PATCH /v1/rooms/hall", *BAD_JSON, *ROOMS),
    *bodies(
        "k", "PATCH /v1/rooms/hall",
        ({"id": "x"}, "400 bad_request", "id"),
        ({"kind": "group"}, "400 bad_request", "kind"),
        ({"created_by": None}, "400 bad_request", "created_by"),
        ({"seq": 9}, "400 bad_request", "seq"),
        ({"frozen": None}, "400 bad_request", "frozen"),
    ),
    Bad("t", "PATCH /v1/rooms/hall", {"name": "x"}, "403 not_a_member"),
    Bad("t", "PATCH /v1/rooms/secret", {"name": "x"}, "404 room_not_found"),
    Bad("t", "DELETE /v1/rooms/secret", None, "404 room_not_found"),
    Bad("t", "DELETE /v1/rooms/hall", None, "403 not_a_member"),
    # --- members, bans ---
    *queries("k", "GET /v1/rooms/hall/members", *LISTS),
    *bodies(
        "k", "POST /v1/rooms/hall/members", *BAD_JSON,
        ({}, "400 bad_request", "user"),
        ({"user": "a b"}, "400 bad_request", "user"),
        ({"user": 7}, "400 bad_request", "user"),
        ({"users": []}, "400 bad_request", "users"),
        ({"users": ["a b"]}, "400 bad_request", "users"),
        ({"users": [f"u{n}" for n in range(101)]}, "400 bad_request", "users"),
        ({"user": "bob", "users": ["carl"]}, "400 bad_request", "users"),
        ({"user": "bob", "role": "king"}, "400 bad_request", "role"),
        ({"user": "bob", "role": "owner"}, "400 bad_request", "role"),
    ),
    *bodies(
        "k", "PATCH /v1/rooms/hall/members/olga", *BAD_JSON,
        ({}, "400 bad_request", "role"),
        ({"role": "king"}, "400 bad_request", "role"),
        ({"muted_until": "soon"}, "400 bad_request", "muted_until"),
        ({"muted_until": "2026-01-01T00:00:00"}, "400 bad_request", "muted_until"),
        ({"user": "bob", "role": "admin"}, "400 bad_request", "user"),
        ({"role": "member"}, "409 conflict", "role"),
    ),
    Bad("k", "PATCH /v1/rooms/hall/members/carl", {"role": "admin"}, "404 not_found"),
    Bad("k", "DELETE /v1/rooms/hall/members/olga", None, "409 conflict"),
    Bad("k", "POST /v1/rooms/hall/join", None, "400 bad_request", "user_id"),
    Bad("k", "POST /v1/rooms/hall/leave", None, "400 bad_request", "user_id"),
    Bad("k", "POST /v1/rooms/hall/join", {"user_id": "a b"}, "400 bad_request", "user_id"),
    Bad("t", "POST /v1/rooms/secret/join", None, "404 room_not_found"),
    Bad("o", "POST /v1/rooms/hall/leave", None, "409 conflict"),
    *queries("k", "GET /v1/rooms/hall/bans", *LISTS[:3]),
    Bad("o", "PUT /v1/rooms/hall/bans/olga", None, "409 conflict"),
    Bad("k", "PUT /v1/rooms/hall/bans/olga", None, "409 conflict"),
    Bad("t", "PUT /v1/rooms/secret/bans/bob", None, "404 room_not_found"),
    Bad("t", "DELETE /v1/rooms/secret/bans/bob", None, "404 room_not_found"),
    # --- read marks ---
    *bodies(
        "o", "POST /v1/rooms/hall/read",
        ({"seq": "1"}, "400 bad_request", "seq"),
        ({"seq": -1}, "400 bad_request", "seq"),
        ([], "400 bad_request"),
    ),
    Bad("t", "POST /v1/rooms/hall/read", {}, "403 not_a_member"),
    *queries("k", "GET /v1/rooms/hall/receipts", *LISTS[:3]),
    *queries("k", "GET /v1/rooms/hall/messages/1/recipients", *LISTS[:3]),
    # --- messages ---
    *bodies("k", "POST /v1/rooms/hall/messages", *BAD_JSON, *MESSAGES),
    Bad("t", "POST /v1/rooms/hall/messages", {"content": "x"}, "403 not_a_member"),
    Bad("t", "POST /v1/rooms/secret/messages", {"content": "x"}, "404 room_not_found"),
    Bad("t", "POST /v1/rooms/secret/messages", {"content": 1}, "400 bad_request", "content"),
    Bad(
        "k", "POST /v1/rooms/hall/messages", {"content": "x", "client_id": "a"},
        "400 bad_request", "client_id", {"Idempotency-Key": "b"},
    ),
    Bad(
        "k", "POST /v1/rooms/hall/messages", {"content": "x"},
        "400 bad_request", "client_id", {"Idempotency-Key": "x" * 65},
    ),
    *queries(
        "k", "GET /v1/rooms/hall/messages",
        ("before=x", "before"), ("after=-1", "after"), ("around=1.5", "around"),
        ("skip=x", "skip"), ("page=0", "page"), ("limit=101", "limit"), ("limit=0", "limit"),
        ("before=1&page=1", "page"), ("before=1&after=1", "after"), ("page=1&skip=1", "skip"),
        ("before=1&before=2", "before"), ("deleted=yes", "deleted"), ("sender=a%20b", "sender"),
        ("kind=NO", "kind"), ("from=yesterday", "from"), ("to=2026-01-01", "to"),
        ("before=99999999999999999999", "before"),
    ),
    Bad("t", "GET /v1/rooms/hall/messages?deleted=true", None, "403 forbidden", "deleted"),
    Bad("k", "GET /v1/rooms/hall/messages/99/replies", None, "404 message_not_found"),
    *queries("k", f"GET {ONE}/replies", ("limit=0", "limit"), ("page=1&skip=1", "skip")),
    *queries("k", f"GET {ONE}/reactions", *LISTS[:3]),
    *bodies(
        "k", f"PATCH {ONE}", *BAD_JSON,
        ({}, "400 bad_request", "content"),
        ({"content": 5}, "400 bad_request", "content"),
        ({"content": "x" * 32_769}, "413 too_large", "content"),
        ({"metadata": 5}, "400 bad_request", "metadata"),
        ({"attachments": [{"url": "x"}]}, "400 bad_request", "attachments"),
        ({"kind": "image"}, "400 bad_request", "kind"),
        ({"seq": 2, "content": "x"}, "400 bad_request", "seq"),
        ({"id": ID}, "400 bad_request", "id"),
    ),
    Bad("k", "PATCH /v1/rooms/hall/messages/99", {"content": "x"}, "404 message_not_found", "seq"),
    Bad("t", f"PATCH {ONE}", {"content": "x"}, "403 not_a_member"),
    Bad("k", "DELETE /v1/rooms/hall/messages/99", None, "404 message_not_found", "seq"),
    Bad("t", f"DELETE {ONE}", None, "403 not_a_member"),
    *[
        Bad("o", f"{method} {ONE}/reactions/{reaction}", None, "400 bad_request", "reaction")
        for method in ("PUT", "DELETE")
        for reaction in ("x" * 65, "%00", "a%0Ab", "%F0%9F%91%8D" * 17)
    ],
    Bad("k", f"PUT {ONE}/reactions/x", None, "400 bad_request", "user_id"),
    Bad("t", f"PUT {ONE}/reactions/x", None, "403 not_a_member"),
    *bodies(
        "k", f"POST {ONE}/forward", *BAD_JSON,
        ({}, "400 bad_request", "room"),
        ({"room": 7}, "400 bad_request", "room"),
        ({"room": "none"}, "404 room_not_found"),
        ({"room": "hall", "client_id": ""}, "400 bad_request", "client_id"),
    ),
    *bodies(
        "k", "POST /v1/messages",
        (b"{", "400 bad_request"), ({}, "400 bad_request"), ([], "400 bad_request"),
        ([{"room": "hall", "content": "x"}] * 101, "400 bad_request"),
        ([{"content": "x"}], "400 bad_request", "0.room"),
        ([{"room": "hall"}], "400 bad_request", "0.content"),
        ([{"room": "hall", "content": "x"}, {"room": "hall", "content": 1}], "400 bad_request",
         "1.content"),
        ([{"room": "hall", "content": "x"}, 7], "400 bad_request", "1"),
    ),
    *queries(
        "k", "GET /v1/rooms/hall/search",
        ("", "q"), ("q=", "q"), ("q=a&limit=0", "limit"), ("q=a&before=x", "before"),
        ("q=%00", "q"), ("q=a&q=b", "q"),
    ),
    *queries("k", "GET /v1/rooms/hall/presence", ("limit=0", "limit"), ("limit=1001", "limit")),
]  # fmt: skip


async def counts(api: Any) -> dict[str, int]:
    url = api.services.settings.database_url
    return {name: fetch(url, f"SELECT count(*) AS n FROM {name}")[0]["n"] for name in TABLES}


async def test_every_bad_request_is_refused_by_name_and_nothing_is_stored(api):
    """Rulings 3, 34, 38, 49, 52, 54, 55, and that a PATCH of what never changes is refused."""
    for user in ("olga", "alice", "bob", "carl"):
        await api.ok("POST", "/v1/users", {"id": user})
    await api.ok("POST", "/v1/rooms", {"id": "hall", "kind": "public", "created_by": "olga"})
    await api.ok("POST", "/v1/rooms/hall/members", {"user": "bob"})
    await api.ok("POST", "/v1/rooms", {"id": "secret", "created_by": "olga"})
    await api.as_user("olga").post("hall", "first")
    callers = {
        "k": api, "t": api.as_user("alice"), "o": api.as_user("olga"), "n": api.as_nobody(),
    }  # fmt: skip
    await callers["t"].ok("GET", "/v1/me")
    before, log = await counts(api), len(await api.log("hall"))
    wrong = []
    for row in TABLE:
        method, path = row.request.split(" ", 1)
        sent = row.headers | (JSON if isinstance(row.body, bytes) and not row.headers else {})
        answer = await callers[row.who].send(
            method, path, row.body, **{name.replace("-", "_"): text for name, text in sent.items()}
        )
        problem = answer.json() if answer.status >= 400 else {}
        got = (f"{answer.status} {problem.get('code')}", problem.get("field"))
        if got != (row.refusal, row.field):
            wrong.append((row.who, row.request, str(row.body)[:80], got, (row.refusal, row.field)))
    assert wrong == [], "\n".join(map(str, wrong))
    assert await counts(api) == before
    assert len(await api.log("hall")) == log


async def test_the_table_has_lines_for_every_operation(api):
    asked = {tuple(row.request.partition("?")[0].split(" ", 1)) for row in TABLE}
    missing = []
    for path, methods in api.contract.document["paths"].items():
        if not path.startswith("/v1/"):
            continue
        fits = re.compile(re.sub(r"\{\w+\}", "[^/]+", path)).fullmatch
        for method in methods:
            if not any(who == method.upper() and fits(where) for who, where in asked):
                missing.append((method.upper(), path))
    assert missing == []
    assert len(TABLE) > 300
