"""Members of rooms: every change with its version and announcement in one transaction.

How a change is made (lock, facts, `permit`, version, announcement) is the law of `room_locks`.
`by` is the acting user, None for the project.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from msgspec.json import encode

from storage.postgres.audit import audit_announced
from storage.postgres.json_text import with_times
from storage.postgres.pool import Database
from storage.postgres.room_locks import Permit, announce_change, lock_room, take_versions
from storage.postgres.room_locks import RoomFacts as RoomFacts
from storage.postgres.users import missing_users

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
_DEPART: Final = """
INSERT INTO departures (room_pk, user_id) VALUES ($1, $2)
ON CONFLICT (room_pk, user_id) DO UPDATE SET left_at = now()
"""
_DEPARTED: Final = """
SELECT EXISTS (SELECT FROM departures d JOIN rooms r ON r.pk = d.room_pk
               WHERE r.project = $1 AND r.id = $2 AND r.deleted_at IS NULL AND d.user_id = $3)
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
    "departed": _DEPARTED,
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

    All or none: with `missing` users nothing is written. `permit` keeps banned ones out.
    """

    async def work(connection: Any) -> Added:
        permit(await lock_room(connection, room_pk, [*users, by]))
        missing = await missing_users(connection, project, users, create=create_users)
        if missing:
            return Added(missing=missing)
        rows = await connection.fetch(_INSERT, room_pk, project, sorted(users), role, live_seq)
        added = sorted(row["user_id"] for row in rows)
        if added:
            await announce_members(connection, room_pk, "member.added", by, added)
        return Added(users=added)

    done: Added = await db.transaction(work)
    return done


async def remove_member(
    db: Database, room_pk: int, user: str, *, by: str | None, reason: str, permit: Permit
) -> bool:
    """End a membership; False if there was none."""

    async def work(connection: Any) -> bool:
        facts = await lock_room(connection, room_pk, [user, by])
        permit(facts)
        if facts.role(user) is None:
            return False
        await end_membership(connection, room_pk, user, by=by, reason=reason)
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
        facts = await lock_room(connection, room_pk, [user, by])
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
            await announce_members(connection, room_pk, "member.updated", by, changed)
        return True

    done: bool = await db.transaction(work)
    return done


_DEMOTE: Final = """
UPDATE members SET role = 'admin' WHERE room_pk = $1 AND role = 'owner' RETURNING user_id
"""


async def end_membership(
    connection: Any, room_pk: int, user: str, *, by: str | None, reason: str
) -> None:
    """Remove the member and announce it, inside a transaction that has locked the room.

    Announced even if there was no membership: a ban also ends what rests on none.
    """
    status = await connection.execute(_DELETE, room_pk, user)
    if status != "DELETE 0":
        await connection.execute(_DEPART, room_pk, user)
    data = encode({"user": user, "by": by, "reason": reason}).decode()
    await announce_change(connection, room_pk, "member.removed", by, data)


async def was_member(db: Database, project: str, room: str, user: str) -> bool:
    """Whether the user has been a member of this living room before."""
    found: bool = await db.fetchval(_DEPARTED, project, room, user)
    return found


async def announce_members(
    connection: Any, room_pk: int, event: str, by: str | None, users: Sequence[str]
) -> None:
    """One version and one announcement for each of `users`, in their order."""
    version = await take_versions(connection, room_pk, len(users))
    await connection.execute(_ANNOUNCE_CHANGED, room_pk, version, event, by, list(users))
    await audit_announced(connection, room_pk, version)
