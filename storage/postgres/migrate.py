"""Brings the database to the newest schema.

alembic keeps the order and the version, the SQL is written by hand (migrations/sql). Each
migration is one transaction. A session-wide advisory lock makes two hosts that start at once
take turns: the second finds nothing left to do. There is no way back: a mistake is mended by the
next migration. Runs on an asyncio loop of its own, before a process opens its pool.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Final

import asyncpg
from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, exc
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool

from config.limits import CONNECT_TIMEOUT
from storage.errors import StorageUnavailable
from storage.postgres.errors import translate

_MIGRATIONS: Final = Path(__file__).parent / "migrations"
# Any number that nobody else in this database uses: the letters "parley" as an integer.
_LOCK: Final = 0x7061_726C_6579
# Another host may be in the middle of a long migration; beyond this somebody should look at it.
_LOCK_TIMEOUT_MS: Final = 600_000


def migrate(database_url: str) -> None:
    """Bring the database to the newest schema; safe to repeat and from several hosts at once.

    Blocks (call it from a thread where a loop runs). Raises StorageUnavailable if the server does
    not answer, and whatever PostgreSQL says about a migration that fails; the migrations before
    that one stay.
    """
    asyncio.run(_migrate(database_url))


def read_statements(name: str) -> list[str]:
    """Return the statements of `migrations/sql/<name>`, each ended by `;` at the end of a line.

    Within the `$$` of a function's body a line may end so too.
    """
    text = (_MIGRATIONS / "sql" / name).read_text(encoding="utf-8")
    statements: list[str] = []
    lines: list[str] = []
    for line in text.splitlines():
        if not line.strip() or line.startswith("--"):
            continue
        lines.append(line)
        statement = "\n".join(lines)
        if line.endswith(";") and statement.count("$$") % 2 == 0:
            statements.append(statement)
            lines = []
    if lines:
        raise ValueError(f"{name}: the last statement has no semicolon: {lines[0]!r}")
    return statements


async def _migrate(database_url: str) -> None:
    engine = _engine(database_url)
    try:
        try:
            connection = await engine.connect()
        except (OSError, TimeoutError, exc.DBAPIError) as error:
            cause = _driver_error(error)
            found = translate(cause, sent=False)
            raise (found or StorageUnavailable("postgres", reason=str(cause))) from error
        try:
            await connection.exec_driver_sql(f"SET lock_timeout = {_LOCK_TIMEOUT_MS}")
            await connection.exec_driver_sql(f"SELECT pg_advisory_lock({_LOCK})")
            await connection.commit()
            # The lock belongs to the session: it ends with the connection, come what may.
            await connection.run_sync(_upgrade)
        finally:
            await connection.close()
    finally:
        await engine.dispose()


def _engine(database_url: str) -> AsyncEngine:
    # asyncpg parses the address itself, so that one form of URL means the same everywhere.
    return create_async_engine(
        "postgresql+asyncpg://",
        poolclass=NullPool,
        async_creator=lambda: asyncpg.connect(database_url, timeout=CONNECT_TIMEOUT),
    )


def _upgrade(connection: Connection) -> None:
    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def _driver_error(error: BaseException) -> BaseException:
    """Return asyncpg's own exception from under SQLAlchemy's two layers."""
    while isinstance(error, exc.DBAPIError) or type(error).__module__.startswith("sqlalchemy"):
        inner = getattr(error, "orig", None) or error.__cause__
        if not isinstance(inner, BaseException):
            return error
        error = inner
    return error
