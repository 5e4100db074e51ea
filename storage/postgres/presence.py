"""When users were seen last, and which of their rooms somebody else may be told of.

Nodes write `users.last_seen_at` in batches, behind the events (see `broker.last_seen`); it only
ever rises. Index: users (project, id), members (project, user_id) and (room_pk, user_id), rooms
(project, id).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

from storage.postgres.json_text import with_times
from storage.postgres.pool import Database

# Whom one shares a room with, as for names: the other's memberships are walked until one is also
# one's own.
_SEEN: Final = with_times(
    """
SELECT {{seen}} AS last_seen_at
FROM users u
WHERE u.project = $1 AND u.id = $2 AND u.deleted_at IS NULL
  AND ($3::text IS NULL OR u.id = $3 OR (
      SELECT true FROM members theirs
      JOIN members mine ON mine.room_pk = theirs.room_pk AND mine.user_id = $3
      JOIN rooms r ON r.pk = theirs.room_pk AND r.deleted_at IS NULL
      WHERE theirs.project = $1 AND theirs.user_id = u.id
      ORDER BY theirs.room_pk LIMIT 1))
""",
    seen="u.last_seen_at",
)
_SHARED: Final = """
SELECT r.id FROM rooms r JOIN members m ON m.room_pk = r.pk AND m.user_id = $3
WHERE r.project = $1 AND r.id = ANY($2::text[]) AND r.deleted_at IS NULL
ORDER BY r.id
"""
# The rows are locked in the order of their keys, or two nodes that saw the same users would wait
# for each other.
_TOUCH: Final = """
WITH due AS (
    SELECT u.project, u.id, seen.at
    FROM unnest($1::text[], $2::text[], $3::timestamptz[]) AS seen(project, id, at)
    JOIN users u ON u.project = seen.project AND u.id = seen.id
    WHERE u.deleted_at IS NULL AND (u.last_seen_at IS NULL OR u.last_seen_at < seen.at)
    ORDER BY u.project, u.id
    FOR NO KEY UPDATE OF u
)
UPDATE users SET last_seen_at = due.at FROM due
WHERE users.project = due.project AND users.id = due.id
"""
STATEMENTS: Final = {"seen": _SEEN, "shared": _SHARED, "touch": _TOUCH}
"""Statements of this module, for the test that looks at their plans."""


async def fetch_seen(db: Database, project: str, user: str, viewer: str | None) -> Any:
    """A row with `last_seen_at` (text or null); None unless the user lives and the viewer (None:
    anybody) shares a room with it."""
    return await db.fetchrow(_SEEN, project, user, viewer)


async def fetch_shared(db: Database, project: str, rooms: Sequence[str], viewer: str) -> list[str]:
    """Those of the rooms that the viewer is a member of, by id."""
    return [row["id"] for row in await db.fetch(_SHARED, project, rooms, viewer)]


async def touch_users(db: Database, seen: Sequence[tuple[str, str, datetime]]) -> None:
    """Raise `last_seen_at` of (project, user) to the given times. Idempotent; raises
    StorageUnavailable. Deleted and unknown users are passed over; each user comes once."""
    projects, users, times = (list(column) for column in zip(*seen, strict=True))

    async def work(connection: Any) -> None:
        await connection.execute(_TOUCH, projects, users, times)

    await db.transaction(work)
