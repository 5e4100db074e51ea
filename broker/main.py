"""The composition root of one broker process, and how it starts and stops.

The nesting is the order of shutdown: storage outside, then the node, then what commands started,
then the connections. SIGTERM or SIGINT drains; a second one, or one before anybody is served, stops
at once. At the start both storages must answer once, since a database must never be served beside a
Redis that does not belong to it.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from functools import partial

import structlog
import trio

from broker.application import BrokerApplication, guarded
from broker.counts import Counts
from broker.domain.access import AccessReader
from broker.domain.changing import Changer
from broker.domain.identity import TokenVerifier
from broker.domain.kept_pages import KeptPages
from broker.domain.marking import Marker
from broker.domain.publishing import Publisher
from broker.domain.seeding import Seeder
from broker.fairness import Fairness
from broker.listener import Listener, ListenerOptions
from broker.node import Node
from broker.protocol import errors
from broker.protocol.events import TimeTexts
from broker.rates import paces_of
from broker.services import Services
from config import limits
from config.descriptors import allow_connections
from config.metrics import Metrics, serve_metrics
from config.settings import Settings
from config.spans import open_spans
from config.stopping import Stopping
from storage.errors import StorageUnavailable
from storage.postgres.deployment import ensure_deployment
from storage.postgres.pool import Database, open_database
from storage.redis.clock import RedisClock
from storage.redis.store import RedisStore, open_store, require_deployment
from storage.watching import watch_process


async def serve_broker(settings: Settings, *, ready: Callable[[str], None]) -> None:
    """Serve until SIGTERM or SIGINT, then drain. `ready` is called once with the URL.

    Raises ConfigError if the storages do not belong together, OSError if the port is taken.
    """
    stopping = Stopping()
    async with trio.open_nursery() as signals:
        await signals.start(stopping.watch, signals.cancel_scope)
        async with (
            open_store(settings, name="parley-broker") as store,
            open_database(settings.database_url, name="parley-broker") as db,
            open_spans("broker", os.environ) as spans,
        ):
            await _wait_deployment(settings, store, db)
            await _serve(settings, store, db, Metrics(spans), stopping, ready)
        signals.cancel_scope.cancel()


async def _serve(
    settings: Settings,
    store: RedisStore,
    db: Database,
    metrics: Metrics,
    stopping: Stopping,
    ready: Callable[[str], None],
) -> None:
    access = AccessReader(db)
    seeder = Seeder(db, store.rooms)
    counts = Counts(metrics, clock := RedisClock())
    node = Node(
        settings, store=store, db=db, access=access, seeder=seeder, counts=counts, metrics=metrics
    )
    async with trio.open_nursery() as background, trio.open_nursery() as tasks:

        def start(work: Callable[[], Awaitable[None]]) -> None:
            tasks.start_soon(guarded(work))

        services = Services(
            settings=settings,
            node=node,
            store=store,
            db=db,
            verifier=TokenVerifier.from_settings(settings),
            access=access,
            pages=KeptPages(settings.room_log_ttl),
            seeder=seeder,
            publisher=Publisher(store.rooms, access, seeder),
            changer=Changer(db, store.rooms, access, seeder),
            marker=Marker(db, store.rooms, access, seeder),
            metrics=metrics,
            counts=counts,
            times=TimeTexts(),
            start=start,
            paces=paces_of(settings.rate_messages_per_second),
            fairness=Fairness(start),
        )
        application = BrokerApplication(services)
        node.on_lease_lost = partial(application.disconnect_all, errors.BACKEND_UNAVAILABLE)
        if settings.metrics_port:
            await background.start(serve_metrics, metrics, settings.host, settings.metrics_port)
        background.start_soon(watch_process, metrics, store.client, db, clock)
        await background.start(node.run)
        background.start_soon(application.run)
        if services.verifier.published is not None:
            background.start_soon(services.verifier.published.run)
        background.start_soon(services.marker.run)
        most = allow_connections(limits.CONNECTIONS_MAX)
        options = ListenerOptions.from_settings(settings, connections_max=most)
        listener = Listener(application=application, options=options, metrics=metrics)
        stopping.is_serving = True
        await background.start(listener.run)
        ready(f"ws://{settings.host}:{listener.port}/v1/connect")
        await stopping.asked.wait()
        ends_at = trio.current_time() + settings.drain_seconds
        await application.drain(listener, settings.drain_seconds)
        await _leave(node, settings, ends_at - trio.current_time())
        background.cancel_scope.cancel()


async def _leave(node: Node, settings: Settings, left: float) -> None:
    """Write and say what is still to be said, in half of the time that is left; the other half is
    for closing the storages."""
    time_for_it = max(left / 2, limits.DRAIN_LEAVE_MIN)
    within = settings.drain_seconds * limits.DRAIN_RECONNECT_SHARE
    linger = min(within + settings.presence_grace, limits.DRAIN_LINGER_MAX)
    log = structlog.get_logger("broker")
    try:
        with trio.move_on_after(time_for_it / 2):
            await node.live.last_seen.write_all()
    except StorageUnavailable as error:
        log.info("last_seen_at is not written", reason=str(error))
    try:
        with trio.fail_after(time_for_it / 2):
            await node.upkeep.flush()
            await node.drain(linger)
    except (StorageUnavailable, trio.TooSlowError) as error:
        # Its lease ends by itself, and survivors clean up then.
        log.info("left without saying so", reason=str(error))


async def _wait_deployment(settings: Settings, store: RedisStore, db: Database) -> None:
    """Wait for both storages and check that they belong together."""
    log = structlog.get_logger("broker")
    told = ""
    while True:
        try:
            deployment = await ensure_deployment(db, settings.room_partitions)
            await require_deployment(store.client, deployment)
            return
        except StorageUnavailable as error:
            if told != error.backend:
                log.warning("waiting for storage", backend=error.backend, reason=error.reason)
                told = error.backend
            await trio.sleep(limits.REPAIR_RETRY_AFTER)
