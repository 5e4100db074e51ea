"""What is true of the whole deployment and stored once: its id and ROOM_PARTITIONS.

Two processes with another number of partitions would number one room twice, and a database beside
the wrong Redis would mix two histories; so each process asks here before it serves.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from uuid import uuid4

from config.errors import ConfigError
from storage.postgres.schema import require_schema

if TYPE_CHECKING:
    import asyncpg

    from storage.postgres.pool import Database

_STORE: Final = """
INSERT INTO settings (name, value) VALUES ('deployment', $1), ('room_partitions', $2)
ON CONFLICT (name) DO NOTHING
"""
_READ: Final = "SELECT name, value FROM settings WHERE name IN ('deployment', 'room_partitions')"


async def ensure_deployment(database: Database, room_partitions: int) -> str:
    """Return the deployment's id, made up by the first process that asks.

    Raises ConfigError if the database lacks a migration or was set up with another ROOM_PARTITIONS,
    StorageUnavailable if PostgreSQL is away. Any number of processes may ask at once.
    """

    async def store_and_read(connection: asyncpg.Connection) -> dict[str, str]:
        await connection.execute(_STORE, uuid4().hex, str(room_partitions))
        return {row["name"]: row["value"] for row in await connection.fetch(_READ)}

    await require_schema(database)
    stored = await database.transaction(store_and_read)
    if stored["room_partitions"] != str(room_partitions):
        raise ConfigError(
            "ROOM_PARTITIONS",
            f"{room_partitions} does not fit this database, which was set up with "
            f"{stored['room_partitions']}; it can not be changed later",
        )
    return stored["deployment"]
