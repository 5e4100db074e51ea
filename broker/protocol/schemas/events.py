"""Every event: its name, whether it is durable, and the shape of its `data`.

`EVENTS` is the table that the document is made of. A durable event has an offset, can be resumed
and is archived; an ephemeral one is sent to who is there.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal, NamedTuple

from msgspec import UNSET, Meta, Struct, UnsetType

from broker.protocol.ids import RoomId, UserId
from broker.protocol.message_changes import Reaction
from broker.protocol.message_draft import Content, Kind
from broker.protocol.schemas.messages import Message, StoredAttachment
from broker.protocol.schemas.values import (
    By,
    MessageId,
    NewestSeq,
    Number,
    Role,
    Seq,
    Time,
    Unread,
)
from broker.protocol.signals import SignalName

Online = Annotated[int, Meta(description="Users online in the room after this event.", ge=0)]


class MessageEdited(Struct, kw_only=True):
    """Who edited what, and the new value of what has changed."""

    id: MessageId
    seq: Seq
    sender: UserId | None
    by: By
    edited_at: Time
    content: Content | UnsetType | None = UNSET
    metadata: dict[str, Any] | UnsetType = UNSET
    attachments: list[StoredAttachment] | UnsetType = UNSET


class MessageDeleted(Struct, kw_only=True):
    """What was deleted and by whom; a tombstone stays."""

    id: MessageId
    seq: Seq
    sender: UserId | None
    by: By
    deleted_at: Time


class ReactionChanged(Struct, kw_only=True):
    """One user's reaction to one message: put it into the set, or take it out."""

    message_id: MessageId
    seq: Seq
    user: UserId
    reaction: Reaction


class MemberChanged(Struct, kw_only=True):
    """A member as it is now."""

    user: UserId
    role: Role
    joined_at: Time
    muted_until: Time | None
    display_name: str | None
    avatar_url: str | None
    by: By


class MemberRemoved(Struct, kw_only=True):
    """Somebody who is no member any more; `deleted`: the user was."""

    user: UserId
    by: By
    reason: Literal["left", "removed", "banned", "deleted"]


class RoomUpdated(Struct, kw_only=True):
    """The fields of the room that have changed, with their new values."""

    updated_at: Time
    by: By
    name: str | UnsetType | None = UNSET
    topic: str | UnsetType | None = UNSET
    avatar_url: str | UnsetType | None = UNSET
    external_id: str | UnsetType | None = UNSET
    default_role: Role | UnsetType = UNSET
    frozen: bool | UnsetType = UNSET
    retention_days: Number | UnsetType | None = UNSET
    metadata: dict[str, Any] | UnsetType = UNSET


class RoomDeleted(Struct, kw_only=True):
    """The room is gone."""

    by: By
    deleted_at: Time


class TypingStarted(Struct, kw_only=True):
    """Somebody types; drop it by yourself after `expires_in` seconds."""

    user: UserId
    expires_in: Annotated[int, Meta(ge=1)]


class TypingStopped(Struct, kw_only=True):
    """Somebody has stopped typing."""

    user: UserId


class PresenceJoined(Struct, kw_only=True):
    """Somebody is online in the room now."""

    user: UserId
    since: Time
    online: Online


class PresenceLeft(Struct, kw_only=True):
    """Somebody is not online in the room any more."""

    user: UserId
    last_seen_at: Time
    online: Online


class PresenceCount(Struct, kw_only=True):
    """How many users are online, instead of who, in a room with many of them."""

    online: Annotated[int, Meta(ge=0)]


class Receipt(Struct, kw_only=True):
    """How far a member has come; the newest per user and second."""

    user: UserId
    seq: Seq
    at: Time


class Signalled(Struct, kw_only=True):
    """The application's own event; `data` is at most 4 KiB of JSON."""

    user: UserId
    name: SignalName
    data: Any


class RoomObject(Struct, kw_only=True):
    """A room, as over REST."""

    id: RoomId
    kind: Literal["direct", "group", "public"]
    name: str | None
    topic: str | None
    avatar_url: str | None
    external_id: str | None
    default_role: Role
    frozen: bool
    retention_days: Number | None
    metadata: dict[str, Any]
    created_by: UserId | None
    created_at: Time
    updated_at: Time
    last_message_at: Time | None
    member_count: Number
    seq: NewestSeq


class NotificationAdded(Struct, kw_only=True):
    """The user is a member of a further room."""

    room: RoomObject


class NotificationRemoved(Struct, kw_only=True):
    """The user is no member of the room any more."""

    reason: Literal["left", "removed", "banned", "deleted"]


class NotificationMessage(Struct, kw_only=True):
    """A new message in one of the user's rooms; `content` is cut at 200 bytes."""

    seq: Seq
    sender: UserId | None
    kind: Kind
    content: Annotated[str, Meta(max_length=200)] | None
    mentioned: bool
    unread: Unread


class NotificationRead(Struct, kw_only=True):
    """The user has read a room up to here, on whichever connection."""

    read_seq: NewestSeq
    unread: Unread


class EventRow(NamedTuple):
    """One event. `is_personal`: sent to every connection of a user, unasked."""

    name: str
    data: type[Struct]
    is_durable: bool
    summary: str
    is_personal: bool = False


EVENTS: Final[tuple[EventRow, ...]] = (
    EventRow("message.created", Message, True, "A new message."),
    EventRow("message.edited", MessageEdited, True, "A message was edited."),
    EventRow("message.deleted", MessageDeleted, True, "A message was deleted."),
    EventRow("reaction.added", ReactionChanged, True, "Somebody reacted to a message."),
    EventRow("reaction.removed", ReactionChanged, True, "A reaction was taken away."),
    EventRow("member.added", MemberChanged, True, "Somebody has become a member."),
    EventRow("member.updated", MemberChanged, True, "A member's role or muting has changed."),
    EventRow("member.removed", MemberRemoved, True, "Somebody is no member any more."),
    EventRow("room.updated", RoomUpdated, True, "The room itself has changed."),
    EventRow("room.deleted", RoomDeleted, True, "The room is gone."),
    EventRow("typing.started", TypingStarted, False, "Somebody types."),
    EventRow("typing.stopped", TypingStopped, False, "Somebody has stopped typing."),
    EventRow("presence.joined", PresenceJoined, False, "Somebody has come online."),
    EventRow("presence.left", PresenceLeft, False, "Somebody has gone offline."),
    EventRow("presence.count", PresenceCount, False, "How many are online in a large room."),
    EventRow("receipt.read", Receipt, False, "Somebody has read up to a message."),
    EventRow("receipt.delivered", Receipt, False, "Somebody has received up to a message."),
    EventRow("signal", Signalled, False, "The application's own event."),
    EventRow("notification.added", NotificationAdded, False, "A further room.", True),
    EventRow("notification.removed", NotificationRemoved, False, "A room less.", True),
    EventRow("notification.message", NotificationMessage, False, "News of a room.", True),
    EventRow("notification.read", NotificationRead, False, "A room was read.", True),
)
