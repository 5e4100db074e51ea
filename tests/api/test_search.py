"""Search over REST: what is found, in which order, how it goes on, and what is never found."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import pytest


async def make_room(api, room: str = "r") -> Any:
    await api.ok("POST", "/v1/rooms", {"id": room, "created_by": "alice", "members": ["bob"]})
    return api.as_user("alice")


async def found(api, q: str, more: str = "", room: str = "r") -> list[int]:
    """Seqs of the messages that are found."""
    page = await api.ok("GET", f"/v1/rooms/{room}/search?q={quote(q)}{more}")
    return [item["seq"] for item in page["items"]]


async def follow(api, start: str) -> list[int]:
    """Seqs of all pages of a search; a walk that takes too long ends a page early."""
    seqs: list[int] = []
    path: str | None = start
    while path is not None:
        page = await api.ok("GET", path)
        seqs += [item["seq"] for item in page["items"]]
        assert page["has_more"] == (page["next"] is not None)
        path = page["next"]
    return seqs


async def test_all_words_newest_first_in_any_case(api):
    alice = await make_room(api)
    for text in ("Red apples", "green apple", "RED, red wine", "red apples again", "Äpfel: Straße"):
        await alice.post("r", text)
    await api.archive("r")
    assert await found(alice, "red") == [4, 3, 1]
    assert await found(alice, "apples RED") == [4, 1]
    assert await found(alice, "red green") == []
    assert await found(alice, "äpfel straße") == [5]
    assert await found(alice, "appl") == [], "words are whole words"
    page = await alice.ok("GET", "/v1/rooms/r/search?q=wine")
    history = await alice.history("r")
    assert page == {
        "items": [history["items"][2]],
        "has_more": False,
        "next": None,
        "users": history["users"],
    }


async def test_a_search_goes_on_below_a_seq(api):
    alice = await make_room(api)
    for number in range(1, 8):
        await alice.post("r", f"word {number}")
    await api.archive("r")
    assert await follow(alice, "/v1/rooms/r/search?q=word&limit=3") == [7, 6, 5, 4, 3, 2, 1]
    assert await found(alice, "word", "&before=3") == [2, 1]
    assert await found(alice, "word", "&before=1") == []
    assert await found(alice, "word", "&before=9000000000000000000") == [7, 6, 5, 4, 3, 2, 1]


async def test_a_walk_over_many_stretches_misses_nothing(api):
    """Seqs far apart, at the edges of the index's stretches."""
    alice = await make_room(api)
    await alice.post("r", "needle")
    await api.archive("r")
    stretch = 8192
    seqs = sorted({n * stretch + d for n in (1, 2, 3, 40, 2000) for d in (-1, 0, 1)})
    await api.services.db.execute(
        "INSERT INTO messages (room_pk, seq, id, sender, content, created_at, event_offset, "
        "last_offset) SELECT r.pk, n, gen_random_uuid(), 'bob', 'a needle ' || n, now(), n, n "
        "FROM rooms r, unnest($1::bigint[]) n",
        seqs,
    )
    await api.services.db.execute("UPDATE rooms SET seq = $1", seqs[-1])
    everything = [*reversed(seqs), 1]
    for limit in (1, 4, 50):
        assert await follow(alice, f"/v1/rooms/r/search?q=needle&limit={limit}") == everything
    for place in range(0, len(everything) - 1, 5):
        path = f"/v1/rooms/r/search?q=needle&before={everything[place]}"
        assert await follow(alice, path) == everything[place + 1 :]


async def test_what_was_deleted_or_edited_is_not_found_by_its_old_text(api):
    """Ruling 56: search is of archived messages, but a deletion hides a hit at once."""
    alice = await make_room(api)
    for text in ("secret one", "secret two", "secret three"):
        await alice.post("r", text)
    await api.archive("r")
    await alice.ok("DELETE", "/v1/rooms/r/messages/1")
    await alice.ok("PATCH", "/v1/rooms/r/messages/2", {"content": "plain two"})
    assert await api.log("r"), "nothing of it is archived yet"
    assert await found(alice, "secret") == [3]
    await api.archive("r")
    assert await found(alice, "secret") == [3]
    assert await found(alice, "plain") == [2]
    assert await found(alice, "one") == []
    assert await found(api, "secret", "&deleted=true") == [3], "not even by a key"


async def test_live_reactions_and_replies_are_on_what_is_found(api):
    alice = await make_room(api)
    await alice.post("r", "hello")
    await api.archive("r")
    await alice.ok("PUT", "/v1/rooms/r/messages/1/reactions/yes")
    await alice.post("r", "an answer", reply_to=1)
    page = await alice.ok("GET", "/v1/rooms/r/search?q=hello")
    assert page["items"] == [await alice.ok("GET", "/v1/rooms/r/messages/1")]
    assert page["items"][0]["reactions"]["yes"]["mine"] is True
    assert page["items"][0]["reply_count"] == 1


async def test_only_readers_search(api):
    """Ruling 9: to others a group room does not exist."""
    alice = await make_room(api)
    await make_room(api, "other")
    await alice.post("r", "word")
    await alice.post("other", "word")
    await api.archive("r")
    await api.archive("other")
    stranger = api.as_user("mallory")
    assert await stranger.refused("GET", "/v1/rooms/r/search?q=word") == (404, "room_not_found")
    assert await stranger.refused("GET", "/v1/rooms/none/search?q=word") == (404, "room_not_found")
    reader = api.as_user("mallory", rooms={"r": ["join"]})
    assert await found(reader, "word") == [1]
    assert await found(api, "word", "&user_id=bob") == [1]
    assert await api.as_nobody().refused("GET", "/v1/rooms/r/search?q=word") == (
        401,
        "unauthenticated",
    )


@pytest.mark.parametrize(
    "query",
    ["", "?q=", "?q=%20", "?q=%21%3F", "?q=a%00", "?q=w&limit=0", "?q=w&limit=101", "?q=w&before=x",
     "?q=" + "+".join(f"w{n}" for n in range(17))],
)  # fmt: skip
async def test_bad_queries_name_the_field(api, query):
    alice = await make_room(api)
    answer = await alice.send("GET", f"/v1/rooms/r/search{query}")
    problem = answer.json()
    assert (answer.status, problem["code"]) == (400, "bad_request")
    assert problem["field"] == next((f for f in ("limit", "before") if f in query), "q")


async def test_a_query_has_a_length_and_no_syntax(api):
    alice = await make_room(api)
    long = await alice.send("GET", f"/v1/rooms/r/search?q={'x' * 257}")
    assert (long.status, long.json()["field"]) == (413, "q")
    await alice.post("r", "a & b | !c :* 'd' \\ foo-bar me@example.com http://x.example/y?z=1")
    await api.archive("r")
    for text in ("a & !c", "'d'", "foo-bar", "bar", "me@example.com", "c:*", "\\", "(a"):
        expected = [] if text == "\\" else [1]
        if expected:
            assert await found(alice, text) == [1], text
        else:
            assert await alice.refused("GET", f"/v1/rooms/r/search?q={quote(text)}") == (
                400,
                "bad_request",
            )
