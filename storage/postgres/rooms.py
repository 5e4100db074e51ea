"""Rooms: create (or get the one that is there), and read as objects.

Creating is one transaction: founders that exist, the room, its members. Ids are never reused, a
direct pair and an external id only once their room is deleted; who loses a race for one of them
finds the winner's room in a *new* statement, whose snapshot sees it. Founders make no
announcement: nobody can have been in the room before. Changing rooms is `room_changes`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from storage.postgres.audit import audit
from storage.postgres.json_text import with_times
from storage.postgres.pool import Database
from storage.postgres.users import missing_users

_RACES_MAX: Final = 3
"""A room that blocks ours may be deleted before we look at it; more often is nobody's luck."""


@dataclass(frozen=True, slots=True)
class NewRoom:
    """A room to create with its founders (user, role), each once; `metadata` is JSON text.

    `direct` is the pair in bytewise order, for the kind `direct` only.
    """

    id: str
    kind: str
    name: str | None = None
    topic: str | None = None
    avatar_url: str | None = None
    external_id: str | None = None
    default_role: str = "member"
    frozen: bool = False
    retention_days: int | None = None
    metadata: str = "{}"
    created_by: str | None = None
    direct: tuple[str, str] | None = None
    founders: Sequence[tuple[str, str]] = ()


@dataclass(frozen=True, slots=True)
class CreatedRoom:
    """What became of it. `existing`: a room of that `direct` pair or `external_id` was there.

    `id_taken`: the id belongs to another room, maybe a deleted one. `missing`: founders that are
    no users. Only with `created` anything was written.
    """

    outcome: Literal["created", "existing", "id_taken", "missing"]
    pk: int = 0
    id: str = ""
    missing: Sequence[str] = ()


_INSERT: Final = """
INSERT INTO rooms (project, id, kind, name, topic, avatar_url, external_id, default_role, frozen,
                   retention_days, metadata, created_by, direct_low, direct_high)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11::text::json, $12, $13, $14)
ON CONFLICT DO NOTHING RETURNING pk
"""
_FOUND: Final = """
INSERT INTO members (room_pk, user_id, project, role)
SELECT $1, founder.user_id, $2, founder.role FROM unnest($3::text[], $4::text[])
       AS founder(user_id, role)
"""
_BY_PAIR: Final = """
SELECT pk, id FROM rooms
WHERE project = $1 AND direct_low = $2 AND direct_high = $3 AND deleted_at IS NULL
"""
_BY_EXTERNAL_ID: Final = """
SELECT pk, id FROM rooms WHERE project = $1 AND external_id = $2 AND deleted_at IS NULL
"""
_BY_ID: Final = "SELECT pk FROM rooms WHERE project = $1 AND id = $2"
ROOM_OBJECT: Final = with_times(
    """
CROSS JOIN LATERAL (
    SELECT r.id, r.kind, r.name, r.topic, r.avatar_url, r.external_id, r.default_role, r.frozen,
           r.retention_days, r.metadata, r.created_by, {{created}} AS created_at,
           {{updated}} AS updated_at, {{last}} AS last_message_at,
           r.member_count, greatest(r.seq, r.base_seq) AS seq
) AS body
""",
    created="r.created_at",
    updated="r.updated_at",
    last="r.last_message_at",
)
"""Behind `rooms AS r`: adds `body`, the room object as archived."""
_FETCH: Final = with_times(
    """
SELECT convert_to(CASE WHEN r.deleted_at IS NULL THEN row_to_json(body)::text ELSE
           (row_to_json(body)::jsonb || jsonb_build_object('deleted_at', {{deleted}}))::text
       END, 'UTF8')
FROM rooms AS r {{object}} WHERE r.pk = $1
""".replace("{{object}}", ROOM_OBJECT),
    deleted="r.deleted_at",
)
# One statement a set of filters, so that each walks the index that fits it.
_LIST: Final = """
WITH page AS (
    SELECT * FROM rooms WHERE project = $1 AND deleted_at IS NULL{{filter}}
    ORDER BY created_at, id OFFSET $2 LIMIT $3
)
SELECT r.id, convert_to(row_to_json(body)::text, 'UTF8') AS body
FROM page AS r {{object}}
ORDER BY r.created_at, r.id
""".replace("{{object}}", ROOM_OBJECT)
_TOTAL: Final = """
SELECT count(*) FROM rooms WHERE project = $1 AND deleted_at IS NULL{{filter}}
"""
_FILTERS: Final = {"kind": " AND kind = $", "external_id": " AND external_id = $"}


def _filtered(statement: str, first: int, *filters: str) -> str:
    """The statement for these filters, whose values are the parameters from `first` on."""
    text = "".join(_FILTERS[name] + str(place) for place, name in enumerate(filters, first))
    return statement.replace("{{filter}}", text)


STATEMENTS: Final = {
    "by_pair": _BY_PAIR,
    "by_external_id": _BY_EXTERNAL_ID,
    "by_id": _BY_ID,
    "fetch": _FETCH,
    "list": _filtered(_LIST, 4),
    "list kind": _filtered(_LIST, 4, "kind"),
    "list external_id": _filtered(_LIST, 4, "external_id"),
    "list kind external_id": _filtered(_LIST, 4, "kind", "external_id"),
    "total": _filtered(_TOTAL, 2),
    "total kind": _filtered(_TOTAL, 2, "kind"),
    "total external_id": _filtered(_TOTAL, 2, "external_id"),
    "total kind external_id": _filtered(_TOTAL, 2, "kind", "external_id"),
}
"""Reads of this module, for the test that looks at their plans."""


async def fetch_room(db: Database, room_pk: int) -> bytes | None:
    """The room object as archived: `seq` and `last_message_at` lack what is only in Redis."""
    found: bytes | None = await db.fetchval(_FETCH, room_pk)
    return found


async def list_rooms(
    db: Database,
    project: str,
    *,
    kind: str | None,
    external_id: str | None,
    skip: int,
    limit: int,
) -> tuple[int, list[tuple[str, bytes]]]:
    """How many living rooms there are of that kind and external id, and a part of them, oldest
    first: (id, room object as archived)."""
    given = {"kind": kind, "external_id": external_id}
    filters = [name for name, value in given.items() if value is not None]
    values = [given[name] for name in filters]
    total = await db.fetchval(STATEMENTS[" ".join(["total", *filters])], project, *values)
    rows: Any = await db.fetch(
        STATEMENTS[" ".join(["list", *filters])], project, skip, limit, *values
    )
    return total, [(row["id"], row["body"]) for row in rows]


async def create_room(
    db: Database, project: str, new: NewRoom, *, create_users: bool
) -> CreatedRoom:
    """Create the room, or say which one is there already. Safe to repeat with the same id."""

    async def work(connection: Any) -> CreatedRoom:
        users = [user for user, _ in new.founders]
        missing = await missing_users(connection, project, users, create=create_users)
        if missing:
            return CreatedRoom("missing", missing=missing)
        for _ in range(_RACES_MAX):
            pk = await connection.fetchval(_INSERT, *_values(project, new))
            if pk is not None:
                roles = [role for _, role in new.founders]
                await connection.execute(_FOUND, pk, project, users, roles)
                await audit(connection, project, new.created_by, "room.created", f"room:{new.id}")
                return CreatedRoom("created", pk, new.id)
            existing = await _find_existing(connection, project, new)
            if existing is not None:
                return existing
        return CreatedRoom("id_taken")

    done: CreatedRoom = await db.transaction(work)
    return done


def _values(project: str, new: NewRoom) -> tuple[object, ...]:
    low, high = new.direct or (None, None)
    return (
        project,
        new.id,
        new.kind,
        new.name,
        new.topic,
        new.avatar_url,
        new.external_id,
        new.default_role,
        new.frozen,
        new.retention_days,
        new.metadata,
        new.created_by,
        low,
        high,
    )


async def _find_existing(connection: Any, project: str, new: NewRoom) -> CreatedRoom | None:
    row = None
    if new.direct is not None:
        row = await connection.fetchrow(_BY_PAIR, project, *new.direct)
    if row is None and new.external_id is not None:
        row = await connection.fetchrow(_BY_EXTERNAL_ID, project, new.external_id)
    if row is not None:
        return CreatedRoom("existing", row["pk"], row["id"])
    if await connection.fetchval(_BY_ID, project, new.id) is not None:
        return CreatedRoom("id_taken")
    return None
