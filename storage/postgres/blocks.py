"""Blocks: whose direct messages a user does not want.

Only the direct room of the two is concerned, where the blocked one may have a cached role: the
block raises that room's version (`access.changed`), which tells nobody but makes every node read
the role again. Lifting a block needs no such thing: nothing is refused on a remembered role.
Functions name the owner `user` and whom it has `blocked`.
"""

from __future__ import annotations

from typing import Any, Final

from storage.postgres.json_text import with_times
from storage.postgres.pool import Database
from storage.postgres.room_locks import ACCESS_CHANGED, announce_change, lock_room

_INSERT: Final = """
INSERT INTO blocks (project, user_id, blocked) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING
"""
_DELETE: Final = "DELETE FROM blocks WHERE project = $1 AND user_id = $2 AND blocked = $3"
_ROOM: Final = """
SELECT pk, id FROM rooms
WHERE project = $1 AND direct_low = $2 AND direct_high = $3 AND deleted_at IS NULL
"""
_LIVES: Final = "SELECT 1 FROM users WHERE project = $1 AND id = $2 AND deleted_at IS NULL"
_LIST: Final = with_times(
    """
WITH page AS (
    SELECT * FROM blocks WHERE project = $1 AND user_id = $2 ORDER BY blocked OFFSET $3 LIMIT $4
), bodies AS (
    SELECT page.blocked, row_to_json(body)::text AS body
    FROM page
    LEFT JOIN users u ON u.project = page.project AND u.id = page.blocked AND u.deleted_at IS NULL
    CROSS JOIN LATERAL (
        SELECT page.blocked AS "user", {{created}} AS created_at, u.display_name, u.avatar_url
    ) AS body
)
SELECT (SELECT count(*) FROM blocks WHERE project = $1 AND user_id = $2) AS n, convert_to(
           '[' || coalesce((SELECT string_agg(body, ',' ORDER BY blocked) FROM bodies), '') || ']',
           'UTF8') AS items
""",
    created="page.created_at",
)
STATEMENTS: Final = {"room": _ROOM, "lives": _LIVES, "list": _LIST}
"""Reads of this module, for the test that looks at their plans."""


async def list_blocks(
    db: Database, project: str, user: str, *, skip: int, limit: int
) -> tuple[int, bytes]:
    """How many the user has blocked, and some of them (by id) as a JSON array."""
    row: Any = await db.fetchrow(_LIST, project, user, skip, limit)
    return row["n"], row["items"]


async def add_block(db: Database, project: str, user: str, blocked: str) -> tuple[bool, str | None]:
    """Block: whether there is such a user to block, and the direct room to announce in.

    Repeating it is harmless, and is announced again.
    """

    async def work(connection: Any) -> tuple[bool, str | None]:
        if await connection.fetchval(_LIVES, project, blocked) is None:
            return False, None
        await connection.execute(_INSERT, project, user, blocked)
        room = await connection.fetchrow(_ROOM, project, *sorted((user, blocked)))
        if room is None:
            return True, None
        await lock_room(connection, room["pk"], [])
        await announce_change(connection, room["pk"], ACCESS_CHANGED, None, "{}")
        return True, room["id"]

    done: tuple[bool, str | None] = await db.transaction(work)
    if done == (True, None):
        # A room made while this ran may have been joined before the block could be seen; any later
        # one finds the block.
        done = await db.transaction(work)
    return done


async def remove_block(db: Database, project: str, user: str, blocked: str) -> None:
    """Lift a block; nothing happens if there is none."""
    await db.execute(_DELETE, project, user, blocked)
