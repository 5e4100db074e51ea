"""Quiet rooms: how many are online, every few seconds, where naming them would be too much.

The scripts name nobody in a room with more than QUIET_ROOM_USERS online, and tell the nodes by one
`presence.count` when it becomes so. From then on each node asks Redis how many there are, for its
quiet rooms alone, and tells its own subscribers if that has changed; so nobody has to be chosen to
tell the others, and it costs Redis one HLEN a quiet room, node and interval.
"""

from __future__ import annotations

import time

import structlog
import trio

from broker.hub import Hub
from broker.hub_room import HubRoom
from config import limits
from storage.errors import StorageUnavailable
from storage.redis.entries import NOBODY, Entry
from storage.redis.live import LiveStore


class QuietRooms:
    """Tells the counts of one node's quiet rooms."""

    def __init__(self, hub: Hub, live: LiveStore) -> None:
        self._hub = hub
        self._live = live
        self._log = structlog.get_logger("broker.quiet")

    async def run(self) -> None:
        """Tell what has changed, until cancelled."""
        while True:
            await trio.sleep(limits.QUIET_COUNT_INTERVAL)
            try:
                await self.tell()
            except StorageUnavailable as error:
                self._log.info("counts wait", reason=str(error))

    async def tell(self) -> None:
        """Ask for the counts and tell those that have changed. Raises StorageUnavailable."""
        rooms = list(self._hub.quiet)
        counts = await self._live.online_counts([room.key for room in rooms])
        for room, online in zip(rooms, counts, strict=True):
            told = self._hub.quiet.get(room)
            if told is None:
                continue  # meanwhile it names people again, or nobody here is in it
            if self._hub.is_quiet(online):
                self._hub.quiet[room] = online
            else:
                del self._hub.quiet[room]
            if online != told:
                self._tell(room, online)

    def _tell(self, room: HubRoom, online: int) -> None:
        ms = int(time.time() * 1000)
        data = b'{"online":%d}' % online
        room.take(Entry(NOBODY, 0, 0, ms, "presence.count", room.key, None, 0, data))
        self._hub.spreading.send((room,))
