"""How hard an attack is driven: few attackers for a moment in the suite, many in the command."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import trio


@dataclass(frozen=True)
class Force:
    """`attackers` at the same time, each again and again until `seconds` are over."""

    attackers: int
    seconds: float

    async def each(self, attack: Callable[[], Awaitable[str]]) -> Counter[str]:
        """Run `attack` by every attacker, repeatedly; what they met, by how often.

        One that is under way at the end is waited for: it says how it went.
        """
        met: Counter[str] = Counter()
        end = trio.current_time() + self.seconds

        async def repeat() -> None:
            while True:
                met[await attack()] += 1
                if trio.current_time() >= end:
                    return

        async with trio.open_nursery() as nursery:
            for _ in range(self.attackers):
                nursery.start_soon(repeat)
        return met

    def while_it_lasts(self) -> trio.CancelScope:
        """Cancels its block when the seconds are over, if it has not ended by itself."""
        return trio.move_on_after(self.seconds)
