"""Messages of a room: write one, read pages of them, find one. Pages hold what is not archived yet.

A page's ETag is of its very bytes, made after the merge; access is checked before it is compared.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from urllib.parse import quote, urlencode

import msgspec
from quart import Response, request
from quart_schema import document_querystring, document_request, document_response

from api.bodies import (
    acting_user,
    json_response,
    list_body,
    query_flag,
    query_number,
    read_body,
)
from api.documents import (
    ActingQuery,
    HistoryDocument,
    HistoryQuery,
    MessageDocument,
    OneMessageQuery,
)
from api.routes import Route
from api.services import Services
from broker.domain.access import Access, Actor
from broker.domain.history import Page, PageQuery, load_message, load_page
from broker.domain.publishing import Published
from broker.domain.roles import Action
from broker.protocol.commands import PAGE_DEFAULT, PAGE_MAX
from broker.protocol.errors import ProtocolError
from broker.protocol.events import message_json
from broker.protocol.ids import is_message_id
from broker.protocol.message_draft import MessageDraft, check_draft, parse_message_draft
from config.limits import API_PAGE_BYTES_MAX
from storage.postgres.messages import SEQ_MAX
from storage.redis.keys import room_key

_BOUNDS = ("before", "after", "around")
_FILTERS = ("sender", "kind", "from", "to")


class MessageRoutes:
    """`/v1/rooms/{id}/messages`."""

    tag = "messages"

    def __init__(self, services: Services) -> None:
        self._services = services

    def routes(self) -> Sequence[Route]:
        """The operations."""
        return (
            Route("POST", "/v1/rooms/<room>/messages", self.create_message),
            Route("GET", "/v1/rooms/<room>/messages", self.list_messages),
            Route("GET", "/v1/rooms/<room>/messages/<message>", self.get_message),
        )

    @document_querystring(ActingQuery)
    @document_request(MessageDraft)
    @document_response(MessageDocument, 201)
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
        # Fresh, not remembered: this process hears no events that would tell it of changes.
        access = await services.access.read(actor.project, room, actor.user)
        published = await services.publisher.publish(actor, room, draft)
        body = await self._published(actor, room, access, published)
        location = f"/v1/rooms/{quote(room, safe='')}/messages/{published.seq}"
        return json_response(body, 200 if published.duplicate else 201, location=location)

    @document_querystring(HistoryQuery)
    @document_response(HistoryDocument)
    async def list_messages(self, room: str) -> Response:
        """A page of the room's messages in rising order, complete up to this moment.

        By `before`, `after` (both exclusive) or `around` a seq, or else the newest; or by `page`
        (1 is the newest) or `skip` (from the newest), which also count the messages.
        """
        services = self._services
        actor = await services.auth.actor(await services.auth.credential())
        query = _page_query()
        reveal = _reveal(actor)
        access = await services.access.read_as(actor, room)
        access.require(Action.READ, actor, room)
        page = await load_page(
            services.db,
            services.store.rooms,
            room_key(actor.project, room),
            room_pk=access.room_pk,
            query=query,
            viewer=actor.user,
            reveal=reveal,
            with_users=query.skip is None,
        )
        body = _page_body(room, query, page) if query.skip is None else _list_body(query, page)
        return _conditional(body)

    @document_querystring(OneMessageQuery)
    @document_response(MessageDocument)
    async def get_message(self, room: str, message: str) -> Response:
        """One message by seq or id, as of now."""
        services = self._services
        actor = await services.auth.actor(await services.auth.credential())
        reveal = _reveal(actor)
        access = await services.access.read_as(actor, room)
        access.require(Action.READ, actor, room)
        wanted = _message_name(message)
        found = wanted is not None and await load_message(
            services.db,
            services.store.rooms,
            room_key(actor.project, room),
            room_pk=access.room_pk,
            wanted=wanted,
            viewer=actor.user,
            reveal=reveal,
        )
        if not found:
            raise ProtocolError("message_not_found")
        return json_response(found)

    async def _published(
        self, actor: Actor, room: str, access: Access, published: Published
    ) -> bytes:
        """The message, with what the answer to a publish says besides."""
        if published.duplicate:
            services = self._services
            found = await load_message(
                services.db,
                services.store.rooms,
                room_key(actor.project, room),
                room_pk=access.room_pk,
                wanted=published.seq,
                viewer=actor.user,
            )
            message = found or msgspec.json.encode({"seq": published.seq, "room": room})
        else:
            message = message_json(published.seq, published.created_ms, published.data)
        more = msgspec.json.encode(
            {
                "message_id": published.message_id,
                "offset": published.offset,
                "duplicate": published.duplicate,
            }
        )
        return message[:-1] + b"," + more[1:]


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


def _page_query() -> PageQuery:
    """What the query asks for; raises ProtocolError naming the parameter."""
    args = request.args
    for name in _FILTERS:
        if name in args:
            raise ProtocolError("bad_request", f"`{name}` does not filter messages yet.", name)
    given = [name for name in (*_BOUNDS, "page", "skip") if name in args]
    if len(given) > 1:
        raise ProtocolError("bad_request", f"`{given[0]}` and `{given[1]}` exclude.", given[1])
    limit = query_number("limit", low=1, high=PAGE_MAX) or PAGE_DEFAULT
    page = query_number("page", low=1)
    skip = query_number("skip")
    if page is not None:
        skip = min((page - 1) * limit, SEQ_MAX)
    return PageQuery(
        limit=limit,
        before=query_number("before"),
        after=query_number("after"),
        around=query_number("around"),
        skip=skip,
        bytes_max=None if skip is not None else API_PAGE_BYTES_MAX,
    )


def _reveal(actor: Actor) -> bool:
    """Whether deleted content is to be shown: `?deleted=true`, by key only."""
    if not query_flag("deleted"):
        return False
    if actor.caller == "user":
        raise ProtocolError("forbidden", "Only a key sees deleted content.", "deleted")
    return True


def _message_name(text: str) -> int | str | None:
    """A seq or a message id; None if the text can be neither."""
    if text.isascii() and text.isdigit() and len(text) < 19:
        return int(text)
    return text if is_message_id(text) else None


def _page_body(room: str, query: PageQuery, page: Page) -> bytes:
    newer = _path(room, "after", page.newer_after, query.limit)
    older = _path(room, "before", page.older_before, query.limit)
    envelope = msgspec.json.encode(
        {
            "has_more_before": page.has_more_before,
            "has_more_after": page.has_more_after,
            "next": newer,
            "previous": older,
            "users": msgspec.Raw(page.users or b"{}"),
        }
    )
    return b'{"items":%b,%b' % (page.items, envelope[1:])


def _path(room: str, bound: str, seq: int | None, limit: int) -> str | None:
    """The path of a neighbouring page, for the same actor."""
    if seq is None:
        return None
    parameters = {bound: str(seq), "limit": str(limit)}
    for name in ("user_id", "deleted"):
        if name in request.args:
            parameters[name] = request.args[name]
    return f"/v1/rooms/{quote(room, safe='')}/messages?{urlencode(parameters)}"


def _list_body(query: PageQuery, page: Page) -> bytes:
    skip = query.skip or 0
    return list_body(
        page.items, page=skip // query.limit + 1, limit=query.limit, total=page.total or 0
    )


def _conditional(body: bytes) -> Response:
    """200 with the body and its ETag, or 304 if the client has these very bytes."""
    tag = '"' + hashlib.blake2b(body, digest_size=16).hexdigest() + '"'
    known = [text.strip() for text in request.headers.get("If-None-Match", "").split(",")]
    if "*" in known or any(text.removeprefix("W/") == tag for text in known):
        response = Response(b"", status=304)
        response.headers.pop("Content-Type", None)
        response.headers["Cache-Control"] = "private, no-cache"
    else:
        response = json_response(body)
    response.headers["ETag"] = tag
    response.headers["Vary"] = "Authorization, X-API-Key"
    return response
