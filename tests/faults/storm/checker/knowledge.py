"""Everything that a record tells, brought together once: which event lies at which place, what each
request made, in which order epochs followed each other, what a loss of Redis excuses.

Linear in the record. The checks ask here and never walk the record for themselves without need.
"""

from collections import defaultdict
from collections.abc import Iterator
from typing import Any, NamedTuple

from tests.faults.storm.record import Connection, Data, Event, Operation, Record, Subscribed

CREATED = "message.created"
EDITED = "message.edited"
DELETED = "message.deleted"
CHANGES = {
    "edit": EDITED,
    "delete": DELETED,
    "react": "reaction.added",
    "unreact": "reaction.removed",
}
"""Kind of an operation on a message → the event it makes."""

# What an event's place adds to what is stored, and what a new message never has.
_STAMPS = frozenset(
    {"seq", "created_at", "edited_at", "deleted_at", "deleted_by", "reply_count", "reactions"}
)

Identity = tuple[str, str | None, str, str]
"""Room, sender, `id` or `content`, and that: which request a message came from."""


Change = tuple[str, str, int, str | None, str | None]
"""Room, event, seq, by whom, and perhaps the reaction."""


class Fact(NamedTuple):
    """A durable event at its place."""

    room: str
    epoch: str
    offset: int
    event: str
    data: Data
    seq: int
    """The message's seq; 0 for events of rooms and members."""
    at: float
    """When it was first seen; infinite if only the log or an answer knows it."""


def identity_of(room: str, sender: str | None, data: Data) -> Identity:
    """Messages with a `client_id` are known by it, others by what they say."""
    if data.get("client_id"):
        return room, sender, "id", data["client_id"]
    return room, sender, "content", data.get("content") or ""


def change_of(operation: Operation) -> Change:
    """Which change of which message was asked for."""
    return (
        operation.room, CHANGES[operation.kind], operation.asked["seq"], operation.user,
        operation.asked.get("reaction"),
    )  # fmt: skip


def change_of_fact(fact: Fact) -> Change:
    """The same of an event."""
    by = fact.data.get("user", fact.data.get("by"))
    return fact.room, fact.event, fact.seq, by, fact.data.get("reaction")


def essence(event: str, data: Data) -> dict[str, Any]:
    """What an event says, whether framed or as it is stored."""
    left_out = _STAMPS if event == CREATED else _STAMPS - {"seq"}
    return {name: value for name, value in data.items() if name not in left_out}


class Knowledge:
    """The record, indexed."""

    def __init__(self, record: Record) -> None:
        self.record = record
        self.circumstances = record.circumstances
        self.facts: dict[tuple[str, str], dict[int, Fact]] = defaultdict(dict)
        """(room, epoch) → offset → event."""
        self.clashes: list[tuple[Fact, Data]] = []
        """Places at which something else was told, too."""
        for connection in record.connections:
            for event, epoch in events_of(connection):
                self._learn(event, epoch)
        self._learn_logs()
        self.epochs = self._order_epochs()
        self.ordered: dict[str, list[Fact]] = {
            room: [
                fact
                for epoch in epochs
                for _, fact in sorted(self.facts.get((room, epoch), {}).items())
            ]
            for room, epochs in self.epochs.items()
        }
        self.rows = {} if record.archive is None else {r.id: r for r in record.archive.messages}
        self.real: dict[Identity, set[str]] = defaultdict(set)
        """What each request made: ids of messages that were seen or stored."""
        self.created: dict[str, Fact] = {}
        """Message id → its event."""
        self.asked: dict[Identity, list[Operation]] = defaultdict(list)
        self.changes: dict[Change, list[Operation]] = defaultdict(list)
        """Edits, deletions and reactions as they were asked for."""
        letters = [] if record.archive is None else record.archive.dead_letters
        self.buried = {
            letter.data["id"]: letter
            for letter in letters
            if letter.event == CREATED and "id" in letter.data
        }
        """Message id → its dead letter."""
        self._index_messages()

    def _learn(self, event: Event, epoch: str) -> None:
        place = (event.room, epoch)
        known = self.facts[place].get(event.offset)
        if known is None:
            fact = Fact(
                event.room, epoch, event.offset, event.event, event.data,
                event.data.get("seq", 0), event.at,
            )  # fmt: skip
            self.facts[place][event.offset] = fact
        elif known.event != event.event or known.data != event.data:
            self.clashes.append((known, event.data))
        elif event.at < known.at:
            self.facts[place][event.offset] = known._replace(at=event.at)

    def _learn_logs(self) -> None:
        for log in self.record.logs:
            for entry in log.entries:
                facts = self.facts[log.room, entry.epoch]
                known = facts.get(entry.offset)
                seq = entry.seq if entry.event == CREATED else entry.data.get("seq", 0)
                if known is None:
                    data = {**entry.data, "seq": seq}
                    facts[entry.offset] = Fact(
                        log.room, entry.epoch, entry.offset, entry.event, data, seq, float("inf")
                    )
                elif (known.event, known.seq, essence(known.event, known.data)) != (
                    entry.event, seq, essence(entry.event, entry.data)
                ):  # fmt: skip
                    self.clashes.append((known, entry.data))

    def _order_epochs(self) -> dict[str, list[str]]:
        """Epochs of each room in the order in which they were told; the log's is the last."""
        seen: dict[tuple[str, str], float] = {}
        for connection in self.record.connections:
            for frame in connection.frames:
                if isinstance(frame, Subscribed):
                    place = (frame.room, frame.epoch)
                    seen[place] = min(seen.get(place, frame.at), frame.at)
        for place in self.facts:
            seen.setdefault(place, float("-inf"))
        for log in self.record.logs:
            seen[log.room, log.epoch] = float("inf")
        orders: dict[str, list[str]] = defaultdict(list)
        for (room, epoch), _at in sorted(seen.items(), key=lambda item: item[1]):
            orders[room].append(epoch)
        return orders

    def _index_messages(self) -> None:
        for facts in self.ordered.values():
            for fact in facts:
                if fact.event == CREATED:
                    data = fact.data
                    self.created.setdefault(data["id"], fact)
                    self.real[identity_of(fact.room, data["sender"], data)].add(data["id"])
        refused = {(letter.room, letter.seq) for letter in self.buried.values()}
        for row in self.rows.values():
            if row.sender is None and (row.room, row.seq) in refused:
                continue  # the placeholder, which nobody asked for
            data = {"client_id": row.client_id, "content": row.content}
            created = self.created.get(row.id)
            # Content changes: only the event tells what a message without client_id said first.
            if row.client_id or (created is None and not row.is_edited):
                self.real[identity_of(row.room, row.sender, data)].add(row.id)
        for operation in self.record.operations:
            if operation.kind == "publish":
                identity = identity_of(operation.room, operation.user, operation.asked)
                self.asked[identity].append(operation)
            elif operation.kind in CHANGES:
                self.changes[change_of(operation)].append(operation)

    # --- questions --------------------------------------------------------------------------------

    def at_offset(self, room: str, offset: int) -> list[Fact]:
        """The events with this offset, one an epoch: answers do not tell the epoch."""
        found = (
            self.facts.get((room, epoch), {}).get(offset) for epoch in self.epochs.get(room, ())
        )
        return [fact for fact in found if fact is not None]

    def is_excused(self, operation: Operation) -> bool:
        """Redis may have lost what it answered here."""
        ended = operation.begun if operation.ended is None else operation.ended
        return any(w.touches(operation.begun, ended) for w in self.circumstances.may_have_lost)

    def has_lost_before(self, at: float) -> bool:
        """Redis may have lost something before this time."""
        return any(window.begun <= at for window in self.circumstances.may_have_lost)

    def is_fact_excused(self, fact: Fact) -> bool:
        """The same of an event: by when it was seen, or by what was asked for."""
        windows = self.circumstances.may_have_lost
        if not windows:
            return False
        if any(window.touches(fact.at, fact.at) for window in windows):
            return True
        if fact.event == CREATED:
            asked = self.asked.get(identity_of(fact.room, fact.data["sender"], fact.data), ())
        else:
            asked = self.changes.get(change_of_fact(fact), ())
        return any(self.is_excused(operation) for operation in asked)


def events_of(connection: Connection) -> Iterator[tuple[Event, str]]:
    """The durable events that came over a connection, with their epochs."""
    epochs: dict[str, str] = {}
    for frame in connection.frames:
        if isinstance(frame, Subscribed):
            epochs[frame.room] = frame.epoch
            for event in frame.events:
                yield event, frame.epoch
        elif isinstance(frame, Event):
            yield frame, epochs.get(frame.room, "")
