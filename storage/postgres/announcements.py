"""Changes that have committed but may not have been announced (mechanism: announcements).

A change writes its row here in its own transaction, beside the higher `rooms.version`; whoever
announces it deletes the row afterwards. Announcing is idempotent by version, so a row may be
announced by two processes at once and none may be lost: the order within a room is the version's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    import asyncpg

    from storage.postgres.pool import Database

_COLUMNS: Final = (
    "a.id, r.project || '/' || r.id AS room, a.room_pk, a.version, a.event, a.sender, a.data"
)
_INSERT: Final = """
INSERT INTO announcements (room_pk, version, event, sender, data) VALUES ($1, $2, $3, $4, $5)
"""
# Whole rooms, oldest first: a room's earlier versions must never stay behind a later one.
_DUE: Final = f"""
SELECT {_COLUMNS}
FROM (
    SELECT room_pk, min(created_at) AS oldest
    FROM announcements
    WHERE created_at <= now() - make_interval(secs => $1)
    GROUP BY room_pk
    ORDER BY oldest
    LIMIT $2
) due
JOIN announcements a USING (room_pk)
JOIN rooms r ON r.pk = a.room_pk
ORDER BY due.oldest, a.room_pk, a.version
LIMIT $2
"""  # noqa: S608
_OF_ROOM: Final = f"""
SELECT {_COLUMNS}
FROM rooms r
JOIN announcements a ON a.room_pk = r.pk
WHERE r.project = $1 AND r.id = $2
ORDER BY a.version
LIMIT $3
"""  # noqa: S608
_DELETE: Final = "DELETE FROM announcements WHERE id = ANY($1::bigint[])"

_USERS_DUE: Final = """
SELECT id, project, user_id FROM user_announcements
WHERE created_at <= now() - make_interval(secs => $1)
ORDER BY created_at LIMIT $2
"""
_OF_USER: Final = """
SELECT id, project, user_id FROM user_announcements WHERE project = $1 AND user_id = $2
"""
_DELETE_USERS: Final = "DELETE FROM user_announcements WHERE id = ANY($1::bigint[])"
# Rows that exist are rows that wait, so that it is small; how many above the limit is no news.
_PENDING: Final = """
SELECT count(*) AS pending, coalesce(extract(epoch FROM now() - min(created_at)), 0)::float8 AS age
FROM (
    (SELECT created_at FROM announcements ORDER BY created_at LIMIT $1)
    UNION ALL
    (SELECT created_at FROM user_announcements ORDER BY created_at LIMIT $1)
) waiting
"""
STATEMENTS: Final = {
    "users_due": _USERS_DUE,
    "of_user": _OF_USER,
    "of_room": _OF_ROOM,
    "pending": _PENDING,
}
"""Reads of this module, for the test that looks at their plans."""

# Of each kind: beyond this the count stands still.
PENDING_COUNTED_MAX: Final = 10_000
# Of one room in one reading; who drains asks again until there is none.
ROOM_ANNOUNCEMENTS_MAX: Final = 1000


class Announcement(NamedTuple):
    """One change that is to be announced. `room` is R, `data` the event's JSON text."""

    id: int
    room: str
    room_pk: int
    version: int
    event: str
    sender: str | None
    data: bytes


class UserAnnouncement(NamedTuple):
    """A user whose connections are to look at the row again. There is no order among these."""

    id: int
    project: str
    user: str


async def insert_announcement(
    connection: asyncpg.Connection,
    *,
    room_pk: int,
    version: int,
    event: str,
    sender: str | None,
    data: str,
) -> None:
    """Note an announcement inside the transaction that makes the change (room row locked)."""
    await connection.execute(_INSERT, room_pk, version, event, sender, data)


async def take_due(database: Database, older_than: float, limit: int) -> list[Announcement]:
    """Return at most `limit` announcements of rooms with one older than `older_than` seconds.

    By room and version, from the rooms that have waited longest. Nothing is locked or removed.
    """
    return [_announcement(row) for row in await database.fetch(_DUE, older_than, limit)]


async def count_pending(database: Database) -> tuple[int, float]:
    """Return how many changes wait to be announced, and the age of the oldest in seconds."""
    row = await database.fetchrow(_PENDING, PENDING_COUNTED_MAX)
    assert row is not None, "an aggregate has one row"
    return row["pending"], row["age"]


async def list_announcements(database: Database, project: str, room: str) -> list[Announcement]:
    """Return the room's announcements in the order of their versions, the oldest thousand."""
    rows = await database.fetch(_OF_ROOM, project, room, ROOM_ANNOUNCEMENTS_MAX)
    return [_announcement(row) for row in rows]


async def delete_announcements(database: Database, ids: list[int]) -> None:
    """Forget announcements that have been made. Idempotent."""
    if ids:
        await database.execute(_DELETE, ids)


async def take_due_users(
    database: Database, older_than: float, limit: int
) -> list[UserAnnouncement]:
    """Return at most `limit` announcements about users that are older than `older_than` seconds."""
    return [UserAnnouncement(*row) for row in await database.fetch(_USERS_DUE, older_than, limit)]


async def list_user_announcements(
    database: Database, project: str, user: str
) -> list[UserAnnouncement]:
    """Return what is to be announced about one user."""
    return [UserAnnouncement(*row) for row in await database.fetch(_OF_USER, project, user)]


async def delete_user_announcements(database: Database, ids: list[int]) -> None:
    """Forget announcements about users that have been made. Idempotent."""
    if ids:
        await database.execute(_DELETE_USERS, ids)


def _announcement(row: asyncpg.Record) -> Announcement:
    return Announcement(
        row["id"],
        row["room"],
        row["room_pk"],
        row["version"],
        row["event"],
        row["sender"],
        row["data"].encode(),
    )
