"""Messages that users marked for themselves.

A mark belongs to its user alone: no event, no version, nothing in Redis. It may be older than the
row of its message, which the archiver writes; it goes away with that row (retention) and with its
user. Which rooms a user may read is the law of `broker.domain.roles`; the list applies it to many
rooms in one statement: members, and where no ban stands in the way public rooms and those that a
token opens.
Indexes: the primary key (room_pk, seq, user_id), favorites_user (project, user_id, id).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Literal, NamedTuple

from storage.postgres.pool import Database

FAVORITES_MAX: Final = 2000
"""Marks of one user: counting those that it may still read then takes some milliseconds."""

_ADD: Final = """
INSERT INTO favorites (room_pk, seq, user_id, project)
SELECT $1, $2, $3, $4
WHERE (SELECT count(*) FROM (SELECT FROM favorites WHERE project = $4 AND user_id = $3 LIMIT $5)
       AS known) < $5
ON CONFLICT DO NOTHING
"""
_REMOVE: Final = "DELETE FROM favorites WHERE room_pk = $1 AND seq = $2 AND user_id = $3"
_AMONG: Final = """
SELECT user_id FROM favorites WHERE room_pk = $1 AND seq = $2 AND user_id = ANY($3::text[])
"""
# $3 are ids of rooms that the user's token opens. Rooms are judged once each. A scalar subquery and
# no EXISTS: that could be planned as one read of all that the user is a member of.
_LIST: Final = """
WITH marked AS MATERIALIZED (
    SELECT id, room_pk, seq FROM favorites WHERE project = $1 AND user_id = $2
), readable AS MATERIALIZED (
    SELECT r.pk, r.id
    FROM (SELECT DISTINCT room_pk FROM marked) AS asked
    JOIN rooms r ON r.pk = asked.room_pk AND r.deleted_at IS NULL
    WHERE coalesce(
            (SELECT true FROM members m WHERE m.room_pk = r.pk AND m.user_id = $2), false)
       OR ((r.kind = 'public' OR r.id = ANY($3::text[]))
           AND NOT EXISTS (SELECT FROM bans b WHERE b.room_pk = r.pk AND b.user_id = $2))
), kept AS MATERIALIZED (
    SELECT marked.id, readable.pk, readable.id AS room, marked.seq
    FROM marked JOIN readable ON readable.pk = marked.room_pk
)
SELECT (SELECT count(*) FROM kept) AS total, page.pk, page.room, page.seq
FROM (SELECT) AS always
LEFT JOIN (SELECT * FROM kept ORDER BY id DESC OFFSET $4 LIMIT $5) AS page ON true
ORDER BY page.id DESC
"""
FORGET: Final = "DELETE FROM favorites WHERE project = $1 AND user_id = $2"
"""Of a deleted user, inside the transaction that deletes it."""
STATEMENTS: Final = {"list": _LIST, "among": _AMONG}
"""Reads of this module, for the test that looks at their plans."""


class Favorite(NamedTuple):
    """A marked message."""

    room_pk: int
    room: str
    seq: int


async def add_favorite(
    db: Database, project: str, user: str, room_pk: int, seq: int
) -> Literal["there", "full"]:
    """Mark the message; repeating changes nothing."""
    status = await db.execute(_ADD, room_pk, seq, user, project, FAVORITES_MAX)
    if status.endswith(" 1") or await favorites_among(db, room_pk, seq, [user]):
        return "there"
    return "full"


async def remove_favorite(db: Database, user: str, room_pk: int, seq: int) -> None:
    """Take the mark away, if there is one."""
    await db.execute(_REMOVE, room_pk, seq, user)


async def favorites_among(db: Database, room_pk: int, seq: int, users: Sequence[str]) -> set[str]:
    """Which of the users have marked the message."""
    rows: Any = await db.fetch(_AMONG, room_pk, seq, users)
    return {row["user_id"] for row in rows}


async def list_favorites(
    db: Database, project: str, user: str, opened: Sequence[str], *, skip: int, limit: int
) -> tuple[int, list[Favorite]]:
    """How many marked messages the user may still read, and some of them, last marked first."""
    rows: Any = await db.fetch(_LIST, project, user, opened, skip, limit)
    found = [Favorite(row["pk"], row["room"], row["seq"]) for row in rows if row["pk"] is not None]
    return rows[0]["total"], found
