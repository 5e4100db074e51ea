"""What correct means for messages, held against a recorded history. Pure: no I/O, no clock.

A history is what clients attempted and were told, what each saw in each room, and what PostgreSQL
holds in the end. Every operation ended *ok*, *refused* (it did not happen) or *unknown*. Nothing
answered may be lost, nothing may be there twice, change its place or be invented, every client
sees the offsets of an epoch rise by one, and a hole is announced before anything that follows it.
"""

from collections import defaultdict
from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

Outcome = Literal["ok", "refused", "unknown"]


class Place(NamedTuple):
    """Where a message is: its id, seq and offset."""

    message_id: str
    seq: int
    offset: int


class Attempt(NamedTuple):
    """One publish; `place` is what the answer said, None without one."""

    room: str
    sender: str
    client_id: str
    outcome: Outcome
    place: Place | None = None


class Start(NamedTuple):
    """A subscription is live from here on; `is_told`: the client knows that it may have missed
    events (it was the first one, or the answer said that nothing was recovered)."""

    epoch: str
    offset: int
    is_told: bool


class Seen(NamedTuple):
    """A durable event that a client received; a message has an id and a client_id."""

    offset: int
    seq: int = 0
    message_id: str = ""
    client_id: str = ""


@dataclass
class View:
    """What one client saw of one room, over all of its connections. `is_complete`: it was
    subscribed until everything had been delivered."""

    client: str
    room: str
    items: list[Start | Seen] = field(default_factory=list)
    is_complete: bool = True


class Row(NamedTuple):
    """A message in PostgreSQL."""

    room: str
    place: Place
    client_id: str
    sender: str


@dataclass
class History:
    """Everything that was recorded. `rows` None: the archive was not looked at."""

    attempts: list[Attempt] = field(default_factory=list)
    views: list[View] = field(default_factory=list)
    rows: list[Row] | None = None
    may_skip_seqs: bool = False
    """An epoch has changed, so that seq may have holes."""


def check_history(history: History) -> list[str]:
    """A sentence for every breach; an empty list is a correct history."""
    return [
        *_check_views(history.views),
        *_check_places(history),
        *_check_answers(history),
        *_check_delivery(history),
        *_check_rows(history),
    ]


# --- each client by itself ------------------------------------------------------------------------


def _check_views(views: Iterable[View]) -> Iterable[str]:
    for view in views:
        name = f"{view.client} in {view.room}"
        epoch, position = "", -1
        for item in view.items:
            if isinstance(item, Start):
                if not item.is_told and (item.epoch, item.offset) != (epoch, position):
                    yield (
                        f"{name}: a hole was not announced: resumed at {item.offset} in "
                        f"{item.epoch}, was at {position} in {epoch or 'none'}"
                    )
                epoch, position = item.epoch, item.offset
                continue
            if position < 0:
                yield f"{name}: offset {item.offset} outside of a subscription"
            elif item.offset <= position:
                yield f"{name}: offset {item.offset} again or out of order, after {position}"
            elif item.offset > position + 1:
                yield f"{name}: a hole was not announced: {position} to {item.offset}"
            position = max(position, item.offset)


def _epochs(view: View) -> Iterable[tuple[str, Seen]]:
    """The events of a view, each with its epoch."""
    epoch = ""
    for item in view.items:
        if isinstance(item, Start):
            epoch = item.epoch
        else:
            yield epoch, item


# --- all together ---------------------------------------------------------------------------------


def _check_places(history: History) -> Iterable[str]:
    """One message, one place; one place, one message: among clients, answers and rows."""
    by_position = _Distinct("position", "events")
    by_seq = _Distinct("seq", "messages")
    by_id = _Distinct("message", "places")
    by_client_id = _Distinct("client_id", "messages")
    for view in history.views:
        for epoch, seen in _epochs(view):
            by_position.add((view.room, epoch, seen.offset), (seen.message_id, seen.seq))
            if seen.message_id:
                by_seq.add((view.room, seen.seq), seen.message_id)
                place = Place(seen.message_id, seen.seq, seen.offset)
                by_id.add((view.room, seen.message_id), place)
    for attempt in history.attempts:
        if attempt.place is not None:
            by_seq.add((attempt.room, attempt.place.seq), attempt.place.message_id)
            by_id.add((attempt.room, attempt.place.message_id), attempt.place)
            key = (attempt.room, attempt.sender, attempt.client_id)
            by_client_id.add(key, attempt.place.message_id)
    for row in history.rows or ():
        by_seq.add((row.room, row.place.seq), row.place.message_id)
        by_id.add((row.room, row.place.message_id), row.place)
        if row.client_id:
            by_client_id.add((row.room, row.sender, row.client_id), row.place.message_id)
    for distinct in (by_position, by_seq, by_id, by_client_id):
        yield from distinct.breaches()


class _Distinct:
    """Things that must have one value each."""

    def __init__(self, kind: str, of: str) -> None:
        self._kind = kind
        self._of = of
        self._values: dict[Hashable, set[Hashable]] = defaultdict(set)

    def add(self, key: Hashable, value: Hashable) -> None:
        self._values[key].add(value)

    def breaches(self) -> Iterable[str]:
        for key, values in self._values.items():
            if len(values) > 1:
                yield f"one {self._kind} {key}, two {self._of}: {sorted(map(str, values))}"


def _check_answers(history: History) -> Iterable[str]:
    """What was seen was attempted; what was refused did not happen."""
    outcomes: dict[tuple[str, str], set[Outcome]] = defaultdict(set)
    answered: dict[tuple[str, str], set[str]] = defaultdict(set)
    for attempt in history.attempts:
        key = (attempt.room, attempt.client_id)
        outcomes[key].add(attempt.outcome)
        if attempt.place is not None:
            answered[key].add(attempt.place.message_id)
    found = {
        (view.room, seen.client_id, seen.message_id)
        for view in history.views
        for _epoch, seen in _epochs(view)
        if seen.client_id
    }
    found |= {(row.room, row.client_id, row.place.message_id) for row in history.rows or ()}
    for room, client_id, message_id in sorted(found):
        known = outcomes.get((room, client_id))
        if not client_id:
            continue
        if known is None:
            yield f"{room}: {client_id} was invented"
        elif known == {"refused"}:
            yield f"{room}: {client_id} was refused, yet it happened"
        told = answered.get((room, client_id))
        if told and message_id not in told:
            yield f"{room}: {client_id} was answered with {sorted(told)}, the event is {message_id}"


def _check_delivery(history: History) -> Iterable[str]:
    """A client that stayed, and was never told of a hole, has seen every answered message."""
    answered: dict[str, dict[str, int]] = defaultdict(dict)
    for attempt in history.attempts:
        if attempt.place is not None:
            answered[attempt.room][attempt.place.message_id] = attempt.place.offset
    for view in history.views:
        starts = [item for item in view.items if isinstance(item, Start)]
        if not view.is_complete or not starts or any(start.is_told for start in starts[1:]):
            continue
        seen = {item.message_id for item in view.items if isinstance(item, Seen)}
        missing = [
            message_id
            for message_id, offset in answered[view.room].items()
            if offset > starts[0].offset and message_id not in seen
        ]
        if missing:
            yield f"{view.client} in {view.room}: answered but never delivered: {missing}"


def _check_rows(history: History) -> Iterable[str]:
    """Everything answered is in PostgreSQL, once, and seq has no holes."""
    if history.rows is None:
        return
    stored: dict[str, list[Place]] = defaultdict(list)
    for row in history.rows:
        stored[row.room].append(row.place)
    for room, places in stored.items():
        seqs = sorted(place.seq for place in places)
        if len(set(seqs)) < len(seqs) or len({place.message_id for place in places}) < len(seqs):
            yield f"{room}: a message is stored twice"
        if not history.may_skip_seqs and seqs != list(range(seqs[0], seqs[0] + len(seqs))):
            yield f"{room}: the archive has holes in seq"
    kept = {(row.room, row.place.message_id) for row in history.rows}
    for attempt in history.attempts:
        if attempt.place is not None and (attempt.room, attempt.place.message_id) not in kept:
            yield f"{attempt.room}: {attempt.client_id} was answered, but is lost"
