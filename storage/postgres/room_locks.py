"""What every change of a room has in common: the lock, the facts under it, the next version.

A change takes the room's row lock first, reads who is who in a second statement (whose snapshot
sees what the lock waited for), asks the caller's `permit` with it, and then writes the change, the
higher `rooms.version`, one row of `announcements` per version, and the audit. Whoever commits later
has the higher version. Announcing is the caller's next step; here nothing knows Redis.

`permit` gets the facts under the lock and raises to refuse; what it raises rolls all back and
reaches the caller. Every function here runs inside a transaction of its caller.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from storage.postgres.audit import audit_announced


@dataclass(frozen=True, slots=True)
class RoomFacts:
    """A room and the roles of those concerned (None: no member), under the room's lock."""

    kind: str
    deleted: bool
    member_count: int
    roles: dict[str, str]
    banned: frozenset[str] = frozenset()
    """Who of those concerned is banned from the room."""

    def role(self, user: str | None) -> str | None:
        """The stored role of a user, None for nobody and for who is no member."""
        return None if user is None else self.roles.get(user)


Permit = Callable[[RoomFacts], None]

ACCESS_CHANGED: Final = "access.changed"
"""An announcement that raises the room's version and tells nobody: cached roles are read again."""

_LOCK: Final = "SELECT kind, deleted_at FROM rooms WHERE pk = $1 FOR UPDATE"
_ROLES: Final = """
SELECT asked.id, m.role, b.user_id IS NOT NULL AS is_banned
FROM unnest($2::text[]) AS asked(id)
LEFT JOIN members m ON m.room_pk = $1 AND m.user_id = asked.id
LEFT JOIN bans b ON b.room_pk = $1 AND b.user_id = asked.id
"""
_COUNT: Final = "SELECT count(*) FROM members WHERE room_pk = $1"
_VERSION: Final = "UPDATE rooms SET version = version + $2 WHERE pk = $1 RETURNING version - $2"
_ANNOUNCE: Final = """
INSERT INTO announcements (room_pk, version, event, sender, data)
VALUES ($1, $2, $3, $4, $5::text::json)
"""
STATEMENTS: Final = {"roles": _ROLES}
"""Reads of this module, for the test that looks at their plans."""


async def lock_room(connection: Any, room_pk: int, users: Sequence[str | None]) -> RoomFacts:
    """Lock the room's row; the facts about it and about `users`."""
    room = await connection.fetchrow(_LOCK, room_pk)
    named = [user for user in users if user is not None]
    rows = await connection.fetch(_ROLES, room_pk, named)
    count = await connection.fetchval(_COUNT, room_pk)
    roles = {row["id"]: row["role"] for row in rows if row["role"] is not None}
    banned = frozenset(row["id"] for row in rows if row["is_banned"])
    return RoomFacts(room["kind"], room["deleted_at"] is not None, count, roles, banned)


async def take_versions(connection: Any, room_pk: int, count: int) -> int:
    """Raise the room's version by `count`; the version before."""
    before: int = await connection.fetchval(_VERSION, room_pk, count)
    return before


async def announce_change(
    connection: Any, room_pk: int, event: str, sender: str | None, data: str
) -> None:
    """One version with one announcement, and its place in the audit; `data` is JSON text."""
    before = await take_versions(connection, room_pk, 1)
    await connection.execute(_ANNOUNCE, room_pk, before + 1, event, sender, data)
    await audit_announced(connection, room_pk, before)
