"""`parley migrate` and `parley apikey`: short commands on PostgreSQL alone.

Each opens the database, does one thing and returns what to print. An absent database is a
StorageUnavailable, which `cli` turns into one line.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import TypeVar

import click
import trio

from broker.domain.api_keys import create_api_key, list_api_keys, revoke_api_key
from broker.protocol.ids import is_project_id
from config.logging import configure_logging
from config.settings import Settings, load_settings
from storage.postgres.api_keys import ApiKeyRow
from storage.postgres.migrate import migrate
from storage.postgres.pool import Database, open_database
from storage.postgres.schema import schema_version

_Result = TypeVar("_Result")


def run_migrate() -> str:
    """Bring the database to the newest schema; returns the sentence to print."""
    settings = load_settings()
    settings.require_for("migrate")
    configure_logging(settings.log_level, settings.log_format)
    migrate(settings.database_url)
    version = _with_database(settings, schema_version)
    return f"the database has the newest schema: {version}"


def create_key(project: str) -> str:
    """Store a new key of `project` and return it; it can not be shown again."""
    if not is_project_id(project):
        raise click.UsageError(
            f"{project!r} is not a project id; allowed: 1 to 128 of A-Z a-z 0-9 _ . : -"
        )

    async def create(database: Database) -> str:
        _, key = await create_api_key(database, project)
        return key

    return _with_database(_settings(), create)


def list_keys(project: str | None) -> list[str]:
    """Return one line for each key, with a heading."""

    async def fetch(database: Database) -> list[ApiKeyRow]:
        return await list_api_keys(database, project)

    rows = [("PROJECT", "PREFIX", "ID", "CREATED", "LAST USED", "REVOKED")]
    rows += [
        (
            row.project,
            row.prefix,
            row.id,
            _time(row.created_at),
            _time(row.last_used_at),
            _time(row.revoked_at),
        )
        for row in _with_database(_settings(), fetch)
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]


def revoke_key(key: str) -> str:
    """Revoke by id or prefix; a ClickException if there is no such key."""

    async def revoke(database: Database) -> list[str]:
        return await revoke_api_key(database, key)

    revoked = _with_database(_settings(), revoke)
    if not revoked:
        raise click.ClickException(f"no key has the id or prefix {key!r}")
    return f"revoked: {', '.join(revoked)}"


def _settings() -> Settings:
    settings = load_settings()
    settings.require_for("apikey")
    return settings


def _with_database(settings: Settings, work: Callable[[Database], Awaitable[_Result]]) -> _Result:
    async def run() -> _Result:
        async with open_database(settings.database_url, pool_size=1, name="parley-cli") as database:
            return await work(database)

    return trio.run(run)


def _time(at: datetime | None) -> str:
    return at.strftime("%Y-%m-%d %H:%M:%S") if at else "-"
