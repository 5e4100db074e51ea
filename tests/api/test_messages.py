"""Messages over REST: publishing, idempotency, one message, ETags, the shapes of pages."""

from __future__ import annotations

import re
from typing import Any

import pytest
import trio

from tests.support.http import Response

MESSAGE_FIELDS = {
    "id", "room", "seq", "sender", "kind", "content", "metadata", "attachments", "mentions",
    "reply_to", "reply_count", "forwarded_from", "client_id", "created_at", "edited_at",
    "deleted_at", "deleted_by", "reactions",
}  # fmt: skip


@pytest.fixture
async def alice(api):
    await api.ok("POST", "/v1/rooms", {"id": "r", "created_by": "alice", "members": ["bob"]})
    return api.as_user("alice")


async def test_a_message_is_answered_whole_and_read_at_once(api, alice):
    body = {
        "content": "hé",
        "kind": "file",
        "metadata": {"b": 1, "a": [1.5, None]},
        "attachments": [{"url": "https://example.com/f", "mime": "text/plain", "extra": 1}],
        "mentions": ["bob"],
        "client_id": "c1",
    }
    answer = await alice.send("POST", "/v1/rooms/r/messages", body)
    assert answer.status == 201, answer.body
    assert answer.headers["location"] == "/v1/rooms/r/messages/1"
    message = answer.json()
    extra = {name: message.pop(name) for name in ("message_id", "offset", "duplicate")}
    assert extra == {"message_id": message["id"], "offset": 1, "duplicate": False}
    assert message.keys() == MESSAGE_FIELDS
    assert message["attachments"] == [
        {
            "url": "https://example.com/f",
            "mime": "text/plain",
            "size": None,
            "name": None,
            "metadata": None,
        }
    ]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", message["created_at"])
    for _ in range(2):
        assert (await alice.history("r"))["items"] == [message]
        assert await alice.ok("GET", "/v1/rooms/r/messages/1") == message
        assert await alice.ok("GET", f"/v1/rooms/r/messages/{message['id']}") == message
        await api.archive("r")


async def test_who_writes(api, alice):
    by_project = await api.post("r", "from the project", kind="system")
    assert by_project["sender"] is None
    for_bob = await api.post("r", "for bob", user_id="bob")
    assert for_bob["sender"] == "bob"
    path = "/v1/rooms/r/messages"
    nowhere = path.replace("/r/", "/nowhere/")
    refused = await alice.refused("POST", nowhere, {"content": "x", "kind": "system"})
    assert refused == (404, "room_not_found"), "that the room is not seen comes first"
    assert await alice.refused("POST", path, {"content": "x", "kind": "system"}) == (
        403,
        "forbidden",
    )
    assert await alice.refused("POST", path, {"content": "x", "user_id": "bob"}) == (
        403,
        "forbidden",
    )
    assert await api.refused("POST", path, {"content": "x", "user_id": "eve"}) == (
        403,
        "not_a_member",
    )
    assert await api.refused("POST", path + "?user_id=bob", {"content": "x", "user_id": "al"}) == (
        400,
        "bad_request",
    )
    for user, expected in (("bob", 201), ("alice", 201)):
        answer = await api.send("POST", f"{path}?user_id={user}", {"content": "x"})
        assert (answer.status, answer.json()["sender"]) == (expected, user)


async def test_the_same_client_id_is_one_message(api, alice):
    first = await alice.post("r", "one", client_id="c1")
    answer = await alice.send(
        "POST", "/v1/rooms/r/messages", {"content": "two"}, Idempotency_Key="c1"
    )
    assert answer.status == 200
    assert answer.json() == {**first, "duplicate": True}
    await api.archive("r")
    again = await alice.send(
        "POST", "/v1/rooms/r/messages", {"content": "3", "client_id": "c1"}, Idempotency_Key="c1"
    )
    assert again.json() == {**first, "duplicate": True}
    assert [item["content"] for item in (await alice.history("r"))["items"]] == ["one"]
    bob = await api.as_user("bob").post("r", "bob's", client_id="c1")
    assert bob["duplicate"] is False


async def test_the_same_client_id_at_the_same_time_is_one_message(api, alice):
    answers: list[Response] = []

    async def send() -> None:
        body = {"content": "x", "client_id": "raced"}
        answers.append(await alice.send("POST", "/v1/rooms/r/messages", body))

    async with trio.open_nursery() as nursery:
        for _ in range(10):
            nursery.start_soon(send)
    assert sorted(answer.status for answer in answers) == [200] * 9 + [201]
    assert len({answer.json()["message_id"] for answer in answers}) == 1


BAD_MESSAGES: list[tuple[Any, dict[str, str], int, str, str]] = [
    ({}, {}, 400, "bad_request", "content"),
    ({"content": ""}, {}, 400, "bad_request", "content"),
    ({"content": 7}, {}, 400, "bad_request", "content"),
    ({"content": "x" * 32769}, {}, 413, "too_large", "content"),
    ({"content": "a\u0000b"}, {}, 400, "bad_request", "content"),
    (b'{"content": "\\ud800"}', {}, 400, "bad_request", "content"),
    (b'{"content": "x", "metadata": {"a": Infinity}}', {}, 400, "bad_request", "metadata"),
    ({"content": "x", "kind": "Big"}, {}, 400, "bad_request", "kind"),
    ({"content": "x", "mentions": ["a/b"]}, {}, 400, "bad_request", "mentions"),
    ({"content": "x", "reply_to": 5}, {}, 404, "message_not_found", "reply_to"),
    ({"content": "x", "reply_to": 0}, {}, 404, "message_not_found", "reply_to"),
    ({"content": "x", "client_id": "c" * 65}, {}, 400, "bad_request", "client_id"),
    ({"content": "x"}, {"Idempotency_Key": "c" * 65}, 400, "bad_request", "client_id"),
    ({"content": "x"}, {"Idempotency_Key": ""}, 400, "bad_request", "client_id"),
    (
        {"content": "x", "client_id": "a"},
        {"Idempotency_Key": "b"},
        400,
        "bad_request",
        "client_id",
    ),
    ({"attachments": [{"url": "data:x"}]}, {}, 400, "bad_request", "attachments"),
    ({"content": "x", "user_id": 5}, {}, 400, "bad_request", "user_id"),
]


async def test_bad_messages_are_refused_by_field(api, alice):
    for body, headers, status, code, field in BAD_MESSAGES:
        answer = await alice.send(
            "POST", "/v1/rooms/r/messages", body, Content_Type="application/json", **headers
        )
        found = (answer.status, answer.json()["code"], answer.json()["field"])
        assert found == (status, code, field), str(body)[:80]
    assert await api.log("r") == []


async def test_a_page_has_the_contracts_shape(api, alice):
    await api.ok("POST", "/v1/users", {"id": "zoe", "display_name": "Zoë"})
    await api.ok("POST", "/v1/rooms/r/members", {"user": "zoe"})
    for number in range(3):
        await api.as_user("zoe").post("r", f"z{number}")
        await alice.post("r", f"a{number}")
    page = await alice.history("r", "?limit=4&before=6")
    assert page.keys() == {
        "items", "has_more_before", "has_more_after", "next", "previous", "users",
    }  # fmt: skip
    assert [item["seq"] for item in page["items"]] == [2, 3, 4, 5]
    assert page["has_more_before"] is page["has_more_after"] is True
    assert page["next"] == "/v1/rooms/r/messages?after=5&limit=4"
    assert page["previous"] == "/v1/rooms/r/messages?before=2&limit=4"
    assert page["users"] == {
        "alice": {"display_name": None, "avatar_url": None},
        "zoe": {"display_name": "Zoë", "avatar_url": None},
    }
    newest = await alice.ok("GET", page["next"])
    assert [item["seq"] for item in newest["items"]] == [6]
    assert (newest["next"], newest["has_more_after"]) == (None, False)
    numbered = await alice.history("r", "?page=2&limit=4")
    assert numbered.keys() == {"items", "page", "limit", "total", "totalPages"}
    assert [item["seq"] for item in numbered["items"]] == [1, 2]
    assert (numbered["page"], numbered["total"], numbered["totalPages"]) == (2, 6, 2)
    acting = await api.ok("GET", "/v1/rooms/r/messages?user_id=bob&limit=1")
    assert acting["previous"] == "/v1/rooms/r/messages?before=6&limit=1&user_id=bob"
    empty = await alice.history("r", "?after=6")
    assert (empty["items"], empty["next"], empty["users"]) == ([], None, {})
    assert empty["previous"] == "/v1/rooms/r/messages?before=7&limit=50"


BAD_QUERIES = [
    ("before=1&after=2", "after"),
    ("page=1&before=2", "page"),
    ("page=1&skip=2", "skip"),
    ("around=1&skip=0", "skip"),
    ("limit=101", "limit"),
    ("limit=0", "limit"),
    ("limit=ten", "limit"),
    ("before=-1", "before"),
    ("before=1.5", "before"),
    ("before=" + "9" * 30, "before"),
    ("page=0", "page"),
    ("deleted=maybe", "deleted"),
    ("sender=b%20b", "sender"),
    ("kind=Text", "kind"),
    ("kind=", "kind"),
    ("from=yesterday", "from"),
    ("from=2026-01-02T03:04:05", "from"),
    ("from=0001-01-01T00:00:00%2B14:00", "from"),
    ("to=1767225600", "to"),
]


async def test_bad_queries_are_refused_by_field(alice):
    for query, field in BAD_QUERIES:
        answer = await alice.send("GET", f"/v1/rooms/r/messages?{query}")
        found = (answer.status, answer.json()["code"], answer.json()["field"])
        assert found == (400, "bad_request", field), query


async def test_huge_bounds_are_just_empty_pages(alice):
    await alice.post("r", "x")
    huge = 2**63 - 1
    for query in (f"after={huge}", f"skip={huge}", f"page={huge}", "before=0", "after=1"):
        assert (await alice.history("r", f"?{query}"))["items"] == []
    for query in (f"before={huge}", "around=1", "skip=0"):
        assert len((await alice.history("r", f"?{query}"))["items"]) == 1


async def test_an_etag_changes_with_the_page_and_comes_after_access(api, alice):
    path = "/v1/rooms/r/messages?limit=5"
    await alice.post("r", "one")
    first = await alice.send("GET", path)
    tag = first.headers["etag"]
    assert re.fullmatch(r'"[0-9a-f]+"', tag)
    assert first.headers["cache-control"] == "private, no-cache"
    for known in (tag, f'"x", {tag}', f"W/{tag}", "*"):
        same = await alice.send("GET", path, If_None_Match=known)
        assert (same.status, same.body, same.headers["etag"]) == (304, b"", tag)
    await api.append("r", "message.deleted", {"id": "x", "seq": 1, "by": "bob"})
    changed = await alice.send("GET", path, If_None_Match=tag)
    assert changed.status == 200
    assert changed.headers["etag"] != tag
    tag = changed.headers["etag"]
    await api.ok("PATCH", "/v1/rooms/r/members/bob", {"role": "owner"})
    await alice.ok("DELETE", "/v1/rooms/r/members/alice")
    gone = await alice.send("GET", path, If_None_Match=tag)
    assert gone.status == 404


async def test_a_missing_message_is_not_found(alice):
    await alice.post("r", "x")
    for name in ("2", "0", "9" * 30, "word", "0198c5b6-7a0e-7000-8000-000000000000"):
        assert await alice.refused("GET", f"/v1/rooms/r/messages/{name}") == (
            404,
            "message_not_found",
        )


async def test_a_message_of_another_room_is_not_found_here(api, alice):
    await api.ok("POST", "/v1/rooms", {"id": "other", "members": ["bob"]})
    foreign = await api.as_user("bob").post("other", "secret")
    for _ in range(2):
        assert await alice.refused("GET", f"/v1/rooms/r/messages/{foreign['id']}") == (
            404,
            "message_not_found",
        )
        await api.archive("other")


@pytest.mark.parametrize("archived", [False, True])
async def test_deleted_content_is_for_keys_that_ask(api, alice, archived):
    await alice.post("r", "secret", metadata={"a": 1}, mentions=["bob"])
    await api.append("r", "message.deleted", {"id": "x", "seq": 1, "sender": "alice", "by": None})
    if archived:
        await api.archive("r")
    for path in ("/v1/rooms/r/messages/1", "/v1/rooms/r/messages"):
        shown = await alice.ok("GET", path)
        shown = shown["items"][0] if "items" in shown else shown
        assert shown["content"] is None
        assert (shown["metadata"], shown["mentions"], shown["attachments"]) == ({}, [], [])
        assert shown["deleted_at"] is not None
        revealed = await api.ok("GET", path + "?deleted=true")
        revealed = revealed["items"][0] if "items" in revealed else revealed
        assert (revealed["content"], revealed["metadata"]) == ("secret", {"a": 1})
        assert await alice.refused("GET", path + "?deleted=true") == (403, "forbidden")


async def test_seq_and_offset_are_told_apart(api, alice):
    """An event of a member takes an offset but no seq; the answer must not mix them up."""
    await api.ok("POST", "/v1/rooms/r/members", {"user": "nina"}, status=201)
    answer = await alice.send("POST", "/v1/rooms/r/messages", {"content": "x", "client_id": "s1"})
    assert answer.headers["location"] == "/v1/rooms/r/messages/1"
    first = answer.json()
    assert (first["seq"], first["offset"], first["duplicate"]) == (1, 2, False)
    again = await alice.ok(
        "POST", "/v1/rooms/r/messages", {"content": "x", "client_id": "s1"}, status=200
    )
    assert (again["seq"], again["offset"], again["duplicate"]) == (1, 2, True)
