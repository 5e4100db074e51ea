"""Bans: who is kept out of a room. How a change is made is the law of `room_locks`.

A ban ends the membership in the same transaction. It is announced as `member.removed` with the
reason `banned` even for somebody who was no member: nodes then end subscriptions that rest on the
room's kind or on a capability, and no cached role outlives it. Lifting a ban announces nothing:
nothing is ever refused on a remembered role.
"""

from __future__ import annotations

from typing import Any, Final, Literal

from msgspec.json import encode

from storage.postgres.audit import audit
from storage.postgres.json_text import with_times
from storage.postgres.members import end_membership
from storage.postgres.pool import Database
from storage.postgres.room_locks import Permit, lock_room
from storage.postgres.users import missing_users

BanOutcome = Literal["new", "present", "missing"]

_INSERT: Final = """
INSERT INTO bans (room_pk, user_id, banned_by) VALUES ($1, $2, $3)
ON CONFLICT DO NOTHING RETURNING user_id
"""
_DELETE: Final = "DELETE FROM bans WHERE room_pk = $1 AND user_id = $2"
_LIST: Final = with_times(
    """
WITH page AS (
    SELECT * FROM bans WHERE room_pk = $1 ORDER BY user_id OFFSET $2 LIMIT $3
), bodies AS (
    SELECT page.user_id, row_to_json(body)::text AS body
    FROM page
    JOIN rooms r ON r.pk = page.room_pk
    LEFT JOIN users u ON u.project = r.project AND u.id = page.user_id AND u.deleted_at IS NULL
    CROSS JOIN LATERAL (
        SELECT page.user_id AS "user", page.banned_by AS by, {{created}} AS created_at,
               u.display_name, u.avatar_url
    ) AS body
)
SELECT (SELECT count(*) FROM bans WHERE room_pk = $1) AS n, convert_to(
           '[' || coalesce((SELECT string_agg(body, ',' ORDER BY user_id) FROM bodies), '') || ']',
           'UTF8') AS items
""",
    created="page.created_at",
)
STATEMENTS: Final = {"list": _LIST}
"""Reads of this module, for the test that looks at their plans."""


async def list_bans(db: Database, room_pk: int, *, skip: int, limit: int) -> tuple[int, bytes]:
    """How many are banned, and some of them (by user id) as a JSON array."""
    row: Any = await db.fetchrow(_LIST, room_pk, skip, limit)
    return row["n"], row["items"]


async def add_ban(
    db: Database,
    project: str,
    room_pk: int,
    user: str,
    *,
    by: str | None,
    create_users: bool,
    permit: Permit,
) -> BanOutcome:
    """Ban the user; `missing` if there is no such user (then nothing is written)."""

    async def work(connection: Any) -> BanOutcome:
        permit(await lock_room(connection, room_pk, [user, by]))
        if await missing_users(connection, project, [user], create=create_users):
            return "missing"
        if await connection.fetchval(_INSERT, room_pk, user, by) is None:
            return "present"
        await end_membership(connection, room_pk, user, by=by, reason="banned")
        return "new"

    done: BanOutcome = await db.transaction(work)
    return done


async def remove_ban(
    db: Database,
    project: str,
    room: str,
    room_pk: int,
    user: str,
    *,
    by: str | None,
    permit: Permit,
) -> bool:
    """Lift a ban; False if there was none."""

    async def work(connection: Any) -> bool:
        permit(await lock_room(connection, room_pk, [user, by]))
        if await connection.execute(_DELETE, room_pk, user) == "DELETE 0":
            return False
        detail = encode({"user": user, "by": by}).decode()
        await audit(connection, project, by, "ban.removed", f"room:{room}", detail)
        return True

    done: bool = await db.transaction(work)
    return done
