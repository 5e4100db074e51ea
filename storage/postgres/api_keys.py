"""API keys of projects: only their SHA-256 is stored, with the first characters for lists."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from msgspec.json import encode

from storage.postgres.audit import audit
from storage.postgres.json_text import with_times
from storage.postgres.pool import Database


@dataclass(frozen=True, slots=True)
class ApiKeyRow:
    """One key as it is listed; the key itself is not known any more."""

    id: str
    project: str
    prefix: str
    created_at: datetime
    revoked_at: datetime | None
    last_used_at: datetime | None


_FIND: Final = """
SELECT project, last_used_at < now() - interval '1 minute' OR last_used_at IS NULL AS is_due
FROM api_keys WHERE hash = $1 AND revoked_at IS NULL
"""
_TOUCH: Final = "UPDATE api_keys SET last_used_at = now() WHERE hash = $1"
_CREATE: Final = """
WITH project AS (
    INSERT INTO projects (id) VALUES ($2) ON CONFLICT DO NOTHING
)
INSERT INTO api_keys (id, project, prefix, hash) VALUES ($1::uuid, $2, $3, $4)
"""
_LIST: Final = """
SELECT id::text AS id, project, prefix, created_at, revoked_at, last_used_at
FROM api_keys WHERE project = $1 OR $1 IS NULL ORDER BY project, created_at
"""
_REVOKE: Final = """
UPDATE api_keys k SET revoked_at = coalesce(k.revoked_at, now())
FROM (SELECT id, revoked_at FROM api_keys WHERE id::text = $1 OR prefix = $1 FOR UPDATE) AS before
WHERE k.id = before.id
RETURNING k.id::text AS id, k.project, k.prefix, before.revoked_at IS NULL AS is_new
"""
_PROJECT: Final = with_times(
    """
SELECT convert_to(row_to_json(body)::text, 'UTF8')
FROM projects p CROSS JOIN LATERAL (SELECT p.id, {{created}} AS created_at) AS body
WHERE p.id = $1
""",
    created="p.created_at",
)

STATEMENTS: Final = {"find": _FIND, "project": _PROJECT}
"""Reads of requests, for the test that looks at their plans."""


async def find_project(db: Database, digest: bytes) -> str | None:
    """The project of a key that is in force, by the key's SHA-256.

    Notes at most once a minute that the key was used.
    """
    row: Any = await db.fetchrow(_FIND, digest)
    if row is None:
        return None
    if row["is_due"]:
        await db.execute(_TOUCH, digest)
    return str(row["project"])


async def fetch_project(db: Database, project: str) -> bytes:
    """The project object; every key has one."""
    found: bytes = await db.fetchval(_PROJECT, project)
    return found


async def insert_key(db: Database, key_id: str, project: str, prefix: str, digest: bytes) -> None:
    """Store a new key, and its project if there is none of that name."""

    async def work(connection: Any) -> None:
        await connection.execute(_CREATE, key_id, project, prefix, digest)
        await _audit(connection, project, "key.created", key_id, prefix)

    await db.transaction(work)


async def list_keys(db: Database, project: str | None = None) -> list[ApiKeyRow]:
    """All keys of a project (None: of every project), revoked ones too, oldest first."""
    rows: Any = await db.fetch(_LIST, project)
    return [ApiKeyRow(**dict(row)) for row in rows]


async def revoke_key(db: Database, key: str) -> list[str]:
    """Revoke by id or prefix; the ids of the keys that are revoked now, empty if none matched."""

    async def work(connection: Any) -> list[str]:
        rows = await connection.fetch(_REVOKE, key)
        for row in rows:
            if row["is_new"]:
                await _audit(connection, row["project"], "key.revoked", row["id"], row["prefix"])
        return [row["id"] for row in rows]

    revoked: list[str] = await db.transaction(work)
    return revoked


async def _audit(connection: Any, project: str, action: str, key_id: str, prefix: str) -> None:
    """Who runs the command is not known here: the operator, so no actor."""
    detail = encode({"prefix": prefix}).decode()
    await audit(connection, project, None, action, f"key:{key_id}", detail)
