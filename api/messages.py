"""Messages: write one, read pages of them, and read, edit or delete one, by room or by id alone.

Pages hold what is not archived yet. A message is named by its seq or its id in its room's paths,
and by its id in `/v1/messages/{id}`, where a room that one may not know of makes it not found.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec
from quart import Response, request

from api.bodies import acting_user, json_response, no_content, read_body, refuse_fixed
from api.documents.history import (
    HistoryDocument,
    HistoryQuery,
    NumberedHistoryDocument,
    RepliesQuery,
)
from api.documents.messages import MessageDocument, OneMessageQuery, PublishedDocument
from api.documents.queries import ActingQuery
from api.history_pages import (
    PageBodies,
    conditional,
    is_revealed,
    numbered_body,
    page_query,
    query_filter,
    tagged,
)
from api.message_places import path_of, published_response, read_message, room_of, wanted_of
from api.openapi.operations import EITHER, describe
from api.routes import Route
from api.services import Services
from broker.domain.access import Actor
from broker.domain.history import load_page_as
from broker.domain.roles import Action
from broker.protocol.errors import ProtocolError
from broker.protocol.message_changes import MessageEdit, parse_message_edit
from broker.protocol.message_draft import MessageDraft, check_draft, parse_message_draft
from storage.postgres.message_filters import MessageFilter

_FIXED: Final = frozenset(MessageDocument.__struct_fields__) - {
    "content",
    "metadata",
    "attachments",
}


class MessageRoutes:
    """`/v1/rooms/{id}/messages` and `/v1/messages/{id}`."""

    tag = "messages"

    def __init__(self, services: Services) -> None:
        self._services = services
        self._bodies = PageBodies()

    def routes(self) -> Sequence[Route]:
        """The operations."""
        one = "/v1/rooms/<room>/messages/<message>"
        return (
            Route("POST", "/v1/rooms/<room>/messages", self.create_message),
            Route("GET", "/v1/rooms/<room>/messages", self.list_messages),
            Route("GET", one, self.get_message),
            Route("PATCH", one, self.edit_message),
            Route("DELETE", one, self.delete_message),
            Route("GET", f"{one}/replies", self.list_replies),
            Route("GET", "/v1/messages/<message>", self.get_message_by_id),
            Route("PATCH", "/v1/messages/<message>", self.edit_message_by_id),
            Route("DELETE", "/v1/messages/<message>", self.delete_message_by_id),
        )

    @describe(
        EITHER,
        {201: PublishedDocument, 200: PublishedDocument},
        query=ActingQuery,
        body=MessageDraft,
        codes=("message_not_found", "overloaded"),
        location=True,
        idempotency_key=True,
    )
    async def create_message(self, room: str) -> Response:
        """Publish a message, the same as over the WebSocket.

        `Idempotency-Key` is the message's client_id: repeated within ten minutes it gives the
        first message again, with 200 and `duplicate: true`. What is sent is not compared.
        """
        services = self._services
        credential = await services.auth.credential()
        data = await read_body()
        draft = parse_message_draft(data)
        _take_idempotency_key(draft)
        actor = await services.auth.actor(credential, acting_user(data))
        # Fresh, not remembered: this process hears no events that would tell it of changes. Refused
        # here, or a hidden room would be read twice and one that there is not once.
        access = await services.access.read(actor.project, room, actor.user)
        access.require(Action.PUBLISH, actor, room)
        published = await services.publisher.publish(actor, room, draft)
        return await published_response(services, actor, room, published)

    @describe(
        EITHER,
        {200: (HistoryDocument, NumberedHistoryDocument)},
        query=HistoryQuery,
        conditional=True,
    )
    async def list_messages(self, room: str) -> Response:
        """A page of the room's messages in rising order, complete up to this moment.

        By `before`, `after` (both exclusive) or `around` a seq, or else the newest; or by `page`
        (1 is the newest) or `skip` (from the newest), which also count the messages. `sender`,
        `kind`, `from` and `to` (times, inclusive) choose among them.
        """
        actor = await self._actor()
        return await self._page(actor, room, path_of(room), query_filter())

    @describe(
        EITHER,
        {200: (HistoryDocument, NumberedHistoryDocument)},
        query=RepliesQuery,
        conditional=True,
    )
    async def list_replies(self, room: str, message: str) -> Response:
        """A page of the direct replies to a message; as for the room's messages."""
        actor = await self._actor()
        _, body = await read_message(self._services, actor, room, wanted_of(message))
        seq = msgspec.json.decode(body)["seq"]
        path = f"{path_of(room, seq)}/replies"
        return await self._page(actor, room, path, MessageFilter(reply_to=seq))

    @describe(EITHER, {200: MessageDocument}, query=OneMessageQuery)
    async def get_message(self, room: str, message: str) -> Response:
        """One message by seq or id, as of now."""
        return await self._get(await self._actor(), room, message)

    @describe(
        EITHER,
        {200: MessageDocument},
        query=ActingQuery,
        body=MessageEdit,
        codes=("conflict", "overloaded"),
    )
    async def edit_message(self, room: str, message: str) -> Response:
        """Replace the given fields of a message: its sender or a key."""
        actor, edit = await self._edit()
        return await self._patch(actor, room, message, edit)

    @describe(EITHER, {204: None}, query=ActingQuery, codes=("overloaded",))
    async def delete_message(self, room: str, message: str) -> Response:
        """Delete a message: its sender, who may moderate, or a key. It keeps its seq."""
        actor = await self._actor()
        await self._services.changer.delete(actor, room, wanted_of(message))
        return no_content()

    @describe(EITHER, {200: MessageDocument}, query=OneMessageQuery, codes=("not_a_member",))
    async def get_message_by_id(self, message: str) -> Response:
        """One message by its id alone."""
        actor = await self._actor()
        return await self._get(actor, await room_of(self._services, actor, message), message)

    @describe(
        EITHER,
        {200: MessageDocument},
        query=ActingQuery,
        body=MessageEdit,
        codes=("not_a_member", "conflict", "overloaded"),
    )
    async def edit_message_by_id(self, message: str) -> Response:
        """Replace the given fields of a message named by its id alone."""
        actor, edit = await self._edit()
        room = await room_of(self._services, actor, message)
        return await self._patch(actor, room, message, edit)

    @describe(EITHER, {204: None}, query=ActingQuery, codes=("not_a_member", "overloaded"))
    async def delete_message_by_id(self, message: str) -> Response:
        """Delete a message named by its id alone."""
        actor = await self._actor()
        room = await room_of(self._services, actor, message)
        await self._services.changer.delete(actor, room, message)
        return no_content()

    async def _actor(self) -> Actor:
        auth = self._services.auth
        return await auth.actor(await auth.credential())

    async def _edit(self) -> tuple[Actor, MessageEdit]:
        auth = self._services.auth
        credential = await auth.credential()
        data = await read_body()
        refuse_fixed(data, _FIXED)
        edit = parse_message_edit(data)
        return await auth.actor(credential, acting_user(data)), edit

    async def _get(self, actor: Actor, room: str, message: str) -> Response:
        reveal = is_revealed(actor)
        _, body = await read_message(self._services, actor, room, wanted_of(message), reveal=reveal)
        return json_response(body)

    async def _patch(self, actor: Actor, room: str, message: str, edit: MessageEdit) -> Response:
        wanted = wanted_of(message)
        await self._services.changer.edit(actor, room, wanted, edit)
        _, body = await read_message(self._services, actor, room, wanted)
        return json_response(body)

    async def _page(self, actor: Actor, room: str, path: str, chosen: MessageFilter) -> Response:
        services = self._services
        query = page_query(chosen)
        reveal = is_revealed(actor)
        page = await load_page_as(
            services.db,
            services.store.rooms,
            services.access,
            services.pages,
            actor,
            room,
            query=query,
            reveal=reveal,
            with_users=query.skip is None,
        )
        if query.skip is not None:
            return conditional(tagged(numbered_body(query, page)))
        return conditional(self._bodies.of(path, query, page))


def _take_idempotency_key(draft: MessageDraft) -> None:
    key = request.headers.get("Idempotency-Key")
    if key is None:
        return
    if draft.client_id not in (None, key):
        raise ProtocolError(
            "bad_request", "Idempotency-Key and client_id are different.", "client_id"
        )
    draft.client_id = key
    check_draft(draft)
