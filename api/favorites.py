"""Favourites: messages that a user marks for itself."""

from __future__ import annotations

from collections.abc import Sequence

from quart import Response

from api.bodies import (
    ActingBody,
    acting_user,
    json_response,
    list_body,
    list_page,
    no_content,
    read_optional_body,
)
from api.documents.favorites import FavoriteListDocument
from api.documents.queries import ActingQuery, PageQuery
from api.message_places import read_message, wanted_of
from api.openapi.operations import EITHER, TOKEN, describe
from api.routes import Route
from api.services import Services
from broker.domain import favorites
from broker.protocol.errors import ProtocolError


class FavoriteRoutes:
    """`/v1/rooms/{id}/messages/{seq}/favorite`, `/v1/me/favorites`."""

    tag = "messages"

    def __init__(self, services: Services) -> None:
        self._services = services

    def routes(self) -> Sequence[Route]:
        """The operations."""
        path = "/v1/rooms/<room>/messages/<message>/favorite"
        return (
            Route("PUT", path, self.add_favorite),
            Route("DELETE", path, self.remove_favorite),
            Route("GET", "/v1/me/favorites", self.list_favorites),
        )

    @describe(
        EITHER,
        {204: None},
        query=ActingQuery,
        optional_body=ActingBody,
        codes=("conflict", "limit_reached"),
    )
    async def add_favorite(self, room: str, message: str) -> Response:
        """Mark a message for oneself (readers); repeatable. A deleted one is a `conflict`."""
        services = self._services
        credential = await services.auth.credential()
        data = await read_optional_body()
        actor = await services.auth.actor(credential, acting_user(data))
        favorites.require_user(actor)
        access, body = await read_message(services, actor, room, wanted_of(message))
        await favorites.add_favorite(services.db, actor, access, body)
        return no_content()

    @describe(EITHER, {204: None}, query=ActingQuery)
    async def remove_favorite(self, room: str, message: str) -> Response:
        """Take one's mark away; repeatable."""
        services = self._services
        actor = await services.auth.actor(await services.auth.credential())
        favorites.require_user(actor)
        access, body = await read_message(services, actor, room, wanted_of(message))
        await favorites.remove_favorite(services.db, actor, access, body)
        return no_content()

    @describe(TOKEN, {200: FavoriteListDocument}, query=PageQuery)
    async def list_favorites(self) -> Response:
        """The messages that the token's user has marked and may read, last marked first."""
        services = self._services
        credential = await services.auth.credential()
        if credential.is_key:
            raise ProtocolError("unauthenticated", "This takes a user's token.")
        actor = await services.auth.actor(credential)
        page, limit = list_page()
        total, items = await favorites.list_favorites(
            services.db, services.store.rooms, actor, skip=(page - 1) * limit, limit=limit
        )
        encoded = b"[" + b",".join(items) + b"]"
        return json_response(list_body(encoded, page=page, limit=limit, total=total))
