"""Changing users and lists of them; deletion is `removals`, creation and states are `users`.

Whatever live connections must look at (status, revoked tokens, deletion) and what pages of messages
show of their senders leaves a row of `user_announcements` in the same transaction.
The audit names the fields that changed and never what they hold: it outlives the profile.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from msgspec.json import decode, encode

from storage.postgres.audit import audit
from storage.postgres.pool import Database
from storage.postgres.users import USER_OBJECT

EDITABLE: Final = (
    "username",
    "external_user_id",
    "display_name",
    "email",
    "avatar_url",
    "status",
    "metadata",
)
_SHOWN: Final = frozenset(("status", "display_name", "avatar_url"))
"""Fields that others must be told about."""
_READ: Final = """
SELECT username, external_user_id, display_name, email, avatar_url, status,
       metadata::text AS metadata
FROM users WHERE project = $1 AND id = $2 AND deleted_at IS NULL FOR UPDATE
"""
_UPDATE: Final = """
UPDATE users
SET username = $3, external_user_id = $4, display_name = $5, email = $6, avatar_url = $7,
    status = $8, metadata = $9::text::json, updated_at = now()
WHERE project = $1 AND id = $2
"""
_ANNOUNCE: Final = "INSERT INTO user_announcements (project, user_id) VALUES ($1, $2)"
_REVOKE: Final = """
UPDATE users SET tokens_revoked_at = greatest(tokens_revoked_at, $3)
WHERE project = $1 AND id = $2 AND deleted_at IS NULL
RETURNING id
"""
# One statement a set of filters, so that each walks the index that fits it.
_LIST: Final = """
WITH page AS (
    SELECT * FROM users WHERE project = $1 AND deleted_at IS NULL{{filter}}
    ORDER BY created_at, id OFFSET $2 LIMIT $3
)
{{object}}
ORDER BY u.created_at, u.id
""".replace("{{object}}", USER_OBJECT.replace("{{source}}", "page"))
_TOTAL: Final = """
SELECT count(*) FROM users WHERE project = $1 AND deleted_at IS NULL{{filter}}
"""
_FILTERS: Final = {
    "username": " AND username = $",
    "external_user_id": " AND external_user_id = $",
}
# Whom one shares a room with: the other's memberships are walked until one is also one's own
# (order and limit keep the planner from collecting everybody's first).
_NAMES: Final = """
SELECT convert_to('[' || coalesce(string_agg(row_to_json(body)::text, ',' ORDER BY u.id), '')
                  || ']', 'UTF8')
FROM users u CROSS JOIN LATERAL (SELECT u.id, u.username, u.display_name, u.avatar_url) AS body
WHERE u.project = $1 AND u.id = ANY($2::text[]) AND u.deleted_at IS NULL
  AND ($3::text IS NULL OR u.id = $3 OR (
      SELECT true FROM members theirs
      JOIN members mine ON mine.room_pk = theirs.room_pk AND mine.user_id = $3
      JOIN rooms r ON r.pk = theirs.room_pk AND r.deleted_at IS NULL
      WHERE theirs.project = $1 AND theirs.user_id = u.id
      ORDER BY theirs.room_pk LIMIT 1))
"""


def _filtered(statement: str, first: int, *filters: str) -> str:
    """The statement for these filters, whose values are the parameters from `first` on."""
    text = "".join(_FILTERS[name] + str(place) for place, name in enumerate(filters, first))
    return statement.replace("{{filter}}", text)


_SETS: Final = ((), ("username",), ("external_user_id",), ("username", "external_user_id"))
STATEMENTS: Final = (
    {" ".join(["list", *names]): _filtered(_LIST, 4, *names) for names in _SETS}
    | {" ".join(["total", *names]): _filtered(_TOTAL, 2, *names) for names in _SETS}
    | {"names": _NAMES}
)
"""Reads of this module, for the test that looks at their plans."""


async def list_users(
    db: Database,
    project: str,
    *,
    username: str | None,
    external_user_id: str | None,
    skip: int,
    limit: int,
) -> tuple[int, list[bytes]]:
    """How many living users there are of that name and external id, and some of them, oldest
    first, as objects."""
    given = {"username": username, "external_user_id": external_user_id}
    filters = [name for name, value in given.items() if value is not None]
    values = [given[name] for name in filters]
    total = await db.fetchval(STATEMENTS[" ".join(["total", *filters])], project, *values)
    rows: Any = await db.fetch(
        STATEMENTS[" ".join(["list", *filters])], project, skip, limit, *values
    )
    return total, [row[0] for row in rows]


async def fetch_names(db: Database, project: str, users: list[str], viewer: str | None) -> bytes:
    """Names of those of `users` with whom the viewer (None: anybody) shares a room, a JSON array
    by id."""
    found: bytes = await db.fetchval(_NAMES, project, users, viewer)
    return found


async def update_user(
    db: Database, project: str, user: str, fields: Mapping[str, Any], *, by: str | None
) -> bool:
    """Set the given fields (some of EDITABLE); False if there is no such user.

    Raises StorageRefused with the constraint's name if something is taken.
    """

    async def work(connection: Any) -> bool:
        row = await connection.fetchrow(_READ, project, user)
        if row is None:
            return False
        present = {**row, "metadata": decode(row["metadata"])}
        changed = {name: value for name, value in fields.items() if value != present[name]}
        if not changed:
            return True
        values = present | changed
        values["metadata"] = encode(values["metadata"]).decode()
        await connection.execute(_UPDATE, project, user, *(values[name] for name in EDITABLE))
        detail = {"fields": list(changed)} | {k: v for k, v in changed.items() if k == "status"}
        await audit(
            connection, project, by, "user.updated", f"user:{user}", encode(detail).decode()
        )
        if not _SHOWN.isdisjoint(changed):
            await announce_user(connection, project, user)
        return True

    done: bool = await db.transaction(work)
    return done


async def revoke_tokens(db: Database, project: str, user: str, at: datetime) -> bool:
    """Void every token issued until `at`; False if there is no such user."""

    async def work(connection: Any) -> bool:
        if await connection.fetchval(_REVOKE, project, user, at) is None:
            return False
        await audit(connection, project, None, "tokens.revoked", f"user:{user}")
        await announce_user(connection, project, user)
        return True

    done: bool = await db.transaction(work)
    return done


async def announce_user(connection: Any, project: str, user: str) -> None:
    """Note, inside a transaction, that the user's connections must look at the row again."""
    await connection.execute(_ANNOUNCE, project, user)
