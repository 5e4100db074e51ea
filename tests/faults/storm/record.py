"""The record of a run: what was asked, what was answered, what every connection was told, and what
was stored when it was over.

Law of this file:
- It is values only: no I/O, no clock, no judgement. Whoever runs clients fills it in, the checker
  reads it. All times are seconds of one monotonic clock.
- What a client asked and was told is kept in the contract's own names (`client_id`, `seq`,
  `offset`, `recovered`, ...), REST and WebSocket alike, so that writing down is one call.
- An operation ended *ok* (answered), *failed* (answered that it did not happen) or *unknown* (no
  answer, or one that says that nobody knows). An unknown one may have happened, once.
- Only durable events have an offset. Their epoch is that of the subscription they came through.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final, Literal, NamedTuple

Outcome = Literal["ok", "failed", "unknown"]
Data = Mapping[str, Any]

NOTHING: Final[Data] = MappingProxyType({})

DURABLE = ("message.", "reaction.", "member.", "room.")
"""How the names of events that have an offset begin."""


class Operation(NamedTuple):
    """One request of a user, over either protocol.

    `kind` is the command's type, or what the route does: `publish`, `edit`, `delete`, `react`,
    `unreact`, `read`, `delivered`, `subscribe`, `unsubscribe`, `history` (a page, by REST too),
    `presence`, `join`, `leave`, `add` (member; `asked["user"]`, perhaps `role`), `remove` (member;
    `asked["user"]`), `create` (a room), and any other, which is not judged.
    """

    kind: str
    user: str | None
    """None: the project, by its key."""
    room: str
    begun: float
    ended: float | None
    """None: no answer came."""
    outcome: Outcome
    connection: str = ""
    """Name of the connection; empty over REST."""
    code: str = ""
    """Error code of the answer."""
    asked: Data = NOTHING
    """The command's other fields, or the request's body and query."""
    answer: Data = NOTHING
    """The result of the reply, or the body of the answer (`items` of a page as `messages`)."""


# --- what a connection was told -------------------------------------------------------------------


class Position(NamedTuple):
    """A place in a room."""

    epoch: str
    offset: int


class Event(NamedTuple):
    """A durable event."""

    at: float
    room: str
    offset: int
    event: str
    data: Data
    """As in the protocol: a whole message in `message.created`, and so on."""


class Subscribed(NamedTuple):
    """A subscribe reply, where it stands among the frames."""

    at: float
    room: str
    epoch: str
    offset: int
    seq: int
    recovered: bool = False
    since: Position | None = None
    """What the client asked to resume from."""
    reason: str = ""
    events: tuple[Event, ...] = ()
    """What came in the reply."""
    unread: int | None = None
    read_seq: int | None = None
    role: str | None = None


class Unsubscribed(NamedTuple):
    """A subscription ended: by the server (`code`), or as the client asked (empty code)."""

    at: float
    room: str
    code: str = ""


class Ephemeral(NamedTuple):
    """Presence, receipts, typing, signals: what has no offset."""

    at: float
    room: str
    event: str
    data: Data


class Drained(NamedTuple):
    """The node asked to reconnect elsewhere."""

    at: float


Frame = Event | Subscribed | Unsubscribed | Ephemeral | Drained


@dataclass(slots=True)
class Connection:
    """One WebSocket as its client saw it. A frame that the client never read is not in it."""

    name: str
    user: str
    node: str
    opened: float
    frames: list[Frame] = field(default_factory=list)
    closed: float | None = None
    """When the client knew, or closed it itself; None: open at the end."""
    close_code: int | None = None
    is_reading: bool = True
    """It was read until `closed` or the end: what is missing was not delivered."""


def frame_of(at: float, raw: Data, command: Data | None = None) -> Frame | None:
    """A frame of the server, as the record keeps it; None if it tells nothing that is judged.

    `command` is what a reply answers (the client's frame with its `type`).
    """
    kind = raw["type"]
    if kind == "event":
        if raw.get("offset") is not None:
            return Event(at, raw["room"], raw["offset"], raw["event"], raw["data"])
        return Ephemeral(at, raw.get("room", ""), raw["event"], raw["data"])
    if kind == "unsubscribed":
        return Unsubscribed(at, raw["room"], raw["code"])
    if kind == "drain":
        return Drained(at)
    if kind != "reply" or command is None:
        return None
    if command["type"] == "unsubscribe":
        return Unsubscribed(at, command["room"])
    return _subscribed(at, raw["result"], command) if command["type"] == "subscribe" else None


def _subscribed(at: float, result: Data, command: Data) -> Subscribed:
    since = command.get("since")
    room = result["room"]
    return Subscribed(
        at,
        room,
        result["epoch"],
        result["offset"],
        result["seq"],
        result["recovered"],
        None if since is None else Position(since["epoch"], since["offset"]),
        result["reason"] or "",
        tuple(Event(at, room, e["offset"], e["event"], e["data"]) for e in result["events"]),
        result["unread"],
        result["read_seq"],
        result["role"],
    )


# --- what was stored in the end -------------------------------------------------------------------


class LogEntry(NamedTuple):
    """An entry of a room's log; `data` as stored, without what its place gives it (seq, times)."""

    epoch: str
    offset: int
    seq: int
    event: str
    sender: str | None
    data: Data


class RoomLog(NamedTuple):
    """A room in Redis; what is not there any more (cold, trimmed) is not in it."""

    room: str
    epoch: str
    offset: int
    seq: int
    archived: int
    entries: tuple[LogEntry, ...] = ()


class MessageRow(NamedTuple):
    """A row of `messages`; JSON decoded, what is empty as in the protocol."""

    room: str
    seq: int
    id: str
    sender: str | None
    kind: str
    content: str | None
    client_id: str | None
    event_offset: int
    last_offset: int
    metadata: Any = None
    attachments: Any = None
    mentions: Sequence[str] | None = None
    reply_to: int | None = None
    is_edited: bool = False
    is_deleted: bool = False
    deleted_by: str | None = None


class ReactionRow(NamedTuple):
    """A row of `reactions`."""

    room: str
    seq: int
    reaction: str
    user: str


class MemberRow(NamedTuple):
    """A row of `members`."""

    room: str
    user: str
    role: str
    read_seq: int
    delivered_seq: int


class RoomRow(NamedTuple):
    """A row of `rooms`."""

    room: str
    epoch: str | None
    base_offset: int
    base_seq: int
    archived_offset: int
    seq: int
    kind: str = "group"
    direct: tuple[str, str] | None = None
    is_deleted: bool = False


class DeadLetterRow(NamedTuple):
    """A row of `dead_letters`."""

    room: str
    epoch: str
    offset: int
    seq: int
    event: str
    reason: str
    data: Data = NOTHING
    """What the event says."""


@dataclass(slots=True)
class Archive:
    """PostgreSQL when everything had been archived."""

    messages: list[MessageRow] = field(default_factory=list)
    reactions: list[ReactionRow] = field(default_factory=list)
    members: list[MemberRow] = field(default_factory=list)
    rooms: list[RoomRow] = field(default_factory=list)
    dead_letters: list[DeadLetterRow] = field(default_factory=list)


class KeyOfRedis(NamedTuple):
    """A key that Redis holds at the end. `kind` is the first word of its name, `name` the rest: a
    room, a node, a user, a bucket; `size` counts entries, fields or members."""

    kind: str
    name: str
    size: int
    expires_in: float | None


# --- circumstances --------------------------------------------------------------------------------


class Window(NamedTuple):
    """A stretch of time, both ends in it."""

    begun: float
    ended: float

    def touches(self, begun: float, ended: float) -> bool:
        return self.begun <= ended and begun <= self.ended


class Presence(NamedTuple):
    """Who was told to be online in a room, by whatever way, asked between two times."""

    room: str
    begun: float
    ended: float
    users: frozenset[str]


class Absence(NamedTuple):
    """Somebody's only connection was gone from a room, and another was there within the grace."""

    user: str
    room: str
    begun: float
    ended: float


@dataclass(slots=True)
class Circumstances:
    """What the judgement has to know about the run beside what was said and stored."""

    members: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Room → user → role before the first recorded operation (its events may be in the log)."""
    open_rooms: frozenset[str] = frozenset()
    """Public rooms: everybody may subscribe and read."""
    guests: frozenset[tuple[str, str]] = frozenset()
    """(room, user) whose token lets them read without being members."""
    may_have_lost: Sequence[Window] = ()
    """When Redis could lose writes that it had answered for (restart empty, failover, split brain).
    Excuses what was answered or seen in there and is lost afterwards; never two numbers for one
    message, nor anything else."""
    unstorable: str = ""
    """Messages that say this were refused by PostgreSQL for a while and may be dead letters; no
    other may."""
    absences: Sequence[Absence] = ()
    """Reconnects that nobody may have been told of."""
    log_length: int = 1000
    """How many events of a room stay in Redis when they are archived."""
    presence_trouble: Sequence[Window] = ()
    """When nodes could not keep up presence (Redis away, all of a node stopped)."""
    presence_limit: float = 20.0
    """Seconds after which presence must have noticed a connection that came or went."""
    settled_at: float | None = None
    """From here on everything had been delivered and archived: connections that are open now must
    have seen everything. None: the run was not waited for."""


@dataclass(slots=True)
class Record:
    """Everything that was written down in a run."""

    operations: list[Operation] = field(default_factory=list)
    connections: list[Connection] = field(default_factory=list)
    logs: list[RoomLog] = field(default_factory=list)
    archive: Archive | None = None
    """None: it was not looked at."""
    keys: list[KeyOfRedis] = field(default_factory=list)
    """What Redis held when everything had come to rest; empty: it was not looked at."""
    presence: list[Presence] = field(default_factory=list)
    """Beside the answers to `presence` operations: the truth at the end, for instance."""
    circumstances: Circumstances = field(default_factory=Circumstances)
