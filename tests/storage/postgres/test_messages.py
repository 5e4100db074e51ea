"""The page statement itself: byte shapes, and the snapshot it stands at."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

from storage.postgres import messages
from storage.postgres.messages import ReactionsAsked, read_page
from storage.postgres.pool import Database

BIRTH = datetime(2026, 1, 2, 3, 4, 5, 678_000, tzinfo=UTC)


async def make_room(database: Database, *, archived_offset: int = 0) -> int:
    pk = await database.fetchval(
        "INSERT INTO rooms (project, id, archived_offset, seq) VALUES ('p', 'r', $1, 9)"
        " RETURNING pk",
        archived_offset,
    )
    return int(pk)


async def add_message(database: Database, pk: int, seq: int, **columns: object) -> None:
    values = {
        "room_pk": pk,
        "seq": seq,
        "id": f"0198c5b6-7a0e-7000-8000-{seq:012}",
        "created_at": BIRTH + timedelta(milliseconds=seq),
        "event_offset": seq,
        "last_offset": seq,
        **columns,
    }
    names = ", ".join(values)
    places = ", ".join(f"${place}" for place in range(1, len(values) + 1))
    await database.execute(f"INSERT INTO messages ({names}) VALUES ({places})", *values.values())


async def test_a_message_is_built_with_every_field(database):
    pk = await make_room(database, archived_offset=41)
    await add_message(
        database, pk, 1, sender="alice", content='a "quote"\n\u2028', metadata='{"a": [1, null]}',
        attachments='[{"url": "https://example.com"}]', mentions=["bob"], reply_count=2,
        client_id="c", edited_at=BIRTH,
        forwarded_from='{"sender": "zed", "created_at": "2026-01-01T00:00:00.000Z"}',
    )  # fmt: skip
    await add_message(database, pk, 2, reply_to=1)
    page = await read_page(database, pk, messages.select_before(messages.SEQ_MAX, 10))
    assert page is not None
    assert (page.archived_offset, page.seq, page.seqs) == (41, 9, [1, 2])
    assert (page.oldest, page.newest, page.total, page.users) == (1, 2, None, None)
    first, second = map(json.loads, page.bodies)
    assert first == {
        "id": "0198c5b6-7a0e-7000-8000-000000000001",
        "room": "r",
        "seq": 1,
        "sender": "alice",
        "kind": "text",
        "content": 'a "quote"\n\u2028',
        "metadata": {"a": [1, None]},
        "attachments": [{"url": "https://example.com"}],
        "mentions": ["bob"],
        "reply_to": None,
        "reply_count": 2,
        "forwarded_from": {"sender": "zed", "created_at": "2026-01-01T00:00:00.000Z"},
        "client_id": "c",
        "created_at": "2026-01-02T03:04:05.679Z",
        "edited_at": "2026-01-02T03:04:05.678Z",
        "deleted_at": None,
        "deleted_by": None,
        "reactions": {},
    }
    assert second["sender"] is None
    assert second["reply_to"] == 1
    assert (second["content"], second["metadata"]) == (None, {})
    assert (second["attachments"], second["mentions"]) == ([], [])


async def test_selections_choose_and_always_rise(database):
    pk = await make_room(database)
    for seq in (1, 2, 3, 5, 6, 9):
        await add_message(database, pk, seq)
    for selection, expected in (
        (messages.select_before(6, 2), [3, 5]),
        (messages.select_before(1, 2), []),
        (messages.select_after(3, 2), [5, 6]),
        (messages.select_after(9, 2), []),
        (messages.select_around(4, 2, 2), [2, 3, 5, 6]),
        (messages.select_around(5, 0, 1), [5]),
        (messages.select_skip(0, 2, []), [6, 9]),
        (messages.select_skip(5, 2, []), [1]),
        (messages.select_skip(6, 2, []), []),
        (messages.select_skip(3, 2, [11, 12]), [5, 6]),
        (messages.select_skip(1, 2, [11, 12]), [6, 9]),
        (messages.select_seq(5), [5]),
        (messages.select_seq(4), []),
        (messages.select_id("0198c5b6-7a0e-7000-8000-000000000003"), [3]),
    ):
        page = await read_page(database, pk, selection)
        assert page is not None
        assert page.seqs == expected, selection
        assert [json.loads(body)["seq"] for body in page.bodies] == expected
        assert page.total == (6 if selection.name == "skip" else None)
    assert await read_page(database, 12345, messages.select_seq(1)) is None


async def test_reactions_are_counted_in_order_and_cut(database):
    pk = await make_room(database)
    await add_message(database, pk, 1)
    await add_message(database, pk, 2, deleted_at=BIRTH, deleted_by="bob", content="gone")
    for number in range(12):
        at = BIRTH + timedelta(seconds=number)
        for seq in (1, 2):
            await database.execute(
                "INSERT INTO reactions VALUES ($1, $2, '👍', $3, $4)", pk, seq, f"u{number:02}", at
            )
    selection = messages.select_after(0, 10)
    page = await read_page(database, pk, selection, viewer="u11")
    assert page is not None
    first, second = map(json.loads, page.bodies)
    ten = [f"u{number:02}" for number in range(10)]
    assert first["reactions"] == {"👍": {"count": 12, "users": ten, "mine": True}}
    assert (second["reactions"], second["content"], second["deleted_by"]) == ({}, None, "bob")
    asked = ReactionsAsked([1, 1], ["👍", "👎"], ["u11", "u11"])
    page = await read_page(database, pk, selection, reveal=True, asked=asked)
    assert page is not None
    first, second = map(json.loads, page.bodies)
    assert first["reactions"]["👍"]["users"] == [*ten, "u10", "u11"]
    assert "mine" not in first["reactions"]["👍"]
    assert page.present == [True, False]
    assert (second["reactions"], second["content"]) == ({}, "gone")


async def test_names_of_senders_come_with_the_page_if_asked(database):
    pk = await make_room(database)
    await add_message(database, pk, 1, sender="alice")
    await add_message(database, pk, 2, sender="gone")
    await add_message(database, pk, 3)
    await database.execute(
        "INSERT INTO users (project, id, display_name, deleted_at) VALUES"
        " ('p', 'alice', 'Alice', NULL), ('p', 'gone', 'Gone', now()), ('p', 'zoe', NULL, NULL),"
        " ('q', 'alice', 'Other', NULL)"
    )
    page = await read_page(database, pk, messages.select_after(0, 9), names_of=["zoe"])
    assert page is not None
    assert page.users is not None
    assert json.loads(page.users) == {
        "alice": {"display_name": "Alice", "avatar_url": None},
        "zoe": {"display_name": None, "avatar_url": None},
    }
    empty = await read_page(database, pk, messages.select_after(9, 9), names_of=[])
    assert empty is not None
    assert empty.users == b"{}"
