"""Presence over REST: of a room for its readers, of a user for those who share a room with it."""

from __future__ import annotations

from collections.abc import Sequence

from quart import Response

from api.bodies import json_response, query_number
from api.documents.presence import PresenceQuery, RoomPresenceDocument, UserPresenceDocument
from api.documents.queries import ActingQuery
from api.openapi.operations import EITHER, describe
from api.routes import Route
from api.services import Services
from broker.domain.presence import room_presence, user_presence
from broker.protocol.signals import PRESENCE_USERS_MAX


class PresenceRoutes:
    """`/v1/rooms/{id}/presence` and `/v1/users/{id}/presence`."""

    tag = "presence"

    def __init__(self, services: Services) -> None:
        self._services = services

    def routes(self) -> Sequence[Route]:
        """The operations."""
        return (
            Route("GET", "/v1/rooms/<room>/presence", self.get_room_presence),
            Route("GET", "/v1/users/<user>/presence", self.get_user_presence),
        )

    @describe(EITHER, {200: RoomPresenceDocument}, query=PresenceQuery)
    async def get_room_presence(self, room: str) -> Response:
        """Who is online in a room (readers): everybody who is subscribed, members or not."""
        services = self._services
        actor = await services.auth.actor(await services.auth.credential())
        limit = query_number("limit", low=1, high=PRESENCE_USERS_MAX)
        found = await room_presence(services.access, services.store.live, actor, room, limit)
        return json_response(found)

    @describe(EITHER, {200: UserPresenceDocument}, query=ActingQuery, codes=("not_found",))
    async def get_user_presence(self, user: str) -> Response:
        """Whether a user is online (key; token: people one shares a room with, in shared rooms)."""
        services = self._services
        actor = await services.auth.actor(await services.auth.credential())
        return json_response(await user_presence(services.db, services.store.live, actor, user))
