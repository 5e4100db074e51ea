"""How far members have read: marking a room as read, receipts, the recipients of a message."""

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
    parse_body,
    read_optional_body,
)
from api.documents.queries import ActingQuery, ListQuery
from api.documents.receipts import MarkDocument, ReceiptListDocument, RecipientListDocument
from api.message_places import read_message, wanted_of
from api.openapi.operations import EITHER, describe
from api.routes import Route
from api.services import Services
from broker.domain.receipts import list_receipts, list_recipients
from broker.domain.roles import Action
from broker.protocol.message_draft import Count
from storage.redis.keys import room_key


class ReadBody(ActingBody):
    """Up to which message; all of the room without `seq`."""

    seq: Count | None = None


class ReceiptRoutes:
    """`/v1/rooms/{id}/read`, `/receipts` and `/messages/{seq}/recipients`."""

    tag = "receipts"

    def __init__(self, services: Services) -> None:
        self._services = services

    def routes(self) -> Sequence[Route]:
        """The operations."""
        return (
            Route("POST", "/v1/rooms/<room>/read", self.mark_read),
            Route("GET", "/v1/rooms/<room>/receipts", self.list_receipts),
            Route("GET", "/v1/rooms/<room>/messages/<message>/recipients", self.list_recipients),
        )

    @describe(
        EITHER,
        {200: MarkDocument},
        query=ActingQuery,
        optional_body=ReadBody,
        codes=("overloaded",),
    )
    async def mark_read(self, room: str) -> Response:
        """Mark the room as read up to `seq`, or all of it; marks never go back."""
        services = self._services
        credential = await services.auth.credential()
        data = await read_optional_body()
        body = parse_body(data, ReadBody)
        actor = await services.auth.actor(credential, acting_user(data))
        marked = await services.marker.mark(actor, room, "read", body.seq)
        return json_response(marked._asdict())

    @describe(EITHER, {200: ReceiptListDocument}, query=ListQuery)
    async def list_receipts(self, room: str) -> Response:
        """How far each member has read and got the room's messages, by user id (members)."""
        services = self._services
        actor = await services.auth.actor(await services.auth.credential())
        page, limit = list_page()
        access = await services.access.read_as(actor, room)
        # Who may read but has no mark itself is not shown those of others.
        access.require(Action.MARK, actor, room)
        total, items = await list_receipts(
            services.db,
            services.store.rooms,
            room_key(actor.project, room),
            room_pk=access.room_pk,
            skip=(page - 1) * limit,
            limit=limit,
        )
        encoded = msgspec.json.encode(items)
        return json_response(list_body(encoded, page=page, limit=limit, total=total))

    @describe(EITHER, {200: RecipientListDocument}, query=ListQuery)
    async def list_recipients(self, room: str, message: str) -> Response:
        """What became of a message at each member but its sender, by user id."""
        services = self._services
        actor = await services.auth.actor(await services.auth.credential())
        page, limit = list_page()
        access, body = await read_message(services, actor, room, wanted_of(message))
        found = msgspec.json.decode(body)
        total, items = await list_recipients(
            services.db,
            services.store.rooms,
            room_key(actor.project, room),
            room_pk=access.room_pk,
            seq=found["seq"],
            sender=found["sender"],
            skip=(page - 1) * limit,
            limit=limit,
        )
        encoded = msgspec.json.encode(items)
        return json_response(list_body(encoded, page=page, limit=limit, total=total))
