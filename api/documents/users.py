"""Users and their tokens in the OpenAPI document."""

from __future__ import annotations

from typing import Any, Literal

from msgspec import Struct


class UserDocument(Struct, kw_only=True):
    """A user."""

    id: str
    username: str | None
    external_user_id: str | None
    display_name: str | None
    email: str | None
    avatar_url: str | None
    status: Literal["active", "banned"]
    metadata: dict[str, Any]
    created_at: str
    updated_at: str
    last_seen_at: str | None


class UserListDocument(Struct, kw_only=True, rename={"total_pages": "totalPages"}):
    """A part of the users."""

    items: list[UserDocument]
    page: int
    limit: int
    total: int
    total_pages: int


class NamedUserDocument(Struct, kw_only=True):
    """A user by id and names."""

    id: str
    username: str | None
    display_name: str | None
    avatar_url: str | None


class NamedUsersDocument(Struct, kw_only=True):
    """Names of the users that were asked for, without those that one may not know."""

    items: list[NamedUserDocument]


class UserExportDocument(Struct, kw_only=True):
    """Everything of a user; each list is as long as it is."""

    user: dict[str, Any]
    memberships: list[dict[str, Any]]
    blocks: list[dict[str, Any]]
    favorites: list[dict[str, Any]]
    audit: list[dict[str, Any]]
    messages: list[dict[str, Any]]
    reactions: list[dict[str, Any]]
    bans: list[dict[str, Any]]
    departures: list[dict[str, Any]]


class TokenDocument(Struct, kw_only=True):
    """A user's token and when it expires."""

    token: str
    expires_at: str


class UserListQuery(Struct, kw_only=True):
    """Which users; `ids` (separated by commas) for names of people one shares a room with."""

    page: int = 1
    limit: int = 50
    username: str | None = None
    external_user_id: str | None = None
    ids: str | None = None


class RemovalQuery(Struct, kw_only=True):
    """What becomes of a deleted user's messages: `keep`, `delete` or `erase`."""

    messages: Literal["keep", "delete", "erase"] = "keep"
