"""Everything that is stored of one user, a batch at a time, as JSON that PostgreSQL builds.

Each section is walked by a key, so that memory is bounded by a batch. The project's rooms are
walked where no index leads from the user to its rows; one look into an index per room.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from storage.postgres.json_text import with_times
from storage.postgres.pool import Database

_USER: Final = with_times(
    """
SELECT convert_to(row_to_json(body)::text, 'UTF8')
FROM users u CROSS JOIN LATERAL (
    SELECT u.id, u.username, u.external_user_id, u.display_name, u.email, u.avatar_url, u.status,
           u.metadata, {{created}} AS created_at, {{updated}} AS updated_at,
           {{seen}} AS last_seen_at, {{revoked}} AS tokens_revoked_at, {{deleted}} AS deleted_at
) AS body
WHERE u.project = $1 AND u.id = $2
""",
    created="u.created_at",
    updated="u.updated_at",
    seen="u.last_seen_at",
    revoked="u.tokens_revoked_at",
    deleted="u.deleted_at",
)
_MEMBERSHIPS: Final = with_times(
    """
SELECT m.room_pk AS place, convert_to(row_to_json(body)::text, 'UTF8') AS body
FROM members m JOIN rooms r ON r.pk = m.room_pk
CROSS JOIN LATERAL (
    SELECT r.id AS room, r.name AS room_name, m.role, {{joined}} AS joined_at,
           {{muted}} AS muted_until, m.read_seq, {{read}} AS read_at, m.delivered_seq
) AS body
WHERE m.project = $1 AND m.user_id = $2 AND m.room_pk > $3
ORDER BY m.room_pk LIMIT $4
""",
    joined="m.joined_at",
    muted="m.muted_until",
    read="m.read_at",
)
_BLOCKS: Final = with_times(
    """
SELECT b.blocked AS place, convert_to(row_to_json(body)::text, 'UTF8') AS body
FROM blocks b CROSS JOIN LATERAL (SELECT b.blocked AS "user", {{created}} AS created_at) AS body
WHERE b.project = $1 AND b.user_id = $2 AND b.blocked > $3
ORDER BY b.blocked LIMIT $4
""",
    created="b.created_at",
)
_FAVORITES: Final = with_times(
    """
SELECT f.id AS place, convert_to(row_to_json(body)::text, 'UTF8') AS body
FROM favorites f JOIN rooms r ON r.pk = f.room_pk
CROSS JOIN LATERAL (SELECT r.id AS room, f.seq, {{created}} AS created_at) AS body
WHERE f.project = $1 AND f.user_id = $2 AND f.id > $3
ORDER BY f.id LIMIT $4
""",
    created="f.created_at",
)
_AUDIT: Final = with_times(
    """
SELECT a.id AS place, convert_to(row_to_json(body)::text, 'UTF8') AS body
FROM (
    (SELECT * FROM audit WHERE project = $1 AND entity = 'user:' || $2 AND id > $3
     ORDER BY id LIMIT $4)
    UNION
    (SELECT * FROM audit WHERE project = $1 AND actor = $2 AND id > $3 ORDER BY id LIMIT $4)
) AS a
CROSS JOIN LATERAL (
    SELECT a.id, a.actor, a.action, a.entity, a.detail, {{created}} AS created_at
) AS body
ORDER BY a.id LIMIT $4
""",
    created="a.created_at",
)
# Rooms in which there may be something: the walk over all rooms of the project, once for all.
_ROOMS: Final = """
SELECT r.pk, r.id,
       (SELECT true FROM messages m WHERE m.room_pk = r.pk AND m.sender = $2
        ORDER BY seq LIMIT 1) AS has_messages,
       (SELECT true FROM reactions x WHERE x.user_id = $2 AND x.room_pk = r.pk
        ORDER BY seq LIMIT 1) AS has_reactions,
       (SELECT {{banned}} FROM bans b WHERE b.room_pk = r.pk AND b.user_id = $2) AS banned_at,
       (SELECT {{left}} FROM departures d WHERE d.room_pk = r.pk AND d.user_id = $2) AS left_at
FROM rooms r WHERE r.project = $1 AND r.pk > $3
ORDER BY r.pk LIMIT $4
"""
_ROOMS_TIMED: Final = with_times(_ROOMS, banned="b.created_at", left="d.left_at")
_MESSAGES: Final = with_times(
    """
SELECT m.seq AS place, convert_to(row_to_json(body)::text, 'UTF8') AS body
FROM messages m CROSS JOIN LATERAL (
    SELECT m.id, $5::text AS room, m.seq, m.kind, m.content, m.metadata, m.attachments,
           m.mentions, m.reply_to, m.forwarded_from, m.client_id, {{created}} AS created_at,
           {{edited}} AS edited_at, {{deleted}} AS deleted_at, m.deleted_by
) AS body
WHERE m.room_pk = $1 AND m.sender = $2 AND m.seq > $3
ORDER BY m.seq LIMIT $4
""",
    created="m.created_at",
    edited="m.edited_at",
    deleted="m.deleted_at",
)
# An object a message, so that a batch never ends between two reactions to the same one.
_REACTIONS: Final = with_times(
    """
SELECT x.seq AS place, convert_to(json_build_object(
           'room', $5::text, 'seq', x.seq, 'reactions', json_agg(json_build_object(
               'reaction', x.reaction, 'created_at', {{created}}) ORDER BY x.created_at)
       )::text, 'UTF8') AS body
FROM reactions x
WHERE x.user_id = $2 AND x.room_pk = $1 AND x.seq > $3
GROUP BY x.seq ORDER BY x.seq LIMIT $4
""",
    created="x.created_at",
)
STATEMENTS: Final = {
    "user": _USER,
    "memberships": _MEMBERSHIPS,
    "blocks": _BLOCKS,
    "favorites": _FAVORITES,
    "audit": _AUDIT,
    "rooms": _ROOMS_TIMED,
    "messages": _MESSAGES,
    "reactions": _REACTIONS,
}
"""Reads of this module, for the test that looks at their plans."""


class Part(NamedTuple):
    """Some objects of a section, and where the next ones begin."""

    bodies: Sequence[bytes]
    place: Any


class TracedRoom(NamedTuple):
    """A room of the project and what of the user is in it."""

    pk: int
    id: str
    has_messages: bool | None
    has_reactions: bool | None
    banned_at: str | None
    left_at: str | None


async def export_user(db: Database, project: str, user: str) -> bytes | None:
    """The profile with what no other answer shows; None if there never was such a user."""
    found: bytes | None = await db.fetchval(_USER, project, user)
    return found


async def export_of_user(
    db: Database, section: str, project: str, user: str, place: Any, limit: int
) -> Part:
    """Part of one of the sections by user; a shorter one than `limit` is the last."""
    return _part(await db.fetch(STATEMENTS[section], project, user, place, limit), place)


async def traced_rooms(
    db: Database, project: str, user: str, above_pk: int, limit: int
) -> list[TracedRoom]:
    """Some rooms of the project, by their key, whether there is something of the user or not."""
    return [
        TracedRoom(*row) for row in await db.fetch(_ROOMS_TIMED, project, user, above_pk, limit)
    ]


async def export_of_room(
    db: Database, section: str, room: TracedRoom, user: str, place: int, limit: int
) -> Part:
    """Part of the user's `messages` or `reactions` in a room."""
    rows = await db.fetch(STATEMENTS[section], room.pk, user, place, limit, room.id)
    return _part(rows, place)


def _part(rows: Sequence[Any], place: Any) -> Part:
    return Part([row["body"] for row in rows], rows[-1]["place"] if rows else place)
