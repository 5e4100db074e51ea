"""Members of rooms: every change with its version and announcement in one transaction.

A change takes the room's row lock first, reads who is who in a second statement (whose snapshot
sees what the lock waited for), asks the caller's `permit` with it, and then writes the change, the
higher `rooms.version` and one row of `announcements` per version. Whoever commits later has the
higher version. Announcing is the caller's next step; here nothing knows Redis.

`permit` gets the facts under the lock and raises to refuse; what it raises rolls all back and
reaches the caller. `by` is the acting user, None for the project.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from storage.postgres.json_text import with_times
from storage.postgres.pool import Database
from storage.postgres.users import missing_users


@dataclass(frozen=True, slots=True)
class RoomFacts:
    """A room and the roles of those concerned (None: no member), under the room's lock."""

    kind: str
    deleted: bool
    member_count: int
    roles: dict[str, str]

    def role(self, user: str | None) -> str | None:
        """The stored role of a user, None for nobody and for who is no member."""
        return None if user is None else self.roles.get(user)


Permit = Callable[[RoomFacts], None]

_LOCK: Final = "SELECT kind, deleted_at FROM rooms WHERE pk = $1 FOR UPDATE"
_ROLES: Final = """
SELECT user_id, role FROM members WHERE room_pk = $1 AND user_id = ANY($2::text[])
"""
_COUNT: Final = "SELECT count(*) FROM members WHERE room_pk = $1"
_INSERT: Final = """
INSERT INTO members (room_pk, user_id, project, role, read_seq)
SELECT $1, user_id, $2, $4, greatest($5, (SELECT greatest(seq, base_seq) FROM rooms WHERE pk = $1))
FROM unnest($3::text[]) AS user_id
ON CONFLICT DO NOTHING RETURNING user_id
"""
_DELETE: Final = "DELETE FROM members WHERE room_pk = $1 AND user_id = $2"
_UPDATE: Final = """
UPDATE members SET role = coalesce($3, role),
       muted_until = CASE WHEN $4 THEN $5::timestamptz ELSE muted_until END
WHERE room_pk = $1 AND user_id = $2
  AND (role IS DISTINCT FROM coalesce($3, role)
       OR ($4 AND muted_until IS DISTINCT FROM $5::timestamptz))
RETURNING user_id
"""
_VERSION: Final = "UPDATE rooms SET version = version + $2 WHERE pk = $1 RETURNING version - $2"
_MEMBER_FIELDS: Final = """m.user_id AS "user", m.role, {{joined}} AS joined_at,
           {{muted}} AS muted_until, u.display_name, u.avatar_url"""
_ANNOUNCE: Final = """
INSERT INTO announcements (room_pk, version, event, sender, data)
SELECT m.room_pk, $2::bigint + changed.place, $3, $4, row_to_json(body)
FROM unnest($5::text[]) WITH ORDINALITY AS changed(user_id, place)
JOIN members m ON m.room_pk = $1 AND m.user_id = changed.user_id
LEFT JOIN users u ON u.project = m.project AND u.id = m.user_id AND u.deleted_at IS NULL
CROSS JOIN LATERAL (
    SELECT FIELDS, $4::text AS by
) AS body
"""
_ANNOUNCE_REMOVED: Final = """
INSERT INTO announcements (room_pk, version, event, sender, data)
SELECT $1, $2::bigint + 1, 'member.removed', $3, row_to_json(body)
FROM (SELECT $4::text AS "user", $3::text AS by, $5::text AS reason) AS body
"""
_LIST: Final = """
WITH total AS (
    SELECT count(*) AS n FROM members WHERE room_pk = $1
), page AS (
    SELECT * FROM members WHERE room_pk = $1 ORDER BY user_id OFFSET $2 LIMIT $3
), bodies AS (
    SELECT m.user_id, row_to_json(body)::text AS body
    FROM page m
    LEFT JOIN users u ON u.project = m.project AND u.id = m.user_id AND u.deleted_at IS NULL
    CROSS JOIN LATERAL (SELECT FIELDS) AS body
)
SELECT total.n, convert_to(
           '[' || coalesce((SELECT string_agg(body, ',' ORDER BY user_id) FROM bodies), '') || ']',
           'UTF8') AS items
FROM total
"""
_SOME: Final = """
SELECT convert_to('[' || coalesce(string_agg(row_to_json(body)::text, ',' ORDER BY m.user_id), '')
                  || ']', 'UTF8')
FROM members m
LEFT JOIN users u ON u.project = m.project AND u.id = m.user_id AND u.deleted_at IS NULL
CROSS JOIN LATERAL (SELECT FIELDS) AS body
WHERE m.room_pk = $1 AND m.user_id = ANY($2::text[])
"""


def _with_fields(statement: str) -> str:
    return with_times(
        statement.replace("FIELDS", _MEMBER_FIELDS), joined="m.joined_at", muted="m.muted_until"
    )


_ANNOUNCE_CHANGED: Final = _with_fields(_ANNOUNCE)
STATEMENTS: Final = {
    "roles": _ROLES,
    "list": _with_fields(_LIST),
    "some": _with_fields(_SOME),
}
"""Reads of this module, for the test that looks at their plans."""


async def list_members(db: Database, room_pk: int, *, skip: int, limit: int) -> tuple[int, bytes]:
    """How many members there are, and some of them (by user id) as a JSON array."""
    row: Any = await db.fetchrow(STATEMENTS["list"], room_pk, skip, limit)
    return row["n"], row["items"]


async def fetch_members(db: Database, room_pk: int, users: Sequence[str]) -> bytes:
    """The member objects of these users (who are no members are left out), a JSON array."""
    found: bytes = await db.fetchval(STATEMENTS["some"], room_pk, users)
    return found


@dataclass(frozen=True, slots=True)
class Added:
    """Who became a member by it, and who could not because there is no such user."""

    users: Sequence[str] = ()
    missing: Sequence[str] = ()


async def add_members(
    db: Database,
    project: str,
    room_pk: int,
    users: Sequence[str],
    *,
    role: str,
    by: str | None,
    live_seq: int,
    create_users: bool,
    permit: Permit,
) -> Added:
    """Make `users` members from the room's seq on; present members stay as they are.

    All or none: with `missing` users nothing is written.
    """

    async def work(connection: Any) -> Added:
        permit(await _lock(connection, room_pk, [*users, by]))
        missing = await missing_users(connection, project, users, create=create_users)
        if missing:
            return Added(missing=missing)
        rows = await connection.fetch(_INSERT, room_pk, project, sorted(users), role, live_seq)
        added = sorted(row["user_id"] for row in rows)
        if added:
            await _announce(connection, room_pk, "member.added", by, added)
        return Added(users=added)

    done: Added = await db.transaction(work)
    return done


async def remove_member(
    db: Database, room_pk: int, user: str, *, by: str | None, reason: str, permit: Permit
) -> bool:
    """End a membership; False if there was none."""

    async def work(connection: Any) -> bool:
        facts = await _lock(connection, room_pk, [user, by])
        permit(facts)
        if facts.role(user) is None:
            return False
        await connection.execute(_DELETE, room_pk, user)
        version = await connection.fetchval(_VERSION, room_pk, 1)
        await connection.execute(_ANNOUNCE_REMOVED, room_pk, version, by, user, reason)
        return True

    done: bool = await db.transaction(work)
    return done


@dataclass(frozen=True, slots=True)
class MemberChange:
    """What to change of a member: `role` None keeps it; `muted_until` counts if `mutes`."""

    role: str | None = None
    mutes: bool = False
    muted_until: datetime | None = None


async def update_member(
    db: Database,
    room_pk: int,
    user: str,
    change: MemberChange,
    *,
    by: str | None,
    permit: Permit,
) -> bool:
    """Change a member; False if the user is none. A new owner makes the old one an admin."""

    async def work(connection: Any) -> bool:
        facts = await _lock(connection, room_pk, [user, by])
        permit(facts)
        if facts.role(user) is None:
            return False
        changed: list[str] = []
        if change.role == "owner" and facts.role(user) != "owner":
            rows = await connection.fetch(_DEMOTE, room_pk)
            changed.extend(row["user_id"] for row in rows)
        updated = await connection.fetchval(
            _UPDATE, room_pk, user, change.role, change.mutes, change.muted_until
        )
        if updated is not None:
            changed.append(user)
        if changed:
            await _announce(connection, room_pk, "member.updated", by, changed)
        return True

    done: bool = await db.transaction(work)
    return done


_DEMOTE: Final = """
UPDATE members SET role = 'admin' WHERE room_pk = $1 AND role = 'owner' RETURNING user_id
"""


async def _lock(connection: Any, room_pk: int, users: Sequence[str | None]) -> RoomFacts:
    room = await connection.fetchrow(_LOCK, room_pk)
    named = [user for user in users if user is not None]
    rows = await connection.fetch(_ROLES, room_pk, named)
    count = await connection.fetchval(_COUNT, room_pk)
    roles = {row["user_id"]: row["role"] for row in rows}
    return RoomFacts(room["kind"], room["deleted_at"] is not None, count, roles)


async def _announce(
    connection: Any, room_pk: int, event: str, by: str | None, users: Sequence[str]
) -> None:
    """One version and one announcement for each of `users`, in their order."""
    version = await connection.fetchval(_VERSION, room_pk, len(users))
    await connection.execute(_ANNOUNCE_CHANGED, room_pk, version, event, by, list(users))
