"""A search reads a stretch of its room's index, whatever the words are and however big the room."""

from __future__ import annotations

import json
from typing import Any

import pytest

from storage.postgres.search import PARTITIONS, STATEMENTS, STRETCH_BITS
from tests.support.servers import PostgresServer, run_sql

COUNT = 60_000
# `the` is in every message, `tenth` and `fifth` in every tenth and never together, `needle` in
# one; the room's neighbour in the same partition is as big and full of needles.
FILL = f"""
INSERT INTO rooms (project, id) SELECT 'p', 'room' || n FROM generate_series(1, 200) n;
INSERT INTO messages (room_pk, seq, id, content, created_at, event_offset, last_offset)
SELECT r, n, gen_random_uuid(),
       'the w' || n % 500 || CASE n % 10 WHEN 0 THEN ' tenth' WHEN 5 THEN ' fifth' ELSE '' END
           || CASE WHEN r <> 7 OR n = 17 THEN ' needle' ELSE '' END,
       now(), n, n
FROM generate_series(1, {COUNT}) n,
     (SELECT 7 UNION ALL (SELECT r FROM generate_series(8, 200) r
      WHERE satisfies_hash_partition('messages'::regclass, 16, (
          SELECT p FROM generate_series(0, 15) p
          WHERE satisfies_hash_partition('messages'::regclass, 16, p, 7::bigint)), r::bigint)
      LIMIT 1)) AS neighbours(r);
ANALYZE;
"""
NEWEST = COUNT >> STRETCH_BITS


@pytest.fixture(scope="module")
def big_room(postgres_server: PostgresServer):
    url = postgres_server.create_database()

    async def fill(connection: Any) -> None:
        await connection.execute(FILL)

    run_sql(url, fill)
    yield url
    postgres_server.drop_database(url)


def nodes(plan: dict[str, Any]) -> list[dict[str, Any]]:
    return [plan, *(node for part in plan.get("Plans", ()) for node in nodes(part))]


@pytest.mark.parametrize("generic", [False, True])
@pytest.mark.parametrize(
    ("query", "stretches", "rows_max"),
    [
        ("the", (NEWEST, NEWEST), 1 << STRETCH_BITS),
        ("tenth & fifth", (0, NEWEST), 0),
        ("the & needle", (0, NEWEST), 1),
        ("needle", (0, NEWEST), 1),
        ("nowhere", (0, NEWEST), 0),
    ],
)
def test_only_what_has_all_words_is_read(big_room, generic, query, stretches, rows_max):
    async def explain(connection: Any) -> dict[str, Any]:
        partition = await connection.fetchval(
            "SELECT n FROM generate_series(0, 15) n "
            "WHERE satisfies_hash_partition('messages'::regclass, 16, n, 7::bigint)"
        )
        mode = "force_generic_plan" if generic else "force_custom_plan"
        await connection.execute(f"SET plan_cache_mode = {mode}")
        await connection.execute(f"PREPARE search AS {STATEMENTS[f'find {partition}']}")
        values = f"7, {stretches[0]}, {stretches[1]}, '{query}', {COUNT + 1}, 51"
        rows = await connection.fetch(f"EXPLAIN (ANALYZE, FORMAT JSON) EXECUTE search({values})")
        plan: dict[str, Any] = json.loads(rows[0][0])[0]["Plan"]
        return plan

    found = nodes(run_sql(big_room, explain))
    scans = [node for node in found if "messages_" in node.get("Relation Name", "")]
    assert [node["Node Type"] for node in scans] == ["Bitmap Heap Scan"]
    assert scans[0]["Actual Rows"] <= rows_max
    assert scans[0].get("Rows Removed by Index Recheck", 0) == 0
    index = [node for node in found if node["Node Type"] == "Bitmap Index Scan"]
    assert len(index) == 1
    assert "to_tsvector" in index[0]["Index Cond"]
    assert "ARRAY[" in index[0]["Index Cond"]


def test_the_statements_know_the_index_and_every_partition(database_url):
    async def look(connection: Any) -> tuple[list[str], int, str]:
        names = await connection.fetch(
            "SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid "
            "WHERE i.inhparent = 'messages'::regclass ORDER BY 1"
        )
        pending = await connection.fetchval(
            "SELECT count(*) FROM pg_class WHERE relkind = 'i' "
            "AND reloptions @> '{fastupdate=on,gin_pending_list_limit=512}'"
        )
        definition = await connection.fetchval("SELECT pg_get_indexdef('messages_words'::regclass)")
        return [row[0] for row in names], pending, definition

    names, pending, definition = run_sql(database_url, look)
    assert names == [f"messages_{number:02}" for number in range(PARTITIONS)]
    assert pending == PARTITIONS
    assert f"(seq >> {STRETCH_BITS})" in definition
