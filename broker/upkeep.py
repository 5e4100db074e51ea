"""What a node keeps telling Redis: leaves, presence that fell, the end of graces; and who is dead.

The rules: every call is absolute and idempotent, so what failed is simply marked again. Connections
never wait for any of this: their clean-up only marks the hub dirty.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable

import structlog
import trio

from broker.hub import Hub
from config import limits
from storage.errors import StorageUnavailable
from storage.redis.nodes import NodeStore

RETRY_AFTER = 0.5
"""Pause after Redis was away, in seconds; the marks wait meanwhile."""


class Upkeep:
    """Sends the hub's dirty marks and runs the graces of one node."""

    def __init__(
        self,
        nodes: NodeStore,
        *,
        node_name: Callable[[], str],
        presence_grace: float,
    ) -> None:
        self._nodes = nodes
        self._node_name = node_name
        self._grace = presence_grace
        self._due: list[tuple[float, int, str, str]] = []
        self._graces: dict[str, int] = {}
        self._count = itertools.count()
        self._wake = trio.Event()
        self._hub: Hub | None = None
        self._log = structlog.get_logger("broker.upkeep")

    def attach(self, hub: Hub) -> None:
        """Serve this hub; once, before `run`."""
        self._hub = hub

    def wake(self) -> None:
        """There is something to send."""
        self._wake.set()

    @property
    def hub(self) -> Hub:
        """The hub that is served."""
        assert self._hub is not None, "attach comes first"
        return self._hub

    async def run(self) -> None:
        """Send marks and end graces until cancelled."""
        while True:
            wait = self._due[0][0] - trio.current_time() if self._due else 3600.0
            with trio.move_on_after(max(wait, 0.0)):
                await self._wake.wait()
            self._wake = trio.Event()
            try:
                await self.flush()
                await self._end_graces()
            except StorageUnavailable as error:
                self._log.info("upkeep waits", reason=str(error))
                await trio.sleep(RETRY_AFTER)
                self._wake.set()

    async def flush(self) -> None:
        """Tell Redis everything that is marked. Raises StorageUnavailable; then it stays marked."""
        hub = self.hub
        while hub.dirty_presence:
            key, user = hub.dirty_presence.pop()
            try:
                await self._send_presence(key, user)
            except BaseException:
                hub.dirty_presence.add((key, user))
                raise
        while hub.dirty_leaves:
            key = hub.dirty_leaves.pop()
            if hub.holds(key):
                continue
            try:
                await self._send_leave(key)
            except BaseException:
                hub.dirty_leaves.add(key)
                raise

    async def _send_presence(self, key: str, user: str) -> None:
        # Count and gen are taken together with the enqueueing: a newer word has a higher gen.
        count = self.hub.connection_count(key, user)
        gen = self.hub.next_gen()
        await self._nodes.presence(key, self._node_name(), user, count, gen)
        if count == 0:
            due = trio.current_time() + self._grace
            heapq.heappush(self._due, (due, next(self._count), key, user))
            self._graces[key] = self._graces.get(key, 0) + 1

    async def _send_leave(self, key: str) -> None:
        await self._nodes.leave(
            key, self._node_name(), self.hub.next_gen(), forget=key not in self._graces
        )

    async def _end_graces(self) -> None:
        now = trio.current_time()
        while self._due and self._due[0][0] <= now:
            _due, _count, key, user = self._due[0]
            if self.hub.connection_count(key, user) == 0:
                grace_ms = int(self._grace * 1000)
                await self._nodes.leave_due(key, self._node_name(), user, grace_ms)
            heapq.heappop(self._due)
            left = self._graces[key] - 1
            if left:
                self._graces[key] = left
            else:
                del self._graces[key]
                if not self.hub.holds(key):
                    self.hub.mark_leave(key)

    async def sweep_dead(self) -> None:
        """Reap nodes whose lease has ended, until cancelled."""
        while True:
            await trio.sleep(limits.SWEEP_INTERVAL)
            try:
                for node in await self._nodes.dead_nodes():
                    if node == self._node_name():
                        continue
                    self._log.info("reaping a dead node", dead=node)
                    while await self._nodes.reap(node) > 0:
                        pass
            except StorageUnavailable as error:
                self._log.info("sweep waits", reason=str(error))
