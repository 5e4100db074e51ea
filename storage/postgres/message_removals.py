"""Removing a deleted user's messages, as SQL: what is left to do, and wiping what is deleted.

All of it walks the project's rooms in the order of their keys and looks into the index of senders
(room_pk, sender, seq) in each, so that no index of all messages by sender is needed. Everything may
be done by anybody and again.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple

from storage.postgres.pool import Database

_DELETED_AT: Final = "SELECT deleted_at FROM users WHERE project = $1 AND id = $2"
# Where the user has written, or was a member (the log then holds its names). Not `EXISTS`: the
# planner would make a table of everybody's messages of it.
_ROOMS: Final = """
SELECT r.pk, r.id, r.archived_offset, r.deleted_at IS NOT NULL AS deleted
FROM rooms r
WHERE r.project = $1 AND r.pk > $3 AND (
    (SELECT true FROM messages m WHERE m.room_pk = r.pk AND m.sender = $2 ORDER BY seq LIMIT 1)
    OR (SELECT true FROM departures d WHERE d.room_pk = r.pk AND d.user_id = $2))
ORDER BY r.pk LIMIT $4
"""
_UNDELETED: Final = """
SELECT seq FROM messages
WHERE room_pk = $1 AND sender = $2 AND seq > $3 AND deleted_at IS NULL
ORDER BY seq LIMIT $4
"""
# In a deleted room nobody is told, so the rows are all there is to change.
_DELETE_HIDDEN: Final = """
UPDATE messages SET deleted_at = now() WHERE room_pk = $1 AND sender = $2 AND deleted_at IS NULL
"""
_ARCHIVED: Final = "SELECT archived_offset FROM rooms WHERE pk = $1"
_WIPE: Final = """
UPDATE messages
SET content = NULL, metadata = NULL, attachments = NULL, mentions = NULL, forwarded_from = NULL,
    client_id = NULL
WHERE room_pk = $1 AND seq IN (
    SELECT seq FROM messages
    WHERE room_pk = $1 AND sender = $2 AND seq > $3 AND deleted_at IS NOT NULL
      AND last_offset <= $5
      AND num_nonnulls(content, metadata, attachments, mentions, forwarded_from, client_id) > 0
    ORDER BY seq LIMIT $4)
RETURNING seq
"""
_COPIES: Final = """
SELECT DISTINCT r.pk, r.id, r.archived_offset
FROM messages m JOIN rooms r ON r.pk = m.room_pk
WHERE m.forwarded_from ->> 'sender' = $2 AND r.project = $1
ORDER BY r.pk LIMIT $3
"""
_FORGET_ORIGIN: Final = """
UPDATE messages
SET forwarded_from = json_build_object('sender', NULL, 'created_at',
                                       forwarded_from -> 'created_at')
WHERE room_pk = $1 AND forwarded_from ->> 'sender' = $2
"""
_LETTERS: Final = """
SELECT id, entry FROM dead_letters
WHERE room >= $1 || '/' AND room < $1 || '0' AND id > $2 ORDER BY id LIMIT $3
"""
_DROP_LETTERS: Final = "DELETE FROM dead_letters WHERE id = ANY($1::bigint[])"
STATEMENTS: Final = {
    "deleted_at": _DELETED_AT,
    "rooms": _ROOMS,
    "undeleted": _UNDELETED,
    "archived": _ARCHIVED,
    "copies": _COPIES,
    "letters": _LETTERS,
}
"""Reads of this module, for the test that looks at their plans."""


class RoomOf(NamedTuple):
    """A room that holds something of the user."""

    pk: int
    id: str
    archived_offset: int
    deleted: bool = False


async def deletion_time(db: Database, project: str, user: str) -> datetime | None:
    """When the user was deleted."""
    found: datetime | None = await db.fetchval(_DELETED_AT, project, user)
    return found


async def rooms_of(
    db: Database, project: str, user: str, above_pk: int, limit: int
) -> list[RoomOf]:
    """Rooms with archived messages of the user, or which it has left, by their key."""
    return [RoomOf(*row) for row in await db.fetch(_ROOMS, project, user, above_pk, limit)]


async def undeleted_seqs(
    db: Database, room_pk: int, user: str, above: int, limit: int
) -> Sequence[int]:
    """Some of the user's messages in a room that are not deleted as far as is archived."""
    return [row["seq"] for row in await db.fetch(_UNDELETED, room_pk, user, above, limit)]


async def delete_hidden(db: Database, room_pk: int, user: str) -> None:
    """Delete the user's messages in a room that is deleted itself."""
    await db.execute(_DELETE_HIDDEN, room_pk, user)


async def archived_offset(db: Database, room_pk: int) -> int:
    """Newest offset of the room that is archived."""
    found: int = await db.fetchval(_ARCHIVED, room_pk)
    return found


async def wipe_deleted(
    db: Database, room_pk: int, user: str, *, above: int, up_to_offset: int, limit: int
) -> int | None:
    """Wipe what some deleted messages of the user held; the last seq, None if there were none."""
    rows: Any = await db.fetch(_WIPE, room_pk, user, above, limit, up_to_offset)
    return max((row["seq"] for row in rows), default=None)


async def rooms_with_copies(db: Database, project: str, user: str, limit: int) -> list[RoomOf]:
    """Rooms with copies that name the user as who wrote the first."""
    return [RoomOf(*row) for row in await db.fetch(_COPIES, project, user, limit)]


async def forget_origin(db: Database, room_pk: int, user: str) -> None:
    """Make the copies in a room say when the first was written, and no more by whom."""
    await db.execute(_FORGET_ORIGIN, room_pk, user)


async def list_letters(
    db: Database, project: str, above_id: int, limit: int
) -> list[tuple[int, bytes]]:
    """Some dead letters of the project: id and stored event."""
    rows = await db.fetch(_LETTERS, project, above_id, limit)
    return [(row["id"], row["entry"]) for row in rows]


async def drop_letters(db: Database, ids: Sequence[int]) -> None:
    """Remove dead letters for good."""
    if ids:
        await db.execute(_DROP_LETTERS, ids)
