"""After PostgreSQL was restored to an earlier time: numbers it does not know, rows it lacks.

For `parley restored` alone, which runs as the owner.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from storage.postgres.pool import Database

# In the order of pk, as everybody who locks several rooms does it: no deadlocks.
_SKIP: Final = """
WITH chosen AS (
    SELECT pk FROM rooms WHERE pk > $1 ORDER BY pk LIMIT $2 FOR NO KEY UPDATE
), raised AS (
    UPDATE rooms r SET base_seq = greatest(r.seq, r.base_seq) + $3
    FROM chosen WHERE r.pk = chosen.pk AND $3 > 0
    RETURNING r.pk
)
SELECT count(*) AS rooms, max(pk) AS last FROM chosen
"""
STATEMENTS: Final = {
    "rooms": """
    SELECT pk, project || '/' || id AS key, archived_offset
    FROM rooms WHERE pk > $1 ORDER BY pk LIMIT $2
    """,
    "present": "SELECT seq FROM messages WHERE room_pk = $1 AND seq = ANY($2::bigint[])",
}


class RestoredRoom(NamedTuple):
    """A room as the restored database has it."""

    pk: int
    key: str
    archived_offset: int


async def skip_numbers(database: Database, above: int, rooms: int, skip: int) -> tuple[int, int]:
    """Let rooms above a pk go on `skip` seqs later, at most so many; (how many, the last pk)."""
    row = await database.fetchrow(_SKIP, above, rooms, skip)
    assert row is not None, "an aggregate has one row"
    return row["rooms"], row["last"] or above


async def list_rooms(database: Database, above: int, rooms: int) -> list[RestoredRoom]:
    """Rooms by pk above one, at most so many; deleted ones too."""
    return [RestoredRoom(*row) for row in await database.fetch(STATEMENTS["rooms"], above, rooms)]


async def present_seqs(database: Database, room_pk: int, seqs: Sequence[int]) -> set[int]:
    """Which of these seqs have a row."""
    rows = await database.fetch(STATEMENTS["present"], room_pk, list(seqs))
    return {row["seq"] for row in rows}
