"""The API of a test: the real app behind the real server, on the run's Redis and PostgreSQL."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import pytest
import trio

from api.app import create_app, describe_api
from api.main import build_services, server_config
from api.services import Services
from api.serving import serve_http
from api.whole_requests import WholeRequests
from broker.domain.api_keys import create_api_key
from config.metrics import Metrics
from config.settings import load_settings
from storage.postgres.deployment import ensure_deployment
from storage.postgres.pool import open_database
from storage.redis.entries import Entry
from storage.redis.keys import room_key
from storage.redis.outcomes import Appended, Draft
from storage.redis.store import open_store, require_deployment
from tests.support.contract import Contract, contract_of
from tests.support.http import Response, request
from tests.support.servers import RedisServer
from tests.support.tokens import JWT_SECRET, make_token
from tests.support.waiting import wait_until
from workers.archiver.archiver import Archiver, ArchiverOptions

SETTINGS: dict[str, Any] = {
    "jwt_secret": JWT_SECRET,
    "rate_requests_per_second": 1000,
    "port": 0,
    "drain_seconds": 0,
}


@dataclass
class Api:
    """A running API with the key of the project `default`; `as_user` acts with a token instead."""

    url: str
    services: Services
    key: str | None
    token: str | None = None
    headers: dict[str, str] = field(default_factory=dict)

    def as_user(self, user: str, **claims: Any) -> Api:
        return replace(self, key=None, token=make_token(user, **claims))

    def as_nobody(self) -> Api:
        return replace(self, key=None, token=None)

    async def send(self, method: str, path: str, body: Any = None, **headers: str) -> Response:
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        answer = await request(
            method,
            self.url + path,
            body=body,
            key=self.key,
            token=self.token,
            headers=self.headers | sent,
        )
        self.contract.check(method, path, answer)
        return answer

    @property
    def contract(self) -> Contract:
        """What the OpenAPI document allows; every answer is compared with it."""
        return contract_of(lambda: describe_api(self.services))

    async def ok(self, method: str, path: str, body: Any = None, status: int | None = None) -> Any:
        """Send, expect success, return the JSON (None without a body)."""
        answer = await self.send(method, path, body)
        if status is None:
            assert answer.status in (200, 201, 204), (answer.status, answer.body)
        else:
            assert answer.status == status, (answer.status, answer.body)
        return answer.json() if answer.body else None

    async def refused(self, method: str, path: str, body: Any = None) -> tuple[int, str]:
        """Send, expect a problem, return its status and code."""
        answer = await self.send(method, path, body)
        assert answer.headers["content-type"] == "application/problem+json", answer
        problem = answer.json()
        assert problem["status"] == answer.status
        return answer.status, problem["code"]

    async def post(self, room: str, content: str, **fields: Any) -> Any:
        """Publish a message."""
        body = {"content": content, **fields}
        return await self.ok("POST", f"/v1/rooms/{room}/messages", body)

    async def history(self, room: str, query: str = "") -> Any:
        """A page of messages."""
        return await self.ok("GET", f"/v1/rooms/{room}/messages{query}")

    async def append(self, room: str, event: str, data: dict[str, Any], by: str = "alice") -> None:
        """Append a durable event that no route makes yet."""
        draft = Draft(event, by, 1_000_000, 0, json.dumps(data).encode())
        done = await self.services.store.rooms.publish(room_key("default", room), draft)
        assert isinstance(done, Appended), done

    async def archive(self, room: str, *, batch: int = 500, batches: int = 1_000_000) -> None:
        """Flush the room's partition, all of it or some batches."""
        services = self.services
        archiver = Archiver(
            database=services.db,
            store=services.store.archive,
            options=ArchiverOptions(batch=batch, interval=0.001),
            metrics=Metrics(),
        )
        partition = services.store.keys.partition(room_key("default", room))
        while batches > 0 and await archiver.flush(partition):
            batches -= 1

    async def log(self, room: str) -> list[Entry]:
        """What of the room's log is not archived."""
        tail = await self.services.store.rooms.unarchived(room_key("default", room))
        return [] if tail is None else tail.entries


@pytest.fixture
async def api(redis_url: str, database_url: str, nursery: trio.Nursery) -> AsyncIterator[Api]:
    """One API process' worth of services, served on a free port."""
    async with open_api(redis_url, database_url, nursery) as opened:
        yield opened


@pytest.fixture
async def api_on_private_redis(
    private_redis: RedisServer, database_url: str, nursery: trio.Nursery
) -> AsyncIterator[Api]:
    """The same on a Redis that the test may stop."""
    async with open_api(private_redis.url, database_url, nursery) as opened:
        yield opened


@asynccontextmanager
async def open_api(
    redis_url: str, database_url: str, nursery: trio.Nursery, **more: Any
) -> AsyncIterator[Api]:
    """An API process' worth of services, with further settings."""
    settings = load_settings(
        None, redis_url=redis_url, database_url=database_url, **(SETTINGS | more)
    )
    async with (
        open_database(database_url, pool_size=4) as db,
        open_store(settings, name="test") as store,
    ):
        services = build_services(settings, db, store)
        await wait_until(lambda: store.client.is_connected)
        await require_deployment(store.client, await ensure_deployment(db, 16))
        _, key = await create_api_key(db, "default")
        stop = trio.Event()
        url = await nursery.start(_serve, services, stop)
        yield Api(url, services, key)
        stop.set()


async def _serve(
    services: Services,
    stop: trio.Event,
    task_status: trio.TaskStatus[str] = trio.TASK_STATUS_IGNORED,
) -> None:
    config = server_config(services.settings)
    async with trio.open_nursery() as background:
        background.start_soon(services.marker.run)
        async with trio.open_nursery() as serving:
            addresses: list[str] = await serving.start(
                partial(
                    serve_http,
                    WholeRequests(create_app(services), services.readiness),
                    config,
                    connections_max=100,
                    wait_shutdown=stop.wait,
                )
            )
            task_status.started(addresses[0])
        background.cancel_scope.cancel()
