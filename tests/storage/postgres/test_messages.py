"""The page statement itself: plans, byte shapes, and the snapshot it stands at."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

from storage.postgres import api_keys, members, message_details, messages, rooms, users
from storage.postgres.messages import ReactionsAsked, read_page
from storage.postgres.pool import Database
from tests.support.servers import run_sql

BIRTH = datetime(2026, 1, 2, 3, 4, 5, 678_000, tzinfo=UTC)
FILL = """
INSERT INTO users (project, id, username, external_user_id)
SELECT 'p' || n % 5, 'user' || n, 'name' || n, 'ext' || n FROM generate_series(1, 3000) n;
INSERT INTO rooms (project, id, kind, external_id)
SELECT 'p' || n % 5, 'room' || n, CASE WHEN n % 100 = 0 THEN 'public' ELSE 'group' END, 'x' || n
FROM generate_series(1, 3000) n;
INSERT INTO rooms (project, id, kind, direct_low, direct_high)
SELECT 'p1', 'direct' || n, 'direct', 'a' || n, 'b' || n FROM generate_series(1, 3000) n;
INSERT INTO members (room_pk, user_id, project)
SELECT pk, 'user' || n, project FROM rooms, generate_series(1, 10) n;
INSERT INTO messages (room_pk, seq, id, sender, content, created_at, event_offset, last_offset)
SELECT r, n, gen_random_uuid(), 'user' || n % 7, 'text', now(), n, n
FROM generate_series(1, 300) r, generate_series(1, 100) n;
INSERT INTO reactions (room_pk, seq, reaction, user_id, created_at)
SELECT r, n, 'yes', 'user' || u, now()
FROM generate_series(1, 300) r, generate_series(1, 100, 10) n, generate_series(1, 5) u;
INSERT INTO api_keys (id, project, prefix, hash)
SELECT gen_random_uuid(), 'default', 'p' || n, sha256(n::text::bytea)
FROM generate_series(1, 2000) n;
INSERT INTO projects (id) SELECT 'project' || n FROM generate_series(1, 2000) n;
ANALYZE;
"""
COMMON = (7, "user1", False, ["user2"], 11, [5], ["yes"], ["user1"])
NEVER_SCANNED = ("messages", "users", "rooms", "members", "reactions", "api_keys", "projects")

SELECTIONS = {
    "before": (50, 20),
    "after": (50, 20),
    "around": (50, 10, 10),
    "skip": (50, 10, [101, 102]),
    "seq": (50,),
    "id": ("0198c5b6-7a0e-7000-8000-000000000000",),
}
FILTERS = {
    "sender": ("user1",),
    "text": (),
    "kind": ("image",),
    "time": (BIRTH, BIRTH + timedelta(days=3650)),
    "replies": (3,),
}


def selection_arguments(name: str) -> tuple[object, ...]:
    """What a statement takes behind the arguments that all have."""
    selection, *parts = name.split()
    found: tuple[object, ...] = SELECTIONS[selection]
    for part in parts:
        found += FILTERS[part]
    return found


STATEMENTS = {
    **{
        f"messages {name}": (statement, (*COMMON, *selection_arguments(name)))
        for name, statement in messages.STATEMENTS.items()
    },
    "message_details room": (
        message_details.STATEMENTS["room"],
        ("0198c5b6-7a0e-7000-8000-000000000000", "p1"),
    ),
    "message_details reactions": (
        message_details.STATEMENTS["reactions"],
        (7, 11, 0, 50, ["yes"], ["user1"]),
    ),
    "users state": (users.STATEMENTS["state"], ("p1", "user1")),
    "users fetch": (users.STATEMENTS["fetch"], ("p1", "user1")),
    "users live": (users.STATEMENTS["live"], ("p1", ["user1", "user6"])),
    "rooms by_pair": (rooms.STATEMENTS["by_pair"], ("p1", "a7", "b7")),
    "rooms by_external_id": (rooms.STATEMENTS["by_external_id"], ("p1", "x6")),
    "rooms by_id": (rooms.STATEMENTS["by_id"], ("p1", "room6")),
    "rooms fetch": (rooms.STATEMENTS["fetch"], (7,)),
    "rooms list": (rooms.STATEMENTS["list"], ("p2", 0, 50)),
    "rooms list kind": (rooms.STATEMENTS["list kind"], ("p2", 0, 50, "group")),
    "rooms list external_id": (rooms.STATEMENTS["list external_id"], ("p2", 0, 50, "x7")),
    "rooms list kind external_id": (
        rooms.STATEMENTS["list kind external_id"],
        ("p2", 0, 50, "group", "x7"),
    ),
    "rooms total": (rooms.STATEMENTS["total"], ("p2",)),
    "rooms total kind": (rooms.STATEMENTS["total kind"], ("p2", "group")),
    "rooms total external_id": (rooms.STATEMENTS["total external_id"], ("p2", "x7")),
    "rooms total kind external_id": (
        rooms.STATEMENTS["total kind external_id"],
        ("p2", "group", "x7"),
    ),
    "members roles": (members.STATEMENTS["roles"], (7, ["user1"])),
    "members list": (members.STATEMENTS["list"], (7, 0, 50)),
    "members some": (members.STATEMENTS["some"], (7, ["user1"])),
    "api_keys find": (api_keys.STATEMENTS["find"], (b"x" * 32,)),
    "api_keys project": (api_keys.STATEMENTS["project"], ("project7",)),
}


def test_every_statement_has_a_plan_below():
    named = {
        f"{module.__name__.rpartition('.')[2]} {name}"
        for module in (api_keys, members, message_details, messages, rooms, users)
        for name in module.STATEMENTS
    }
    assert named == set(STATEMENTS)


def test_every_query_walks_its_index(database_url):
    async def explain(connection):
        await connection.execute(FILL)
        await connection.execute("SET plan_cache_mode = force_generic_plan")
        plans = {}
        for name, (statement, arguments) in STATEMENTS.items():
            rows = await connection.fetch(f"EXPLAIN (VERBOSE) {statement}", *arguments)
            await connection.execute(f"PREPARE generic AS {statement}")
            nulls = ", ".join(["NULL"] * len(arguments))
            rows += await connection.fetch(f"EXPLAIN (VERBOSE) EXECUTE generic({nulls})")
            await connection.execute("DEALLOCATE generic")
            plans[name] = "\n".join(row[0] for row in rows)
        return plans

    scans = {}
    for name, plan in run_sql(database_url, explain).items():
        found = [
            line.strip()
            for line in plan.splitlines()
            if "Seq Scan" in line and any(f"public.{table}" in line for table in NEVER_SCANNED)
        ]
        if found:
            scans[name] = found
    # All rooms of a project are a fifth of the table here: reading it whole is the right plan.
    allowed = {name for name in scans if name.startswith("rooms total")}
    assert set(scans) <= allowed, scans


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
