"""Whether a process should get new work, and how it takes leave of whoever asks.

A process that is told to stop says so on /readyz first and goes on as before for a moment: a
balancer that looks every second or two then sends new work elsewhere, before the port is closed
and before clients come back. Nobody has to wait for that where no balancer looks.
"""

from __future__ import annotations

import math

import trio

from config import limits


class Readiness:
    """One process's; `is_stopping` is what /readyz tells as 503."""

    def __init__(self) -> None:
        self.is_stopping = False
        self._asked_at = -math.inf
        self._asked_before = -math.inf

    def note_asked(self) -> None:
        """Somebody has looked at /readyz."""
        self._asked_before, self._asked_at = self._asked_at, trio.current_time()

    @property
    def is_watched(self) -> bool:
        """Whether somebody looks again and again: twice within READY_WATCHED_WITHIN."""
        return trio.current_time() - self._asked_before < limits.READY_WATCHED_WITHIN

    async def leave(self, drain_seconds: float) -> float:
        """Not ready from now on; wait until whoever looks may have noticed.

        Returns what is left of `drain_seconds`. Cancelled, it stays not ready.
        """
        began = trio.current_time()
        self.is_stopping = True
        lead = min(drain_seconds * limits.DRAIN_LEAD_SHARE, limits.DRAIN_LEAD_MAX)
        if self.is_watched:
            await trio.sleep(lead)
        return max(0.0, drain_seconds - (trio.current_time() - began))
