"""Who did what when: one row a change, written in the transaction that makes it.

Changes of rooms and members repeat what their announcements say (`audit_announced`), so that the
audit and the events can not disagree; profiles are left out, since the audit outlives them.
`entity` is `room:<id>`, `user:<id>`, `key:<id>` or `message:<id>` (see `archive_audit`), `actor`
the acting user, null for the project. Nothing is ever removed from here.
"""

from __future__ import annotations

from typing import Any, Final

from storage.postgres.json_text import with_times
from storage.postgres.pool import Database

_ANNOUNCED: Final = """
INSERT INTO audit (project, actor, action, entity, detail)
SELECT r.project, a.sender, a.event, 'room:' || r.id, a.data::jsonb - 'display_name' - 'avatar_url'
FROM announcements a JOIN rooms r ON r.pk = a.room_pk
WHERE a.room_pk = $1 AND a.version > $2 AND a.event <> 'access.changed'
ORDER BY a.version
"""
_INSERT: Final = """
INSERT INTO audit (project, actor, action, entity, detail) VALUES ($1, $2, $3, $4, $5::text::jsonb)
"""
_LIST: Final = with_times(
    """
WITH page AS (
    SELECT * FROM audit WHERE project = $1{{filter}} ORDER BY id DESC OFFSET $2 LIMIT $3
), bodies AS (
    SELECT page.id, row_to_json(body)::text AS body
    FROM page CROSS JOIN LATERAL (
        SELECT page.id, page.actor, page.action, page.entity, page.detail, {{created}} AS created_at
    ) AS body
)
SELECT (SELECT count(*) FROM audit WHERE project = $1{{filter}}) AS n, convert_to(
           '[' || coalesce((SELECT string_agg(body, ',' ORDER BY id DESC) FROM bodies), '') || ']',
           'UTF8') AS items
""",
    created="page.created_at",
)
STATEMENTS: Final = {
    "list": _LIST.replace("{{filter}}", ""),
    "list entity": _LIST.replace("{{filter}}", " AND entity = $4"),
}
"""Reads of this module, for the test that looks at their plans."""


async def audit_announced(connection: Any, room_pk: int, above_version: int) -> None:
    """Note the room's announcements above a version, inside the transaction that made them."""
    await connection.execute(_ANNOUNCED, room_pk, above_version)


async def audit(
    connection: Any, project: str, actor: str | None, action: str, entity: str, detail: str = "{}"
) -> None:
    """Note one change; `detail` is JSON text."""
    await connection.execute(_INSERT, project, actor, action, entity, detail)


async def list_audit(
    db: Database, project: str, *, entity: str | None, skip: int, limit: int
) -> tuple[int, bytes]:
    """How many changes there are (of one entity), and some of them, newest first, as a JSON
    array."""
    name, more = ("list", ()) if entity is None else ("list entity", (entity,))
    row: Any = await db.fetchrow(STATEMENTS[name], project, skip, limit, *more)
    return row["n"], row["items"]
