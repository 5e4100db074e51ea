"""A user's rooms by activity: one's own, or any user's for the key."""

from __future__ import annotations

from collections.abc import Sequence

from quart import Response

from api.bodies import json_response, list_body, list_page
from api.documents.queries import PageQuery
from api.documents.user_rooms import UserRoomListDocument
from api.openapi.operations import KEY, TOKEN, describe
from api.routes import Route
from api.services import Services
from broker.domain.room_lists import list_user_rooms
from broker.domain.users import get_user


class UserRoomRoutes:
    """`/v1/me/rooms`, `/v1/users/{id}/rooms`."""

    tag = "rooms"

    def __init__(self, services: Services) -> None:
        self._services = services

    def routes(self) -> Sequence[Route]:
        """The operations."""
        return (
            Route("GET", "/v1/me/rooms", self.list_own_rooms),
            Route("GET", "/v1/users/<user>/rooms", self.list_rooms_of),
        )

    @describe(TOKEN, {200: UserRoomListDocument}, query=PageQuery)
    async def list_own_rooms(self) -> Response:
        """The rooms of the token's user, the most recently active first, as of now."""
        identity = await self._services.auth.token()
        page, limit = list_page()
        return await self._list(identity.project, identity.user, page, limit)

    @describe(KEY, {200: UserRoomListDocument}, query=PageQuery, codes=("not_found",))
    async def list_rooms_of(self, user: str) -> Response:
        """The rooms of a user (key), as it sees them itself."""
        services = self._services
        credential = await services.auth.key()
        page, limit = list_page()
        await get_user(services.db, credential.project, user)
        return await self._list(credential.project, user, page, limit)

    async def _list(self, project: str, user: str, page: int, limit: int) -> Response:
        services = self._services
        found = await list_user_rooms(
            services.db,
            services.store.rooms,
            project,
            user,
            skip=(page - 1) * limit,
            limit=limit,
        )
        items = b"[" + b",".join(found.items) + b"]"
        body = list_body(items, page=page, limit=limit, total=found.total)
        return json_response(b'%b,"unread_total":%d}' % (body[:-1], found.unread_total))
