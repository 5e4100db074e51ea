"""The message object, as it is everywhere: in events, replies and over REST."""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import UNSET, Meta, Struct, UnsetType

from broker.protocol.ids import RoomId, UserId
from broker.protocol.message_draft import ClientId, Content, Kind
from broker.protocol.schemas.values import By, MessageId, Number, Seq, Time


class StoredAttachment(Struct, kw_only=True):
    """A file or link of a message."""

    url: str
    mime: str | None
    size: Number | None
    name: str | None
    metadata: dict[str, Any] | None


class ReactionSummary(Struct, kw_only=True):
    """Who reacted so: the exact count and the first ten users."""

    count: Annotated[int, Meta(ge=1)]
    users: Annotated[list[UserId], Meta(max_length=10)]
    mine: Annotated[
        bool | UnsetType, Meta(description="Whether the reader is among all of them.")
    ] = UNSET


class ForwardedFrom(Struct, kw_only=True):
    """Who wrote the first message and when; never where."""

    sender: UserId | None
    created_at: Time


class Message(Struct, kw_only=True):
    """A message; every field is always there."""

    id: MessageId
    room: RoomId
    seq: Seq
    sender: Annotated[UserId | None, Meta(description="Null: the project.")]
    kind: Kind
    content: Content | None
    metadata: dict[str, Any]
    attachments: list[StoredAttachment]
    mentions: list[UserId]
    reply_to: Seq | None
    reply_count: Number
    forwarded_from: ForwardedFrom | None
    client_id: ClientId | None
    created_at: Time
    edited_at: Time | None
    deleted_at: Time | None
    deleted_by: By
    reactions: Annotated[
        dict[str, ReactionSummary], Meta(description="By reaction; their order means nothing.")
    ]
