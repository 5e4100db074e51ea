"""Messages, batches and reactions in the OpenAPI document."""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from api.documents.queries import ActingQuery
from api.openapi.problems import Problem
from broker.protocol.message_draft import MessageDraft


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


class PublishedDocument(MessageDocument, kw_only=True):
    """The message, and what the answer to a publish says besides."""

    message_id: str
    offset: int
    duplicate: bool


class RefusedDocument(Struct, kw_only=True):
    """Why a message of a batch was refused."""

    error: Problem


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


class OneMessageQuery(ActingQuery, kw_only=True):
    """How one message is shown."""

    deleted: bool = False
