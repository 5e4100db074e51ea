"""What the listener serves: opens connections, looks at their deadlines, and drains them.

The drain, in this order: not ready any more (and a moment for the balancers to see it), no new
connections, the `drain` frame, no new commands, all answers that are on their way, then the closes
spread by the clients themselves, the rest with 1012. Events are posted until the very end, so that
nobody misses what happened before its close.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager

import structlog
import trio

from broker.connection import Connection
from broker.listener import Listener
from broker.peer import TOO_MANY_AT_ONCE, Peer, Receiver
from broker.protocol import errors
from broker.services import Services
from broker.turnstile import Turnstile
from config import limits
from config.readiness import Readiness

DRAIN_POLL = 0.05
"""How often a drain looks whether the last answer has gone out, in seconds."""


class BrokerApplication:
    """All connections of one broker process."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._connections: set[Connection] = set()
        self._door = Turnstile(self._is_behind)
        self._readiness = Readiness()
        self._reconnect_within: float | None = None

    def open_connection(self, peer: Peer) -> Receiver:
        """See `broker.peer.Application`."""
        connection = Connection(peer, self._services)
        self._connections.add(connection)
        connection.open()
        if self._reconnect_within is not None:
            # Its handshake was under way when the others were told.
            connection.drain(self._reconnect_within)
        return connection

    def refusal(self) -> str | None:
        """See `broker.peer.Application`."""
        is_full = self._door.is_full() or self._services.turnstile.is_full()
        return TOO_MANY_AT_ONCE if is_full else None

    def turn(self) -> AbstractAsyncContextManager[None]:
        """See `broker.peer.Application`."""
        return self._door.turn()

    def _is_behind(self) -> bool:
        """Whether more of those who are in wait than are let in at once."""
        services = self._services
        waiting = services.turnstile.waiting + services.fairness.users_waiting
        return waiting > limits.ADMISSIONS_AT_ONCE

    def readiness(self) -> dict[str, object]:
        """See `broker.peer.Application`; not ready while draining or without Redis."""
        self._readiness.note_asked()
        redis = self._services.store.client.is_connected
        is_stopping = self._readiness.is_stopping
        return {
            "ready": redis and not is_stopping,
            "redis": redis,
            "draining": is_stopping,
            "node": self._services.node.id,
        }

    def disconnect_all(self, code: int, reason: str = "") -> None:
        """Close every connection with this code."""
        for connection in self._connections:
            connection.disconnect(code, reason)

    async def run(self) -> None:
        """Look at the connections' deadlines until cancelled."""
        metrics = self._services.metrics
        while True:
            await trio.sleep(limits.TICK_INTERVAL)
            self._connections = {c for c in self._connections if not c.is_closed}
            now = trio.current_time()
            for connection in self._connections:
                connection.tick(now)
            self._door.tick()
            self._services.turnstile.tick()
            self._services.counts.tell()
            metrics.rooms.set(len(self._services.node.hub.rooms))
            self._tell_live_state()
            metrics.subscriptions.set(sum(len(c.subscriptions) for c in self._connections))

    def _tell_live_state(self) -> None:
        metrics, node = self._services.metrics, self._services.node
        metrics.users.set(len(node.hub.channels))
        metrics.quiet_rooms.set(len(node.hub.quiet))
        metrics.typists.set(len(node.live.typists))
        metrics.handshakes_waiting.set(self._door.waiting)
        metrics.last_seen_waiting.set(node.live.last_seen.waiting)

    async def drain(self, listener: Listener, drain_seconds: float) -> None:
        """End every connection, with DRAIN_LEAVE_SHARE of `drain_seconds` to spare."""
        deadline = trio.current_time() + drain_seconds * (1 - limits.DRAIN_LEAVE_SHARE)
        within = round(drain_seconds * limits.DRAIN_RECONNECT_SHARE, 3)
        self._services.metrics.draining.set(1)
        await self._readiness.leave(drain_seconds)
        told_at = trio.current_time()
        listener.stop_accepting()
        self._services.node.begin_drain()
        self._reconnect_within = within
        for connection in list(self._connections):
            if not connection.is_closed:
                connection.drain(within)
        with trio.move_on_after(within):
            await self._wait_for_answers()
        await listener.wait_closed(max(0.0, told_at + within - trio.current_time()))
        await self._close_rest(listener, deadline)
        await listener.wait_closed(max(0.0, deadline - trio.current_time()))
        listener.abort()

    async def _close_rest(self, listener: Listener, deadline: float) -> None:
        """Close who did not leave, some at a time, over half of the time until `deadline`.

        Those who know no `drain` come back when they are closed, and must not all do so at once.
        """
        rest = [connection for connection in self._connections if not connection.is_closed]
        turns = max(1, int((deadline - trio.current_time()) / 2 / DRAIN_POLL))
        size = max(1, -(-len(rest) // turns))
        for first in range(0, len(rest), size):
            for connection in rest[first : first + size]:
                connection.disconnect(errors.RESTART)
            if await listener.wait_closed(DRAIN_POLL) == 0:
                return

    async def _wait_for_answers(self) -> None:
        # Only while draining, and bounded by the caller: an event would cost every publish.
        while any(c.has_work for c in self._connections if not c.is_closed):  # noqa: ASYNC110
            await trio.sleep(DRAIN_POLL)


def guarded(work: Callable[[], Awaitable[None]]) -> Callable[[], Awaitable[None]]:
    """A barrier for tasks of commands: a bug ends that command, never the broker."""

    async def run() -> None:
        try:
            await work()
        except Exception:
            structlog.get_logger("broker.application").exception("a task failed")

    return run
