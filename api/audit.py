"""Who changed what when, for the project's key."""

from __future__ import annotations

from collections.abc import Sequence

from quart import Response, request

from api.bodies import json_response, list_body, list_page
from api.documents.project import AuditListDocument, AuditQuery
from api.openapi.operations import KEY, describe
from api.routes import Route
from api.services import Services
from broker.protocol.errors import ProtocolError
from broker.protocol.text import fits_utf8, has_forbidden
from storage.postgres.audit import list_audit

ENTITY_BYTES_MAX = 300


class AuditRoutes:
    """`/v1/audit`."""

    tag = "audit"

    def __init__(self, services: Services) -> None:
        self._services = services

    def routes(self) -> Sequence[Route]:
        """The operations."""
        return (Route("GET", "/v1/audit", self.list_audit),)

    @describe(KEY, {200: AuditListDocument}, query=AuditQuery)
    async def list_audit(self) -> Response:
        """List changes of rooms, members, users, others' messages and keys (key), newest first.

        `entity` is `room:<id>`, `user:<id>`, `message:<id>` or `key:<id>`; without it all of the
        project.
        """
        credential = await self._services.auth.key()
        page, limit = list_page()
        entity = request.args.get("entity")
        if entity is not None and (
            has_forbidden(entity) or not fits_utf8(entity, ENTITY_BYTES_MAX)
        ):
            raise ProtocolError("bad_request", "This is no entity.", "entity")
        total, items = await list_audit(
            self._services.db,
            credential.project,
            entity=entity,
            skip=(page - 1) * limit,
            limit=limit,
        )
        return json_response(list_body(items, page=page, limit=limit, total=total))
