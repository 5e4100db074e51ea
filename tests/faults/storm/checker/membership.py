"""Nobody sees what happened while they were no member, and nothing once a removal was answered.

Two rules. By offset: a live event lies within a membership (the events of members say from where to
where; one's own removal is the last), and so does the snapshot of a subscription. What a reply
brings from before it is not judged: who is back may see everything. By time: a message that was
asked for after a removal had been answered does not reach the removed, nor may they publish.
"""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterator

from tests.faults.storm.checker.breaches import Breach, Kind
from tests.faults.storm.checker.knowledge import CREATED, Knowledge, identity_of
from tests.faults.storm.record import Event, Operation, Subscribed

Place = tuple[int, int]
"""Number of the epoch within the room, offset."""
_EVER: Place = (1 << 30, 0)
_REMOVING = {"remove", "leave"}
_ADDING = {"add", "join"}


class _Memberships:
    """From where to where everybody was a member of the rooms that are known."""

    def __init__(self, known: Knowledge) -> None:
        self._spans: dict[tuple[str, str], list[tuple[Place, Place]]] = defaultdict(list)
        self._number: dict[tuple[str, str], int] = {}
        self._places: dict[str, list[Place]] = defaultdict(list)
        self._rooms = set(known.circumstances.members)
        self._free = known.circumstances.open_rooms
        self._guests = known.circumstances.guests
        self.additions: dict[tuple[str, str], list[Operation]] = defaultdict(list)
        self.removals: dict[tuple[str, str], list[Operation]] = defaultdict(list)
        for operation in known.record.operations:
            key = (operation.room, operation.asked.get("user", operation.user) or "")
            if operation.kind in _ADDING and operation.outcome != "failed":
                self.additions[key].append(operation)
            elif operation.kind in _REMOVING and operation.outcome == "ok":
                self.removals[key].append(operation)
        for removals in self.removals.values():
            removals.sort(key=lambda one: one.ended or 0.0)
        for room in self._rooms:
            self._walk(known, room)

    def _walk(self, known: Knowledge, room: str) -> None:
        since: dict[str, Place] = dict.fromkeys(known.circumstances.members[room], (-1, 0))
        for number, epoch in enumerate(known.epochs.get(room, ())):
            self._number[room, epoch] = number
        for fact in known.ordered.get(room, ()):
            place = (self._number[room, fact.epoch], fact.offset)
            self._places[room].append(place)
            if fact.event == "member.added":
                since.setdefault(fact.data["user"], place)
            elif fact.event == "member.removed":
                begun = since.pop(fact.data["user"], (-1, 0))
                self._spans[room, fact.data["user"]].append((begun, place))
        for user, begun in since.items():
            self._spans[room, user].append((begun, _EVER))

    def allows(self, room: str, user: str, epoch: str, offset: int, at: float) -> bool:
        if room not in self._rooms or self.is_free(room, user):
            return True
        place = (self._number.get((room, epoch), 0), offset)
        spans = self._spans[room, user]
        if any(begun <= place <= ended for begun, ended in spans):
            return True
        # Where nobody saw every event since the last removal, an addition may be among the others.
        out_since = max((ended for _, ended in spans if ended < place), default=(0, 0))
        return not self._is_dense(room, out_since, place) and any(
            operation.begun <= at for operation in self.additions.get((room, user), ())
        )

    def _is_dense(self, room: str, after: Place, to: Place) -> bool:
        places = self._places[room]
        known = bisect_right(places, to) - bisect_right(places, after)
        return after[0] == to[0] and known == to[1] - after[1]

    def is_free(self, room: str, user: str) -> bool:
        return room in self._free or (room, user) in self._guests

    def was_out(self, room: str, user: str, begun: float, until: float) -> bool:
        """A removal had been answered before `begun`, and nothing added the user until `until`."""
        removals = self.removals.get((room, user))
        if not removals:
            return False
        place = bisect_right(removals, begun, key=lambda one: one.ended or 0.0)
        if place == 0:
            return False
        removal = removals[place - 1]
        return not any(
            one.begun <= until and (one.ended is None or one.ended >= removal.begun)
            for one in self.additions.get((room, user), ())
        )


def check_membership(known: Knowledge) -> Iterator[Breach]:
    memberships = _Memberships(known)
    for connection in known.record.connections:
        epochs: dict[str, str] = {}
        user = connection.user
        for frame in connection.frames:
            if not isinstance(frame, Event | Subscribed):
                continue
            if isinstance(frame, Subscribed):
                epochs[frame.room] = frame.epoch
            epoch = epochs.get(frame.room, "")
            is_in = memberships.allows(frame.room, user, epoch, frame.offset, frame.at)
            if is_in and isinstance(frame, Event) and frame.event == CREATED:
                begun = _asked_at(known, frame)
                is_in = (
                    begun is None
                    or memberships.is_free(frame.room, user)
                    or not memberships.was_out(frame.room, user, begun, frame.at)
                )
            if not is_in:
                yield Breach(
                    Kind.SEEN_BY_OUTSIDER,
                    f"{user} ({connection.name}) in {frame.room}: offset {frame.offset} of {epoch}",
                )
    for operation in known.record.operations:
        if operation.kind == "publish" and operation.outcome == "ok" and operation.user:
            ended = operation.begun if operation.ended is None else operation.ended
            room, user = operation.room, operation.user
            if (room, user) not in known.circumstances.guests and memberships.was_out(
                room, user, operation.begun, ended
            ):
                yield Breach(
                    Kind.SEEN_BY_OUTSIDER, f"{user} published in {room} after an answered removal"
                )


def _asked_at(known: Knowledge, event: Event) -> float | None:
    asked = known.asked.get(identity_of(event.room, event.data["sender"], event.data))
    return min((operation.begun for operation in asked), default=None) if asked else None
