"""Everything a process needs of Redis, opened together.

Every new connection loads the scripts and verifies every partition's life before anybody may use
it, so that no command ever meets a server that it was not meant for.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from config import limits as fixed
from config.errors import ConfigError
from config.settings import Settings
from storage.redis.archive import ArchiveStore
from storage.redis.client import RedisClient, open_redis
from storage.redis.connection import RedisConnection
from storage.redis.keys import DEPLOYMENT_KEY, Keys
from storage.redis.limits import StoreLimits, store_limits
from storage.redis.live import LiveStore
from storage.redis.lives import Lives
from storage.redis.nodes import NodeStore
from storage.redis.rooms import RoomStore
from storage.redis.script_loader import ScriptSet


@dataclass(frozen=True, slots=True)
class RedisStore:
    """The typed calls by subject, all over one connection."""

    client: RedisClient
    keys: Keys
    lives: Lives
    limits: StoreLimits
    rooms: RoomStore
    nodes: NodeStore
    archive: ArchiveStore
    live: LiveStore


@asynccontextmanager
async def open_store(settings: Settings, *, name: str) -> AsyncIterator[RedisStore]:
    """Open the command connection and keep it open; does not wait until Redis is there.

    `name` is what Redis shows in its client list.
    """
    keys = Keys(settings.room_partitions)
    scripts = ScriptSet.load()
    lives = Lives(keys, scripts)
    limits = store_limits(settings)

    async def prepare(connection: RedisConnection) -> None:
        await scripts.load_all(connection)
        await lives.verify(connection, range(keys.partitions))

    async with open_redis(
        settings.redis_url,
        prepare=prepare,
        name=name,
        command_timeout=fixed.COMMAND_TIMEOUT,
    ) as client:
        parts = {"keys": keys, "scripts": scripts, "lives": lives, "limits": limits}
        yield RedisStore(
            client=client,
            keys=keys,
            lives=lives,
            limits=limits,
            rooms=RoomStore(client, **parts),  # type: ignore[arg-type]
            nodes=NodeStore(client, **parts),  # type: ignore[arg-type]
            archive=ArchiveStore(client, **parts),  # type: ignore[arg-type]
            live=LiveStore(client, **parts),  # type: ignore[arg-type]
        )


async def require_deployment(client: RedisClient, deployment: str) -> None:
    """Refuse a Redis that belongs to another database, or that may drop keys by itself.

    Raises ConfigError naming REDIS_URL; StorageUnavailable if Redis is away.
    """
    stored = await client.execute("GET", DEPLOYMENT_KEY)
    if stored is None:
        # Only then: a full server refuses to write, and the archiver must be able to start on it.
        await client.execute("SET", DEPLOYMENT_KEY, deployment, "NX")
        stored = await client.execute("GET", DEPLOYMENT_KEY)
    if stored != deployment.encode():
        raise ConfigError(
            "REDIS_URL",
            "this Redis belongs to another deployment than DATABASE_URL; "
            "use the pair that belongs together, or an empty Redis",
        )
    # Not CONFIG GET: a user with no more rights than it needs may not ask for that.
    policy = (await client.commands.info("memory")).get("maxmemory_policy")
    if policy not in (None, "noeviction"):
        raise ConfigError(
            "REDIS_URL",
            f"its maxmemory-policy is {policy}; Parley needs noeviction, "
            "since an evicted key would lose messages",
        )
