"""At scale every list reads about what it shows: no scan of a big table, no sort of everything.

Plans are those of real runs (EXPLAIN ANALYZE): a statement that reads, counts or sorts a part of a
big table shows in the rows that some node of its plan has handled. The deployment is a fraction of
what `tests.scale.measure` makes; plans are the same there.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from storage.postgres import favorites, members, message_details, message_json, room_lists
from storage.postgres import messages as pages
from storage.postgres.message_filters import SHAPES, MessageFilter
from tests.scale.filling import BIG, CROWD, HEAVY, WIDE, Sizes, fill
from tests.storage.postgres.test_message_plans import handled, literal
from tests.support.servers import PostgresServer, run_sql

Statements = dict[str, tuple[str, tuple[Any, ...]]]
SIZES = Sizes(messages=40_000, rooms=6_000, members=2_000, marks=500)
START = datetime(2026, 1, 1, tzinfo=UTC)
# The spread of activity on both sides, five seconds a room, and a page or the rooms on top.
NEAR_ROOMS_MAX = 300
# Three blocks of 2048 messages, and a thousand on each side of a bound of time.
PAGE_ROWS_MAX = 3 * 2048 + 2 * 1000 + 500
CHOSEN: dict[str, dict[str, Any]] = {
    "": {},
    "sender": {"sender": "user1"},
    "text": {"kind": "text"},
    "kind": {"kind": "image"},
    "time": {
        "earliest": START + timedelta(seconds=8_000),
        "latest": START + timedelta(seconds=37_000),
    },
    "replies": {"reply_to": 5},
}


@pytest.fixture(scope="module")
def deployment(postgres_server: PostgresServer) -> Iterator[str]:
    url = postgres_server.create_database()
    run_sql(url, lambda connection: fill(connection, SIZES))
    yield url
    postgres_server.drop_database(url)


def explain(url: str, asked: Statements) -> dict[str, Any]:
    """The executed plan of each statement, planned for any value as the pool's are in the end."""

    async def run(connection: Any) -> dict[str, Any]:
        await connection.execute("SET plan_cache_mode = force_generic_plan")
        found = {}
        for name, (statement, values) in asked.items():
            await connection.execute(f"PREPARE list AS {statement}")
            given = ", ".join(map(literal, values))
            rows = await connection.fetch(f"EXPLAIN (ANALYZE, FORMAT JSON) EXECUTE list({given})")
            await connection.execute("DEALLOCATE list")
            found[name] = json.loads(rows[0][0])[0]["Plan"]
        return found

    found: dict[str, Any] = run_sql(url, run)
    return found


def pk_of(url: str, room: str) -> int:
    found: int = run_sql(url, lambda c: c.fetchval("SELECT pk FROM rooms WHERE id = $1", room))
    return found


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for part in plan.get("Plans", ()):
        yield from nodes(part)


def scans(plan: dict[str, Any]) -> list[str]:
    """Tables of the plan that are read whole."""
    return [
        node["Relation Name"]
        for node in nodes(plan)
        if node["Node Type"] == "Seq Scan" and node["Actual Loops"] > 0
    ]


def check(plans: dict[str, Any], rows_max: int) -> None:
    assert {name: scans(plan) for name, plan in plans.items() if scans(plan)} == {}
    rows = {name: handled(plan) for name, plan in plans.items()}
    assert {name: found for name, found in rows.items() if found > rows_max} == {}


def test_pages_by_number_walk_a_few_blocks_wherever_they_are(deployment: str) -> None:
    pk = pk_of(deployment, BIG)
    asked: Statements = {}
    for shape in SHAPES:
        chosen: dict[str, Any] = {}
        for part in shape.split():
            chosen |= CHOSEN[part]
        for skip in (0, 100, 900, 15_000, 39_000):
            selection = pages.select_skip(skip, 50, []).among(MessageFilter(**chosen))
            common: tuple[Any, ...] = (pk, HEAVY, False, [], pages.REACTION_USERS, [], [], [])
            statement = pages.STATEMENTS[selection.name]
            asked[f"{shape} {skip}"] = (statement, (*common, *selection.arguments))
    check(explain(deployment, asked), PAGE_ROWS_MAX)


def test_a_users_rooms_are_found_around_their_place(deployment: str) -> None:
    near, far = (room_lists.STATEMENTS[f"active {name}"] for name in ("near", "far"))
    who = ("default", HEAVY)
    last = SIZES.rooms - 50
    asked = {
        "page 1": (near, (*who, 0, 50, 10.0)),
        "the top": (near, (*who, 0, 200, 10.0)),
        "last page": (far, (*who, last, 50, 10.0)),
        "total": (room_lists.STATEMENTS["total"], who),
        "details": (room_lists.STATEMENTS["details"], (HEAVY, list(range(100, 150)), 5)),
    }
    check(explain(deployment, asked), NEAR_ROOMS_MAX)
    # The index alone is walked there, from its nearer end, and what is sorted is what is near.
    half = {"half": (near, (*who, SIZES.rooms // 2, 50, 10.0))}
    plan = explain(deployment, half)["half"]
    check({"half": plan}, SIZES.rooms // 2 + 1)
    sorted_rows = [n["Actual Rows"] for n in nodes(plan) if n["Node Type"] == "Sort"]
    assert max(sorted_rows) <= NEAR_ROOMS_MAX


def test_other_lists_read_what_they_show(deployment: str) -> None:
    some = message_json.STATEMENTS["some"]
    rooms = list(range(100, 150))
    asked: Statements = {
        "newest messages": (some, (rooms, [None] * 50, [10] * 50, HEAVY, [], [], [], [])),
        "favourites": (favorites.STATEMENTS["list"], ("default", HEAVY, [], 0, 50)),
    }
    check(explain(deployment, asked), 2 * SIZES.marks + 100)
    asked = {
        "members": (members.STATEMENTS["list"], (pk_of(deployment, CROWD), 0, 50)),
        "last members": (members.STATEMENTS["list"], (pk_of(deployment, CROWD), 1950, 50)),
        "reactions": (
            message_details.STATEMENTS["reactions"],
            (pk_of(deployment, WIDE), 1, 1950, 50, [], []),
        ),
    }
    check(explain(deployment, asked), 2 * SIZES.members)
