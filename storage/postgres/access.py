"""What a user is in a room, read together with the version at which it is true.

One statement each, so that role and version belong together: the scripts refuse a version older
than the room's newest announced change. Index: rooms (project, id), members (room_pk, user_id),
messages (room_pk, seq).
"""

from __future__ import annotations

from typing import Any

from storage.postgres.pool import Database

UNREAD_MAX: int = 1000
"""Unread messages are counted exactly up to this, which bounds the cost of counting."""

_ACCESS = """
SELECT r.pk, r.kind, r.version, r.frozen, r.default_role, r.deleted_at IS NOT NULL AS deleted,
       r.archived_offset, m.role, m.muted_until, m.read_seq
FROM rooms r LEFT JOIN members m ON m.room_pk = r.pk AND m.user_id = $3
WHERE r.project = $1 AND r.id = $2
"""

_UNREAD = """
SELECT r.archived_offset, m.read_seq, (
    SELECT count(*) FROM (
        SELECT 1 FROM messages
        WHERE room_pk = r.pk AND seq > greatest(m.read_seq, $3)
          AND deleted_at IS NULL AND sender IS DISTINCT FROM $2 AND kind <> 'system'
        LIMIT $4
    ) AS counted) AS unread
FROM rooms r JOIN members m ON m.room_pk = r.pk AND m.user_id = $2
WHERE r.pk = $1
"""


async def read_access(db: Database, project: str, room: str, user: str | None) -> Any:
    """The row of `_ACCESS`, None if the project has no such room (deleted ones are there)."""
    return await db.fetchrow(_ACCESS, project, room, user)


async def read_unread(db: Database, room_pk: int, user: str, read_seq: int) -> Any:
    """(archived_offset, read_seq, unread) of a member as far as it is archived; None for others.

    `read_seq` is what Redis knows, which may be ahead of PostgreSQL.
    """
    return await db.fetchrow(_UNREAD, room_pk, user, read_seq, UNREAD_MAX)


_MEMBERS_AMONG = """
SELECT m.user_id FROM rooms r JOIN members m ON m.room_pk = r.pk
WHERE r.project = $1 AND r.id = $2 AND r.deleted_at IS NULL AND m.user_id = ANY($3::text[])
"""


async def members_among(db: Database, project: str, room: str, users: list[str]) -> set[str]:
    """Which of the users are members of the room now."""
    rows = await db.fetch(_MEMBERS_AMONG, project, room, users)
    return {row["user_id"] for row in rows}
