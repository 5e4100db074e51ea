"""Deleting users: what is done at once, and what is left to do, in steps that may be repeated.

At once, in one transaction: the user is deleted, tokens are void, the profile is empty, and
`users.removal` says what is left: memberships first, then messages (`delete`, `erase`). Each step
may be done by anybody and again; the note goes away with the last. Memberships go some rooms at a
time, each room locked in the order of its key, with `member.removed` and, where the owner goes, the
heir's `member.updated` behind it, so that there is never more than one owner.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from msgspec.json import encode

from storage.postgres.audit import audit
from storage.postgres.favorites import FORGET as FORGET_FAVORITES
from storage.postgres.members import announce_members, end_membership
from storage.postgres.pool import Database
from storage.postgres.user_changes import announce_user

ROOMS_AT_ONCE: Final = 50
"""Rooms that one transaction locks: some tens of milliseconds."""

_BEGIN: Final = """
UPDATE users
SET deleted_at = now(), updated_at = now(), removal = $3, tokens_revoked_at = now(),
    username = NULL, external_user_id = NULL, display_name = NULL, email = NULL,
    avatar_url = NULL, metadata = '{}'
WHERE project = $1 AND id = $2 AND deleted_at IS NULL
RETURNING id
"""
# Later wishes go further than earlier ones, never back.
_GO_FURTHER: Final = """
UPDATE users SET removal = CASE removal WHEN 'erase' THEN removal ELSE $3 END
WHERE project = $1 AND id = $2 AND deleted_at IS NOT NULL AND $3 <> 'keep'
RETURNING id
"""
_LEFT: Final = "SELECT removal FROM users WHERE project = $1 AND id = $2"
_DUE: Final = """
SELECT project, id, removal FROM users
WHERE removal IS NOT NULL AND deleted_at <= now() - make_interval(secs => $1)
ORDER BY deleted_at LIMIT $2
"""
_FORGET_BLOCKS: Final = "DELETE FROM blocks WHERE project = $1 AND user_id = $2"
_MEMBERSHIPS: Final = """
SELECT room_pk FROM members WHERE project = $1 AND user_id = $2 ORDER BY room_pk LIMIT $3
"""
_LOCK: Final = """
SELECT pk, id, deleted_at FROM rooms WHERE pk = ANY($1::bigint[]) ORDER BY pk FOR UPDATE
"""
_ROLE: Final = "SELECT role FROM members WHERE room_pk = $1 AND user_id = $2"
_VANISH: Final = "DELETE FROM members WHERE room_pk = $1 AND user_id = $2"
_INHERIT: Final = """
UPDATE members SET role = 'owner'
WHERE room_pk = $1 AND user_id = (
    SELECT user_id FROM members WHERE room_pk = $1
    ORDER BY role <> 'admin', joined_at, user_id LIMIT 1)
RETURNING user_id
"""
_END: Final = """
UPDATE users SET removal = NULL WHERE project = $1 AND id = $2 AND removal = $3
"""
STATEMENTS: Final = {
    "left": _LEFT,
    "due": _DUE,
    "memberships": _MEMBERSHIPS,
}
"""Reads of this module, for the test that looks at their plans."""


class Removal(NamedTuple):
    """A deleted user of whom something is left to do."""

    project: str
    user: str
    messages: str
    """`keep`, `delete` or `erase`."""


async def begin_removal(
    db: Database, project: str, user: str, messages: str, *, by: str | None
) -> bool:
    """Delete the user as far as that is done at once; False if there is none (any more).

    Of a deleted user the messages may still be deleted or erased.
    """

    async def work(connection: Any) -> bool:
        is_new = await connection.fetchval(_BEGIN, project, user, messages) is not None
        if not is_new and await connection.fetchval(_GO_FURTHER, project, user, messages) is None:
            return False
        detail = encode({"messages": messages}).decode()
        await audit(connection, project, by, "user.deleted", f"user:{user}", detail)
        if not is_new:
            return True
        await connection.execute(_FORGET_BLOCKS, project, user)
        await connection.execute(FORGET_FAVORITES, project, user)
        await announce_user(connection, project, user)
        return True

    done: bool = await db.transaction(work)
    return done


async def removal_left(db: Database, project: str, user: str) -> str | None:
    """What of the user's removal is left to do; None if nothing is."""
    left: str | None = await db.fetchval(_LEFT, project, user)
    return left


async def due_removals(db: Database, older_than: float, limit: int) -> list[Removal]:
    """Removals that began more than `older_than` seconds ago and have not ended."""
    return [Removal(*row) for row in await db.fetch(_DUE, older_than, limit)]


async def leave_rooms(db: Database, project: str, user: str) -> list[str] | None:
    """End some memberships; ids of the rooms that are to be announced in, None if there were none.

    In deleted rooms nobody is told.
    """

    async def work(connection: Any) -> list[str] | None:
        found = await connection.fetch(_MEMBERSHIPS, project, user, ROOMS_AT_ONCE)
        if not found:
            return None
        told: list[str] = []
        for room in await connection.fetch(_LOCK, [row["room_pk"] for row in found]):
            if room["deleted_at"] is not None:
                await connection.execute(_VANISH, room["pk"], user)
                continue
            role = await connection.fetchval(_ROLE, room["pk"], user)
            if role is None:
                continue
            await end_membership(connection, room["pk"], user, by=None, reason="deleted")
            if role == "owner":
                heir = await connection.fetchval(_INHERIT, room["pk"])
                if heir is not None:
                    await announce_members(connection, room["pk"], "member.updated", None, [heir])
            told.append(room["id"])
        return told

    done: list[str] | None = await db.transaction(work)
    return done


async def end_removal(db: Database, removal: Removal) -> None:
    """Nothing of this is left to do; a wish that goes further stays."""
    await db.execute(_END, *removal)
