"""Rooms in the OpenAPI document."""

from __future__ import annotations

from typing import Any, Literal

from msgspec import UNSET, Struct, UnsetType


class RoomDocument(Struct, kw_only=True):
    """A room."""

    id: str
    kind: Literal["direct", "group", "public"]
    name: str | None
    topic: str | None
    avatar_url: str | None
    external_id: str | None
    default_role: Literal["reader", "member", "admin"]
    frozen: bool
    retention_days: int | None
    metadata: dict[str, Any]
    created_by: str | None
    created_at: str
    updated_at: str
    last_message_at: str | None
    member_count: int
    seq: int
    deleted_at: str | UnsetType = UNSET
    """Only there once the room has been deleted, which only the project's key sees."""


class RoomListDocument(Struct, kw_only=True, rename={"total_pages": "totalPages"}):
    """A part of the rooms."""

    items: list[RoomDocument]
    page: int
    limit: int
    total: int
    total_pages: int


class RoomListQuery(Struct, kw_only=True):
    """Which rooms."""

    page: int = 1
    limit: int = 50
    kind: Literal["direct", "group", "public"] | None = None
    external_id: str | None = None
