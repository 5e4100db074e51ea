"""How many requests a token may make: one bucket a token and process.

Keys are not limited. The bucket holds RATE_BURST_SECONDS worth of requests. Nothing here awaits.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from config.api_limits import API_RATES_MAX
from config.limits import RATE_BURST_SECONDS


@dataclass(slots=True)
class _Bucket:
    tokens: float
    at: float


@dataclass(frozen=True, slots=True)
class RateState:
    """What the RateLimit headers say; `retry_after` is None if the request may go on."""

    limit: int
    remaining: int
    reset: int
    retry_after: float | None


class RequestRates:
    """The buckets of one process."""

    def __init__(self, per_second: float, clock: Callable[[], float]) -> None:
        """`clock` gives rising seconds."""
        self._rate = per_second
        self._size = max(1.0, per_second * RATE_BURST_SECONDS)
        self._clock = clock
        self._buckets: OrderedDict[bytes, _Bucket] = OrderedDict()

    def take(self, who: bytes) -> RateState:
        """Count one request of the token with this digest."""
        now = self._clock()
        bucket = self._buckets.get(who)
        if bucket is None:
            bucket = self._buckets[who] = _Bucket(self._size, now)
            if len(self._buckets) > API_RATES_MAX:
                self._buckets.popitem(last=False)
        self._buckets.move_to_end(who)
        bucket.tokens = min(self._size, bucket.tokens + (now - bucket.at) * self._rate)
        bucket.at = now
        retry_after = None
        if bucket.tokens >= 1:
            bucket.tokens -= 1
        else:
            retry_after = (1 - bucket.tokens) / self._rate
        reset = math.ceil((self._size - bucket.tokens) / self._rate)
        return RateState(int(self._size), int(bucket.tokens), reset, retry_after)
