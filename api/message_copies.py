"""Several messages at once by the server, and copies of messages in other rooms."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import msgspec
from quart import Response

from api.auth import Credential
from api.bodies import acting_user, json_response, parse_body, read_body
from api.documents.messages import BatchMessage, PublishedDocument, RefusedDocument
from api.documents.queries import ActingQuery
from api.message_places import published_body, published_response, wanted_of
from api.openapi.operations import EITHER, KEY, ItemsOf, describe
from api.problems import problem_body
from api.routes import Route
from api.services import Services
from broker.domain.publishing import refuse_publish
from broker.protocol.commands import check_room
from broker.protocol.errors import ProtocolError
from broker.protocol.message_draft import MessageDraft, check_client_id, parse_message_draft
from storage.errors import StorageUnavailable

BATCH_MAX = 100


class ForwardBody(msgspec.Struct, kw_only=True):
    """Where to; `client_id` makes repeating harmless, as for any message."""

    room: str
    client_id: str | None = None


class _BatchPlace(msgspec.Struct, kw_only=True):
    room: str


class CopyRoutes:
    """`POST /v1/messages`, `POST …/messages/{seq}/forward`."""

    tag = "messages"

    def __init__(self, services: Services) -> None:
        self._services = services

    def routes(self) -> Sequence[Route]:
        """The operations."""
        return (
            Route("POST", "/v1/messages", self.create_messages),
            Route("POST", "/v1/rooms/<room>/messages/<message>/forward", self.forward_message),
        )

    @describe(
        KEY,
        {status: ItemsOf((PublishedDocument, RefusedDocument)) for status in (200, 201, 207)},
        body=Annotated[list[BatchMessage], msgspec.Meta(min_length=1, max_length=BATCH_MAX)],
        codes=("overloaded",),
    )
    async def create_messages(self) -> Response:
        """Publish up to 100 messages, one after the other, each into its `room` (keys only).

        If one of them is malformed, none is published. Otherwise `items` says of each, in order,
        either the message (as the answer to a single one) or `error`, a problem document. The
        status is 201 if all are new, 200 if some were there already, 207 if one has an `error`.
        """
        services = self._services
        credential = await services.auth.key()
        items = _parse_batch(await read_body())
        answers: list[bytes] = []
        codes: set[int] = set()
        for room, draft, user in items:
            answer, code = await self._publish(credential, room, draft, user)
            answers.append(answer)
            codes.add(code)
        status = min(codes) if max(codes) < 400 else 207
        return json_response(b'{"items":[%b]}' % b",".join(answers), status)

    @describe(
        EITHER,
        {201: PublishedDocument, 200: PublishedDocument},
        query=ActingQuery,
        body=ForwardBody,
        codes=("conflict", "overloaded"),
        location=True,
    )
    async def forward_message(self, room: str, message: str) -> Response:
        """Publish a copy of a message into another room; says who wrote it first, not where."""
        services = self._services
        credential = await services.auth.credential()
        data = await read_body()
        body = parse_body(data, ForwardBody)
        check_room(body.room)
        check_client_id(body.client_id)
        actor = await services.auth.actor(credential, acting_user(data))
        published = await services.forwarder.forward(
            actor, room, wanted_of(message), body.room, body.client_id
        )
        return await published_response(services, actor, body.room, published)

    async def _publish(
        self, credential: Credential, room: str, draft: MessageDraft, user: object
    ) -> tuple[bytes, int]:
        """One item's answer and its status."""
        services = self._services
        try:
            actor = await services.auth.actor(credential, user)
            await services.access.read(actor.project, room, actor.user)
            published = await services.publisher.publish(actor, room, draft)
            body = await published_body(services, actor, room, published)
        except ProtocolError as refusal:
            error = refusal
        except StorageUnavailable as away:
            error = refuse_publish(away)
        else:
            return body, 200 if published.duplicate else 201
        return msgspec.json.encode({"error": problem_body(error)}), error.status


def _parse_batch(data: bytes) -> list[tuple[str, MessageDraft, object]]:
    """Room, draft and acting user of each item; raises ProtocolError, `field` with its place."""
    try:
        parts = msgspec.json.decode(data, type=list[msgspec.Raw])
    except (msgspec.DecodeError, RecursionError, ValueError):
        raise ProtocolError("bad_request", "The body is a JSON array of messages.") from None
    if not 1 <= len(parts) <= BATCH_MAX:
        raise ProtocolError("bad_request", f"Give 1 to {BATCH_MAX} messages.")
    found = []
    for place, part in enumerate(parts):
        text = bytes(part)
        try:
            room = parse_body(text, _BatchPlace).room
            check_room(room)
            found.append((room, parse_message_draft(text), acting_user(text)))
        except ProtocolError as error:
            error.field = str(place) if error.field is None else f"{place}.{error.field}"
            raise
    return found
