"""What a correct delivery is, and the words for one that is not.

Rules: a connection receives every durable event of its room once, in offset order, without a
hole, and each carries what was published. Where a server gives no offsets, each sender's publishes
come in the order of their numbers, without a hole, and all receivers of a room get the same. One
violation ends the run: a server that is fast because it loses something has no figure. Nothing
here owns a socket.

`Reference` makes the whole check cheap for a room with many receivers: what the first connection
receives is parsed and kept; all others must have received the same bytes, which one `memcmp` in
C shows. Bytes that differ are walked frame by frame, so that a control frame between two events
or another spelling of the same event is no failure.
"""

from bisect import bisect_right
from collections.abc import Callable, Mapping
from typing import Any

from bench import wire
from bench.dialect import Dialect, Frame, Kind, content_of, written_in


class CheckFailed(Exception):
    """The server lost, doubled, reordered or changed something."""


def describe_offset(label: str, expected: int, got: int) -> str:
    """One sentence about an offset that is not the next one."""
    if got < expected:
        return f"{label}: offset {got} came again or late (after {expected - 1})"
    missing = got - expected
    return f"{label}: offset {got} came after {expected - 1}: {missing} lost or still to come"


class OffsetCheck:
    """The offsets that one connection receives: each one higher than the one before."""

    __slots__ = ("label", "next_offset")

    def __init__(self, label: str, next_offset: int) -> None:
        self.label = label
        self.next_offset = next_offset

    def take(self, offset: int) -> None:
        """Accept the next offset or raise CheckFailed."""
        if offset != self.next_offset:
            raise CheckFailed(describe_offset(self.label, self.next_offset, offset))
        self.next_offset = offset + 1


class Answers:
    """Which publish was answered with which place, and that the events agree.

    `checks_content` is off for a server that sends a prepared frame (the floor).
    """

    def __init__(self, *, checks_content: bool) -> None:
        self.checks_content = checks_content
        self.answered: dict[str, tuple[int, int]] = {}
        self.seen: dict[str, tuple[int, int]] = {}
        self._offsets: set[int] = set()
        self._written: dict[str, int] = {}  # newest publish of each sender that was received

    def take_reply(self, sender: str, number: int, result: Mapping[str, Any]) -> None:
        """An answer to publish `number` of `sender`; it may name no place."""
        if "offset" not in result:
            return
        place = (int(result["offset"]), int(result["seq"]))
        if result.get("duplicate"):
            raise CheckFailed(f"{sender}: publish {number} was answered as a duplicate")
        if place[0] in self._offsets:
            raise CheckFailed(f"{sender}: offset {place[0]} was given to two publishes")
        self._offsets.add(place[0])
        self.answered[content_of(sender, number)] = place

    def take_event(self, dialect: Dialect, payload: bytes) -> None:
        """The event of a publish, in the order of the room."""
        if dialect.numbers_events:
            if self.checks_content:
                message = dialect.message(payload)
                self.seen[message.content] = (message.offset, message.seq)
            return
        sender, number = written_in(payload, 0, len(payload))
        expected = self._written.get(sender, 0) + 1
        if number != expected:
            raise CheckFailed(f"publish {number} of {sender} came instead of its {expected}")
        self._written[sender] = number

    def verify(self) -> None:
        """Every event that was looked at is a publish that was answered with the same place."""
        for content, place in self.seen.items():
            answer = self.answered.get(content)
            if answer != place:
                raise CheckFailed(f"event {place} holds {content!r}, which was answered {answer}")
        self.answered.clear()
        self.seen.clear()


class Reference:
    """The event frames of one room, in order, as the first connection received them."""

    def __init__(self, first_offset: int, answers: Answers, dialect: Dialect) -> None:
        self.text = bytearray()
        self.ends: list[int] = []
        self.first_offset = first_offset
        self.dialect = dialect
        self._answers = answers

    def append(self, kind: Kind, frame: bytes, payload: bytes) -> None:
        """Keep the next event's frame."""
        if kind == Kind.MESSAGE:
            self._answers.take_event(self.dialect, payload)
        self.text += frame
        self.ends.append(len(self.text))

    def frame(self, index: int) -> bytes:
        """The frame of the `index`-th event."""
        start = self.ends[index - 1] if index else 0
        return bytes(self.text[start : self.ends[index]])


class ReferenceReader:
    """One connection's place in its room's reference.

    `on_other(opcode, frame, payload)` gets everything that is no durable event of the room.
    """

    __slots__ = ("_on_other", "_rest", "label", "position", "reference")

    def __init__(
        self, label: str, reference: Reference, on_other: Callable[[int, Frame, bytes], None]
    ) -> None:
        self.label = label
        self.reference = reference
        self.position = 0
        self._rest = b""
        self._on_other = on_other

    @property
    def delivered(self) -> int:
        """Complete events received so far."""
        return bisect_right(self.reference.ends, self.position)

    def take(self, data: bytes) -> None:
        """Check what the socket gave; raise CheckFailed at the first wrong event."""
        if not self._rest and self.reference.text.startswith(data, self.position):
            self.position += len(data)
            return
        self._walk(data)

    def _walk(self, data: bytes) -> None:
        reference = self.reference
        count = self.delivered
        boundary = reference.ends[count - 1] if count else 0
        if self._rest:
            data = self._rest + data
        else:
            data = bytes(reference.text[boundary : self.position]) + data
        places, rest_at = wire.walk_frames(data)
        classify = reference.dialect.classify
        frame_start = 0
        for opcode, start, end in places:
            found = Frame(Kind.NOISE) if opcode & wire.CONTROL else classify(data, start, end)
            if found.kind <= Kind.DURABLE:
                self._take_event(count, found, data[frame_start:end], data[start:end])
                count += 1
            else:
                self._on_other(opcode, found, data[start:end])
            frame_start = end
        self.position = reference.ends[count - 1] if count else 0
        self._rest = data[rest_at:]
        if reference.text.startswith(self._rest, self.position):
            self.position += len(self._rest)
            self._rest = b""

    def _take_event(self, count: int, found: Frame, frame: bytes, payload: bytes) -> None:
        reference = self.reference
        expected = reference.first_offset + count
        if reference.dialect.numbers_events and found.number != expected:
            raise CheckFailed(describe_offset(self.label, expected, found.number))
        if count == len(reference.ends):
            reference.append(found.kind, frame, payload)
            return
        known = reference.frame(count)
        if known != frame and not reference.dialect.is_same(_payload_of(known), payload):
            raise CheckFailed(f"{self.label}: event {expected} differs from what others received")


def _payload_of(frame: bytes) -> bytes:
    places, _ = wire.walk_frames(frame)
    return frame[places[0][1] :]
