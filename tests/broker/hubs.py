"""Subscribers and entries for tests of the hub: they keep what they are given."""

import json
from typing import Any

from storage.redis.entries import Entry, pack_entry
from storage.redis.keys import Keys

EPOCH = "e1"
KEYS = Keys(4)


class FakeSubscriber:
    """Keeps frames and the ends of its subscriptions. A fake: the real one needs a socket."""

    def __init__(self, user: str = "alice") -> None:
        self.user = user
        self.id = f"of-{user}"
        self.identity: object | None = None
        self.frames: list[dict[str, Any]] = []
        self.sends = 0
        self.largest_send = 0
        self.ended: list[tuple[str, str]] = []
        self.rechecks = 0

    def post(self, frame: bytes) -> None:
        self.sends += 1
        self.largest_send = max(self.largest_send, len(frame))
        self.frames.extend(decode_frames(frame))

    def end_subscription(self, key: str, code: str, message: str) -> None:
        del message
        self.ended.append((key, code))

    def recheck(self) -> None:
        self.rechecks += 1

    @property
    def offsets(self) -> list[int]:
        return [frame["offset"] for frame in self.frames if "offset" in frame]


def decode_frames(data: bytes) -> list[dict[str, Any]]:
    """The JSON of each unmasked text frame."""
    frames = []
    while data:
        assert data[0] == 0x81
        length, start = data[1], 2
        if length == 126:
            length, start = int.from_bytes(data[2:4], "big"), 4
        elif length == 127:
            length, start = int.from_bytes(data[2:10], "big"), 10
        frames.append(json.loads(data[start : start + length]))
        data = data[start + length :]
    return frames


def entry(
    offset: int,
    *,
    key: str = "p/room",
    event: str = "message.created",
    epoch: str = EPOCH,
    ver: int = 0,
    data: bytes = b'{"id":"m"}',
) -> Entry:
    return Entry(epoch, offset, offset, 1_700_000_000_000 + offset, event, key, "bob", ver, data)


def raw(offset: int, **fields: Any) -> bytes:
    return pack_entry(entry(offset, **fields))
