"""Search in the messages of a room."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import quote, urlencode

import msgspec
from quart import Response, request

from api.bodies import json_response, query_number
from api.documents.search import SearchDocument, SearchQueryString
from api.openapi.operations import EITHER, describe
from api.routes import Route
from api.services import Services
from broker.domain.roles import Action
from broker.domain.searching import Found, SearchQuery, search_room
from broker.protocol.commands import PAGE_DEFAULT, PAGE_MAX
from broker.protocol.errors import ProtocolError
from config.api_limits import API_PAGE_BYTES_MAX
from storage.redis.keys import room_key


class SearchRoutes:
    """`/v1/rooms/{id}/search`."""

    tag = "messages"

    def __init__(self, services: Services) -> None:
        self._services = services

    def routes(self) -> Sequence[Route]:
        """The operations."""
        return (Route("GET", "/v1/rooms/<room>/search", self.search_messages),)

    @describe(EITHER, {200: SearchDocument}, query=SearchQueryString, codes=("too_large",))
    async def search_messages(self, room: str) -> Response:
        """Messages that hold all words of `q`, newest first; a new one is found within seconds.

        `before` (a seq, exclusive) continues; `next` is the path for that. Upper and lower case
        are the same; words are whole words. Deleted messages are never found.
        """
        services = self._services
        actor = await services.auth.actor(await services.auth.credential())
        query = _search_query()
        access = await services.access.read_as(actor, room)
        access.require(Action.READ, actor, room)
        found = await search_room(
            services.db,
            services.store.rooms,
            room_key(actor.project, room),
            room_pk=access.room_pk,
            query=query,
            viewer=actor.user,
        )
        return json_response(_body(room, query, found))


def _search_query() -> SearchQuery:
    text = request.args.get("q")
    if not text:
        raise ProtocolError("bad_request", "`q` holds the words to look for.", "q")
    return SearchQuery(
        text=text,
        limit=query_number("limit", low=1, high=PAGE_MAX) or PAGE_DEFAULT,
        before=query_number("before"),
        bytes_max=API_PAGE_BYTES_MAX,
    )


def _body(room: str, query: SearchQuery, found: Found) -> bytes:
    link = None
    if found.next_before is not None:
        parameters = {"q": query.text, "before": found.next_before, "limit": query.limit}
        if "user_id" in request.args:
            parameters["user_id"] = request.args["user_id"]
        link = f"/v1/rooms/{quote(room, safe='')}/search?{urlencode(parameters)}"
    envelope = msgspec.json.encode(
        {"has_more": link is not None, "next": link, "users": msgspec.Raw(found.users)}
    )
    return b'{"items":%b,%b' % (found.items, envelope[1:])
