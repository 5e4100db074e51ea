"""Shapes of answers and queries for the OpenAPI document. Nothing is decoded into them.

`openapi.json` is generated from these and from the bodies' own structs. PostgreSQL builds most
answers, so a test compares real answers with the fields named here.
"""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from broker.protocol.message_draft import MessageDraft


class UserDocument(Struct, kw_only=True):
    """A user."""

    id: str
    username: str | None
    external_user_id: str | None
    display_name: str | None
    email: str | None
    avatar_url: str | None
    status: str
    metadata: dict[str, Any]
    created_at: str
    updated_at: str
    last_seen_at: str | None


class TokenDocument(Struct, kw_only=True):
    """A user's token and when it expires."""

    token: str
    expires_at: str


class RoomDocument(Struct, kw_only=True):
    """A room."""

    id: str
    kind: str
    name: str | None
    topic: str | None
    avatar_url: str | None
    external_id: str | None
    default_role: str
    frozen: bool
    retention_days: int | None
    metadata: dict[str, Any]
    created_by: str | None
    created_at: str
    updated_at: str
    last_message_at: str | None
    member_count: int
    seq: int


class RoomListDocument(Struct, kw_only=True, rename={"total_pages": "totalPages"}):
    """A part of the rooms."""

    items: list[RoomDocument]
    page: int
    limit: int
    total: int
    total_pages: int


class MemberDocument(Struct, kw_only=True):
    """A member of a room."""

    user: str
    role: str
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


class AttachmentDocument(Struct, kw_only=True):
    """A file or link of a message."""

    url: str
    mime: str | None
    size: int | None
    name: str | None
    metadata: dict[str, Any] | None


class ReactionDocument(Struct, kw_only=True):
    """Who reacted so: the exact count, the first ten users; `mine` for an acting user."""

    count: int
    users: list[str]
    mine: bool = False


class ForwardedFromDocument(Struct, kw_only=True):
    """Where a forwarded message came from."""

    sender: str | None
    created_at: str


class MessageDocument(Struct, kw_only=True):
    """A message."""

    id: str
    room: str
    seq: int
    sender: str | None
    kind: str
    content: str | None
    metadata: dict[str, Any]
    attachments: list[AttachmentDocument]
    mentions: list[str]
    reply_to: int | None
    reply_count: int
    forwarded_from: ForwardedFromDocument | None
    client_id: str | None
    created_at: str
    edited_at: str | None
    deleted_at: str | None
    deleted_by: str | None
    reactions: dict[str, ReactionDocument]


class BatchMessage(MessageDraft, kw_only=True):
    """A message and where it goes; `user_id` names its sender."""

    room: str
    user_id: str | None = None


class BatchDocument(Struct, kw_only=True):
    """Of each message, in order: itself as published, or `error` with a problem document."""

    items: list[dict[str, Any]]


class UserReactionDocument(Struct, kw_only=True):
    """One user's reaction."""

    user: str
    reaction: str
    created_at: str


class ReactionListDocument(Struct, kw_only=True, rename={"total_pages": "totalPages"}):
    """A part of the reactions to a message."""

    items: list[UserReactionDocument]
    page: int
    limit: int
    total: int
    total_pages: int


class NamesDocument(Struct, kw_only=True):
    """What a user is called."""

    display_name: str | None
    avatar_url: str | None


class HistoryDocument(Struct, kw_only=True):
    """A page of messages, rising; `next` is the newer page, `previous` the older one.

    With `page` or `skip`: `{items, page, limit, total, totalPages}` instead.
    """

    items: list[MessageDocument]
    has_more_before: bool
    has_more_after: bool
    next: str | None
    previous: str | None
    users: dict[str, NamesDocument]


class ProjectDocument(Struct, kw_only=True):
    """The key's project."""

    id: str
    created_at: str


class VerifiedUserDocument(Struct, kw_only=True, rename={"user_id": "userId"}):
    """Whom a token names."""

    user_id: str


class VerifiedDocument(Struct, kw_only=True):
    """What a good token says."""

    user: VerifiedUserDocument
    project: str
    expires_at: str


class ActingQuery(Struct, kw_only=True):
    """For keys: the user to act for."""

    user_id: str | None = None


class ListQuery(ActingQuery, kw_only=True):
    """A part of a list."""

    page: int = 1
    limit: int = 50


class RoomListQuery(Struct, kw_only=True):
    """Which rooms."""

    page: int = 1
    limit: int = 50
    kind: str | None = None
    external_id: str | None = None


class RepliesQuery(ActingQuery, kw_only=True):
    """Which messages: one of before, after, around, page, skip, or none of them."""

    before: int | None = None
    after: int | None = None
    around: int | None = None
    page: int | None = None
    skip: int | None = None
    limit: int = 50
    deleted: bool = False


class HistoryQuery(RepliesQuery, kw_only=True, rename={"from_": "from"}):
    """The same among those of a sender, a kind or a time (both ends included)."""

    sender: str | None = None
    kind: str | None = None
    from_: str | None = None
    to: str | None = None


class OneMessageQuery(ActingQuery, kw_only=True):
    """How one message is shown."""

    deleted: bool = False
