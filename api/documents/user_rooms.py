"""A user's rooms in the OpenAPI document."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from api.documents.messages import MessageDocument
from api.documents.rooms import RoomDocument


class ShownMemberDocument(Struct, kw_only=True):
    """One of the members that a list of rooms shows."""

    user: str
    role: Literal["reader", "member", "admin", "owner"]
    display_name: str | None
    avatar_url: str | None


class UserRoomDocument(RoomDocument, kw_only=True):
    """A room of a user: its role and read mark there, what is unread, the newest message.

    `members` are the first five by user id.
    """

    role: Literal["reader", "member", "admin", "owner"]
    read_seq: int
    unread: int
    last_message: MessageDocument | None
    members: list[ShownMemberDocument]


class UserRoomListDocument(Struct, kw_only=True, rename={"total_pages": "totalPages"}):
    """A part of a user's rooms, the most recently active first.

    `unread_total`: of the 200 most recently active rooms, at most 1000.
    """

    items: list[UserRoomDocument]
    page: int
    limit: int
    total: int
    total_pages: int
    unread_total: int
