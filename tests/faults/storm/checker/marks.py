"""How far members have read: unread is a recount of the events, and a mark never goes back.

Unread are the messages above the mark that are not deleted at the snapshot, not one's own, not
`system`; at most 1000. Two things keep it from being exact: a deletion that nobody saw, and the
contract's own slack: while the archiver is far behind, only the first 200 unarchived events are
looked at, so messages beyond them count whatever they are, and deletions beyond them not yet.
"""

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterator

from tests.faults.storm.checker.breaches import Breach, Kind
from tests.faults.storm.checker.knowledge import CREATED, DELETED, Fact, Knowledge
from tests.faults.storm.record import Ephemeral, Operation, Subscribed

_UNREAD_MAX = 1000
_LAG_EVENTS_MAX = 200


class _Room:
    """The messages of a room by seq, and when each was deleted."""

    def __init__(self, known: Knowledge, room: str) -> None:
        facts = known.ordered.get(room, [])
        self.created = sorted(
            {fact.seq: fact for fact in facts if fact.event == CREATED}.values(),
            key=lambda fact: fact.seq,
        )
        self.seqs = [fact.seq for fact in self.created]
        number = {epoch: n for n, epoch in enumerate(known.epochs.get(room, ()))}
        self.number = number
        self.deleted = {
            fact.seq: (number[fact.epoch], fact.offset) for fact in facts if fact.event == DELETED
        }
        self.doubtful = {
            one.asked["seq"]
            for one in known.record.operations
            if one.kind == "delete" and one.room == room and one.outcome != "failed"
        } - self.deleted.keys()
        self.doubtful |= {
            fact.seq
            for fact in self.created
            if fact.data["id"] in known.buried or known.is_fact_excused(fact)
        }

    def between(self, above: int, to: int) -> list[Fact]:
        return self.created[bisect_right(self.seqs, above) : bisect_right(self.seqs, to)]


def check_marks(known: Knowledge) -> Iterator[Breach]:
    rooms: dict[str, _Room] = {}
    for connection in known.record.connections:
        heard: dict[tuple[str, str, str], int] = {}
        for frame in connection.frames:
            if isinstance(frame, Subscribed):
                if known.has_lost_before(frame.at):
                    # What was heard before may have been lost; who stays is told to reload.
                    heard = {key: seq for key, seq in heard.items() if key[0] != frame.room}
                if frame.unread is not None and frame.read_seq is not None:
                    if frame.room not in rooms:
                        rooms[frame.room] = _Room(known, frame.room)
                    yield from _check_unread(connection.user, frame, rooms[frame.room])
            elif isinstance(frame, Ephemeral) and frame.event.startswith("receipt."):
                key = (frame.room, frame.event, frame.data["user"])
                seq = frame.data["seq"]
                if seq < heard.get(key, 0):
                    yield Breach(
                        Kind.MARK_WENT_BACK, f"{connection.name}: {key} from {heard[key]} to {seq}"
                    )
                heard[key] = max(seq, heard.get(key, 0))
    yield from _check_monotonic(known)


def _check_unread(user: str, reply: Subscribed, room: _Room) -> Iterator[Breach]:
    assert reply.read_seq is not None
    assert reply.unread is not None
    found = room.between(reply.read_seq, reply.seq)
    if len(found) != max(0, reply.seq - reply.read_seq):
        return  # Some were seen by nobody, or an epoch has skipped numbers.
    snapshot = (room.number.get(reply.epoch, 0), reply.offset)
    lowest = highest = 0
    for fact in found:
        is_out = fact.data["sender"] == user or fact.data.get("kind") == "system"
        deleted = room.deleted.get(fact.seq, (snapshot[0] + 1, 0))
        if is_out:
            highest += fact.offset > _LAG_EVENTS_MAX
        elif deleted <= snapshot:
            highest += deleted[1] > _LAG_EVENTS_MAX
        else:
            highest += 1
            lowest += fact.seq not in room.doubtful
    if not min(lowest, _UNREAD_MAX) <= reply.unread <= min(highest, _UNREAD_MAX):
        yield Breach(
            Kind.WRONG_UNREAD,
            f"{user} in {reply.room}: {reply.unread} above seq {reply.read_seq} of {reply.seq}, "
            f"counted {lowest} to {highest}",
        )


def _check_monotonic(known: Knowledge) -> Iterator[Breach]:
    """What was answered before a request was made is not above what that is answered."""
    told: dict[tuple[str, str, str], list[tuple[Operation, int]]] = defaultdict(list)
    for operation in known.record.operations:
        if operation.outcome != "ok" or operation.user is None or known.is_excused(operation):
            continue
        seq = operation.answer.get("read_seq" if operation.kind == "subscribe" else "seq")
        if operation.kind in ("read", "subscribe", "delivered") and seq is not None:
            kind = "delivered" if operation.kind == "delivered" else "read"
            told[operation.room, operation.user, kind].append((operation, seq))
    # Who comes back is a new member: read begins at the newest message, delivered at nothing.
    has_left = {
        (one.room, one.user if one.kind == "leave" else one.asked["user"])
        for one in known.record.operations
        if one.kind in ("leave", "remove") and one.outcome != "failed"
    }
    highest: dict[tuple[str, str, str], int] = {}
    for key, marks in told.items():
        if key[2] == "delivered" and key[:2] in has_left:
            continue
        ends = sorted((one.ended, seq) for one, seq in marks if one.ended is not None)
        times = [ended for ended, _ in ends]
        best: list[int] = []
        for _, seq in ends:
            best.append(max(seq, best[-1] if best else 0))
        highest[key] = best[-1] if best else 0
        for operation, seq in marks:
            place = bisect_left(times, operation.begun)
            if place and best[place - 1] > seq:
                yield Breach(
                    Kind.MARK_WENT_BACK, f"{key}: {best[place - 1]} was answered, then {seq}"
                )
    if known.record.archive is None or known.circumstances.settled_at is None:
        return
    for row in known.record.archive.members:
        for kind, stored in (("read", row.read_seq), ("delivered", row.delivered_seq)):
            answered = highest.get((row.room, row.user, kind), 0)
            if stored < answered:
                yield Breach(
                    Kind.MARK_WENT_BACK,
                    f"{row.user} in {row.room}: {kind} {answered} was answered, {stored} is kept",
                )
