"""The routes of single messages, reactions, batches, copies and filtered pages, by REST alone."""

from __future__ import annotations

import itertools
from typing import Any
from urllib.parse import quote

import pytest

MESSAGES = "/v1/rooms/r/messages"
NOWHERE = "01a1fc53-75d3-74f6-9992-8b6940446e1a"


@pytest.fixture
async def alice(api):
    await api.ok(
        "POST", "/v1/rooms", {"id": "r", "created_by": "alice", "members": ["bob", "carol"]}
    )
    return api.as_user("alice")


async def test_one_message_by_its_id_alone(api, alice):
    sent = await alice.post("r", "text")
    path = f"/v1/messages/{sent['id']}"
    for _ in range(2):
        message = await alice.ok("GET", f"{MESSAGES}/1")
        for who in (alice, api.as_user("bob")):
            assert await who.ok("GET", path) == message
        assert (await api.ok("GET", path))["id"] == sent["id"]
        assert await api.as_user("zoe").refused("GET", path) == (404, "message_not_found")
        other = api.as_user("alice", project="other")
        assert await other.refused("GET", path) == (404, "message_not_found")
        await api.archive("r")
    assert await alice.refused("GET", f"/v1/messages/{NOWHERE}") == (404, "message_not_found")
    assert await alice.refused("GET", "/v1/messages/1") == (404, "message_not_found")
    edited = await alice.ok("PATCH", path, {"content": "new"})
    assert (edited["content"], edited["seq"]) == ("new", 1)
    stranger = await api.as_user("zoe").refused("PATCH", path, {"content": "x"})
    assert stranger == (404, "message_not_found")
    assert await api.as_user("zoe").refused("DELETE", path) == (404, "message_not_found")
    await alice.ok("DELETE", path, status=204)
    await alice.ok("DELETE", path, status=204)
    assert await alice.refused("PATCH", path, {"content": "x"}) == (409, "conflict")
    assert (await alice.ok("GET", path))["deleted_by"] == "alice"
    assert (await api.ok("GET", f"{path}?deleted=true"))["content"] == "new"
    assert await alice.refused("GET", f"{path}?deleted=true") == (403, "forbidden")


async def test_an_edit_answers_the_message_and_twice_changes_nothing(api, alice):
    await alice.post("r", "text", metadata={"a": 1})
    body = {"content": "new", "attachments": [{"url": "https://example.com", "x": 1}]}
    edited = await alice.ok("PATCH", f"{MESSAGES}/1", body)
    assert (edited["content"], edited["metadata"]) == ("new", {"a": 1})
    assert edited["attachments"][0]["url"] == "https://example.com"
    assert await alice.ok("PATCH", f"{MESSAGES}/1", body) == edited
    assert len(await api.log("r")) == 2


BAD_EDITS: list[tuple[Any, int, str, str | None]] = [
    ({}, 400, "bad_request", "content"),
    ({"content": None}, 400, "bad_request", "content"),
    ({"content": ""}, 400, "bad_request", "content"),
    ({"content": 5}, 400, "bad_request", "content"),
    ({"content": "a\x00"}, 400, "bad_request", "content"),
    ({"content": "x" * 32769}, 413, "too_large", "content"),
    ({"metadata": []}, 400, "bad_request", "metadata"),
    ({"metadata": {"a": "x" * 8192}}, 413, "too_large", "metadata"),
    ({"attachments": [{"url": "javascript:x"}]}, 400, "bad_request", "attachments"),
    ({"content": "x", "user_id": "bob"}, 403, "forbidden", "user_id"),
    ([], 400, "bad_request", None),
]


async def test_bad_edits_are_refused_by_field(api, alice):
    await alice.post("r", "text")
    for body, status, code, field in BAD_EDITS:
        answer = await alice.send("PATCH", f"{MESSAGES}/1", body)
        found = (answer.status, answer.json()["code"], answer.json()["field"])
        assert found == (status, code, field), body
    for method, path in (("PATCH", "x"), ("PATCH", "0"), ("PATCH", "2"), ("DELETE", NOWHERE)):
        body = {"content": "x"} if method == "PATCH" else None
        refused = await alice.refused(method, f"{MESSAGES}/{path}", body)
        assert refused == (404, "message_not_found")
    assert len(await api.log("r")) == 1


async def test_reactions_over_rest(api, alice):
    await alice.post("r", "text")
    path = f"{MESSAGES}/1/reactions"
    thumb = f"{path}/{quote('👍')}"
    bob = api.as_user("bob")
    for who in (alice, bob, bob):
        await who.ok("PUT", thumb, status=204)
    await api.archive("r")
    await api.ok("PUT", f"{path}/ok?user_id=carol", status=204)
    await alice.ok("DELETE", thumb, status=204)
    await alice.ok("DELETE", thumb, status=204)
    await alice.ok("PUT", f"{path}/late", status=204)
    expected = [("bob", "👍"), ("carol", "ok"), ("alice", "late")]
    for _ in range(2):
        found = await alice.ok("GET", path)
        assert [(item["user"], item["reaction"]) for item in found["items"]] == expected
        assert (found["page"], found["total"], found["totalPages"]) == (1, 3, 1)
        for place in range(4):
            page = await bob.ok("GET", f"{path}?limit=1&page={place + 1}")
            assert page["items"] == found["items"][place : place + 1]
            assert page["total"] == 3
        await api.archive("r")
    assert await api.refused("PUT", f"{path}/x") == (400, "bad_request")
    for reaction in ("x" * 65, quote("\x00"), quote("\x1f")):
        assert await alice.refused("PUT", f"{path}/{reaction}") == (400, "bad_request")
    assert await alice.refused("PUT", f"{MESSAGES}/9/reactions/x") == (404, "message_not_found")
    assert await api.as_user("zoe").refused("GET", path) == (404, "room_not_found")
    await alice.ok("DELETE", f"{MESSAGES}/1", status=204)
    assert (await alice.ok("GET", path))["items"] == []


async def test_direct_replies_in_pages(api, alice):
    for number in range(3):
        await alice.post("r", f"message {number}")
    for number in range(6):
        await alice.post("r", f"reply {number}", reply_to=2 if number % 2 else 1)
    await alice.post("r", "nested", reply_to=5)
    for batches in (0, 1, 1_000_000):
        await api.archive("r", batch=6, batches=batches)
        found = await alice.ok("GET", f"{MESSAGES}/2/replies")
        assert [item["content"] for item in found["items"]] == ["reply 1", "reply 3", "reply 5"]
        assert (found["next"], found["previous"]) == (None, None)
        page = await alice.ok("GET", f"{MESSAGES}/2/replies?limit=2")
        assert [item["content"] for item in page["items"]] == ["reply 3", "reply 5"]
        older = await alice.ok("GET", page["previous"])
        assert [item["content"] for item in older["items"]] == ["reply 1"]
        by_id = found["items"][0]["id"]
        nested = await alice.ok("GET", f"{MESSAGES}/{by_id}/replies?page=1")
        assert [item["content"] for item in nested["items"]] == ["nested"][: nested["total"]]
    assert await alice.refused("GET", f"{MESSAGES}/99/replies") == (404, "message_not_found")


async def test_filtered_pages_are_what_one_would_pick_by_hand(api, alice):
    """Sender, kind and time, alone and together, in every way of paging, archived or not."""
    kinds = ("text", "image", "text", "custom")
    for number in range(24):
        who = api.as_user(("alice", "bob")[number % 3 == 0])
        await who.post("r", f"message {number}", kind=kinds[number % 4])
    every = (await alice.history("r", "?limit=100"))["items"]
    times = [message["created_at"] for message in every]
    ranges: tuple[dict[str, str], ...] = (
        {}, {"from": times[5]}, {"to": times[18]}, {"from": times[5], "to": times[18]},
        {"from": "2099-01-01T00:00:00Z"}, {"to": "1999-01-01T00:00:00+01:00"},
    )  # fmt: skip
    for batches in (0, 1, 1_000_000):
        await api.archive("r", batch=13, batches=batches)
        for sender, kind, span in itertools.product(
            (None, "bob"), (None, "text", "image", "location"), ranges
        ):
            wanted = [
                message
                for message in every
                if sender in (None, message["sender"])
                and kind in (None, message["kind"])
                and span.get("from", "") <= message["created_at"] <= span.get("to", "3")
            ]
            given = span | {"sender": sender, "kind": kind}
            query = "".join(f"&{k}={quote(v)}" for k, v in given.items() if v is not None)
            await check_pages(alice, query, wanted)


async def check_pages(alice, query: str, wanted: list[Any]) -> None:
    back: list[Any] = []
    page = await alice.history("r", f"?limit=5{query}")
    while True:
        back[:0] = page["items"]
        if page["previous"] is None:
            break
        page = await alice.ok("GET", page["previous"])
    assert back == wanted, query
    page = await alice.history("r", f"?limit=7&after=0{query}")
    assert page["items"] == wanted[:7]
    assert page["has_more_after"] == (len(wanted) > 7)
    assert not page["has_more_before"]
    page = await alice.history("r", f"?limit=4&page=2{query}")
    assert page["items"] == wanted[-8:][:-4], query
    assert page["total"] == len(wanted)
    page = await alice.history("r", f"?limit=4&around=12{query}")
    older = [message for message in wanted if message["seq"] < 12]
    newer = [message for message in wanted if message["seq"] >= 12]
    assert page["items"] == older[-2:] + newer[:2], query


async def test_a_batch_of_the_servers(api, alice):
    await api.ok("POST", "/v1/rooms", {"id": "s", "members": ["bob"]})
    batch = [
        {"room": "r", "content": "one", "user_id": "alice", "client_id": "c"},
        {"room": "s", "content": "two", "kind": "system"},
        {"room": "r", "content": "three"},
    ]
    answer = await api.ok("POST", "/v1/messages", batch, status=201)
    found = [(m["room"], m["seq"], m["sender"], m["content"]) for m in answer["items"]]
    assert found == [("r", 1, "alice", "one"), ("s", 1, None, "two"), ("r", 2, None, "three")]
    assert [m["duplicate"] for m in answer["items"]] == [False] * 3
    again = await api.ok("POST", "/v1/messages", batch[:1], status=200)
    assert again["items"][0]["message_id"] == answer["items"][0]["message_id"]
    assert again["items"][0]["duplicate"] is True
    batch = [
        {"room": "nowhere", "content": "x"},
        {"room": "s", "content": "x", "user_id": "alice"},
        {"room": "r", "content": "kept"},
    ]
    answer = await api.ok("POST", "/v1/messages", batch, status=207)
    errors = [item["error"] for item in answer["items"][:2]]
    assert [error["code"] for error in errors] == ["room_not_found", "not_a_member"]
    assert [error["status"] for error in errors] == [404, 403]
    assert answer["items"][2]["content"] == "kept"
    assert await alice.refused("POST", "/v1/messages", batch) == (403, "forbidden")


BAD_BATCHES: list[tuple[Any, str | None]] = [
    ({}, None),
    ([], None),
    ([{"room": "r", "content": "x"}] * 101, None),
    ([5], "0"),
    ([{"room": "r", "content": "x"}, {"content": "x"}], "1.room"),
    ([{"room": "r", "content": "x"}, {"room": "a/b", "content": "x"}], "1.room"),
    ([{"room": "r", "content": "x"}, {"room": "r"}], "1.content"),
    ([{"room": "r", "content": "x"}, {"room": "r", "content": 5}], "1.content"),
    ([{"room": "r", "content": "x"}, {"room": "r", "content": "\x00"}], "1.content"),
]


async def test_a_malformed_batch_stores_nothing(api, alice):
    for body, field in BAD_BATCHES:
        answer = await api.send("POST", "/v1/messages", body)
        found = (answer.status, answer.json()["code"], answer.json()["field"])
        assert found == (400, "bad_request", field), body
    assert await api.log("r") == []


async def test_forwarding_tells_who_and_when_and_never_where(api, alice):
    await api.ok("POST", "/v1/rooms", {"id": "s", "members": ["alice"]})
    await api.ok("POST", "/v1/rooms", {"id": "t", "members": ["alice"]})
    await api.ok("POST", "/v1/rooms", {"id": "u", "members": ["bob"]})
    url = "https://example.com"
    sent = await api.as_user("bob").post(
        "r", "text", kind="image", metadata={"a": 1}, attachments=[{"url": url}],
        mentions=["alice"],
    )  # fmt: skip
    path = f"{MESSAGES}/1/forward"
    copy = await alice.ok("POST", path, {"room": "s", "client_id": "c"}, status=201)
    origin = {"sender": "bob", "created_at": sent["created_at"]}
    assert (copy["room"], copy["sender"], copy["forwarded_from"]) == ("s", "alice", origin)
    assert (copy["content"], copy["kind"], copy["metadata"]) == ("text", "image", {"a": 1})
    assert (copy["attachments"][0]["url"], copy["mentions"], copy["reply_to"]) == (url, [], None)
    again = await alice.ok("POST", path, {"room": "s", "client_id": "c"}, status=200)
    assert again["message_id"] == copy["id"]
    further = await alice.ok("POST", "/v1/rooms/s/messages/1/forward", {"room": "t"}, status=201)
    assert further["forwarded_from"] == origin
    await api.archive("s")
    assert (await alice.ok("GET", "/v1/rooms/s/messages/1"))["forwarded_from"] == origin
    for body, expected in (
        ({"room": "u"}, (404, "room_not_found")),
        ({"room": "nowhere"}, (404, "room_not_found")),
        ({"room": "a/b"}, (400, "bad_request")),
        ({}, (400, "bad_request")),
        ({"room": "s", "client_id": ""}, (400, "bad_request")),
    ):
        assert await alice.refused("POST", path, body) == expected
    zoe = await api.as_user("zoe").refused("POST", path, {"room": "s"})
    assert zoe == (404, "room_not_found")
    gone = await alice.refused("POST", f"{MESSAGES}/9/forward", {"room": "s"})
    assert gone == (404, "message_not_found")
    await api.as_user("bob").ok("DELETE", f"{MESSAGES}/1", status=204)
    assert await alice.refused("POST", path, {"room": "s"}) == (409, "conflict")


async def test_a_message_in_a_long_backlog_is_found_by_id_or_said_to_be_unknown(
    api, alice, monkeypatch
):
    from storage.redis import archive

    sent = [await alice.post("r", f"message {number}") for number in range(12)]
    monkeypatch.setattr(archive, "FIND_CHUNK", 5)
    assert (await alice.ok("GET", f"/v1/messages/{sent[11]['id']}"))["seq"] == 12
    monkeypatch.setattr(archive, "FIND_MAX", 5)
    found = await alice.refused("GET", f"/v1/messages/{sent[11]['id']}")
    assert found == (503, "unavailable")
