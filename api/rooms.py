"""Rooms: create (or get the one that is there), list, look at, change, delete, join, leave."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final
from urllib.parse import quote

from quart import Response, request

from api.bodies import (
    acting_user,
    json_response,
    list_body,
    list_page,
    no_content,
    parse_body,
    read_body,
    refuse_fixed,
)
from api.documents.queries import ActingQuery
from api.documents.rooms import RoomDocument, RoomListDocument, RoomListQuery
from api.openapi.operations import EITHER, describe
from api.routes import Route
from api.services import Services
from broker.domain import rooms
from broker.domain.roles import Action
from broker.domain.room_changes import RoomPatch, parse_room_patch
from broker.domain.rooms import RoomBody
from broker.protocol.errors import ProtocolError

_KINDS = ("direct", "group", "public")
_FIXED: Final = frozenset(
    {
        "id", "kind", "created_by", "created_at", "updated_at", "deleted_at", "last_message_at",
        "member_count", "members", "seq",
    }
)  # fmt: skip


class RoomRoutes:
    """`/v1/rooms`."""

    tag = "rooms"

    def __init__(self, services: Services) -> None:
        self._services = services

    def routes(self) -> Sequence[Route]:
        """The operations."""
        return (
            Route("POST", "/v1/rooms", self.create_room),
            Route("GET", "/v1/rooms", self.list_rooms),
            Route("GET", "/v1/rooms/<room>", self.get_room),
            Route("PATCH", "/v1/rooms/<room>", self.update_room),
            Route("DELETE", "/v1/rooms/<room>", self.delete_room),
        )

    @describe(
        EITHER,
        {201: RoomDocument, 200: RoomDocument},
        query=ActingQuery,
        body=RoomBody,
        codes=("conflict",),
        location=True,
    )
    async def create_room(self) -> Response:
        """Create a room (key; token: direct and group).

        200 with the room as it is, if there is one of that direct pair or external_id.
        """
        services = self._services
        settings = services.settings
        credential = await services.auth.credential()
        data = await read_body()
        body = parse_body(data, RoomBody)
        actor = await services.auth.actor(credential, acting_user(data))
        new = rooms.parse_new_room(body, actor)
        rooms.check_may_create(new, actor, token_creates_rooms=settings.token_creates_rooms)
        made = await rooms.create_room(
            services.db, services.access, actor, new, create_users=settings.auto_create_users
        )
        found = await rooms.room_object(
            services.db, services.store.rooms, actor.project, made.id, made.pk
        )
        status = 200
        if made.outcome == "created":
            status = 201
            founders = [user for user, _ in new.founders]
            await services.announcer.tell_founders(actor.project, made.id, made.pk, founders)
        return json_response(found, status, location=f"/v1/rooms/{quote(made.id, safe='')}")

    @describe(EITHER, {200: RoomListDocument}, query=RoomListQuery)
    async def list_rooms(self) -> Response:
        """List the project's rooms (key), or the public ones (token), oldest first."""
        services = self._services
        credential = await services.auth.credential()
        if not credential.is_key:
            await services.auth.actor(credential)  # `user_id` may only repeat the token's user
        kind = request.args.get("kind")
        if kind is not None and kind not in _KINDS:
            raise ProtocolError("bad_request", "`kind` is direct, group or public.", "kind")
        page, limit = list_page()
        if not credential.is_key:
            if kind not in (None, "public"):
                raise ProtocolError("forbidden", "A token lists public rooms.", "kind")
            kind = "public"
        total, items = await rooms.list_rooms(
            services.db,
            services.store.rooms,
            credential.project,
            kind=kind,
            external_id=request.args.get("external_id"),
            skip=(page - 1) * limit,
            limit=limit,
        )
        encoded = b"[" + b",".join(items) + b"]"
        return json_response(list_body(encoded, page=page, limit=limit, total=total))

    @describe(EITHER, {200: RoomDocument}, query=ActingQuery)
    async def get_room(self, room: str) -> Response:
        """Get a room; `seq` and `last_message_at` are live. A key also sees a deleted one."""
        services = self._services
        actor = await services.auth.actor(await services.auth.credential())
        access = await services.access.read_as(actor, room)
        access.require(Action.READ, actor, room)
        return json_response(
            await rooms.room_object(
                services.db, services.store.rooms, actor.project, room, access.room_pk
            )
        )

    @describe(EITHER, {200: RoomDocument}, query=ActingQuery, body=RoomPatch, codes=("conflict",))
    async def update_room(self, room: str) -> Response:
        """Change a room (admins): given fields replace, null empties, the kind stays."""
        services = self._services
        credential = await services.auth.credential()
        data = await read_body()
        refuse_fixed(data, _FIXED)
        fields = parse_room_patch(parse_body(data, RoomPatch))
        actor = await services.auth.actor(credential, acting_user(data))
        access = await services.access.read(actor.project, room, actor.user)
        access.require(Action.EDIT_ROOM, actor, room)
        await services.room_changes.update(actor, room, access, fields)
        return json_response(
            await rooms.room_object(
                services.db, services.store.rooms, actor.project, room, access.room_pk
            )
        )

    @describe(EITHER, {204: None}, query=ActingQuery)
    async def delete_room(self, room: str) -> Response:
        """Delete a room (its owner, or a key). Its id is never free again; a key still sees it."""
        services = self._services
        actor = await services.auth.actor(await services.auth.credential())
        access = await services.access.read_as(actor, room)
        access.require(Action.DELETE_ROOM, actor, room)
        await services.room_changes.delete(actor, room, access)
        return no_content()
