"""How a server is spoken to: what the generator must know of any protocol to measure it.

A scenario sends publishes and judges what comes back; a `Dialect` says how that looks on one
server's wire. Parley's own is `bench.product`; each peer in `bench.peers` brings one.

Rules: pure functions on bytes. A frame here is the payload of one WebSocket message that holds
one event, answer or whatever the server says. A server that puts several into one message, or one
into several, says `joins` and cuts them in `split`; what the scenarios see then is again one each.

What is published is always `content_of(sender, number)`. A server that gives events numbers of
its own (`numbers_events`) is held to them: 1, 2, 3 … for every receiver. With any other the
generator reads sender and number out of the content, where nothing may be missing, doubled or
out of order either.

Deliberately not here: WebSocket framing (`bench.wire`) and judging (`bench.checks`).
"""

import json
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from enum import IntEnum
from typing import Any, Final, NamedTuple

from bench import wire

CONTENT_BYTES: Final = 64
_LINE: Final = "a line of chat"
_FILLER: Final = f"{_LINE} as people write it, neither long nor very short, " * 2
_CONTENT: Final = re.compile(rb"([A-Za-z0-9_.:@|-]+) (\d+) " + _LINE.encode())


class Kind(IntEnum):
    """What a frame of the server is."""

    MESSAGE = 1  # the event of a publish
    DURABLE = 2  # another event that has a number of its own in the room
    ANSWER = 3  # to a publish or subscribe of ours
    GREETING = 4  # the server takes commands from here on
    PING = 5  # one of the application's own, to be answered by `pong`
    NOISE = 6  # anything that may come at any time and says nothing to a scenario
    PROBLEM = 7  # a refusal or something not understood: ends the run


class Frame(NamedTuple):
    """A frame as `classify` sees it; -1 where it has no such number."""

    kind: Kind
    number: int = -1  # of a MESSAGE or DURABLE: its number in the room; of an ANSWER: whose
    offset: int = -1  # of an ANSWER to a publish: the number that its event got


class Message(NamedTuple):
    """What one MESSAGE holds, parsed."""

    content: str
    offset: int  # -1 where the server has none
    seq: int


class Dialect(ABC):
    """One protocol."""

    numbers_events = True
    """Every event carries the room's number: dense, the same for every receiver."""
    answers_publishes = True
    """Every publish is answered; False: the sender's own event is all that it gets."""
    greets = True
    """The server says something (GREETING) after the handshake before it takes a subscription."""
    subscribes = True
    """Subscriptions are frames, answered by an ANSWER; False: the path names the room."""
    settling = 0.0
    """Seconds until a subscription that nothing answers is sure to be in force."""
    joins = False
    """One WebSocket message may hold several frames or parts of frames, see `split`."""
    opcode = wire.TEXT
    """Of the frames that the client sends."""

    @abstractmethod
    def path(self, token: str, room: str) -> str:
        """Path and query of the WebSocket of one user."""

    def headers(self) -> Mapping[str, str]:
        """Headers of the handshake beside those that every WebSocket has."""
        return {}

    def opening(self) -> Sequence[bytes]:
        """Frames to send after the handshake, without waiting."""
        return ()

    @abstractmethod
    def subscribe(self, number: int, room: str) -> bytes:
        """A subscription; not called where `subscribes` is False."""

    def subscribed(self, payload: bytes, room: str) -> int:
        """The room's newest number as the ANSWER to a subscription says it; 0 without numbers.

        Raises `bench.wire.WireError` when it is no subscription to `room`.
        """
        return 0

    @abstractmethod
    def publish(self, number: int, room: str, sender: str, run: str) -> bytes:
        """Publish `content_of(sender, number)`. `run` makes an idempotency key unique."""

    @abstractmethod
    def classify(self, data: bytes, start: int, end: int) -> Frame:
        """What the frame in `data[start:end]` is. Called for nearly every frame: quick."""

    def message(self, payload: bytes) -> Message:
        """What a MESSAGE holds; only called where `numbers_events`."""
        raise NotImplementedError

    def result(self, payload: bytes) -> Mapping[str, Any]:
        """What an ANSWER to a publish says: `offset`, `seq`, `duplicate`, or nothing."""
        return {}

    def is_same(self, one: bytes, other: bytes) -> bool:
        """Whether two different payloads say the same."""
        return one == other

    def pong(self, payload: bytes) -> bytes:
        """The answer to a PING."""
        raise NotImplementedError

    def split(self, data: bytes) -> tuple[list[bytes], bytes]:
        """The whole frames in the messages `data`, put one behind the other, and the rest."""
        raise NotImplementedError


def content_of(sender: str, number: int) -> str:
    """What `sender` writes in its publish `number`: 64 bytes, different for every publish."""
    return f"{sender} {number} {_FILLER}"[:CONTENT_BYTES]


def written_in(data: bytes, start: int, end: int) -> tuple[str, int]:
    """Sender and number of the content that lies somewhere in `data[start:end]`."""
    found = _CONTENT.search(data, start, end)
    if found is None:
        raise wire.WireError(f"not what was published: {data[start:end][:300]!r}")
    return found[1].decode(), int(found[2])


def parse_object(payload: bytes) -> dict[str, Any]:
    """A JSON object; WireError if it is none."""
    try:
        found = json.loads(payload)
    except ValueError as error:
        raise wire.WireError(f"not JSON: {payload[:200]!r}") from error
    if not isinstance(found, dict):
        raise wire.WireError(f"not an object: {payload[:200]!r}")
    return found
