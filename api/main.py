"""The composition root of one API process, and how it starts and stops.

Nesting is the order of shutdown: storage outside, the server inside. SIGTERM or SIGINT takes the
readiness away, for balancers, and serves on for a moment; then accepting stops, and requests under
way get what is left of DRAIN_SECONDS (less a little for the rest) to end before they are cancelled.
A second signal, or one before anybody is served, stops at once. At the start both storages must
answer once, since a database that does not belong to the Redis beside it must never be served;
until they do, the process waits and says so.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Final

import structlog
import trio
from hypercorn.config import Config

from api.app import create_app
from api.auth import Authenticator
from api.rates import RequestRates
from api.services import Services
from api.serving import serve_http
from api.whole_requests import WholeRequests
from broker.domain.access import AccessReader
from broker.domain.announcing import Announcer
from broker.domain.api_keys import ApiKeys
from broker.domain.changing import Changer
from broker.domain.floors import FloorReporter
from broker.domain.forwarding import Forwarder
from broker.domain.identity import TokenVerifier
from broker.domain.kept_pages import KeptPages
from broker.domain.marking import Marker
from broker.domain.members import Members
from broker.domain.message_removals import MessageRemover
from broker.domain.publishing import Publisher
from broker.domain.room_changes import RoomChanges
from broker.domain.seeding import Seeder
from broker.domain.user_changes import UserChanges
from config.api_limits import (
    API_CONNECTIONS_MAX,
    API_HEAD_BYTES_MAX,
    API_KEEP_ALIVE,
    API_START_RETRY,
)
from config.descriptors import allow_connections
from config.metrics import Metrics, serve_metrics
from config.settings import Settings
from config.spans import open_spans
from config.stopping import CLOSING_SHARE, Stopping
from config.wire_limits import LISTEN_BACKLOG
from storage.errors import StorageUnavailable
from storage.postgres.deployment import ensure_deployment
from storage.postgres.pool import Database, open_database
from storage.redis.clock import RedisClock
from storage.redis.store import RedisStore, open_store, require_deployment
from storage.watching import watch_process

DEFAULT_PORT: Final = 8080


async def serve_api(settings: Settings, *, ready: Callable[[str], None]) -> None:
    """Serve until SIGTERM or SIGINT, then drain. `ready` is called once with the URL.

    Raises ConfigError if database and Redis do not belong together, OSError if the port is taken.
    """
    stopping = Stopping()
    async with trio.open_nursery() as signals:
        await signals.start(stopping.watch, signals.cancel_scope)
        async with (
            open_services(settings) as services,
            open_spans("api", os.environ) as services.metrics.spans,
        ):
            await _wait_deployment(services)
            await _serve(services, stopping, ready)
        signals.cancel_scope.cancel()


@asynccontextmanager
async def open_services(settings: Settings) -> AsyncIterator[Services]:
    """Everything the handlers need, over one Redis connection and one database pool."""
    async with (
        open_database(settings.database_url, name="parley api") as db,
        open_store(settings, name="parley-api") as store,
    ):
        yield build_services(settings, db, store)


def build_services(settings: Settings, db: Database, store: RedisStore) -> Services:
    """The services over open storages."""
    access = AccessReader(db)
    seeder = Seeder(db, store.rooms)
    publisher = Publisher(store.rooms, access, seeder)
    announcer = Announcer(db, store.rooms, seeder)
    verifier = TokenVerifier.from_settings(settings)
    metrics = Metrics()
    changer = Changer(db, store.rooms, access, seeder)
    remover = MessageRemover(db, store.rooms, store.archive, changer)
    return Services(
        settings=settings,
        db=db,
        store=store,
        access=access,
        pages=KeptPages(settings.room_log_ttl),
        publisher=publisher,
        changer=changer,
        marker=Marker(db, store.rooms, access, seeder),
        forwarder=Forwarder(db, store.rooms, access, publisher),
        announcer=announcer,
        members=Members(db, store.rooms, announcer, create_users=settings.auto_create_users),
        room_changes=RoomChanges(db, announcer),
        user_changes=UserChanges(db, announcer, remover),
        verifier=verifier,
        auth=Authenticator(
            db,
            verifier=verifier,
            keys=ApiKeys(db),
            rates=RequestRates(settings.rate_requests_per_second, trio.current_time),
            create_users=settings.auto_create_users,
            metrics=metrics,
        ),
        metrics=metrics,
    )


async def _wait_deployment(services: Services) -> None:
    """Wait for both storages and check that they belong together."""
    log = structlog.get_logger("api")
    settings = services.settings
    failures = 0
    while True:
        try:
            deployment = await ensure_deployment(services.db, settings.room_partitions)
            await require_deployment(services.store.client, deployment)
            return
        except StorageUnavailable as error:
            # The first one only means that the connection is still being opened.
            failures += 1
            if failures == 2:
                log.warning("waiting for storage", backend=error.backend, reason=error.reason)
            await trio.sleep(API_START_RETRY)


async def _serve(services: Services, stopping: Stopping, ready: Callable[[str], None]) -> None:
    settings = services.settings
    app = WholeRequests(create_app(services), services.readiness)
    config = server_config(settings)

    async def wait_shutdown() -> None:
        await stopping.asked.wait()
        services.metrics.draining.set(1)
        left = await services.readiness.leave(settings.drain_seconds)
        config.graceful_timeout = left * (1 - CLOSING_SHARE)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(services.marker.run)
        nursery.start_soon(
            watch_process, services.metrics, services.store.client, services.db, RedisClock()
        )
        nursery.start_soon(FloorReporter(services.store.rooms, services.metrics).run)
        if settings.metrics_port:
            await nursery.start(
                partial(serve_metrics, services.metrics, settings.host, settings.metrics_port)
            )
        if services.verifier.published is not None:
            nursery.start_soon(services.verifier.published.run)
        async with trio.open_nursery() as serving:
            stopping.is_serving = True
            addresses: list[str] = await serving.start(
                partial(
                    serve_http,
                    app,
                    config,
                    connections_max=allow_connections(API_CONNECTIONS_MAX),
                    wait_shutdown=wait_shutdown,
                )
            )
            ready(addresses[0])
        nursery.cancel_scope.cancel()


def server_config(settings: Settings) -> Config:
    """How the server listens, waits and ends."""
    port = DEFAULT_PORT if settings.port is None else settings.port
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    config = Config()
    config.bind = [f"{host}:{port}"]
    config.accesslog = None
    config.errorlog = None
    config.include_server_header = False
    config.backlog = LISTEN_BACKLOG
    config.keep_alive_timeout = API_KEEP_ALIVE
    config.h11_max_incomplete_size = API_HEAD_BYTES_MAX
    config.graceful_timeout = settings.drain_seconds * (1 - CLOSING_SHARE)
    return config
