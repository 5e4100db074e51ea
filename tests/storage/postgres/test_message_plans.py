"""Filtered pages of a big room touch about as many rows as they show, whatever is asked.

The room has 60 000 messages; a page that would read or sort a part of them shows in the rows that
its plan has really handled. Totals are the exception: they count.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from storage.postgres import seeds
from storage.postgres.message_filters import CLOCK_SLACK, SHAPES, MessageFilter
from storage.postgres.messages import (
    REACTION_USERS,
    STATEMENTS,
    Selection,
    select_after,
    select_around,
    select_before,
    select_skip,
)
from tests.support.servers import PostgresServer, run_sql

COUNT = 60_000
START = datetime(2026, 1, 1, tzinfo=UTC)
# One message in a hundred is no text, one in two hundred is bob's, one in three hundred a reply;
# the room's neighbours in the partition are as big.
FILL = f"""
INSERT INTO rooms (project, id) SELECT 'p', 'room' || n FROM generate_series(1, 20) n;
INSERT INTO messages (room_pk, seq, id, sender, kind, content, reply_to, created_at, event_offset,
                      last_offset)
SELECT 7, n, gen_random_uuid(), CASE WHEN n % 200 = 0 THEN 'bob' ELSE 'user' || n % 20 END,
       CASE WHEN n % 100 = 0 THEN 'image' ELSE 'text' END, 'text',
       CASE WHEN n % 300 = 0 THEN 5 END, timestamptz '{START}' + n * interval '1 second', n, n
FROM generate_series(1, {COUNT}) n;
INSERT INTO messages (room_pk, seq, id, sender, created_at, event_offset, last_offset)
SELECT r, n, gen_random_uuid(), 'user' || n % 20, now(), n, n
FROM generate_series(8, 20) r, generate_series(1, 3000) n;
ANALYZE;
"""
CHOSEN = {
    "": MessageFilter(),
    "sender": MessageFilter(sender="bob"),
    "text": MessageFilter(kind="text"),
    "kind": MessageFilter(kind="image"),
    "time": MessageFilter(
        earliest=START + timedelta(seconds=20_000), latest=START + timedelta(seconds=30_000)
    ),
    "replies": MessageFilter(reply_to=5),
}
ROWS_MAX = 6 * 1000 + 500
"""A page needs a few hundred; bounds of time look a thousand further on each side, for the page
and for the oldest and the newest of all."""


@pytest.fixture(scope="module")
def big_room(postgres_server: PostgresServer):
    url = postgres_server.create_database()

    async def fill(connection: Any) -> None:
        await connection.execute(FILL)

    run_sql(url, fill)
    yield url
    postgres_server.drop_database(url)


def filter_of(shape: str) -> MessageFilter:
    """All parts of a shape together."""
    given: dict[str, Any] = {}
    for part in shape.split():
        chosen = CHOSEN[part]
        for name in MessageFilter._fields:
            if getattr(chosen, name) is not None:
                given[name] = getattr(chosen, name)
    return MessageFilter(**given)


def common() -> tuple[Any, ...]:
    """The arguments that all statements begin with."""
    return (7, "bob", False, [], REACTION_USERS, [], [], [])


def literal(value: object) -> str:
    """An argument as SQL: a statement that is planned for any value gets it only when it runs."""
    if value is None:
        return "NULL"
    if isinstance(value, list):
        return "'{" + ",".join("NULL" if part is None else str(part) for part in value) + "}'"
    return str(value) if isinstance(value, bool | int) else f"'{value}'"


def handled(plan: dict[str, Any]) -> int:
    """The most rows that any node of the plan has read or kept, over all its loops."""
    here = plan["Actual Rows"] + plan.get("Rows Removed by Filter", 0)
    below = [handled(part) for part in plan.get("Plans", ())]
    return int(max([here * plan["Actual Loops"], *below]))


@pytest.mark.parametrize("generic", [False, True])
def test_a_page_handles_about_what_it_shows(big_room: str, generic: bool) -> None:
    pages = {
        "newest": select_before(2**62, 50),
        "before": select_before(25_000, 50),
        "after": select_after(25_000, 50),
        "first": select_after(0, 50),
        "around": select_around(25_000, 25, 25),
    }
    wanted: dict[str, Selection] = {
        f"{name} {shape}": place.among(filter_of(shape))
        for name, place in pages.items()
        for shape in SHAPES
    }

    async def explain(connection: Any) -> dict[str, int]:
        mode = "force_generic_plan" if generic else "force_custom_plan"
        await connection.execute(f"SET plan_cache_mode = {mode}")
        found = {}
        for name, selection in wanted.items():
            statement = STATEMENTS[selection.name]
            values = ", ".join(map(literal, (*common(), *selection.arguments)))
            await connection.execute(f"PREPARE page AS {statement}")
            rows = await connection.fetch(f"EXPLAIN (ANALYZE, FORMAT JSON) EXECUTE page({values})")
            await connection.execute("DEALLOCATE page")
            found[name] = handled(json.loads(rows[0][0])[0]["Plan"])
        return found

    found = run_sql(big_room, explain)
    assert {name: rows for name, rows in found.items() if rows > ROWS_MAX} == {}
    assert {name: rows for name, rows in found.items() if "time" not in name and rows > 700} == {}


def test_skipping_among_the_chosen_walks_their_index(big_room: str) -> None:
    async def explain(connection: Any) -> dict[str, str]:
        found = {}
        for shape in ("sender", "kind", "replies"):
            selection = select_skip(100, 50, []).among(filter_of(shape))
            rows = await connection.fetch(
                f"EXPLAIN {STATEMENTS[selection.name]}", *common(), *selection.arguments
            )
            found[shape] = "\n".join(row[0] for row in rows)
        return found

    for shape, plan in run_sql(big_room, explain).items():
        assert "Seq Scan on messages" not in plan, shape


@pytest.mark.parametrize("generic", [False, True])
def test_a_seed_reads_the_end_of_its_room(big_room: str, generic: bool) -> None:
    """The idempotency window: a thousand messages here, of sixty thousand, and a clock's slack."""

    async def explain(connection: Any) -> dict[str, Any]:
        mode = "force_generic_plan" if generic else "force_custom_plan"
        await connection.execute(f"SET plan_cache_mode = {mode}")
        await connection.execute(f"PREPARE sent AS {seeds.STATEMENTS['sent']}")
        window = f"extract(epoch FROM now() - timestamptz '{START + timedelta(seconds=59_000)}')"
        rows = await connection.fetch(
            f"EXPLAIN (ANALYZE, FORMAT JSON) EXECUTE sent(7, {window}, 5000)"
        )
        plan: dict[str, Any] = json.loads(rows[0][0])[0]["Plan"]
        return plan

    assert handled(run_sql(big_room, explain)) in range(1000, 1000 + CLOCK_SLACK + 50)


def test_a_bound_of_time_is_found_without_an_index_of_times(big_room: str) -> None:
    def at(seconds: float) -> datetime:
        return START + timedelta(seconds=seconds)

    async def ask(connection: Any) -> list[Any]:
        query = "SELECT message_seq_at($1, $2)"
        moments = [at(-9), at(0), at(1), at(1.5), at(30_000), at(COUNT), at(COUNT + 1)]
        return [await connection.fetchval(query, 7, moment) for moment in moments] + [
            await connection.fetchval(query, 1, at(0))
        ]

    assert run_sql(big_room, ask) == [1, 1, 1, 2, 30_000, COUNT, COUNT + 1, None]
