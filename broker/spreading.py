"""Sending the events of large rooms in portions, between which everything else has its turn.

A send costs about ten microseconds: an event of a room of 1 000 in one piece is ten milliseconds
in which no publish is read, no answer taken, and no other room's event delivered. So a room of more
than `SENDS_PER_TURN` live subscriptions, and what a batch has beyond `SENDS_PER_BATCH`, stands in a
line, and the rooms in line take turns. What comes for them meanwhile joins what is on its way.

The rules: synchronous but for the tasks, so whoever flushes a room finds it whole. A turn of the
line is a portion, or as long as the others had the loop since the last one, so that the line moves
while the loop is busy. While `ROOMS_BEHIND_MAX` rooms are in line the inbox is not read: what
waits, waits in Redis.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Iterable

import trio

from broker.counts import Counts
from broker.hub_room import HubRoom
from config import spreading_limits as limits


class Spreading:
    """The rooms of one node that are behind: some subscriptions lack events that others have."""

    def __init__(
        self,
        counts: Counts,
        *,
        sends_per_turn: int = limits.SENDS_PER_TURN,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._counts = counts
        self._sends_per_turn = sends_per_turn
        self._clock = clock
        self._line: OrderedDict[HubRoom, None] = OrderedDict()
        self._ended_at = 0.0
        self._more = trio.Event()
        self._room = trio.Event()

    def send(self, rooms: Iterable[HubRoom]) -> None:
        """What these rooms have taken: at once, or in turns if they are large or many."""
        line, per_turn = self._line, self._sends_per_turn
        left = limits.SENDS_PER_BATCH
        counts = self._counts
        for room in rooms:
            live = room.live
            size = len(live)
            if size <= per_turn and left > 0 and room not in line:
                live.flush()
                left -= size
            elif live.is_behind:
                line[room] = None
            counts.deliveries += live.delivered
            live.delivered = 0
        if line:
            self._more.set()

    def turn(self) -> None:
        """Send one portion of the room whose turn it is; more if the others took longer."""
        line = self._line
        begun_at = self._clock()
        ends_at = begun_at + min(begun_at - self._ended_at, limits.SPREADING_TURN_MAX)
        left = self._sends_per_turn
        while line:
            room, _ = line.popitem(last=False)
            live = room.live
            left -= live.spread(left)
            self._counts.deliveries += live.delivered
            live.delivered = 0
            if live.is_behind:
                line[room] = None
            if left <= 0:
                if self._clock() >= ends_at:
                    break
                left = self._sends_per_turn
        self._ended_at = self._clock()
        if len(line) < limits.ROOMS_BEHIND_MAX:
            self._room.set()

    async def run(self) -> None:
        """Let the rooms take turns until cancelled."""
        while True:
            if not self._line:
                self._more = trio.Event()
                await self._more.wait()
                self._ended_at = self._clock()
            else:
                await trio.lowlevel.checkpoint()
            self.turn()

    async def wait_short(self) -> None:
        """Until few enough rooms are behind for more to be read."""
        while len(self._line) >= limits.ROOMS_BEHIND_MAX:
            self._room = trio.Event()
            await self._room.wait()
