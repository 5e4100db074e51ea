"""What else is asked about one message: in which room it is, and who reacted to it.

Indexes: messages_id (id, room_pk), the primary keys of rooms and of reactions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import msgspec

from storage.postgres.json_text import with_times
from storage.postgres.pool import Database

_ROOM: Final = """
SELECT r.id FROM messages m JOIN rooms r ON r.pk = m.room_pk
WHERE m.id = $1::uuid AND r.project = $2
"""
# $5, $6 are (reaction, user) that unarchived events are about: the caller puts those behind.
_REACTIONS: Final = with_times(
    """
WITH kept AS MATERIALIZED (
    SELECT user_id, reaction, created_at FROM reactions
    WHERE room_pk = $1 AND seq = $2
      AND (reaction, user_id) NOT IN (SELECT * FROM unnest($5::text[], $6::text[]))
), page AS (
    SELECT * FROM kept ORDER BY created_at, user_id, reaction OFFSET $3 LIMIT $4
), apart AS (
    SELECT user_id, reaction, created_at FROM reactions
    WHERE room_pk = $1 AND seq = $2
      AND (reaction, user_id) IN (SELECT * FROM unnest($5::text[], $6::text[]))
)
SELECT r.archived_offset, (SELECT count(*) FROM kept) AS total,
       (SELECT coalesce(json_agg(json_build_object(
                   'user', user_id, 'reaction', reaction, 'created_at', {{created_at}})
                   ORDER BY created_at, user_id, reaction), '[]')::text FROM page) AS items,
       (SELECT coalesce(json_agg(json_build_object(
                   'user', user_id, 'reaction', reaction, 'created_at', {{created_at}})),
                   '[]')::text FROM apart) AS apart
FROM rooms r WHERE r.pk = $1
""",
    created_at="created_at",
)
STATEMENTS: Final = {"room": _ROOM, "reactions": _REACTIONS}


class ReactionRow(msgspec.Struct):
    """One user's reaction."""

    user: str
    reaction: str
    created_at: str


class ArchivedReactions(NamedTuple):
    """The reactions to a message at a watermark of its room."""

    archived_offset: int
    total: int
    """Of those not apart."""
    items: list[ReactionRow]
    apart: list[ReactionRow]


_decode_rows: Final = msgspec.json.Decoder(list[ReactionRow]).decode


async def find_room(db: Database, project: str, message_id: str) -> str | None:
    """Id of the room of an archived message of the project."""
    found: str | None = await db.fetchval(_ROOM, message_id, project)
    return found


async def read_reactions(
    db: Database,
    room_pk: int,
    seq: int,
    *,
    skip: int,
    limit: int,
    apart: Sequence[tuple[str, str]],
) -> ArchivedReactions | None:
    """A part of a message's reactions, oldest first, and those (reaction, user) in `apart`."""
    row: Any = await db.fetchrow(
        _REACTIONS,
        room_pk,
        seq,
        skip,
        limit,
        [reaction for reaction, _ in apart],
        [user for _, user in apart],
    )
    if row is None:
        return None
    return ArchivedReactions(
        row["archived_offset"],
        row["total"],
        _decode_rows(row["items"]),
        _decode_rows(row["apart"]),
    )
