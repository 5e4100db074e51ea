"""How long calls on a pool took lately: rings that one thread fills and another empties.

Appending and popping of a deque are atomic, so neither waits for the other; what does not fit
between two looks is dropped, the oldest first.
"""

from __future__ import annotations

from collections import deque
from typing import Final

# Between two looks, a second apart, of queries and of waits each.
TIMES_KEPT: Final = 1000


class PoolTimes:
    """How long calls took lately, for whoever empties the rings: the newest ones, in seconds."""

    def __init__(self) -> None:
        self.queries: deque[float] = deque(maxlen=TIMES_KEPT)
        """Calls and whole transactions, from having a connection to giving it back."""
        self.waits: deque[float] = deque(maxlen=TIMES_KEPT)
        """Of calls that found all connections busy, until they had one or gave up."""
