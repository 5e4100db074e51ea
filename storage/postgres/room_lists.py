"""A user's rooms in the order of their activity, and what a list says of each of them.

The order is that of the room's newest archived message (of its making before there is one), newest
first; rooms of one instant by pk. No row says exactly that for each member, because a busy room of
many members would be written for each of them with every message. `members.active_at` is the true
activity or at most ACTIVITY_SPREAD earlier (and 'infinity' in rooms that have grown big), so a page
is found like this: the index gives what would be its first and last row if those were true; only
rooms within ACTIVITY_SPREAD of them (and the big ones) can belong on it, and those are looked at
and put in order. How many are certainly before them follows from their place in the index.
Index: members_active (project, user_id, active_at, room_pk), walked from its nearer end.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple

from storage.postgres.archive import ACTIVITY_SPREAD_SECONDS
from storage.postgres.pool import Database
from storage.postgres.rooms import ROOM_OBJECT

MEMBERS_SHOWN: Final = 5

_TOTAL: Final = "SELECT rooms FROM room_counts WHERE project = $1 AND user_id = $2"
_MINE: Final = "FROM members WHERE project = $1 AND user_id = $2 AND active_at IS NOT NULL"
# $3 rooms to skip, $4 limit, $5 the spread.
_ACTIVE: Final = """
WITH big AS MATERIALIZED (
    SELECT room_pk {{mine}} AND active_at = 'infinity'
), first AS MATERIALIZED (
    SELECT active_at, room_pk {{mine}} {{walk}} LIMIT 1
), last AS MATERIALIZED (
    SELECT active_at {{mine}}
      AND (active_at, room_pk) <= ((SELECT active_at FROM first), (SELECT room_pk FROM first))
    ORDER BY active_at DESC, room_pk DESC
    OFFSET $4::bigint - 1 + (SELECT count(*) FROM big) LIMIT 1
), near AS MATERIALIZED (
    SELECT active_at, room_pk {{mine}} AND active_at < 'infinity'
      AND active_at <= (SELECT active_at + make_interval(secs => $5) FROM first)
      AND active_at >= coalesce((SELECT active_at - make_interval(secs => $5) FROM last),
                                '-infinity')
), before AS (
    -- Those of `near` that the index has before the first, and every big room.
    SELECT count(*) + (SELECT count(*) FROM big) AS rooms
    FROM near
    WHERE (active_at, room_pk) > ((SELECT active_at FROM first), (SELECT room_pk FROM first))
)
SELECT r.pk, r.id, greatest(r.last_message_at, r.created_at) AS active_at
FROM (SELECT room_pk FROM big UNION ALL SELECT room_pk FROM near) AS found
JOIN rooms r ON r.pk = found.room_pk
WHERE EXISTS (SELECT FROM first)
ORDER BY 3 DESC, 1 DESC
OFFSET least($3::bigint, (SELECT rooms FROM before)) LIMIT $4
"""
_WALKS: Final = {
    "near": "ORDER BY active_at DESC, room_pk DESC OFFSET $3::bigint",
    "far": """ORDER BY active_at, room_pk
              OFFSET greatest(0, (SELECT rooms FROM room_counts
                                  WHERE project = $1 AND user_id = $2) - 1 - $3::bigint)""",
}
# $1 the user, $2 rooms, $3 members to show of each.
_DETAILS: Final = """
SELECT r.pk, m.role, m.read_seq, convert_to(row_to_json(body)::text, 'UTF8') AS body,
       convert_to(shown.members, 'UTF8') AS members
FROM unnest($2::bigint[]) AS asked(pk)
JOIN rooms r ON r.pk = asked.pk AND r.deleted_at IS NULL
-- Looked up room by room (a limit is never taken apart), not among all rooms of the user.
CROSS JOIN LATERAL (
    SELECT role, read_seq FROM members WHERE room_pk = r.pk AND user_id = $1 LIMIT 1
) AS m
{{object}}
CROSS JOIN LATERAL (
    SELECT '[' || string_agg(row_to_json(one)::text, ',' ORDER BY first.user_id) || ']' AS members
    FROM (SELECT * FROM members WHERE room_pk = r.pk ORDER BY user_id LIMIT $3) AS first
    LEFT JOIN users u
        ON u.project = first.project AND u.id = first.user_id AND u.deleted_at IS NULL
    CROSS JOIN LATERAL (
        SELECT first.user_id AS "user", first.role, u.display_name, u.avatar_url
    ) AS one
) AS shown
""".replace("{{object}}", ROOM_OBJECT)
STATEMENTS: Final = {
    "total": _TOTAL,
    "details": _DETAILS,
    **{
        f"active {name}": _ACTIVE.replace("{{mine}}", _MINE).replace("{{walk}}", walk)
        for name, walk in _WALKS.items()
    },
}
"""Reads of this module, for the test that looks at their plans."""


class ActiveRoom(NamedTuple):
    """A room of a user and when it was last active, as far as that is archived."""

    pk: int
    id: str
    active_at: datetime


class RoomDetails(NamedTuple):
    """What a list says of a room of the user, as far as it is archived."""

    role: str
    read_seq: int
    body: bytes
    members: bytes


async def count_rooms(db: Database, project: str, user: str) -> int:
    """How many living rooms the user is a member of."""
    return await db.fetchval(_TOTAL, project, user) or 0


async def list_active(
    db: Database, project: str, user: str, *, skip: int, limit: int, total: int
) -> list[ActiveRoom]:
    """A part of the user's rooms, the most recently active first; `total` is about their number."""
    if skip >= total:
        return []
    walk = "near" if skip <= total // 2 else "far"
    rows: Any = await db.fetch(
        STATEMENTS[f"active {walk}"], project, user, skip, limit, ACTIVITY_SPREAD_SECONDS
    )
    return [ActiveRoom(*row) for row in rows]


async def read_details(db: Database, user: str, rooms: Sequence[int]) -> dict[int, RoomDetails]:
    """By room: what the list says of it. Rooms that are no longer the user's are not in there."""
    rows: Any = await db.fetch(_DETAILS, user, rooms, MEMBERS_SHOWN)
    return {
        row["pk"]: RoomDetails(row["role"], row["read_seq"], row["body"], row["members"])
        for row in rows
    }
