"""Users and their tokens: what a backend does with its key."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final
from urllib.parse import quote

from quart import Response, request

from api.bodies import (
    json_response,
    list_body,
    list_page,
    no_content,
    parse_body,
    read_body,
    read_optional_body,
    refuse_fixed,
)
from api.documents.users import (
    NamedUsersDocument,
    RemovalQuery,
    TokenDocument,
    UserDocument,
    UserExportDocument,
    UserListDocument,
    UserListQuery,
)
from api.openapi.operations import EITHER, KEY, describe
from api.routes import Route
from api.services import Services
from broker.domain import users
from broker.domain.fields import check_name
from broker.domain.identity import DEFAULT_TOKEN_TTL, mint_token
from broker.domain.user_changes import (
    UserPatch,
    parse_ids,
    parse_user_patch,
    revoke_user_tokens,
)
from broker.domain.user_export import open_export
from broker.domain.users import TokenBody, UserBody
from broker.protocol.errors import ProtocolError
from broker.protocol.events import iso_time
from config.durations import parse_duration
from storage.postgres.user_changes import fetch_names, list_users

FIXED_USER_FIELDS: Final = frozenset({"id", "created_at", "updated_at", "last_seen_at"})
"""What nobody changes of a user."""


class UserRoutes:
    """`/v1/users`."""

    tag = "users"

    def __init__(self, services: Services) -> None:
        self._services = services

    def routes(self) -> Sequence[Route]:
        """The operations."""
        return (
            Route("POST", "/v1/users", self.create_user),
            Route("GET", "/v1/users", self.list_users),
            Route("GET", "/v1/users/<user>", self.get_user),
            Route("PATCH", "/v1/users/<user>", self.update_user),
            Route("DELETE", "/v1/users/<user>", self.delete_user),
            Route("POST", "/v1/users/<user>/token", self.issue_token),
            Route("DELETE", "/v1/users/<user>/tokens", self.revoke_tokens),
            Route("GET", "/v1/users/<user>/export", self.export_user),
        )

    @describe(KEY, {201: UserDocument}, body=UserBody, codes=("conflict",), location=True)
    async def create_user(self) -> Response:
        """Create a user (key). 409 names the field that is taken."""
        credential = await self._services.auth.key()
        body = parse_body(await read_body(), UserBody)
        user, made = await users.create_user(self._services.db, credential.project, body)
        return json_response(made, 201, location=f"/v1/users/{quote(user, safe='')}")

    @describe(
        EITHER,
        {200: (UserListDocument, NamedUsersDocument)},
        query=UserListQuery,
        codes=("too_large",),
    )
    async def list_users(self) -> Response:
        """List users, oldest first (key); with `ids` the names of people one shares a room with."""
        services = self._services
        credential = await services.auth.credential()
        ids = request.args.get("ids")
        if ids is not None:
            viewer = None if credential.identity is None else credential.identity.user
            names = await fetch_names(services.db, credential.project, parse_ids(ids), viewer)
            return json_response(b'{"items":%b}' % names)
        if not credential.is_key:
            raise ProtocolError("forbidden", "A token asks for names, with `ids`.", "ids")
        page, limit = list_page()
        for field in ("username", "external_user_id"):
            check_name(request.args.get(field), field)
        total, items = await list_users(
            services.db,
            credential.project,
            username=request.args.get("username"),
            external_user_id=request.args.get("external_user_id"),
            skip=(page - 1) * limit,
            limit=limit,
        )
        encoded = b"[" + b",".join(items) + b"]"
        return json_response(list_body(encoded, page=page, limit=limit, total=total))

    @describe(KEY, {200: UserDocument}, body=UserPatch, codes=("not_found", "conflict"))
    async def update_user(self, user: str) -> Response:
        """Change a user (key). `status: banned` ends its connections and refuses its tokens."""
        services = self._services
        credential = await services.auth.key()
        data = await read_body()
        refuse_fixed(data, FIXED_USER_FIELDS)
        fields = parse_user_patch(parse_body(data, UserPatch), own=False)
        await services.user_changes.update(credential.project, user, fields, by=None)
        return json_response(await users.get_user(services.db, credential.project, user))

    @describe(KEY, {204: None}, query=RemovalQuery, codes=("not_found",))
    async def delete_user(self, user: str) -> Response:
        """Delete a user (key): tokens, memberships and profile. The id is never free again."""
        services = self._services
        credential = await services.auth.key()
        messages = request.args.get("messages", "keep")
        if messages not in ("keep", "delete", "erase"):
            raise ProtocolError("bad_request", "`messages`: keep, delete or erase.", "messages")
        await services.user_changes.delete(credential.project, user, messages)
        return no_content()

    @describe(KEY, {200: UserDocument}, codes=("not_found",))
    async def get_user(self, user: str) -> Response:
        """Get a user (key)."""
        credential = await self._services.auth.key()
        return json_response(await users.get_user(self._services.db, credential.project, user))

    @describe(KEY, {200: TokenDocument}, optional_body=TokenBody, codes=("not_found", "conflict"))
    async def issue_token(self, user: str) -> Response:
        """Issue a token for a user (key). Without a body it lasts a day and adds no rights."""
        services = self._services
        credential = await services.auth.key()
        body = parse_body(await read_optional_body(), TokenBody)
        ttl = _seconds(body)
        if services.settings.jwt_secret is None:
            raise ProtocolError("conflict", "This deployment only verifies tokens.")
        await users.require_active_user(services.db, credential.project, user)
        try:
            token, expires_at = mint_token(
                services.settings, user=user, project=credential.project, ttl=ttl, rooms=body.rooms
            )
        except ValueError as error:
            field = "ttl" if "ttl" in str(error) else "rooms"
            raise ProtocolError("bad_request", str(error), field) from None
        expires_ms = round(expires_at.timestamp() * 1000)
        response = json_response({"token": token, "expires_at": iso_time(expires_ms)})
        response.headers["Cache-Control"] = "no-store"
        return response

    @describe(KEY, {204: None}, codes=("not_found",))
    async def revoke_tokens(self, user: str) -> Response:
        """Void every token of a user issued so far (key)."""
        credential = await self._services.auth.key()
        services = self._services
        await revoke_user_tokens(services.db, services.announcer, credential.project, user)
        return no_content()

    @describe(KEY, {200: UserExportDocument}, codes=("not_found",))
    async def export_user(self, user: str) -> Response:
        """Everything that is stored of a user (key), as one JSON document, streamed."""
        credential = await self._services.auth.key()
        pieces = await open_export(self._services.db, credential.project, user)
        if pieces is None:
            raise ProtocolError("not_found", "There is no such user.")
        response = Response(pieces, content_type="application/json")
        # As long as it takes; a client that does not read is the server's to notice.
        response.timeout = None
        response.headers["Cache-Control"] = "no-store"
        response.headers["Content-Disposition"] = 'attachment; filename="export.json"'
        return response


def _seconds(body: TokenBody) -> float:
    if body.ttl is None:
        return DEFAULT_TOKEN_TTL
    if not isinstance(body.ttl, str):
        return body.ttl
    try:
        return parse_duration(body.ttl)
    except ValueError as error:
        raise ProtocolError("bad_request", f"`ttl`: {error}.", "ttl") from None
