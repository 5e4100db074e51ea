"""Reporting what was given out before a fence, so that it is not given again (mechanism: seed).

Every process that tells clients numbers reports them when it learns of a new life: a node as it
brings its rooms over, the api and the archiver by `run`. Rooms of an earlier life wait FENCE_WAIT
for these reports. One that comes later, from a process that was stopped or cut off, raises the
room above its numbers; what was given twice by then is told as an error, since nothing can mend it.
"""

from __future__ import annotations

from collections.abc import Collection

import structlog
import trio

from config import limits
from config.metrics import Metrics
from storage.errors import StorageUnavailable
from storage.redis.rooms import RoomStore


class FloorReporter:
    """Reports the numbers that one process has given out."""

    def __init__(self, rooms: RoomStore, metrics: Metrics) -> None:
        self._rooms = rooms
        self._late_floors = metrics.late_floors
        self._changed: set[int] = set()
        self._wake = trio.Event()
        self._log = structlog.get_logger("broker.domain.floors")

    async def report(self, partitions: Collection[int]) -> None:
        """Report what was given before the present lives of these partitions. May be repeated.

        Raises StorageUnavailable.
        """
        for floor in await self._rooms.raise_floors(self._rooms.answered.floors(partitions)):
            if not floor.is_repeated:
                self._late_floors.labels("raised").inc()
                self._log.warning("a room was seeded too low", **floor._asdict())
                continue
            self._late_floors.labels("repeated").inc()
            self._log.error(
                "numbers were given again for other messages",
                room=floor.key,
                first=floor.base_seq + 1,
                last=min(floor.seq, floor.floor_seq),
            )

    async def run(self) -> None:
        """Look for new lives and report, until cancelled; for a process that is no node."""
        self._rooms.lives.add_listener(self._note_new_life)
        while True:
            with trio.move_on_after(limits.LIVES_INTERVAL):
                await self._wake.wait()
            self._wake = trio.Event()
            changed: set[int] = set()
            try:
                await self._rooms.check_lives()
                changed, self._changed = self._changed, set()
                if changed:
                    await self.report(changed)
            except StorageUnavailable as error:
                self._changed |= changed
                self._log.info("floors wait", reason=error.reason)
                await trio.sleep(limits.REPAIR_RETRY_AFTER)

    def _note_new_life(self, partition: int, _known: str, _life: str) -> None:
        self._changed.add(partition)
        self._wake.set()
