"""Finds messages of a room by their words, newest first (PostgreSQL's full text, `simple`).

The index `messages_words` knows for every message its stretch (8192 seqs of one room) and its
words, so one scan of it answers for some neighbouring stretches. The caller walks them from the
newest and decides how many the next step takes: a word that is everywhere fills the page within
one, a rare one is looked up in dozens at once, and no statement's cost grows with the room.

GIN knows no order and no limit, and the planner would rather walk the primary key and parse every
message; so the statement names the partition itself and gives it nothing else that has an index.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from storage.postgres.pool import Database

STRETCH_BITS: Final = 13
"""A stretch is 2 to the power of this many seqs, as in the index's definition."""
PARTITIONS: Final = 16
"""Of the table of messages, as the first migration made them."""

# `words` counts the operators between the words too.
_PARSE: Final = """
SELECT q.query::text AS query, numnode(q.query) AS nodes, r.seq, (
    SELECT n FROM generate_series(0, 15) AS n
    WHERE satisfies_hash_partition('messages'::regclass, 16, n, r.pk)) AS partition
FROM rooms r CROSS JOIN plainto_tsquery('simple', $2) AS q(query)
WHERE r.pk = $1
"""
_FIND: Final = """
WITH hits AS MATERIALIZED (
    SELECT seq FROM messages_{{partition}}
    WHERE ARRAY[(room_pk << 24) | (seq >> 13)]
          && ARRAY(SELECT ($1::bigint << 24) | n FROM generate_series($2::bigint, $3::bigint) n)
      AND to_tsvector('simple', content) @@ $4::text::tsquery AND deleted_at IS NULL
)
SELECT seq FROM hits WHERE seq < $5 ORDER BY seq DESC LIMIT $6
"""
STATEMENTS: Final = {
    "parse": _PARSE,
    **{
        f"find {number}": _FIND.replace("{{partition}}", f"{number:02}")
        for number in range(PARTITIONS)
    },
}
"""Reads of this module, for the tests that look at their plans."""


class SearchPlan(NamedTuple):
    """A query as PostgreSQL understands it, and where the room's messages are."""

    query: str
    words: int
    seq: int
    """The newest archived message."""
    partition: int


async def parse_search(db: Database, room_pk: int, text: str) -> SearchPlan | None:
    """Split text into words as messages are split; None without such a room."""
    row: Any = await db.fetchrow(_PARSE, room_pk, text)
    if row is None:
        return None
    return SearchPlan(row["query"], (row["nodes"] + 1) // 2, row["seq"], row["partition"])


async def find_seqs(
    db: Database,
    room_pk: int,
    plan: SearchPlan,
    *,
    stretches: tuple[int, int],
    before: int,
    limit: int,
) -> Sequence[int]:
    """Seqs below `before` of messages with all the words, newest first, in these stretches."""
    statement = STATEMENTS[f"find {plan.partition}"]
    oldest, newest = stretches
    rows = await db.fetch(statement, room_pk, oldest, newest, plan.query, before, limit)
    return [row["seq"] for row in rows]
