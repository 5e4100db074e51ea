"""Members of rooms, bans and blocks in the OpenAPI document."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct


class MemberDocument(Struct, kw_only=True):
    """A member of a room."""

    user: str
    role: Literal["reader", "member", "admin", "owner"]
    joined_at: str
    muted_until: str | None
    display_name: str | None
    avatar_url: str | None


class MemberListDocument(Struct, kw_only=True, rename={"total_pages": "totalPages"}):
    """A part of a room's members."""

    items: list[MemberDocument]
    page: int
    limit: int
    total: int
    total_pages: int


class MembersDocument(Struct, kw_only=True):
    """The members that were asked for by `users`."""

    items: list[MemberDocument]


class BanDocument(Struct, kw_only=True):
    """Somebody who is kept out of a room; `by`: who did it, null for the project."""

    user: str
    by: str | None
    created_at: str
    display_name: str | None
    avatar_url: str | None


class BanListDocument(Struct, kw_only=True, rename={"total_pages": "totalPages"}):
    """A part of a room's bans."""

    items: list[BanDocument]
    page: int
    limit: int
    total: int
    total_pages: int


class BlockDocument(Struct, kw_only=True):
    """Somebody whose direct messages are not wanted."""

    user: str
    created_at: str
    display_name: str | None
    avatar_url: str | None


class BlockListDocument(Struct, kw_only=True, rename={"total_pages": "totalPages"}):
    """A part of a user's blocks."""

    items: list[BlockDocument]
    page: int
    limit: int
    total: int
    total_pages: int
