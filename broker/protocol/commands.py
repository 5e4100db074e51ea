"""Client frames: one typed struct each, and `parse_command`, the only way to get one.

A new command is a struct here (its tag is the frame's `type`), a row in `states` and a handler in
the broker. `parse_command` raises ProtocolError and nothing else, whatever the bytes; unknown
fields are ignored. A field that is given as null is the same as absent, except `id`. The usual
frame costs a few microseconds: the decoder is C, and the expensive look at the text is taken only
when a cheap scan says that it may matter.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Any, Final, get_args

import msgspec

from broker.protocol.errors import ProtocolError
from broker.protocol.forms import text_form
from broker.protocol.ids import RoomId, is_room_id
from broker.protocol.message_changes import MessageEdit, Reaction, check_edit, check_reaction
from broker.protocol.message_draft import Count, MessageDraft, check_draft, has_escaped_nul
from broker.protocol.refusal import FRAME_ID_BYTES_MAX, INTEGER_MAX, frame_fault
from broker.protocol.signals import (
    PRESENCE_USERS_MAX,
    SignalData,
    SignalName,
    check_signal,
)
from broker.protocol.text import fits_utf8

EPOCH_BYTES_MAX: Final = 64
PAGE_MAX: Final = 100
PAGE_DEFAULT: Final = 50

PageSize = Annotated[int, msgspec.Meta(ge=1, le=PAGE_MAX)]
UserCount = Annotated[int, msgspec.Meta(ge=1, le=PRESENCE_USERS_MAX)]
NewestCount = Annotated[int, msgspec.Meta(ge=0, le=PAGE_MAX)]
FrameId = int | str | None


class CommandFrame(msgspec.Struct, kw_only=True, gc=False, tag_field="type"):
    """What every client frame has. With an `id` it gets exactly one answer."""

    id: FrameId = None

    def check(self) -> None:
        """Raise ProtocolError for what the types alone do not refuse."""


class RoomCommand(CommandFrame, kw_only=True, gc=False):
    """A command about one room; `room` is a legal room id once parsed."""

    room: RoomId

    def check(self) -> None:
        check_room(self.room)


class Auth(CommandFrame, tag="auth", kw_only=True, gc=False):
    """Name the user of this connection; on an authenticated one the same as `refresh`."""

    token: str


class Refresh(CommandFrame, tag="refresh", kw_only=True, gc=False):
    """Replace the token of the same user before it expires."""

    token: str


class Ping(CommandFrame, tag="ping", kw_only=True, gc=False):
    """Ask for the server's time: an application's own liveness check."""


class Since(msgspec.Struct, kw_only=True, gc=False):
    """A position in a room: the last event that the client has."""

    epoch: Annotated[
        str, text_form("As it was told; opaque.", bytes_min=1, bytes_max=EPOCH_BYTES_MAX)
    ]
    offset: Count


class Subscribe(RoomCommand, tag="subscribe", kw_only=True, gc=False):
    """Begin live delivery; `since` resumes, `history` asks for the newest N messages."""

    since: Since | None = None
    history: NewestCount | None = None

    def check(self) -> None:
        check_room(self.room)
        since = self.since
        if since is not None and not (since.epoch and fits_utf8(since.epoch, EPOCH_BYTES_MAX)):
            raise ProtocolError("bad_request", "An epoch has 1 to 64 bytes.", "since")


class Unsubscribe(RoomCommand, tag="unsubscribe", kw_only=True, gc=False):
    """End live delivery of a room to this connection."""


class Publish(MessageDraft, tag="publish", tag_field="type", kw_only=True, gc=False):
    """Write a message into a room; needs no subscription."""

    id: FrameId = None
    room: RoomId

    def check(self) -> None:
        """Raise ProtocolError for what the types alone do not refuse."""
        check_room(self.room)
        check_draft(self)


class Edit(MessageEdit, tag="edit", tag_field="type", kw_only=True, gc=False):
    """Replace the given fields of a message."""

    id: FrameId = None
    room: RoomId
    seq: Count

    def check(self) -> None:
        """Raise ProtocolError for what the types alone do not refuse."""
        check_room(self.room)
        check_edit(self)


class Delete(RoomCommand, tag="delete", kw_only=True, gc=False):
    """Delete a message; a tombstone keeps its seq."""

    seq: Count


class React(RoomCommand, tag="react", kw_only=True, gc=False):
    """Add one's own reaction to a message."""

    seq: Count
    reaction: Reaction

    def check(self) -> None:
        check_room(self.room)
        check_reaction(self.reaction)


class Unreact(RoomCommand, tag="unreact", kw_only=True, gc=False):
    """Take one's own reaction away."""

    seq: Count
    reaction: Reaction

    def check(self) -> None:
        check_room(self.room)
        check_reaction(self.reaction)


class Read(RoomCommand, tag="read", kw_only=True, gc=False):
    """Mark messages as read up to a seq; read implies delivered."""

    seq: Count


class Delivered(RoomCommand, tag="delivered", kw_only=True, gc=False):
    """Mark messages as delivered up to a seq."""

    seq: Count


class History(RoomCommand, tag="history", kw_only=True, gc=False):
    """A page of messages before or after a seq (exclusive), else the newest."""

    before: Count | None = None
    after: Count | None = None
    limit: PageSize | None = None

    def check(self) -> None:
        check_room(self.room)
        if self.before is not None and self.after is not None:
            raise ProtocolError("bad_request", "Give `before` or `after`, not both.", "after")


class Typing(RoomCommand, tag="typing", kw_only=True, gc=False):
    """Say that one is writing, every few seconds, or no longer."""

    active: bool


class Signal(RoomCommand, tag="signal", kw_only=True):
    """The application's own ephemeral event."""

    name: SignalName
    data: SignalData = None

    def check(self) -> None:
        check_room(self.room)
        check_signal(self.name, self.data)


class Presence(RoomCommand, tag="presence", kw_only=True, gc=False):
    """Ask who is online in a room."""

    limit: UserCount | None = None


MessageChange = Edit | Delete | React | Unreact
Marking = Read | Delivered
LiveCommand = Typing | Signal | Presence
Command = (
    Auth
    | Refresh
    | Subscribe
    | Unsubscribe
    | Publish
    | MessageChange
    | Marking
    | History
    | LiveCommand
    | Ping
)

RATED_AS_MESSAGES: Final = frozenset({Publish, Edit, Delete, React, Unreact})
"""What counts in RATE_MESSAGES_PER_SECOND; the other frames have a rate of their own."""

RATED_AS_READING: Final = frozenset({Subscribe, History, Presence, Auth, Refresh})
"""What costs the storages a query or more each time; these have a third rate."""


def _type_of(struct: Any) -> str:
    return str(struct.__struct_config__.tag)


COMMANDS: Final[Mapping[str, type[Command]]] = MappingProxyType(
    {_type_of(struct): struct for struct in get_args(Command)}
)
"""Every `type` that a client may send, with its struct."""

_DECODER: Final[msgspec.json.Decoder[Command]] = msgspec.json.Decoder(Command)


def command_type(command: Command) -> str:
    """The frame's `type`."""
    return _type_of(command)


def parse_command(text: str | bytes) -> Command:
    """The command in one text frame, checked in form and size.

    Raises ProtocolError with the frame's id where one could be read, and NotAnObject for what is
    no JSON object; never anything else.
    """
    try:
        command = _DECODER.decode(text)
    except (msgspec.DecodeError, RecursionError, ValueError) as fault:
        raise frame_fault(text, fault, COMMANDS) or ProtocolError("bad_request") from None
    if has_escaped_nul(text) or not _is_id_plain(command.id, text):
        error = frame_fault(text, None, COMMANDS)
        if error is not None:
            raise error
    try:
        command.check()
    except ProtocolError as error:
        error.frame_id = command.id
        error.frame_type = command_type(command)
        raise
    return command


def _is_id_plain(frame_id: FrameId, text: str | bytes) -> bool:
    """Whether the id needs no closer look: absent and not null, or of legal size."""
    if isinstance(frame_id, int):
        return -INTEGER_MAX <= frame_id <= INTEGER_MAX
    if frame_id is None:
        return '"id"' not in text if isinstance(text, str) else b'"id"' not in text
    return fits_utf8(frame_id, FRAME_ID_BYTES_MAX)


def check_room(room: str) -> None:
    """Refuse what can be no room's id."""
    if not is_room_id(room):
        raise ProtocolError("bad_request", "This is no room id.", "room")
