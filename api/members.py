"""Members of a room: list, add, join, leave, remove, rank, mute.

A change is answered once it holds.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final
from urllib.parse import quote

from quart import Response

from api.bodies import (
    ActingBody,
    acting_user,
    json_response,
    list_body,
    list_page,
    no_content,
    parse_body,
    read_body,
    read_optional_body,
    refuse_fixed,
)
from api.documents.members import MemberDocument, MemberListDocument, MembersDocument
from api.documents.queries import ActingQuery, ListQuery
from api.openapi.operations import EITHER, describe
from api.routes import Route
from api.services import Services
from broker.domain.access import Access, Actor
from broker.domain.members import MemberPatch, MembersBody, parse_change, parse_members
from broker.domain.roles import Action
from broker.protocol.errors import ProtocolError
from storage.postgres.members import fetch_members, list_members

_FIXED: Final = frozenset({"user", "joined_at", "display_name", "avatar_url"})


class MemberRoutes:
    """`/v1/rooms/{id}/members`."""

    tag = "members"

    def __init__(self, services: Services) -> None:
        self._services = services

    def routes(self) -> Sequence[Route]:
        """The operations."""
        return (
            Route("GET", "/v1/rooms/<room>/members", self.list_members),
            Route("POST", "/v1/rooms/<room>/members", self.add_members),
            Route("POST", "/v1/rooms/<room>/join", self.join),
            Route("POST", "/v1/rooms/<room>/leave", self.leave),
            Route("PATCH", "/v1/rooms/<room>/members/<user>", self.update_member),
            Route("DELETE", "/v1/rooms/<room>/members/<user>", self.remove_member),
        )

    @describe(EITHER, {200: MemberListDocument}, query=ListQuery)
    async def list_members(self, room: str) -> Response:
        """List a room's members, by user id."""
        services = self._services
        actor = await services.auth.actor(await services.auth.credential())
        page, limit = list_page()
        access = await services.access.read_as(actor, room)
        access.require(Action.READ, actor, room)
        total, items = await list_members(
            services.db, access.room_pk, skip=(page - 1) * limit, limit=limit
        )
        return json_response(list_body(items, page=page, limit=limit, total=total))

    @describe(
        EITHER,
        {201: (MemberDocument, MembersDocument), 200: (MemberDocument, MembersDocument)},
        query=ActingQuery,
        body=MembersBody,
        codes=("not_found", "conflict"),
        location=True,
    )
    async def add_members(self, room: str) -> Response:
        """Add a member (`user`) or up to 100 (`users`); who is one already stays as it is.

        201 if anybody is new, else 200; with `users` the answer is `{items}`.
        """
        services = self._services
        credential = await services.auth.credential()
        data = await read_body()
        body = parse_body(data, MembersBody)
        # What is wrong with the request itself is told before anything about the room.
        parse_members(body)
        actor = await services.auth.actor(credential, acting_user(data))
        access = await self._visible(actor, room, Action.ADD_MEMBER)
        users, is_changed = await services.members.add(actor, room, access, body)
        items = await fetch_members(services.db, access.room_pk, users)
        status = 201 if is_changed else 200
        if body.user is None:
            return json_response(b'{"items":%b}' % items, status)
        location = f"/v1/rooms/{quote(room, safe='')}/members/{quote(body.user, safe='')}"
        return json_response(_only(items), status, location=location)

    @describe(
        EITHER,
        {200: MemberDocument},
        query=ActingQuery,
        body=MemberPatch,
        codes=("not_found", "conflict"),
    )
    async def update_member(self, room: str, user: str) -> Response:
        """Change a member's role or silence; `role: owner` hands the room over."""
        services = self._services
        credential = await services.auth.credential()
        data = await read_body()
        refuse_fixed(data, _FIXED)
        patch = parse_body(data, MemberPatch)
        parse_change(patch)
        actor = await services.auth.actor(credential, acting_user(data))
        access = await self._visible(actor, room, Action.MUTE)
        await services.members.update(actor, room, access, user, patch)
        items = await fetch_members(services.db, access.room_pk, [user])
        return json_response(_only(items))

    @describe(EITHER, {204: None}, query=ActingQuery, codes=("not_found", "conflict"))
    async def remove_member(self, room: str, user: str) -> Response:
        """Remove a member, or leave. It neither reads nor writes from the moment of the answer."""
        services = self._services
        actor = await services.auth.actor(await services.auth.credential())
        access = await self._visible(actor, room, Action.REMOVE_MEMBER)
        await services.members.remove(actor, room, access, user)
        return no_content()

    @describe(
        EITHER,
        {200: MemberDocument},
        query=ActingQuery,
        optional_body=ActingBody,
        codes=("not_found", "conflict"),
    )
    async def join(self, room: str) -> Response:
        """Join: a public room, or by key (with `user_id`) any group; repeatable."""
        actor, user = await self._oneself()
        access = await self._visible(actor, room, Action.JOIN)
        members = self._services.members
        await members.join(actor, room, access, user)
        items = await fetch_members(self._services.db, access.room_pk, [user])
        return json_response(_only(items))

    @describe(
        EITHER,
        {204: None},
        query=ActingQuery,
        optional_body=ActingBody,
        codes=("not_found", "conflict"),
    )
    async def leave(self, room: str) -> Response:
        """End one's membership; repeatable. An owner leaves only as the last (409)."""
        actor, user = await self._oneself()
        members = self._services.members
        try:
            access = await self._visible(actor, room, Action.READ)
        except ProtocolError:
            if await members.was_member(actor, room, user):
                return no_content()
            raise
        await members.remove(actor, room, access, user)
        return no_content()

    async def _oneself(self) -> tuple[Actor, str]:
        """The acting user, who is also the one that it is about."""
        auth = self._services.auth
        credential = await auth.credential()
        actor = await auth.actor(credential, acting_user(await read_optional_body()))
        if actor.user is None:
            raise ProtocolError("bad_request", "Say which user: `user_id`.", "user_id")
        return actor, actor.user

    async def _visible(self, actor: Actor, room: str, action: Action) -> Access:
        """The actor's standing; a room that it may not know of is not found before all else."""
        access = await self._services.access.read(actor.project, room, actor.user)
        if access.refusal(action, actor, room) == "room_not_found":
            access.require(action, actor, room)
        return access


def _only(items: bytes) -> bytes:
    """The member in a list of one; it may have gone again since."""
    if items == b"[]":
        raise ProtocolError("conflict", "The membership has ended again in the meantime.")
    return items[1:-1]
