"""Users: create, read, their state for authentication; changing them is `user_changes`.

A deleted user keeps the row, so that the id stays taken for good; reads for outsiders do not see
it. Objects leave as bytes of JSON that PostgreSQL builds.
Functions whose first parameter is `connection` run inside a transaction of their caller.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from storage.postgres.audit import audit
from storage.postgres.json_text import with_times
from storage.postgres.pool import Database


@dataclass(frozen=True, slots=True)
class UserState:
    """What decides whether a token of this user is honoured."""

    status: str
    deleted: bool
    tokens_revoked_at: datetime | None


@dataclass(frozen=True, slots=True)
class NewUser:
    """A user to create; `metadata` is JSON text."""

    id: str
    username: str | None = None
    external_user_id: str | None = None
    display_name: str | None = None
    email: str | None = None
    avatar_url: str | None = None
    metadata: str = "{}"


# LIMIT keeps the lookup of each its own, by the index, whatever statistics say of all of them.
_STATES: Final = """
SELECT asked.place, u.status, u.deleted_at, u.tokens_revoked_at
FROM unnest($1::text[], $2::text[]) WITH ORDINALITY AS asked(project, id, place)
CROSS JOIN LATERAL (
    SELECT status, deleted_at, tokens_revoked_at
    FROM users WHERE project = asked.project AND id = asked.id LIMIT 1
) AS u
"""
_INSERT_NAMED: Final = """
INSERT INTO users (project, id, display_name) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING
"""
_INSERT_ABSENT: Final = """
INSERT INTO users (project, id) SELECT $1, id FROM unnest($2::text[]) AS id ORDER BY id
ON CONFLICT DO NOTHING
"""
_LIVE: Final = """
SELECT id FROM users WHERE project = $1 AND id = ANY($2::text[]) AND deleted_at IS NULL
"""
# Until the caller's transaction ends nobody of these is deleted: a deletion looks for memberships
# after it has committed, so it finds the ones that are made now.
_LIVE_HELD: Final = _LIVE + "FOR SHARE"
USER_OBJECT: Final = with_times(
    """
SELECT convert_to(row_to_json(body)::text, 'UTF8')
FROM {{source}} AS u CROSS JOIN LATERAL (
    SELECT u.id, u.username, u.external_user_id, u.display_name, u.email, u.avatar_url, u.status,
           u.metadata, {{created}} AS created_at, {{updated}} AS updated_at,
           {{seen}} AS last_seen_at
) AS body
""",
    created="u.created_at",
    updated="u.updated_at",
    seen="u.last_seen_at",
)
_FETCH: Final = (
    USER_OBJECT.replace("{{source}}", "users")
    + "WHERE u.project = $1 AND u.id = $2 AND u.deleted_at IS NULL"
)
_CREATE: Final = """
WITH made AS (
    INSERT INTO users (project, id, username, external_user_id, display_name, email, avatar_url,
                       metadata)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8::text::json)
    RETURNING *
)
{{user}}""".replace("{{user}}", USER_OBJECT.replace("{{source}}", "made"))
STATEMENTS: Final = {"states": _STATES, "fetch": _FETCH, "live": _LIVE}
"""Reads of this module, for the test that looks at their plans."""


async def fetch_state(db: Database, project: str, user: str) -> UserState | None:
    """The user's state, deleted or not; None if there never was one. As of after the call.

    Asked together with all who ask meanwhile.
    """
    return await db.gather(_fetch_states, (project, user))


async def _fetch_states(
    connection: Any, asked: Sequence[tuple[str, str]]
) -> list[UserState | None]:
    found: list[UserState | None] = [None] * len(asked)
    projects, users = zip(*asked, strict=True)
    for place, status, deleted_at, revoked_at in await connection.fetch(_STATES, projects, users):
        found[place - 1] = UserState(status, deleted_at is not None, revoked_at)
    return found


async def insert_if_absent(db: Database, project: str, user: str, name: str | None) -> None:
    """Create the user unless the id is taken, by a living or deleted user."""
    await db.execute(_INSERT_NAMED, project, user, name)


async def fetch_user(db: Database, project: str, user: str) -> bytes | None:
    """The user object, None if there is no such user (any more)."""
    found: bytes | None = await db.fetchval(_FETCH, project, user)
    return found


async def create_user(db: Database, project: str, new: NewUser) -> bytes:
    """The new user object. StorageRefused with the constraint's name if something is taken:
    `users_pkey`, `users_username` or `users_external_user_id`."""

    async def work(connection: Any) -> bytes:
        made: bytes = await connection.fetchval(
            _CREATE,
            project,
            new.id,
            new.username,
            new.external_user_id,
            new.display_name,
            new.email,
            new.avatar_url,
            new.metadata,
        )
        await audit(connection, project, None, "user.created", f"user:{new.id}")
        return made

    done: bytes = await db.transaction(work)
    return done


async def missing_users(
    connection: Any, project: str, users: Sequence[str], *, create: bool
) -> list[str]:
    """Which of `users` do not live in the project, after creating the unknown ones if asked to.

    A deleted user is missing even then: its id stays taken.
    """
    wanted = sorted(set(users))
    missing = await _absent(connection, project, wanted)
    if missing and create:
        await connection.execute(_INSERT_ABSENT, project, missing)
        missing = await _absent(connection, project, missing)
    return missing


async def _absent(connection: Any, project: str, wanted: Sequence[str]) -> list[str]:
    found = {row["id"] for row in await connection.fetch(_LIVE_HELD, project, wanted)}
    return [user for user in wanted if user not in found]
