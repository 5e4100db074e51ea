"""How much one connection may ask: token buckets, the count of refusals. Pure, time passed in.

Three rates: messages; what is read at a price (a page, a subscription and what it resumes), whose
answers are charged by size afterwards; everything else.
"""

from __future__ import annotations

from dataclasses import dataclass

from broker.protocol.commands import RATED_AS_MESSAGES, RATED_AS_READING
from config import limits


@dataclass(frozen=True, slots=True)
class Pace:
    """A steady rate, in tokens a second, with a burst. Shared by all buckets that have it."""

    rate: float
    burst: float


class TokenBucket:
    """What is left of a pace's burst, full at first. `now` is any clock that rises, in seconds."""

    __slots__ = ("_pace", "_tokens", "taken_at")

    def __init__(self, pace: Pace, now: float) -> None:
        self._pace = pace
        self._tokens = pace.burst
        self.taken_at = now

    def take(self, now: float) -> float:
        """Take one token: 0 if it was there, else the seconds until the next."""
        pace = self._pace
        tokens = min(pace.burst, self._tokens + (now - self.taken_at) * pace.rate)
        self.taken_at = now
        if tokens >= 1:
            self._tokens = tokens - 1
            return 0.0
        self._tokens = tokens
        return (1 - tokens) / pace.rate

    def charge(self, tokens: float) -> None:
        """Take tokens for what has been done already; there may be less than none afterwards."""
        self._tokens -= tokens


class RefusalCount:
    """Refused frames within a sliding window, estimated from two fixed ones: two numbers."""

    __slots__ = ("_before", "_current", "_limit", "_since", "_window")

    def __init__(self, limit: int, window: float, now: float) -> None:
        self._limit = limit
        self._window = window
        self._since = now
        self._current = 0
        self._before = 0

    def add(self, now: float) -> bool:
        """Count one; True if there were too many within the window."""
        passed = now - self._since
        if passed >= self._window:
            self._before = self._current if passed < 2 * self._window else 0
            self._current = 0
            self._since = now
            passed = 0.0
        self._current += 1
        share = self._before * (1 - passed / self._window)
        return self._current + share >= self._limit


@dataclass(frozen=True, slots=True)
class Paces:
    """What each connection of a node may send."""

    messages: Pace
    reading: Pace
    others: Pace


def paces_of(messages_per_second: float) -> Paces:
    """All three, from the one that is configured."""
    burst = limits.RATE_BURST_SECONDS
    other = messages_per_second * limits.RATE_OTHER_FACTOR
    return Paces(
        messages=Pace(messages_per_second, messages_per_second * burst),
        reading=Pace(other / limits.RATE_READING_COST, other * burst * limits.RATE_READING_BURST),
        others=Pace(other, other * burst),
    )


class Allowance:
    """What one connection may send: messages, other frames, and refusals until it is closed.

    Most connections never ask for most of it, so a bucket is made when it is first taken from.
    """

    __slots__ = ("_messages", "_others", "_paces", "_reading", "_refusals")

    def __init__(self, paces: Paces) -> None:
        self._paces = paces
        self._messages: TokenBucket | None = None
        self._others: TokenBucket | None = None
        self._reading: TokenBucket | None = None
        self._refusals: RefusalCount | None = None

    @property
    def last_message_at(self) -> float:
        """When the newest frame came that was counted as a message; 0 if none did."""
        return 0.0 if self._messages is None else self._messages.taken_at

    def take(self, command: type, now: float) -> float:
        """Take one frame of this type: 0 if it is allowed, else the seconds until it would be."""
        if command in RATED_AS_MESSAGES:
            bucket = self._messages = self._messages or TokenBucket(self._paces.messages, now)
        elif command in RATED_AS_READING:
            bucket = self._reading = self._reading or TokenBucket(self._paces.reading, now)
        else:
            bucket = self._others = self._others or TokenBucket(self._paces.others, now)
        return bucket.take(now)

    def charge_answer(self, size: int) -> None:
        """An answer of `size` bytes was read for the connection, whose command was taken before."""
        assert self._reading is not None
        self._reading.charge(size / limits.RATE_READING_BYTES)

    def refuse(self, now: float) -> bool:
        """Count a refused frame; True if there were too many."""
        if self._refusals is None:
            self._refusals = RefusalCount(limits.RATE_REFUSED_MAX, limits.RATE_REFUSED_SECONDS, now)
        return self._refusals.add(now)
