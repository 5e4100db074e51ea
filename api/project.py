"""What a credential says about itself: the key's project, the token's user."""

from __future__ import annotations

from collections.abc import Sequence

from quart import Response

from api.bodies import json_response
from api.documents.project import ProjectDocument, VerifiedDocument
from api.openapi.operations import KEY, TOKEN, describe
from api.routes import Route
from api.services import Services
from broker.protocol.events import iso_time
from storage.postgres.api_keys import fetch_project


class ProjectRoutes:
    """`/v1/project`, `/v1/auth/verify`."""

    tag = "project"

    def __init__(self, services: Services) -> None:
        self._services = services

    def routes(self) -> Sequence[Route]:
        """The operations."""
        return (
            Route("GET", "/v1/project", self.get_project),
            Route("GET", "/v1/auth/verify", self.verify_token),
        )

    @describe(KEY, {200: ProjectDocument})
    async def get_project(self) -> Response:
        """The project of the key."""
        credential = await self._services.auth.key()
        return json_response(await fetch_project(self._services.db, credential.project))

    @describe(TOKEN, {200: VerifiedDocument})
    async def verify_token(self) -> Response:
        """Whom the token names, if it is good and its user may act."""
        identity = await self._services.auth.token()
        return json_response(
            {
                "user": {"userId": identity.user},
                "project": identity.project,
                "expires_at": iso_time(int(identity.expires_at * 1000)),
            }
        )
