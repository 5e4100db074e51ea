"""Whether the process lives, and whether it can do its work."""

from __future__ import annotations

from collections.abc import Sequence

import trio
from quart import Response

from api.bodies import json_response
from api.documents.project import HealthDocument, ReadyDocument
from api.openapi.operations import NONE, describe
from api.routes import Route
from api.services import Services
from config.api_limits import API_PROBE_TIMEOUT
from storage.errors import StorageUnavailable


class HealthRoutes:
    """`/healthz`, `/readyz`."""

    tag = "health"

    def __init__(self, services: Services) -> None:
        self._services = services

    def routes(self) -> Sequence[Route]:
        """The operations."""
        return (
            Route("GET", "/healthz", self.healthz),
            Route("GET", "/readyz", self.readyz),
        )

    @describe(NONE, {200: HealthDocument}, cache="no-store")
    async def healthz(self) -> Response:
        """Whether the process serves at all."""
        return _uncached({"status": "ok"}, 200)

    @describe(NONE, {200: ReadyDocument, 503: ReadyDocument}, cache="no-store")
    async def readyz(self) -> Response:
        """Whether Redis and PostgreSQL answer and the process goes on; 503 if not."""
        readiness = self._services.readiness
        readiness.note_asked()
        parts = {"redis": await self._has_redis(), "postgres": await self._has_postgres()}
        is_ready = all(parts.values()) and not readiness.is_stopping
        body = {"ready": is_ready, **parts, "draining": readiness.is_stopping}
        response = _uncached(body, 200 if is_ready else 503)
        if not is_ready:
            response.headers["Retry-After"] = "1"
        return response

    async def _has_redis(self) -> bool:
        try:
            await self._services.store.client.execute("PING", timeout=API_PROBE_TIMEOUT)
        except StorageUnavailable:
            return False
        return True

    async def _has_postgres(self) -> bool:
        with trio.move_on_after(API_PROBE_TIMEOUT):
            try:
                await self._services.db.fetchval("SELECT 1", timeout=API_PROBE_TIMEOUT)
            except StorageUnavailable:
                return False
            return True
        return False


def _uncached(body: object, status: int) -> Response:
    response = json_response(body, status)
    response.headers["Cache-Control"] = "no-store"
    return response
