"""Reads whom to tell of what happens in a room. Index: rooms (project, id), members (room_pk,
user_id)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec

if TYPE_CHECKING:
    from storage.postgres.pool import Database

_encode: Final = msgspec.json.Encoder().encode

_USERS: Final = """
SELECT user_id FROM members WHERE room_pk = $1 AND user_id > $2 ORDER BY user_id LIMIT $3
"""
# One more than are told: then there are too many, and only those who are mentioned are. (Those as
# JSON text: an array of arrays could not be ragged.)
_NOTIFIED: Final = """
SELECT v.place, r.pk, ARRAY(SELECT user_id FROM members WHERE room_pk = r.pk LIMIT $4 + 1) AS some,
       ARRAY(SELECT user_id FROM members WHERE room_pk = r.pk AND user_id = ANY(
           ARRAY(SELECT json_array_elements_text(v.mentioned)))) AS mentioned
FROM unnest($1::text[], $2::text[], $3::json[]) WITH ORDINALITY AS v(project, id, mentioned, place)
JOIN rooms r ON r.project = v.project AND r.id = v.id AND r.deleted_at IS NULL
"""
STATEMENTS: Final = {"users": _USERS, "notified": _NOTIFIED}
"""Reads of this module, for the test that looks at their plans."""


async def list_users(db: Database, room_pk: int, after: str, limit: int) -> list[str]:
    """Some members of a room, deleted or not, by user id."""
    return [row["user_id"] for row in await db.fetch(_USERS, room_pk, after, limit)]


class NotifiedRoom(NamedTuple):
    """A room and its members, of very many only those who are mentioned."""

    pk: int
    members: list[str]


async def list_notified(
    db: Database, rooms: Sequence[tuple[str, str, Sequence[str]]], members_max: int
) -> list[NotifiedRoom | None]:
    """Whom to tell in each (project, room, mentioned users), in one statement; None where there is
    no such room any more. Of more than `members_max` members only those mentioned."""
    found: list[NotifiedRoom | None] = [None] * len(rooms)
    rows: Any = await db.fetch(
        _NOTIFIED,
        [project for project, _, _ in rooms],
        [room for _, room, _ in rooms],
        [_encode(mentioned).decode() for _, _, mentioned in rooms],
        members_max,
    )
    for place, pk, some, mentioned in rows:
        found[place - 1] = NotifiedRoom(pk, mentioned if len(some) > members_max else some)
    return found
