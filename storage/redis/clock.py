"""By how much the clock of Redis is ahead of this machine's: what times of its entries mean here.

Asked with `TIME`; half of the round trip is the error, so of the newest few answers the quickest
is believed. Metrics and `parley check` use it; no rule of the product does.
"""

from __future__ import annotations

import time
from collections import deque
from typing import Any, Final, cast

from storage.redis.calls import Caller

_SAMPLES_KEPT: Final = 6


class RedisClock:
    """One process's view of it; 0 before the first answer."""

    def __init__(self) -> None:
        self.ahead = 0.0
        """Seconds."""
        self._samples: deque[tuple[float, float]] = deque(maxlen=_SAMPLES_KEPT)

    async def measure(self, redis: Caller) -> float:
        """Ask once; seconds that Redis is ahead. Raises StorageUnavailable."""
        asked_at, started_at = time.time(), time.perf_counter()
        seconds, micros = cast("list[Any]", await redis.execute("TIME"))
        round_trip = time.perf_counter() - started_at
        ahead = int(seconds) + int(micros) / 1e6 - asked_at - round_trip / 2
        self._samples.append((round_trip, ahead))
        self.ahead = min(self._samples)[1]
        return self.ahead
