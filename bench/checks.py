"""What a correct delivery is, and the words for one that is not.

Rules: a connection receives every durable event of its room once, in offset order, without a
hole, and each carries what was published. One violation ends the run: a server that is fast
because it loses something has no figure. Nothing here owns a socket.

`Reference` makes the whole check cheap for a room with many receivers: what the first connection
receives is parsed and kept; all others must have received the same bytes, which one `memcmp` in
C shows. Bytes that differ are walked frame by frame, so that a control frame between two events
or another spelling of the same event is no failure.
"""

import json
from bisect import bisect_right
from collections.abc import Callable
from typing import Any

from bench import dialect, wire


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

    def take_reply(self, sender: str, number: int, result: dict[str, Any]) -> None:
        """An answer to publish `number` of `sender`."""
        place = (int(result["offset"]), int(result["seq"]))
        if result.get("duplicate"):
            raise CheckFailed(f"{sender}: publish {number} was answered as a duplicate")
        if place[0] in self._offsets:
            raise CheckFailed(f"{sender}: offset {place[0]} was given to two publishes")
        self._offsets.add(place[0])
        self.answered[dialect.content_of(sender, number)] = place

    def take_event(self, offset: int, data: dict[str, Any]) -> None:
        """A `message.created`, as parsed."""
        if self.checks_content:
            self.seen[str(data["content"])] = (offset, int(data["seq"]))

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

    def __init__(self, first_offset: int, answers: Answers) -> None:
        self.text = bytearray()
        self.ends: list[int] = []
        self.first_offset = first_offset
        self._answers = answers

    def append(self, frame: bytes, payload: bytes) -> None:
        """Keep the next event's frame."""
        event = dialect.parse_frame(payload)
        if event.get("event") == "message.created":
            self._answers.take_event(int(event["offset"]), event["data"])
        self.text += frame
        self.ends.append(len(self.text))

    def frame(self, index: int) -> bytes:
        """The frame of the `index`-th event."""
        start = self.ends[index - 1] if index else 0
        return bytes(self.text[start : self.ends[index]])


class ReferenceReader:
    """One connection's place in its room's reference.

    `on_other(opcode, payload)` gets everything that is no durable event of the room.
    """

    __slots__ = ("_on_other", "_rest", "label", "position", "reference")

    def __init__(
        self, label: str, reference: Reference, on_other: Callable[[int, bytes], None]
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
        frame_start = 0
        for opcode, start, end in places:
            offset = -1
            if opcode == wire.TEXT and is_durable_event(data, start, end):
                offset = dialect.offset_in(data, start, end)
            if offset >= 0:
                self._take_event(count, offset, data[frame_start:end], data[start:end])
                count += 1
            else:
                self._on_other(opcode, data[start:end])
            frame_start = end
        self.position = reference.ends[count - 1] if count else 0
        self._rest = data[rest_at:]
        if reference.text.startswith(self._rest, self.position):
            self.position += len(self._rest)
            self._rest = b""

    def _take_event(self, count: int, offset: int, frame: bytes, payload: bytes) -> None:
        reference = self.reference
        expected = reference.first_offset + count
        if offset != expected:
            raise CheckFailed(describe_offset(self.label, expected, offset))
        if count == len(reference.ends):
            reference.append(frame, payload)
            return
        known = reference.frame(count)
        if known != frame and _meaning(known) != json.loads(payload):
            raise CheckFailed(f"{self.label}: offset {offset} differs from what others received")


def is_durable_event(data: bytes, start: int, end: int) -> bool:
    """Whether `data[start:end]` is an event with an offset (by its beginning, else by parsing)."""
    if data.startswith(dialect.MESSAGE_EVENT, start, end):
        return True
    if data.startswith(dialect.ANY_REPLY, start, end):
        return False
    frame = dialect.parse_frame(data[start:end])
    return frame["type"] == "event" and frame.get("offset") is not None


def _meaning(frame: bytes) -> Any:
    places, _ = wire.walk_frames(frame)
    return json.loads(frame[places[0][1] :])
