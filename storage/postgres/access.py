"""What a user is in a room, read together with the version at which it is true.

One statement each, so that role and version belong together: the scripts refuse a version older
than the room's newest announced change. For who subscribes, `unread` counts in the same statement.
Index: rooms (project, id), members and bans (room_pk, user_id), blocks (project, user_id, blocked).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from storage.postgres.pool import Database, RowReader

STANDING = """
       r.pk, r.project, r.id, r.kind, r.version, r.frozen, r.default_role,
       r.deleted_at IS NOT NULL AS deleted, r.archived_offset, m.role, m.muted_until, m.read_seq,
       EXISTS (SELECT FROM bans b WHERE b.room_pk = r.pk AND b.user_id = {user}) AS banned,
       r.kind = 'direct' AND EXISTS (
           SELECT FROM blocks b
           WHERE b.project = r.project AND b.blocked = {user}
             AND b.user_id = CASE r.direct_low WHEN {user} THEN r.direct_high ELSE r.direct_low END
       ) AS blocked"""
STANDING_FROM = "rooms r LEFT JOIN members m ON m.room_pk = r.pk AND m.user_id = {user}"
"""What `{user}` (an argument's name) is in `r`, for statements that read something else as well."""

_ACCESS = (
    f"SELECT{STANDING}, r.seq AS archived_seq FROM {STANDING_FROM} "
    "WHERE r.project = $1 AND r.id = $2"
).replace("{user}", "$3")


async def read_access(reader: RowReader, project: str, room: str, user: str | None) -> Any:
    """The row of `_ACCESS`, None if the project has no such room (deleted ones are there)."""
    return await reader.fetchrow(_ACCESS, project, room, user)


# LIMIT keeps the lookup of each its own, by the indexes, whatever statistics say of all of them.
ACCESSES = """
SELECT asked.place, asked.user_id, found.*
FROM unnest($1::text[], $2::text[], $3::text[]) WITH ORDINALITY
     AS asked(project, room, user_id, place)
CROSS JOIN LATERAL ({access} LIMIT 1) AS found
""".replace(
    "{access}",
    _ACCESS.replace("$1", "asked.project")
    .replace("$2", "asked.room")
    .replace("$3", "asked.user_id"),
)
"""The same for many at once: (project, room, user), with the place of each."""


async def gather_access(db: Database, project: str, room: str, user: str | None) -> Any:
    """The same as of after the call, asked together with all who ask meanwhile."""
    return await db.gather(_read_accesses, (project, room, user))


async def _read_accesses(
    connection: Any, asked: Sequence[tuple[str, str, str | None]]
) -> list[Any]:
    found: list[Any] = [None] * len(asked)
    for row in await connection.fetch(ACCESSES, *zip(*asked, strict=True)):
        found[row["place"] - 1] = row
    return found


_STANDING_AMONG = """
SELECT u.id, m.user_id IS NOT NULL AS is_member,
       EXISTS (SELECT FROM bans b WHERE b.room_pk = r.pk AND b.user_id = u.id) AS is_banned
FROM rooms r CROSS JOIN unnest($3::text[]) AS u(id)
LEFT JOIN members m ON m.room_pk = r.pk AND m.user_id = u.id
WHERE r.project = $1 AND r.id = $2 AND r.deleted_at IS NULL
"""
STATEMENTS = {"access": _ACCESS, "accesses": ACCESSES, "standing_among": _STANDING_AMONG}
"""Reads of this module, for the test that looks at their plans."""


async def standing_among(
    db: Database, project: str, room: str, users: list[str]
) -> tuple[set[str], set[str]]:
    """Which of the users are members of the room now, and which are banned from it."""
    rows = await db.fetch(_STANDING_AMONG, project, room, users)
    members = {row["id"] for row in rows if row["is_member"]}
    return members, {row["id"] for row in rows if row["is_banned"]}
