"""What a node keeps telling Redis: leaves, presence that fell, the end of graces; and who is dead.

The rules: every call is absolute and idempotent, so what failed is simply marked again. Connections
never wait for any of this: their clean-up only marks the hub dirty.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Awaitable, Callable
from typing import TypeVar

import structlog
import trio

from broker.hub import Hub
from config import limits
from storage.errors import StorageUnavailable
from storage.redis.keys import is_user_channel
from storage.redis.nodes import NodeStore

T = TypeVar("T")

RETRY_AFTER = 0.5
"""Pause after Redis was away, in seconds; the marks wait meanwhile."""


async def _do_nothing(_node: str) -> None:
    """Nobody wants to know."""


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
        self._keeps_presence = False
        self.before_reap: Callable[[str], Awaitable[None]] = _do_nothing
        """Called with a dead node before the first of its rooms is cleaned. Quick."""
        self._log = structlog.get_logger("broker.upkeep")

    def attach(self, hub: Hub) -> None:
        """Serve this hub; once, before `run`."""
        self._hub = hub

    def wake(self) -> None:
        """There is something to send."""
        self._wake.set()

    def keep_presence(self) -> None:
        """From now on nobody leaves: the node drains, and who ends here comes back elsewhere.

        What stays behind ends with the node's lease, and is announced by whoever reaps it.
        """
        self._keeps_presence = True
        self._due.clear()

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
        await self._send_all(hub.dirty_presence, self._send_presence)
        await self._send_all(hub.dirty_leaves, self._send_leave)

    async def _send_all(self, dirty: set[T], send: Callable[[T], Awaitable[None]]) -> None:
        """Send every mark, some at once: a thousand connections may end in the same moment."""
        failures: list[StorageUnavailable] = []

        async def send_one(mark: T) -> None:
            try:
                await send(mark)
            except StorageUnavailable as error:
                dirty.add(mark)
                failures.append(error)
            except BaseException:
                dirty.add(mark)
                raise

        while dirty and not failures:
            async with trio.open_nursery() as nursery:
                for _ in range(min(len(dirty), limits.MARKS_AT_ONCE)):
                    nursery.start_soon(send_one, dirty.pop())
        if failures:
            raise failures[0]

    async def _send_presence(self, mark: tuple[str, str]) -> None:
        key, user = mark
        # Count and gen are taken together with the enqueueing: a newer word has a higher gen.
        count = self.hub.connection_count(key, user)
        is_gone = mark in self.hub.gone_at_once and count == 0
        if count == 0 and self._keeps_presence and not is_gone:
            return
        gen = self.hub.next_gen()
        self.hub.gone_at_once.discard(mark)
        try:
            await self._nodes.presence(key, self._node_name(), user, count, gen)
            if is_gone:
                await self._nodes.leave_due(key, self._node_name(), user, 0)
        except BaseException:
            if is_gone:
                self.hub.gone_at_once.add(mark)
            raise
        if count == 0 and not is_gone and not self._keeps_presence:
            due = trio.current_time() + self._grace
            heapq.heappush(self._due, (due, next(self._count), key, user))
            self._graces[key] = self._graces.get(key, 0) + 1

    async def _send_leave(self, key: str) -> None:
        if self.hub.holds(key):
            return
        # A room that is forgotten is not found by whoever reaps the node's presence; a user's
        # channel has none.
        is_channel = is_user_channel(key)
        forget = is_channel or (key not in self._graces and not self._keeps_presence)
        await self._nodes.leave(key, self._node_name(), self.hub.next_gen(), forget=forget)

    async def _end_graces(self) -> None:
        now = trio.current_time()
        while self._due and self._due[0][0] <= now:
            due = self._due[0]
            _at, _count, key, user = due
            left_ms = 0
            if self.hub.connection_count(key, user) == 0:
                grace_ms = int(self._grace * 1000)
                left_ms = await self._nodes.leave_due(key, self._node_name(), user, grace_ms)
            if not self._due or self._due[0] is not due:
                return  # a drain has begun
            if left_ms > 0:
                # Redis' clock is slower than ours, or this is a newer absence: look again then.
                later = trio.current_time() + left_ms / 1000
                heapq.heapreplace(self._due, (later, next(self._count), key, user))
                continue
            heapq.heappop(self._due)
            self._end_grace(key)

    def _end_grace(self, key: str) -> None:
        left = self._graces[key] - 1
        if left:
            self._graces[key] = left
            return
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
                    await self.before_reap(node)
                    while await self._nodes.reap(node) > 0:
                        pass
            except StorageUnavailable as error:
                self._log.info("sweep waits", reason=str(error))
