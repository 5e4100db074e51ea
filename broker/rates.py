"""How much one connection may ask: token buckets, the count of refusals. Pure, time passed in.

Three rates: messages; what is read at a price (a page, a subscription and what it resumes), whose
answers are charged by size afterwards; everything else.
"""

from __future__ import annotations

from broker.protocol.commands import RATED_AS_MESSAGES, RATED_AS_READING
from config import limits


class TokenBucket:
    """A steady rate with a burst. `now` is any clock that rises, in seconds."""

    __slots__ = ("_burst", "_rate", "_tokens", "taken_at")

    def __init__(self, rate: float, burst: float, now: float) -> None:
        self._rate = rate
        self._burst = burst
        self._tokens = burst
        self.taken_at = now

    def take(self, now: float) -> float:
        """Take one token: 0 if it was there, else the seconds until the next."""
        tokens = min(self._burst, self._tokens + (now - self.taken_at) * self._rate)
        self.taken_at = now
        if tokens >= 1:
            self._tokens = tokens - 1
            return 0.0
        self._tokens = tokens
        return (1 - tokens) / self._rate

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


class Allowance:
    """What one connection may send: messages, other frames, and refusals until it is closed."""

    __slots__ = ("_messages", "_others", "_reading", "_refusals")

    def __init__(self, messages_per_second: float, now: float) -> None:
        other = messages_per_second * limits.RATE_OTHER_FACTOR
        burst = limits.RATE_BURST_SECONDS
        self._messages = TokenBucket(messages_per_second, messages_per_second * burst, now)
        self._others = TokenBucket(other, other * burst, now)
        self._reading = TokenBucket(
            other / limits.RATE_READING_COST, other * burst * limits.RATE_READING_BURST, now
        )
        self._refusals: RefusalCount | None = None

    @property
    def last_message_at(self) -> float:
        """When the newest frame came that was counted as a message."""
        return self._messages.taken_at

    def take(self, command: type, now: float) -> float:
        """Take one frame of this type: 0 if it is allowed, else the seconds until it would be."""
        if command in RATED_AS_MESSAGES:
            return self._messages.take(now)
        if command in RATED_AS_READING:
            return self._reading.take(now)
        return self._others.take(now)

    def charge_answer(self, size: int) -> None:
        """An answer of `size` bytes was read for the connection."""
        self._reading.charge(size / limits.RATE_READING_BYTES)

    def refuse(self, now: float) -> bool:
        """Count a refused frame; True if there were too many."""
        if self._refusals is None:
            self._refusals = RefusalCount(limits.RATE_REFUSED_MAX, limits.RATE_REFUSED_SECONDS, now)
        return self._refusals.add(now)
