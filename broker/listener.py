"""Accepting connections and keeping them together until they have ended.

The nesting is the order of shutdown: keepalive around connections around accepting. When
`stop_accepting` was called (or accepting failed) `run` goes on until the last connection has
ended; the application ends them through their peers, `abort` ends what is left. New connections
are taken in bounded bursts; above `connections_max` a WebSocket is answered 503, and above a
little more even that is refused. When the process is out of file descriptors accepting pauses.

Several processes may serve one port with `reuse_port`. What happens on a connection is in
`wire_life`.
"""

from __future__ import annotations

import errno
import math
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

import structlog
import trio

from broker.held_back import HeldBack
from broker.keepalive import Closing, Keepalive
from broker.listening import close_all, open_listening_sockets
from broker.peer import Application
from broker.readers import Readers
from broker.refusing import refuse_at_once
from broker.wire import Wire
from broker.wire_life import WireLife, refusal_answer
from config import limits, wire_limits
from config.metrics import Metrics
from config.settings import Settings

_EXHAUSTED: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
_DEFAULT_PORT: Final = 8765

_logger: Final = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class ListenerOptions:
    """Settings of a listener. Sizes in bytes, times in seconds; port 0 takes any free one."""

    host: str = "127.0.0.1"
    port: int = 0
    reuse_port: bool = False
    backlog: int = wire_limits.LISTEN_BACKLOG
    connections_max: int = limits.CONNECTIONS_MAX
    allowed_origins: tuple[str, ...] = ()
    max_frame_bytes: int = 65_536
    send_queue_bytes: int = 1024 * 1024
    ping_interval: float = 25.0
    pong_timeout: float = 8.0
    head_timeout: float = wire_limits.HEAD_TIMEOUT
    close_timeout: float = limits.CLOSE_TIMEOUT
    slow_close_timeout: float = limits.SLOW_CLOSE_TIMEOUT

    @classmethod
    def from_settings(cls, settings: Settings, *, connections_max: int) -> ListenerOptions:
        """What the variables say; several broker processes share the port."""
        return cls(
            host=settings.host,
            port=_DEFAULT_PORT if settings.port is None else settings.port,
            reuse_port=settings.broker_processes > 1,
            connections_max=connections_max,
            allowed_origins=settings.allowed_origins,
            max_frame_bytes=settings.max_frame_bytes,
            send_queue_bytes=settings.send_queue_bytes,
            ping_interval=settings.ping_interval,
            pong_timeout=settings.pong_timeout,
        )


@dataclass(frozen=True, slots=True)
class ListenerStatistics:
    """A snapshot: `open` WebSockets, all `sockets`, `refused` handshakes, `lost` peers."""

    open: int
    sockets: int
    refused: int
    lost: int


class Listener:
    """Serves an application on one address; used once.

    `await nursery.start(listener.run)` returns when connections are accepted.
    """

    def __init__(
        self, *, application: Application, options: ListenerOptions, metrics: Metrics
    ) -> None:
        self._options = options
        self._metrics = metrics
        self.send_queue_bytes = options.send_queue_bytes
        self.max_frame_bytes = options.max_frame_bytes
        self.keepalive = Keepalive(
            ping_interval=options.ping_interval,
            pong_timeout=options.pong_timeout,
            close_timeout=options.close_timeout,
            slow_close_timeout=options.slow_close_timeout,
        )
        self._line = trio.Lock()
        self.readers = Readers()
        self._held_back = HeldBack()
        self.send_soon = self._held_back.add
        self._life = WireLife(
            application=application,
            head_timeout=options.head_timeout,
            max_frame_bytes=options.max_frame_bytes,
            allowed_origins=options.allowed_origins,
            refusal=self._refusal,
            count_opened=self._count_opened,
            count_refused=self._count_refused,
        )
        self._connections: trio.Nursery | None = None
        self._accepting: trio.CancelScope | None = None
        self._is_accepting = False
        self._wires: set[Wire] = set()
        self._open = 0
        self._refused = 0
        self._all_ended: trio.Event | None = None
        self.addresses: tuple[tuple[str, int], ...] = ()
        """Where it listens: host and port."""

    @property
    def port(self) -> int:
        """The port of the first address."""
        return self.addresses[0][1]

    def statistics(self) -> ListenerStatistics:
        """How it stands now."""
        return ListenerStatistics(self._open, len(self._wires), self._refused, self.keepalive.lost)

    async def run(
        self, *, task_status: trio.TaskStatus[Listener] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Serve until `stop_accepting` and the end of the last connection, or until cancelled.

        Raises OSError if the address can not be had.
        """
        options = self._options
        sockets = await open_listening_sockets(
            options.host, options.port, backlog=options.backlog, reuse_port=options.reuse_port
        )
        try:
            async with trio.open_nursery() as background:
                background.start_soon(self.keepalive.run)
                background.start_soon(self.readers.run)
                background.start_soon(self._held_back.run)
                background.start_soon(self._watch_outboxes)
                async with trio.open_nursery() as connections:
                    self._connections = connections
                    await self._accept_all(sockets, task_status)
                background.cancel_scope.cancel()
        finally:
            close_all(sockets)
            self.readers.close()

    def stop_accepting(self) -> None:
        """Take no more connections: the port is closed, handshakes under way get 503."""
        self._is_accepting = False
        if self._accepting is not None:
            self._accepting.cancel()

    async def wait_closed(self, timeout: float = math.inf) -> int:
        """Until no connection is left, for at most `timeout` seconds; how many are left."""
        with trio.move_on_after(timeout):
            await trio.lowlevel.checkpoint()
            while self._wires:
                if self._all_ended is None:
                    self._all_ended = trio.Event()
                await self._all_ended.wait()
        return len(self._wires)

    def abort(self) -> None:
        """End every connection now, without a close frame."""
        self.stop_accepting()
        if self._connections is not None:
            self._connections.cancel_scope.cancel()

    # --- what outboxes need (OutboxContext, WireContext) --------------------------------------

    def start_task(self, run: Callable[[], Awaitable[None]]) -> None:
        """See `OutboxContext`."""
        assert self._connections is not None
        self._connections.start_soon(run)

    def watch_closing(self, outbox: Closing, *, is_slow: bool = False) -> None:
        """See `OutboxContext`."""
        self.keepalive.watch_closing(outbox, is_slow=is_slow)

    def count_slow_consumer(self) -> None:
        """See `OutboxContext`."""
        self._metrics.slow_consumers.inc()

    async def wait_in_line(self) -> None:
        """See `WireContext`: one of them for each round of the event loop, in order."""
        async with self._line:
            await trio.lowlevel.checkpoint()

    # --- accepting ----------------------------------------------------------------------------

    async def _accept_all(
        self, sockets: list[socket.socket], task_status: trio.TaskStatus[Listener]
    ) -> None:
        async with trio.open_nursery() as accepting:
            self._accepting = accepting.cancel_scope
            self._is_accepting = True
            for listening in sockets:
                accepting.start_soon(self._accept, listening)
            self.addresses = tuple(listening.getsockname()[:2] for listening in sockets)
            task_status.started(self)
        self._is_accepting = False
        close_all(sockets)

    async def _accept(self, listening: socket.socket) -> None:
        while True:
            await trio.lowlevel.wait_readable(listening)
            for _ in range(wire_limits.ACCEPTS_PER_TURN):
                try:
                    accepted, address = listening.accept()
                except BlockingIOError:
                    break
                except OSError as error:
                    if error.errno in _EXHAUSTED:
                        _logger.warning("accepting_paused", reason=error.strerror)
                        await trio.sleep(wire_limits.ACCEPT_PAUSE)
                        break
                    continue  # that one connection went away before it was taken
                self._admit(accepted, address)

    def _admit(self, accepted: socket.socket, address: tuple[str, int]) -> None:
        if len(self._wires) >= self._options.connections_max + wire_limits.CONNECTIONS_ABOVE_MAX:
            self._count_refused("full")
            accepted.close()
            return
        accepted.setblocking(False)
        sentence = self._life.application.refusal()
        if sentence is not None and refuse_at_once(accepted, refusal_answer(sentence).data):
            self._count_refused("busy")
            return
        wire = Wire(accepted, self)
        self._wires.add(wire)
        assert self._connections is not None
        self._connections.start_soon(self._run_connection, wire, address[0])

    async def _run_connection(self, wire: Wire, remote_address: str) -> None:
        code: int | None = None
        try:
            code = await self._life.run(wire, remote_address)
        finally:
            self._wires.discard(wire)
            if wire.is_begun:
                self._open -= 1
                self._metrics.connections.dec()
                self._metrics.connections_closed.labels(code=str(code or "cancelled")).inc()
            if not self._wires and self._all_ended is not None:
                self._all_ended.set()
                self._all_ended = None

    async def _watch_outboxes(self) -> None:
        while True:
            self._metrics.outbox_bytes.set(sum(wire.kept_bytes for wire in self._wires))
            await trio.sleep(limits.TICK_INTERVAL)

    def _refusal(self, has_waited: bool) -> str | None:
        if not self._is_accepting:
            self._count_refused("stopping")
            return "This server is stopping; connect again."
        if self._open >= self._options.connections_max:
            self._count_refused("full")
            return "This server has no room for more connections."
        refusal = None if has_waited else self._life.application.refusal()
        if refusal is not None:
            self._count_refused("busy")
        return refusal

    def _count_refused(self, reason: str) -> None:
        self._refused += 1
        self._metrics.handshakes_refused.labels(reason).inc()

    def _count_opened(self) -> None:
        self._open += 1
        self._metrics.connections.inc()
        self._metrics.connections_opened.inc()
