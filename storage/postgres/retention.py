"""Removing messages that are older than their room's `retention_days`, for good, in batches.

Times rise with seq, so what is old is a room's beginning: found and removed by walking the primary
key, whatever the room holds. A batch locks the room's row like the archiver does, so no reaction or
reply count is written to a message while it goes. Seqs stay taken (`rooms.seq` is not touched).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from storage.postgres.pool import Database

if TYPE_CHECKING:
    import asyncpg

# "rete" as a number: one process at a time removes.
_LOCK: Final = "SELECT pg_try_advisory_xact_lock($1::int, 0)"
_LOCK_KEY: Final = 0x7265_7465
_LOCK_ROOM: Final = "SELECT archived_offset FROM rooms WHERE pk = $1 FOR NO KEY UPDATE"
_DUE: Final = """
SELECT r.pk, r.project || '/' || r.id AS key, r.retention_days, oldest.created_at
           < now() - make_interval(days => r.retention_days) AS is_due
FROM rooms r
LEFT JOIN LATERAL (
    SELECT created_at FROM messages WHERE room_pk = r.pk ORDER BY seq LIMIT 1
) AS oldest ON true
WHERE r.retention_days IS NOT NULL AND r.pk > $1
ORDER BY r.pk LIMIT $2
"""
_REMOVE: Final = """
WITH oldest AS MATERIALIZED (
    SELECT seq, created_at FROM messages WHERE room_pk = $1 ORDER BY seq LIMIT $3
), gone AS (
    DELETE FROM messages m USING oldest
    WHERE m.room_pk = $1 AND m.seq = oldest.seq
      AND oldest.created_at < now() - make_interval(days => $2)
    RETURNING m.seq, m.last_offset
), unreacted AS (
    DELETE FROM reactions r USING gone WHERE r.room_pk = $1 AND r.seq = gone.seq
)
SELECT count(*) AS removed, max(last_offset) AS last_offset FROM gone
"""
STATEMENTS: Final = {"due": _DUE}
"""Reads of this module, for the test that looks at their plans."""


class RetainedRoom(NamedTuple):
    """A room that keeps its messages for some days; `key` is R."""

    pk: int
    key: str
    days: int
    is_due: bool
    """Whether its oldest message is too old."""


class Expired(NamedTuple):
    """What a batch has removed; `last_offset` is of the newest event about any of it."""

    removed: int
    last_offset: int


async def list_retained(db: Database, above_pk: int, limit: int) -> list[RetainedRoom]:
    """Some rooms with `retention_days`, by their key."""
    rows: Any = await db.fetch(_DUE, above_pk, limit)
    return [
        RetainedRoom(row["pk"], row["key"], row["retention_days"], bool(row["is_due"]))
        for row in rows
    ]


async def lock_retention(connection: asyncpg.Connection) -> bool:
    """Become the only one who removes until the transaction ends; False if another is."""
    return bool(await connection.fetchval(_LOCK, _LOCK_KEY))


async def remove_expired(connection: asyncpg.Connection, room: RetainedRoom, limit: int) -> Expired:
    """Remove at most `limit` messages that are too old, inside a transaction."""
    archived = await connection.fetchval(_LOCK_ROOM, room.pk)
    row: Any = await connection.fetchrow(_REMOVE, room.pk, room.days, limit)
    return Expired(row["removed"], min(row["last_offset"] or 0, archived))
