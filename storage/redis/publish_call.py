"""Publishes that reach Redis in one script call, each answered by itself.

What begins in one turn of the scheduler leaves in one call, as long as nothing else is queued in
between, so every command still reaches Redis in the order in which it was made. A call is atomic;
its publishes are done or refused one by one, as if each had come alone. If the connection is lost,
each has the outcome of the call.

All partitions may share a call, since all lie on one server; on a cluster a call would have to
keep to one slot.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable
from typing import Any, Final, cast

import msgspec

from storage.redis.entries import NOBODY
from storage.redis.keys import INBOX_PREFIX, Keys, RoomKeys
from storage.redis.limits import StoreLimits
from storage.redis.outcomes import Draft
from storage.redis.replies import Reply, translate_error
from storage.redis.script_loader import Script, pack_evalsha

OnOutcome = Callable[[Any], None]
"""Called exactly once with what `parse_append` takes, or an error; must not raise."""

PUBLISH_CALL_EVENTS: Final = 32
"""In one call: for half a millisecond Redis then does nothing else."""
PUBLISH_CALL_BYTES: Final = 64 * 1024
"""Of them together: so an entry of an inbox is hardly larger than the largest event."""
SENT_BUCKET_MS: Final = 600_000
SENT_SLOTS: Final = 4096
"""How idempotency keys are spread over hashes; `scripts/lib/sent.lua` has the same."""

_encode: Final = msgspec.msgpack.Encoder().encode
_HEAD: Final = 1
"""Bytes of an array before its elements; without them these are what Lua unpacks into arguments."""


class SentExpiries:
    """Which hashes of idempotency keys are known to expire, so that Redis need not look each time.

    By partition and slot the newest bucket of ten minutes; forgotten when the partition has another
    life, since its keys may then be others. Not knowing costs a PEXPIRE, no more.
    """

    __slots__ = ("_buckets",)

    def __init__(self) -> None:
        self._buckets: dict[int, tuple[str, array[int]]] = {}

    def find(self, partition: int, life: str, digest: bytes) -> int:
        """The newest bucket in which the digest's hash is known to expire, 0 if none is."""
        known = self._buckets.get(partition)
        if known is None or known[0] != life:
            return 0
        return known[1][_slot(digest)]

    def note(self, partition: int, life: str, digest: bytes, ms: int) -> None:
        """An event with this digest was published at `ms`."""
        known = self._buckets.get(partition)
        if known is None or known[0] != life:
            known = self._buckets[partition] = (life, array("L", bytes(8 * SENT_SLOTS)))
        known[1][_slot(digest)] = ms // SENT_BUCKET_MS


class PublishCall:
    """One call, as long as it is open: until it is packed, or its connection is lost."""

    __slots__ = (
        "_callbacks",
        "_digests",
        "_events",
        "_expiries",
        "_keys",
        "_limits",
        "_places",
        "_rooms",
        "_script",
        "_size",
        "is_open",
    )

    def __init__(self, script: Script, keys: Keys, limits: bytes, expiries: SentExpiries) -> None:
        """`limits` is from `pack_limits`; `expiries` is shared by all calls of a process."""
        self._script = script
        self._keys = keys
        self._limits = limits
        self._places: dict[tuple[int, str], int] = {}
        self._expiries = expiries
        self._rooms: list[str] = []
        self._events: list[bytes] = []
        self._digests: list[tuple[int, str, bytes]] = []
        self._callbacks: list[OnOutcome] = []
        self._size = 0
        self.is_open = True

    def add(self, keys: RoomKeys, life: str, draft: Draft, on_outcome: OnOutcome) -> None:
        """Publish into this room in this life of its partition, too."""
        partition = keys.partition
        place = self._places.setdefault((partition, life), len(self._places) + 1)
        sender = draft.sender or NOBODY
        event = _encode_arguments(
            (
                place,
                sender,
                str(draft.version),
                draft.step,
                _as_text(draft.digest),
                self._expiries.find(partition, life, draft.digest) if draft.digest else 0,
                draft.message_id,
                draft.reply_to,
                _as_text(f"{draft.event} {keys.key} {sender} 0\n".encode() + draft.data),
            )
        )
        self._rooms += (keys.room, keys.log, keys.nodes, keys.reads)
        self._events.append(event)
        self._digests.append((partition, life, draft.digest))
        self._callbacks.append(on_outcome)
        self._size += len(event)
        if len(self._events) >= PUBLISH_CALL_EVENTS or self._size >= PUBLISH_CALL_BYTES:
            self.is_open = False

    def arguments(self) -> tuple[list[str], list[str | bytes]]:
        """KEYS and ARGV."""
        keys: list[str] = []
        for partition, _life in self._places:
            keys += (self._keys.life(partition), self._keys.archive(partition))
        lives = [life for _partition, life in self._places]
        return keys + self._rooms, [self._limits, str(len(lives)), *lives, *self._events]

    def pack(self) -> bytes:
        """The call as it is sent; nothing can be added to it any more."""
        self.is_open = False
        return pack_evalsha(self._script, *self.arguments())

    def handle_reply(self, reply: Reply | Exception) -> None:
        """Tell everybody how it went. A callback that raises keeps nobody else from being told."""
        self.is_open = False
        errors: list[Exception] = []
        outcomes = self.outcomes(reply)
        callbacks, self._callbacks = self._callbacks, []  # the store keeps the call for a while
        for on_outcome, outcome in zip(callbacks, outcomes, strict=True):
            try:
                on_outcome(outcome)
            except Exception as error:
                errors.append(error)
        if errors:
            raise ExceptionGroup("callbacks of publishes raised", errors)

    def outcomes(self, reply: Reply | Exception) -> list[Any]:
        """What the reply means for each publish, in the order in which they were added."""
        if isinstance(reply, Exception):
            return [reply] * len(self._callbacks)
        stamp, *lines = cast("bytes", reply).split(b"\n")
        ms = int(stamp)
        for line, (partition, life, digest) in zip(lines, self._digests, strict=True):
            if digest and line[:1].isdigit():
                self._expiries.note(partition, life, digest, ms)
        return [_parse_outcome(line, ms) for line in lines]


def pack_limits(limits: StoreLimits) -> bytes:
    """The limits that a publish keeps, as its script takes them."""
    return _encode_arguments(
        (
            limits.log_length,
            INBOX_PREFIX,
            limits.inbox_max,
            limits.window_ms,
            limits.backlog_events,
            limits.backlog_bytes,
        )
    )


def _as_text(data: bytes) -> msgspec.Raw:
    """Bytes as what Lua has for them, a string: its decoder knows no other kind."""
    return msgspec.Raw(b"\xdb" + len(data).to_bytes(4, "big") + data)


def _slot(digest: bytes) -> int:
    return digest[0] << 4 | digest[1] >> 4


def _encode_arguments(values: tuple[Any, ...]) -> bytes:
    return _encode(values)[_HEAD:]


def _parse_outcome(line: bytes, ms: int) -> list[Any] | Exception:
    first, _, rest = line.partition(b" ")
    if first.isdigit():
        return [int(first), int(rest), ms]
    if first == b"ERR":
        return translate_error(rest.decode(errors="replace"))
    return [first, rest]
