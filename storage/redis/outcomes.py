"""What the room scripts answer and take, as values.

Refusals are values, not exceptions, because every caller does something else about each:
`Refusal.kind` is one of

``fenced``  the partition has another life: verify it, then try again
``cold``    the room is not in Redis in this life: seed it, then try again
``gone``    the room has been deleted
``stale``   the role was read at an older version than the room has: read it again
``sent``    this client_id has been published already; `detail` is the packed answer
``noref``   `reply_to` names a message that does not exist
``full``    the archive backlog is at its limit
``lost``    the node's inbox is missing: the node needs a new incarnation
``done``    this version has been announced already
``raced``   the message was changed after it was read: read it again
``unknown`` Redis has no mark of the user: bring what PostgreSQL knows
"""

from __future__ import annotations

from typing import Any, NamedTuple, cast

from storage.redis.entries import Entry


class Appended(NamedTuple):
    """An event's place, as the script gave it."""

    offset: int
    seq: int
    ms: int


class Refusal(NamedTuple):
    """Why a script wrote nothing."""

    kind: str
    detail: bytes = b""


class Snapshot(NamedTuple):
    """A room at the instant a subscription was registered."""

    epoch: str
    offset: int
    seq: int
    archived: int
    online: int
    reason: str
    """Why a resume is impossible; empty if there was none to make or it succeeded."""
    tail: list[bytes]
    lag: list[bytes]
    """Entries above the offset up to which PostgreSQL's unread count was made."""
    read_seq: int
    """-1 if Redis does not know it."""
    version: int


class Unarchived(NamedTuple):
    """A room's numbering and its events that PostgreSQL may not have yet, in order."""

    epoch: str
    offset: int
    seq: int
    archived: int
    version: int
    entries: list[Entry]


class RoomEnd(NamedTuple):
    """A room's numbering and the newest of its events that PostgreSQL may not have, in order."""

    offset: int
    seq: int
    archived: int
    entries: list[Entry]

    @property
    def is_whole(self) -> bool:
        """Whether the entries are all that PostgreSQL may not have."""
        return not self.entries or self.entries[0].offset <= self.archived + 1

    @property
    def last_message_ms(self) -> int | None:
        """When the newest message among the entries was written."""
        return next((e.ms for e in reversed(self.entries) if e.event == "message.created"), None)


class Mark(NamedTuple):
    """How far a user is to have read or got a room's messages; 0 leaves that mark as it is.

    The floors are what PostgreSQL knows of the user's marks, -1 if it was not asked.
    """

    user: str
    version: int
    """The room version at which the user's role was read."""
    read: int = 0
    delivered: int = 0
    read_floor: int = -1
    delivered_floor: int = -1


class Marked(NamedTuple):
    """A user's marks after a call."""

    read: int
    delivered: int
    seq: int
    """The room's newest message."""
    is_moved: bool
    is_told: bool
    """Whether it was time to tell of a newer read mark."""
    wait_ms: int
    """After so long something that was held back may be told; 0: nothing was."""


class UnreadInputs(NamedTuple):
    """What Redis knows for counting unread messages; offset and seq -1: the room is not there."""

    offset: int
    seq: int
    lag: list[bytes]
    """Entries that may not be archived, the first of them, without content."""
    read_seqs: list[int]
    """Of the users asked for; -1 where Redis does not know it."""


class SeedInputs(NamedTuple):
    """What Redis still knows of a cold room's numbering."""

    life: str
    life_age_ms: int
    offset: int
    seq: int
    must_skip: bool
    """Whether numbers may have been given that nobody can report in time."""


class LateFloor(NamedTuple):
    """Numbers given before a fence that were reported after the room had been seeded below them."""

    key: str
    base_seq: int
    """Above this the room has numbered in its new life."""
    seq: int
    """How far it had got."""
    floor_seq: int
    """How far the earlier life had got; the room goes on above this now."""

    @property
    def is_repeated(self) -> bool:
        """Whether numbers stand for two messages: of one the sender was told, but it is lost."""
        return self.seq > self.base_seq


class Draft(NamedTuple):
    """One durable event to append."""

    event: str
    sender: str | None
    version: int
    """The room version at which the sender's role was read."""
    step: int
    """1 if the event takes a seq, else 0."""
    data: bytes
    digest: bytes = b""
    """16 bytes over (R, user, client_id), empty without client_id."""
    message_id: str = ""
    reply_to: int = 0


class Premise(NamedTuple):
    """What a change of a message rests on: how the message was at an offset of its room.

    The change is refused (`raced`) if one of these came after that offset, for the message `seq`:
    an event of `events`, one whose data ends with `own`, a `reaction.removed` whose data ends with
    `kind`, or more than `spare` times `reaction.added`. Empty ends match nothing.
    """

    since: int
    seq: int
    events: tuple[str, ...]
    own: bytes = b""
    kind: bytes = b""
    spare: int = 2**31


class Resume(NamedTuple):
    """Where a subscription wants to go on."""

    epoch: str
    offset: int


class Registration(NamedTuple):
    """What a node says about itself and a user when it subscribes."""

    node: str
    gen: int
    user: str
    connections: int
    version: int
    lag_from: int


def parse_append(reply: object) -> Appended | Refusal:
    """The reply of `publish` or `announce`."""
    values = cast("list[Any]", reply)
    if type(values[0]) is int:
        return Appended(*values)
    return Refusal(values[0].decode().lower(), values[1] if len(values) > 1 else b"")
