"""The plans of all reading statements: each walks its index, with its values and generically."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from storage.postgres import (
    access,
    announcements,
    api_keys,
    audit,
    bans,
    blocks,
    dead_letters,
    exports,
    favorites,
    members,
    message_details,
    message_json,
    message_removals,
    messages,
    notified,
    presence,
    receipts,
    removals,
    restoring,
    retention,
    room_lists,
    room_locks,
    rooms,
    search,
    seeds,
    unread,
    user_changes,
    users,
)
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
INSERT INTO room_counts (project, user_id, rooms)
SELECT 'p' || n % 5, 'other' || n, n FROM generate_series(1, 3000) n;
INSERT INTO message_counts (room_pk, sender, kind, block, messages)
SELECT r, 'user' || n % 7, '', n, 1 FROM generate_series(1, 300) r, generate_series(1, 10) n;
INSERT INTO favorites (room_pk, seq, user_id, project)
SELECT r, n, 'user' || u, 'p1'
FROM generate_series(1, 300) r, generate_series(1, 100, 10) n, generate_series(1, 5) u;
INSERT INTO bans (room_pk, user_id)
SELECT pk, 'user' || n FROM rooms, generate_series(21, 22) n;
INSERT INTO departures (room_pk, user_id)
SELECT pk, 'user' || n FROM rooms, generate_series(21, 22) n;
INSERT INTO blocks (project, user_id, blocked)
SELECT 'p1', 'user' || n, 'user' || m FROM generate_series(1, 300) n, generate_series(1, 10) m;
INSERT INTO user_announcements (project, user_id, created_at)
SELECT 'p1', 'user' || n, now() - n * interval '1 minute' FROM generate_series(1, 3000) n;
INSERT INTO audit (project, action, entity)
SELECT 'p' || n % 5, 'room.updated', 'room:room' || n % 3000 FROM generate_series(1, 15000) n;
INSERT INTO api_keys (id, project, prefix, hash)
SELECT gen_random_uuid(), 'default', 'p' || n, sha256(n::text::bytea)
FROM generate_series(1, 2000) n;
INSERT INTO projects (id) SELECT 'project' || n FROM generate_series(1, 2000) n;
ANALYZE;
"""
COMMON = (7, "user1", False, ["user2"], 11, [5], ["yes"], ["user1"])
NEVER_SCANNED = (
    "messages",
    "users",
    "rooms",
    "members",
    "reactions",
    "api_keys",
    "projects",
    "bans",
    "blocks",
    "departures",
    "favorites",
    "message_counts",
    "room_counts",
    "audit",
    "user_announcements",
)
MODULES = (
    access,
    announcements,
    api_keys,
    audit,
    bans,
    blocks,
    dead_letters,
    exports,
    favorites,
    members,
    message_details,
    message_removals,
    message_json,
    messages,
    notified,
    presence,
    receipts,
    removals,
    restoring,
    retention,
    room_lists,
    room_locks,
    rooms,
    search,
    seeds,
    unread,
    user_changes,
    users,
)

SELECTIONS = {
    "before": (50, 20),
    "after": (50, 20),
    "around": (50, 10, 10),
    "skip": (50, 10, [101, 102]),
    "seq": (50,),
    "id": ("0198c5b6-7a0e-7000-8000-000000000000",),
    "some": ([5, 50, 7],),
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
    "message_removals deleted_at": (
        message_removals.STATEMENTS["deleted_at"],
        ("p1", "user6"),
    ),
    "message_removals rooms": (message_removals.STATEMENTS["rooms"], ("p1", "user6", 0, 50)),
    "message_removals undeleted": (
        message_removals.STATEMENTS["undeleted"],
        (7, "user6", 0, 50),
    ),
    "message_removals archived": (message_removals.STATEMENTS["archived"], (7,)),
    "message_removals copies": (message_removals.STATEMENTS["copies"], ("p1", "user6", 50)),
    "message_removals letters": (message_removals.STATEMENTS["letters"], ("p1", 0, 50)),
    "dead_letters letters": (dead_letters.STATEMENTS["letters"], (0, 500)),
    "restoring rooms": (restoring.STATEMENTS["rooms"], (0, 500)),
    "restoring present": (restoring.STATEMENTS["present"], (7, [1, 2, 3])),
    "exports user": (exports.STATEMENTS["user"], ("p1", "user6")),
    "exports memberships": (exports.STATEMENTS["memberships"], ("p1", "user6", 0, 50)),
    "exports blocks": (exports.STATEMENTS["blocks"], ("p1", "user6", "", 50)),
    "exports favorites": (exports.STATEMENTS["favorites"], ("p1", "user6", 0, 50)),
    "exports audit": (exports.STATEMENTS["audit"], ("p1", "user6", 0, 50)),
    "exports rooms": (exports.STATEMENTS["rooms"], ("p1", "user6", 0, 50)),
    "exports messages": (exports.STATEMENTS["messages"], (7, "user6", 0, 50, "room7")),
    "exports reactions": (exports.STATEMENTS["reactions"], (7, "user1", 0, 50, "room7")),
    "retention due": (retention.STATEMENTS["due"], (0, 50)),
    "seeds read": (seeds.STATEMENTS["read"], (7, 600.0)),
    "seeds sent": (seeds.STATEMENTS["sent"], (7, 600.0, 5000)),
    "search parse": (search.STATEMENTS["parse"], (7, "some words")),
    **{
        f"search find {number}": (
            search.STATEMENTS[f"find {number}"],
            (7, 0, 3, "'text'", 101, 50),
        )
        for number in range(search.PARTITIONS)
    },
    "favorites list": (favorites.STATEMENTS["list"], ("p1", "user6", ["room6"], 0, 50)),
    "favorites among": (favorites.STATEMENTS["among"], (7, 5, ["user6", "user1"])),
    "message_json some": (
        message_json.STATEMENTS["some"],
        ([7, 8], [5, None], [10, 11], "user1", [7], [5], ["yes"], ["user1"]),
    ),
    "room_lists total": (room_lists.STATEMENTS["total"], ("p1", "user6")),
    "room_lists details": (room_lists.STATEMENTS["details"], ("user6", [7, 8], 5)),
    "room_lists active near": (
        room_lists.STATEMENTS["active near"],
        ("p1", "user6", 10, 50, 10.0),
    ),
    "room_lists active far": (
        room_lists.STATEMENTS["active far"],
        ("p1", "user6", 1000, 50, 10.0),
    ),
    "users states": (users.STATEMENTS["states"], (["p1", "p2"] * 16, ["user1", "user2"] * 16)),
    "users fetch": (users.STATEMENTS["fetch"], ("p1", "user1")),
    "users live": (users.STATEMENTS["live"], ("p1", ["user1", "user6"])),
    "user_changes list": (user_changes.STATEMENTS["list"], ("p1", 0, 50)),
    "user_changes list username": (
        user_changes.STATEMENTS["list username"],
        ("p1", 0, 50, "name6"),
    ),
    "user_changes list external_user_id": (
        user_changes.STATEMENTS["list external_user_id"],
        ("p1", 0, 50, "ext6"),
    ),
    "user_changes list username external_user_id": (
        user_changes.STATEMENTS["list username external_user_id"],
        ("p1", 0, 50, "name6", "ext6"),
    ),
    "user_changes total": (user_changes.STATEMENTS["total"], ("p1",)),
    "user_changes total username": (user_changes.STATEMENTS["total username"], ("p1", "name6")),
    "user_changes total external_user_id": (
        user_changes.STATEMENTS["total external_user_id"],
        ("p1", "ext6"),
    ),
    "user_changes total username external_user_id": (
        user_changes.STATEMENTS["total username external_user_id"],
        ("p1", "name6", "ext6"),
    ),
    "user_changes names": (user_changes.STATEMENTS["names"], ("p1", ["user1", "user6"], "user6")),
    "presence seen": (presence.STATEMENTS["seen"], ("p1", "user1", "user6")),
    "presence shared": (presence.STATEMENTS["shared"], ("p1", ["room6", "room1"], "user1")),
    "presence touch": (presence.STATEMENTS["touch"], (["p1"], ["user6"], [BIRTH])),
    "removals left": (removals.STATEMENTS["left"], ("p1", "user6")),
    "removals due": (removals.STATEMENTS["due"], (10.0, 5)),
    "removals memberships": (removals.STATEMENTS["memberships"], ("p1", "user6", 50)),
    "announcements users_due": (announcements.STATEMENTS["users_due"], (600000.0, 200)),
    "announcements pending": (announcements.STATEMENTS["pending"], (10,)),
    "announcements of_user": (announcements.STATEMENTS["of_user"], ("p1", "user6")),
    "announcements of_room": (announcements.STATEMENTS["of_room"], ("p1", "room6", 1000)),
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
    "members departed": (members.STATEMENTS["departed"], ("p1", "room6", "user21")),
    "room_locks roles": (room_locks.STATEMENTS["roles"], (7, ["user1"])),
    "access access": (access.STATEMENTS["access"], ("p1", "direct6", "a6")),
    "access accesses": (
        access.STATEMENTS["accesses"],
        (["p1", "p2"] * 16, ["direct6", "room2"] * 16, ["a6", "user1"] * 16),
    ),
    "unread count": (
        unread.STATEMENTS["count"],
        ([7, 8], ["user1", "user2"], [10, -1], [2**63 - 1, 50], ["{}", "{20,30}"], 1000),
    ),
    "unread begin": (
        unread.STATEMENTS["begin"],
        (["p1", "p2"] * 16, ["direct6", "room2"] * 16, ["a6", "user1"] * 16, 1000),
    ),
    "notified users": (notified.STATEMENTS["users"], (7, "user1", 500)),
    "notified notified": (
        notified.STATEMENTS["notified"],
        (["p1", "p1"], ["room6", "room7"], ['["user1"]', "[]"], 200),
    ),
    "receipts marks": (receipts.STATEMENTS["marks"], (7, "user1")),
    "receipts list": (receipts.STATEMENTS["list"], (7, "user1", 10, 50)),
    "receipts favored": (receipts.STATEMENTS["favored"], (7, 3, ["user1", "user2"])),
    "receipts total": (receipts.STATEMENTS["total"], (7, None)),
    "access standing_among": (access.STATEMENTS["standing_among"], ("p1", "room6", ["user1"])),
    "audit list": (audit.STATEMENTS["list"], ("p1", 0, 50)),
    "audit list entity": (audit.STATEMENTS["list entity"], ("p1", 0, 50, "room:room6")),
    "bans list": (bans.STATEMENTS["list"], (7, 0, 50)),
    "blocks room": (blocks.STATEMENTS["room"], ("p1", "a7", "b7")),
    "blocks lives": (blocks.STATEMENTS["lives"], ("p1", "user6")),
    "blocks list": (blocks.STATEMENTS["list"], ("p1", "user6", 0, 50)),
    "members list": (members.STATEMENTS["list"], (7, 0, 50)),
    "members some": (members.STATEMENTS["some"], (7, ["user1"])),
    "api_keys find": (api_keys.STATEMENTS["find"], (b"x" * 32,)),
    "api_keys project": (api_keys.STATEMENTS["project"], ("project7",)),
}


def test_every_statement_has_a_plan_below():
    named = {
        f"{module.__name__.rpartition('.')[2]} {name}"
        for module in MODULES
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
    # All of a project is a fifth of the table here: reading it whole to count is the right plan.
    allowed = {name for name in scans if name.startswith(("rooms total", "user_changes total"))}
    assert set(scans) <= allowed, scans
