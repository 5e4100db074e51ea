"""Bans from a room, and a user's own blocks."""

from __future__ import annotations

from collections.abc import Sequence

from quart import Response

from api.bodies import json_response, list_body, list_page, no_content
from api.documents.members import BanListDocument, BlockListDocument
from api.documents.queries import ActingQuery, ListQuery, PageQuery
from api.openapi.operations import EITHER, TOKEN, describe
from api.routes import Route
from api.services import Services
from broker.domain.access import Access, Actor
from broker.domain.bans import Bans
from broker.domain.blocks import add_block, remove_block
from broker.domain.roles import Action
from storage.postgres.bans import list_bans
from storage.postgres.blocks import list_blocks


class BanRoutes:
    """`/v1/rooms/{id}/bans`, `/v1/me/blocks`."""

    tag = "bans"

    def __init__(self, services: Services) -> None:
        self._services = services
        self._bans = Bans(
            services.db, services.announcer, create_users=services.settings.auto_create_users
        )

    def routes(self) -> Sequence[Route]:
        """The operations."""
        return (
            Route("GET", "/v1/rooms/<room>/bans", self.list_bans),
            Route("PUT", "/v1/rooms/<room>/bans/<user>", self.ban),
            Route("DELETE", "/v1/rooms/<room>/bans/<user>", self.lift_ban),
            Route("GET", "/v1/me/blocks", self.list_blocks),
            Route("PUT", "/v1/me/blocks/<user>", self.block),
            Route("DELETE", "/v1/me/blocks/<user>", self.unblock),
        )

    @describe(EITHER, {200: BanListDocument}, query=ListQuery)
    async def list_bans(self, room: str) -> Response:
        """List who is kept out of a room (admins), by user id."""
        services = self._services
        actor = await services.auth.actor(await services.auth.credential())
        page, limit = list_page()
        access = await services.access.read_as(actor, room)
        access.require(Action.BAN, actor, room)
        total, items = await list_bans(
            services.db, access.room_pk, skip=(page - 1) * limit, limit=limit
        )
        return json_response(list_body(items, page=page, limit=limit, total=total))

    @describe(EITHER, {204: None}, query=ActingQuery, codes=("not_found", "conflict"))
    async def ban(self, room: str, user: str) -> Response:
        """Keep a user out of a room (admins): ends the membership; repeatable."""
        actor, access = await self._admin(room)
        await self._bans.add(actor, room, access, user)
        return no_content()

    @describe(EITHER, {204: None}, query=ActingQuery, codes=("not_found", "conflict"))
    async def lift_ban(self, room: str, user: str) -> Response:
        """Let a user in again (admins). The membership does not come back by itself."""
        actor, access = await self._admin(room)
        await self._bans.remove(actor, room, access, user)
        return no_content()

    @describe(TOKEN, {200: BlockListDocument}, query=PageQuery)
    async def list_blocks(self) -> Response:
        """List whose direct messages the token's user does not want."""
        services = self._services
        identity = await services.auth.token()
        page, limit = list_page()
        total, items = await list_blocks(
            services.db, identity.project, identity.user, skip=(page - 1) * limit, limit=limit
        )
        return json_response(list_body(items, page=page, limit=limit, total=total))

    @describe(TOKEN, {204: None}, codes=("not_found", "conflict"))
    async def block(self, user: str) -> Response:
        """Stop a user's direct messages; repeatable."""
        services = self._services
        identity = await services.auth.token()
        await add_block(services.db, services.announcer, identity.project, identity.user, user)
        return no_content()

    @describe(TOKEN, {204: None}, codes=("not_found",))
    async def unblock(self, user: str) -> Response:
        """Let a user write directly again; repeatable."""
        identity = await self._services.auth.token()
        await remove_block(self._services.db, identity.project, identity.user, user)
        return no_content()

    async def _admin(self, room: str) -> tuple[Actor, Access]:
        services = self._services
        actor = await services.auth.actor(await services.auth.credential())
        access = await services.access.read(actor.project, room, actor.user)
        if access.refusal(Action.BAN, actor, room) == "room_not_found":
            access.require(Action.BAN, actor, room)
        return actor, access
