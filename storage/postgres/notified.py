"""Reads whom to tell of what happens in a room. Index: rooms (project, id), members (room_pk,
user_id)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from storage.postgres.pool import Database

_USERS: Final = """
SELECT user_id FROM members WHERE room_pk = $1 AND user_id > $2 ORDER BY user_id LIMIT $3
"""
# One more than are told: then there are too many, and only those in $3 are.
_NOTIFIED: Final = """
SELECT r.pk, ARRAY(SELECT user_id FROM members WHERE room_pk = r.pk LIMIT $4 + 1) AS some,
       ARRAY(SELECT user_id FROM members WHERE room_pk = r.pk AND user_id = ANY($3::text[]))
           AS mentioned
FROM rooms r
WHERE r.project = $1 AND r.id = $2 AND r.deleted_at IS NULL
"""
STATEMENTS: Final = {"users": _USERS, "notified": _NOTIFIED}
"""Reads of this module, for the test that looks at their plans."""


async def list_users(db: Database, room_pk: int, after: str, limit: int) -> list[str]:
    """Some members of a room, deleted or not, by user id."""
    return [row["user_id"] for row in await db.fetch(_USERS, room_pk, after, limit)]


async def list_notified(
    db: Database, project: str, room: str, mentioned: Sequence[str], members_max: int
) -> tuple[int, list[str]] | None:
    """The room's pk and its members, of more than `members_max` only those mentioned; None if
    there is no such room any more."""
    row: Any = await db.fetchrow(_NOTIFIED, project, room, mentioned, members_max)
    if row is None:
        return None
    return row["pk"], row["mentioned"] if len(row["some"]) > members_max else row["some"]
