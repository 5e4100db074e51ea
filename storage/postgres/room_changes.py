"""Changing and deleting rooms; how a change is made is the law of `room_locks`.

A change announces the fields that it changed and nothing else; what changes nothing is no change.
Counters (`seq`, `member_count`, `last_message_at`) are no fields of a room's row in this sense and
never announce. Rooms are deleted softly: the row stays, so that the id is never free again and the
project's key still sees the room.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from msgspec.json import decode, encode

from storage.postgres.json_text import with_times
from storage.postgres.pool import Database
from storage.postgres.room_locks import Permit, announce_change, lock_room

EDITABLE: Final = (
    "name",
    "topic",
    "avatar_url",
    "external_id",
    "default_role",
    "frozen",
    "retention_days",
    "metadata",
)
_READ: Final = """
SELECT name, topic, avatar_url, external_id, default_role, frozen, retention_days,
       metadata::text AS metadata
FROM rooms WHERE pk = $1
"""
_UPDATE: Final = with_times(
    """
UPDATE rooms
SET name = $2, topic = $3, avatar_url = $4, external_id = $5, default_role = $6, frozen = $7,
    retention_days = $8, metadata = $9::text::json, updated_at = now()
WHERE pk = $1
RETURNING {{updated}}
""",
    updated="updated_at",
)
_DELETE: Final = with_times(
    """
UPDATE rooms SET deleted_at = now(), updated_at = now() WHERE pk = $1
RETURNING {{deleted}}
""",
    deleted="deleted_at",
)


async def update_room(
    db: Database, room_pk: int, fields: Mapping[str, Any], *, by: str | None, permit: Permit
) -> bool:
    """Set the given fields (some of EDITABLE); False if that changes nothing.

    Raises StorageRefused with the constraint `rooms_external_id` if that id is taken.
    """

    async def work(connection: Any) -> bool:
        permit(await lock_room(connection, room_pk, [by]))
        row = await connection.fetchrow(_READ, room_pk)
        present = {**row, "metadata": decode(row["metadata"])}
        changed = {name: value for name, value in fields.items() if value != present[name]}
        if not changed:
            return False
        values = present | changed
        values["metadata"] = encode(values["metadata"]).decode()
        updated_at = await connection.fetchval(
            _UPDATE, room_pk, *(values[name] for name in EDITABLE)
        )
        data = encode({**changed, "updated_at": updated_at, "by": by}).decode()
        await announce_change(connection, room_pk, "room.updated", by, data)
        return True

    done: bool = await db.transaction(work)
    return done


async def delete_room(db: Database, room_pk: int, *, by: str | None, permit: Permit) -> bool:
    """Delete the room softly; False if it was deleted before. `permit` is asked either way."""

    async def work(connection: Any) -> bool:
        facts = await lock_room(connection, room_pk, [by])
        permit(facts)
        if facts.deleted:
            return False
        deleted_at = await connection.fetchval(_DELETE, room_pk)
        data = encode({"by": by, "deleted_at": deleted_at}).decode()
        await announce_change(connection, room_pk, "room.deleted", by, data)
        return True

    done: bool = await db.transaction(work)
    return done
