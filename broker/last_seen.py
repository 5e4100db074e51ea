"""When users were seen last: written behind the events, in batches, never on anybody's way.

A user is seen when its first connection to this node comes and when the last one ends. The node
stays in the user's own channel until the second is in PostgreSQL, so that a node that dies before
leaves a trace: whoever reaps it notes its users as seen until the end of its lease. A time only
ever rises, so it does no harm to write one twice. While PostgreSQL is away the times wait here.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from itertools import islice

import structlog
import trio

from config import limits
from storage.errors import StorageUnavailable
from storage.postgres.pool import Database
from storage.postgres.presence import touch_users
from storage.redis.keys import split_room_key
from storage.redis.nodes import NodeStore


class LastSeen:
    """Writes `last_seen_at` for one node."""

    def __init__(
        self, db: Database, nodes: NodeStore, *, mark_leave: Callable[[str], None]
    ) -> None:
        self._db = db
        self._nodes = nodes
        self._mark_leave = mark_leave
        self._waiting: dict[str, float] = {}
        """Channel → seconds since 1970; oldest first."""
        self._leaving: set[str] = set()
        self._log = structlog.get_logger("broker.last_seen")

    @property
    def waiting(self) -> int:
        """Users whose time is not written yet."""
        return len(self._waiting)

    def note(self, channel: str, has_ended: bool) -> None:
        """A user of this node is seen now; `has_ended`: for the last time."""
        self._note(channel, time.time())
        if has_ended:
            self._leaving.add(channel)

    def _note(self, channel: str, at: float) -> None:
        known = self._waiting.pop(channel, at)
        self._waiting[channel] = max(known, at)

    async def run(self) -> None:
        """Write what waits, some at a time, until cancelled."""
        while True:
            await trio.sleep(limits.LAST_SEEN_INTERVAL)
            try:
                await self.write_some()
            except StorageUnavailable as error:
                self._log.info("last_seen_at waits", users=self.waiting, reason=str(error))
                self._forget_oldest()

    async def write_all(self) -> None:
        """Write everything that waits. Raises StorageUnavailable; then it goes on waiting."""
        while self._waiting:
            await self.write_some()

    async def write_some(self) -> None:
        """Write a batch. Raises StorageUnavailable; then it goes on waiting."""
        batch = list(islice(self._waiting.items(), limits.LAST_SEEN_ROWS))
        try:
            if batch:
                await touch_users(self._db, [_row(channel, at) for channel, at in batch])
            for channel, at in batch:
                if self._waiting.get(channel) == at:
                    del self._waiting[channel]
        finally:
            # Also if it failed: a channel that nobody is on must not wait for PostgreSQL.
            for channel, _at in batch:
                if channel in self._leaving:
                    self._leaving.discard(channel)
                    self._mark_leave(channel)

    async def note_dead(self, node: str) -> None:
        """Note the users of a dead node, and write them if that is quick.

        Raises StorageUnavailable if Redis is away; PostgreSQL is not waited for long.
        """
        lease = await self._nodes.lease_end(node)
        if lease is None:
            return
        at = min(lease / 1000, time.time())
        for channel in await self._nodes.channels_of(node):
            self._note(channel, at)
        with trio.move_on_after(limits.LAST_SEEN_INTERVAL):
            try:
                await self.write_all()
            except StorageUnavailable as error:
                if error.backend == "redis":
                    raise
                self._log.info("last_seen_at waits", users=self.waiting, reason=str(error))
                self._forget_oldest()

    def _forget_oldest(self) -> None:
        while len(self._waiting) > limits.LAST_SEEN_WAITING_MAX:
            del self._waiting[next(iter(self._waiting))]


def _row(channel: str, at: float) -> tuple[str, str, datetime]:
    project, room = split_room_key(channel)
    return project, room.removeprefix("/"), datetime.fromtimestamp(at, UTC)
