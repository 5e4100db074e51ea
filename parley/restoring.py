"""`parley restored`: what is to be done once after PostgreSQL was restored to an earlier time."""

from __future__ import annotations

import trio

from broker.domain.restoring import Restored, Restorer
from broker.domain.seeding import Seeder
from config.limits import CONNECT_TIMEOUT
from config.logging import configure_logging
from config.settings import Settings, load_settings
from storage.postgres.deployment import ensure_deployment
from storage.postgres.pool import open_database
from storage.redis.address import require_address
from storage.redis.store import open_store, require_deployment


def run_restored(skip: int) -> str:
    """Do it, and return the sentences to print. Raises ConfigError, StorageUnavailable."""
    settings = load_settings()
    settings.require_for("archiver")
    require_address(settings.redis_url)
    configure_logging(settings.log_level, settings.log_format)
    done = trio.run(_run, settings, skip)
    return (
        f"{settings.room_partitions} partitions have begun a new life, clients reload; "
        f"{done.rooms} rooms go on {skip} seqs later; "
        f"{done.events} events of {done.refilled} rooms are archived again from Redis"
    )


async def _run(settings: Settings, skip: int) -> Restored:
    async with (
        open_database(settings.database_url, pool_size=1, name="parley-restored") as database,
        open_store(settings, name="parley-restored") as store,
    ):
        await store.client.wait_connected(trio.current_time() + CONNECT_TIMEOUT + 1)
        deployment = await ensure_deployment(database, settings.room_partitions)
        await require_deployment(store.client, deployment)
        seeder = Seeder(database, store.rooms)
        return await Restorer(database, store.rooms, store.archive, seeder).run(skip)
