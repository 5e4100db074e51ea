"""Brings the database to the newest schema.

alembic keeps the order and the version, the SQL is written by hand (migrations/sql). Each
migration is one transaction. A session-wide advisory lock makes two hosts that start at once
take turns: the second finds nothing left to do. There is no way back: a mistake is mended by the
next migration. Runs on an asyncio loop of its own, before a process opens its pool.

Processes serve meanwhile. A statement that waits for a table makes everybody wait behind it, so
it waits for a moment only; then its migration is rolled back, everybody goes on, and it is tried
again, until whoever holds the table (a report, a backup) has ended.
"""

from __future__ import annotations

import asyncio
import random
import time
from pathlib import Path
from typing import Final

import asyncpg
import structlog
from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, exc
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool

from config.limits import CONNECT_TIMEOUT
from storage.errors import StorageUnavailable
from storage.postgres.errors import translate

_MIGRATIONS: Final = Path(__file__).parent / "migrations"
# Any number that nobody else in this database uses: the letters "parley" as an integer.
_LOCK: Final = 0x7061_726C_6579
# How long a statement of a migration waits for a lock. Everybody waits behind it: a third of what a
# process gives a statement (COMMAND_TIMEOUT), so that those go on in time.
LOCK_WAIT: Final = 1.0
# First and longest pause before the next try: long enough for those who waited to be served first.
RETRY_MIN: Final = 1.0
RETRY_MAX: Final = 15.0
# How long that goes on, and how long another host may take for its migrations: a dump of a large
# database or a report ends within. Beyond this somebody should look.
PATIENCE: Final = 600.0
# A lock that did not come in time, a deadlock with a process that serves: others go first.
_TRIED_AGAIN: Final = frozenset({"55P03", "40P01"})
# Who has had a transaction open for the longest, of those that it may have to wait for.
_OLDEST: Final = """
SELECT pid, application_name AS name, state, extract(epoch FROM now() - xact_start)::int AS seconds
FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid() AND xact_start IS NOT NULL
ORDER BY xact_start LIMIT 1
"""


def migrate(database_url: str, *, to: str = "head", patience: float = PATIENCE) -> None:
    """Bring the database to the newest schema; safe to repeat and from several hosts at once.

    `to`: a revision to stop at. Blocks (call it from a thread where a loop runs). Raises
    StorageUnavailable if the server does not answer or a lock is not to be had for `patience`
    seconds, and whatever PostgreSQL says about a migration that fails; the migrations before that
    one stay.
    """
    asyncio.run(_migrate(database_url, to, patience))


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


async def _migrate(database_url: str, to: str, patience: float) -> None:
    engine = _engine(database_url)
    try:
        try:
            connection = await engine.connect()
        except (OSError, TimeoutError, exc.DBAPIError) as error:
            cause = _driver_error(error)
            found = translate(cause, sent=False)
            raise (found or StorageUnavailable("postgres", reason=str(cause))) from error
        try:
            await _take_turn(connection, patience)
            await _upgrade_patiently(connection, to, patience)
        finally:
            # The lock of the turn belongs to the session: it ends with it, come what may.
            await connection.close()
    finally:
        await engine.dispose()


async def _take_turn(connection: AsyncConnection, patience: float) -> None:
    """Wait until no other host migrates."""
    try:
        await connection.exec_driver_sql(f"SET lock_timeout = {max(1, int(patience * 1000))}")
        await connection.exec_driver_sql(f"SELECT pg_advisory_lock({_LOCK})")
        await connection.commit()
    except exc.DBAPIError as error:
        if not _is_tried_again(error):
            raise
        raise StorageUnavailable("postgres", reason="another host is migrating") from error


async def _upgrade_patiently(connection: AsyncConnection, to: str, patience: float) -> None:
    """Upgrade, again and again while a lock is held by others."""
    give_up_at = time.monotonic() + patience
    await connection.exec_driver_sql(f"SET lock_timeout = {int(LOCK_WAIT * 1000)}")
    await connection.commit()
    pause = RETRY_MIN
    while True:
        try:
            await connection.run_sync(_upgrade, to)
            return
        except exc.DBAPIError as error:
            if not _is_tried_again(error):
                raise
            await connection.rollback()
            holder = await _describe_holder(connection)
            if time.monotonic() >= give_up_at:
                raise StorageUnavailable("postgres", reason=f"a lock is held: {holder}") from error
        structlog.get_logger("migrate").warning("a lock is held, trying again", holder=holder)
        await asyncio.sleep(pause * (0.5 + random.random()))
        pause = min(2 * pause, RETRY_MAX)


def _is_tried_again(error: exc.DBAPIError) -> bool:
    return getattr(_driver_error(error), "sqlstate", None) in _TRIED_AGAIN


async def _describe_holder(connection: AsyncConnection) -> str:
    row = (await connection.exec_driver_sql(_OLDEST)).first()
    await connection.rollback()
    if row is None:
        return "its holder has just ended"
    name = row.name or "without a name"
    return f"the oldest transaction is of process {row.pid} ({name}), {row.state}, {row.seconds} s"


def _engine(database_url: str) -> AsyncEngine:
    # asyncpg parses the address itself, so that one form of URL means the same everywhere.
    return create_async_engine(
        "postgresql+asyncpg://",
        poolclass=NullPool,
        async_creator=lambda: asyncpg.connect(database_url, timeout=CONNECT_TIMEOUT),
    )


def _upgrade(connection: Connection, to: str) -> None:
    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, to)


def _driver_error(error: BaseException) -> BaseException:
    """Return asyncpg's own exception from under SQLAlchemy's two layers."""
    while isinstance(error, exc.DBAPIError) or type(error).__module__.startswith("sqlalchemy"):
        inner = getattr(error, "orig", None) or error.__cause__
        if not isinstance(inner, BaseException):
            return error
        error = inner
    return error
