"""What a client sends and gets back: each command with the result of its reply, and server frames.

`COMMAND_ROWS` holds one row for every client frame.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import Annotated, Any, Final, Literal, NamedTuple

from msgspec import Meta, Struct

from broker.protocol.commands import COMMANDS
from broker.protocol.ids import RoomId, UserId
from broker.protocol.schemas.messages import Message
from broker.protocol.schemas.values import (
    Epoch,
    MessageId,
    NewestOffset,
    NewestSeq,
    Number,
    Offset,
    Role,
    Seq,
    Time,
    Unread,
)


class Authenticated(Struct, kw_only=True):
    """Whom the token names, and until when."""

    user: UserId
    expires_at: Time


class Subscribed(Struct, kw_only=True):
    """Where the room is, and what was missed or asked for."""

    room: RoomId
    epoch: Epoch
    offset: NewestOffset
    seq: NewestSeq
    role: Annotated[Role | None, Meta(description="Null: no member.")]
    members_online: Annotated[int, Meta(description="Users online, with this one.", ge=0)]
    unread: Annotated[Unread | None, Meta(description="Null: no member.")]
    read_seq: Annotated[NewestSeq | None, Meta(description="Null: no member.")]
    recovered: Annotated[bool, Meta(description="Whether `events` is all that was missed.")]
    reason: Annotated[
        Literal["epoch", "ahead", "trimmed", "too_large"] | None,
        Meta(description="Why the position given could not be resumed."),
    ]
    events: Annotated[list[Any], Meta(description="What came after `since`, in order.")]
    messages: Annotated[list[Message], Meta(description="The newest ones, ascending.")]


class Nothing(Struct, kw_only=True):
    """It is done."""


class Published(Struct, kw_only=True):
    """Where the message stands; `duplicate`: it was sent before, this is the first answer."""

    message_id: MessageId
    seq: Seq
    offset: Offset
    created_at: Time
    duplicate: bool


class Changed(Struct, kw_only=True):
    """The offset of the event."""

    offset: Annotated[Offset | None, Meta(description="Null: it was so already, no event.")]


class Marked(Struct, kw_only=True):
    """How far it is marked now, and what is left."""

    seq: NewestSeq
    unread: Unread


class PresentUser(Struct, kw_only=True):
    """Somebody who is online in a room."""

    user: UserId
    since: Time
    connections: Number


class Present(Struct, kw_only=True):
    """Who is online; `count` is how many, listed or not."""

    users: list[PresentUser]
    count: Number


class Page(Struct, kw_only=True):
    """A page of messages, ascending; `has_more` in the direction asked."""

    messages: Annotated[list[Message], Meta(max_length=100)]
    has_more: bool


class Pong(Struct, kw_only=True):
    """The server's time."""

    time: Time


class CommandRow(NamedTuple):
    """One client frame: what it does, and the result of its reply."""

    name: str
    struct: type[Any]
    result: type[Struct]


_RESULTS: Final[MappingProxyType[str, type[Struct]]] = MappingProxyType(
    {
        "auth": Authenticated,
        "refresh": Authenticated,
        "subscribe": Subscribed,
        "unsubscribe": Nothing,
        "publish": Published,
        "edit": Changed,
        "delete": Changed,
        "react": Changed,
        "unreact": Changed,
        "read": Marked,
        "delivered": Marked,
        "typing": Nothing,
        "signal": Nothing,
        "presence": Present,
        "history": Page,
        "ping": Pong,
    }
)
COMMAND_ROWS: Final[tuple[CommandRow, ...]] = tuple(
    CommandRow(name, COMMANDS[name], result) for name, result in _RESULTS.items()
)


class Hello(Struct, kw_only=True, tag="hello", tag_field="type"):
    """The first frame of an authenticated connection (after the reply to `auth`)."""

    connection: str
    node: str
    user: UserId
    expires_at: Time
    ping_interval: Annotated[float, Meta(description="Seconds.", gt=0)]
    max_frame_bytes: Annotated[int, Meta(ge=1)]
    server_time: Time


class Unsubscribed(Struct, kw_only=True, tag="unsubscribed", tag_field="type"):
    """A subscription has ended; `resync`: subscribe again with the position you hold."""

    room: RoomId
    code: Literal["not_a_member", "forbidden", "room_not_found", "resync"]
    message: str


class Drain(Struct, kw_only=True, tag="drain", tag_field="type"):
    """The connection will be closed soon: reconnect in a random part of so many seconds."""

    reconnect_within: Annotated[float, Meta(description="Seconds.", ge=0)]
