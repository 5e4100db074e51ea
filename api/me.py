"""The token's own user: its profile."""

from __future__ import annotations

from collections.abc import Sequence

from quart import Response

from api.bodies import json_response, parse_body, read_body, refuse_fixed
from api.documents.users import UserDocument
from api.openapi.operations import TOKEN, describe
from api.routes import Route
from api.services import Services
from api.users import FIXED_USER_FIELDS
from broker.domain.user_changes import UserPatch, parse_user_patch
from broker.domain.users import get_user


class MeRoutes:
    """`/v1/me`."""

    tag = "me"

    def __init__(self, services: Services) -> None:
        self._services = services

    def routes(self) -> Sequence[Route]:
        """The operations."""
        return (
            Route("GET", "/v1/me", self.get_me),
            Route("PATCH", "/v1/me", self.update_me),
        )

    @describe(TOKEN, {200: UserDocument})
    async def get_me(self) -> Response:
        """One's own profile (token)."""
        identity = await self._services.auth.token()
        return json_response(await get_user(self._services.db, identity.project, identity.user))

    @describe(TOKEN, {200: UserDocument}, body=UserPatch)
    async def update_me(self) -> Response:
        """Change one's display name, email, avatar or metadata (token); the rest takes a key."""
        services = self._services
        identity = await services.auth.token()
        data = await read_body()
        refuse_fixed(data, FIXED_USER_FIELDS)
        patch = parse_body(data, UserPatch)
        fields = parse_user_patch(patch, own=True)
        await services.user_changes.update(
            identity.project, identity.user, fields, by=identity.user
        )
        return json_response(await get_user(services.db, identity.project, identity.user))
