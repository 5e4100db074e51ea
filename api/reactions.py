"""Reactions to a message: who reacted how, adding one's own, taking it away."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
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
from api.documents.messages import ReactionListDocument
from api.documents.queries import ActingQuery, ListQuery
from api.message_places import read_message, wanted_of
from api.openapi.operations import EITHER, describe
from api.routes import Route
from api.services import Services
from broker.domain.access import Actor
from broker.domain.message_details import list_reactions
from broker.protocol.message_changes import check_reaction
from storage.postgres.message_details import ReactionRow
from storage.redis.keys import room_key


class ReactionRoutes:
    """`/v1/rooms/{id}/messages/{seq}/reactions`."""

    tag = "messages"

    def __init__(self, services: Services) -> None:
        self._services = services

    def routes(self) -> Sequence[Route]:
        """The operations."""
        path = "/v1/rooms/<room>/messages/<message>/reactions"
        return (
            Route("GET", path, self.list_reactions),
            Route("PUT", f"{path}/<reaction>", self.add_reaction),
            Route("DELETE", f"{path}/<reaction>", self.remove_reaction),
        )

    @describe(EITHER, {200: ReactionListDocument}, query=ListQuery)
    async def list_reactions(self, room: str, message: str) -> Response:
        """Who reacted to a message and how, oldest first; nobody to a deleted one."""
        services = self._services
        actor = await services.auth.actor(await services.auth.credential())
        page, limit = list_page()
        access, body = await read_message(services, actor, room, wanted_of(message))
        found = msgspec.json.decode(body)
        total = 0
        items: list[ReactionRow] = []
        if found["deleted_at"] is None:
            total, items = await list_reactions(
                services.db,
                services.store.rooms,
                room_key(actor.project, room),
                room_pk=access.room_pk,
                seq=found["seq"],
                skip=(page - 1) * limit,
                limit=limit,
            )
        encoded = msgspec.json.encode(items)
        return json_response(list_body(encoded, page=page, limit=limit, total=total))

    @describe(
        EITHER,
        {204: None},
        query=ActingQuery,
        optional_body=ActingBody,
        codes=("conflict", "limit_reached", "overloaded"),
    )
    async def add_reaction(self, room: str, message: str, reaction: str) -> Response:
        """React to a message; nothing happens if the user has reacted so already."""
        credential = await self._services.auth.credential()
        check_reaction(reaction)
        data = await read_optional_body()
        actor = await self._services.auth.actor(credential, acting_user(data))
        return await self._react(actor, room, message, reaction, is_added=True)

    @describe(EITHER, {204: None}, query=ActingQuery, codes=("conflict", "overloaded"))
    async def remove_reaction(self, room: str, message: str, reaction: str) -> Response:
        """Take a reaction away; nothing happens if there is none."""
        credential = await self._services.auth.credential()
        check_reaction(reaction)
        actor = await self._services.auth.actor(credential)
        return await self._react(actor, room, message, reaction, is_added=False)

    async def _react(
        self, actor: Actor, room: str, message: str, reaction: str, *, is_added: bool
    ) -> Response:
        await self._services.changer.react(
            actor, room, wanted_of(message), reaction, is_added=is_added
        )
        return no_content()
