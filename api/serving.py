"""The HTTP server under the application: hypercorn's parts, with bounds of our own.

hypercorn gives a client more than we do: it waits for ever for an answer to be taken, more than a
minute for the head of a request, takes any number of connections, and changes to HTTP/2 or a
WebSocket when asked to. None of that is offered here.

The rules: a connection speaks HTTP/1.0 or 1.1. It is closed when its peer closes it, when it sends
nothing for the config's `keep_alive_timeout`, when a head that has begun (or the first one) does
not end within `API_HEAD_TIMEOUT`, and when an answer is not taken within `API_RESPONSE_TIMEOUT`.
At most `connections_max` of them are open; above it a connection is closed at once. Whatever goes
wrong in one ends this connection alone.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Final

import h11
import structlog
import trio
from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.config import Config
from hypercorn.events import Closed, Event, RawData, Updated
from hypercorn.protocol.h11 import H11Protocol
from hypercorn.trio.lifespan import Lifespan
from hypercorn.trio.task_group import TaskGroup
from hypercorn.trio.tcp_server import MAX_RECV, TCPServer
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import AppWrapper, ConnectionState
from hypercorn.utils import parse_socket_addr, repr_socket_addr

from config.api_limits import API_HEAD_TIMEOUT, API_RESPONSE_TIMEOUT

_VERSIONS: Final = (b"1.0", b"1.1")
_BAD_REQUEST: Final = 400
_REQUEST_TIMEOUT: Final = 408
_VERSION_NOT_SUPPORTED: Final = 505


async def serve_http(
    application: Any,
    config: Config,
    *,
    connections_max: int,
    wait_shutdown: Callable[[], Awaitable[None]],
    task_status: trio.TaskStatus[list[str]] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve until `wait_shutdown` returns; requests under way get `config.graceful_timeout` then.

    Tells the addresses once it listens. Raises OSError if one of them can not be had.
    """
    app = ASGIWrapper(application)
    lifespan = Lifespan(app, config, {})
    async with trio.open_nursery() as living:
        await living.start(lifespan.handle_lifespan)
        await lifespan.wait_for_startup()
        server = _Server(app, config, connections_max)
        async with trio.open_nursery() as connections:
            await server.accept_until(wait_shutdown, connections, task_status)
            await server.context.terminated.set()
            connections.cancel_scope.deadline = trio.current_time() + config.graceful_timeout
        await lifespan.wait_for_shutdown()
        living.cancel_scope.cancel()


class _Server:
    """The listening sockets and how many connections there are."""

    def __init__(self, app: AppWrapper, config: Config, connections_max: int) -> None:
        self._app = app
        self._config = config
        self._connections_max = connections_max
        self._open = 0
        self.context = WorkerContext(None)

    async def accept_until(
        self,
        wait_shutdown: Callable[[], Awaitable[None]],
        connections: trio.Nursery,
        task_status: trio.TaskStatus[list[str]],
    ) -> None:
        """Accept into the nursery; the sockets are closed afterwards."""
        sockets = self._config.create_sockets().insecure_sockets
        listeners = []
        for one in sockets:
            one.listen(self._config.backlog)
            listeners.append(trio.SocketListener(trio.socket.from_stdlib_socket(one)))
        async with trio.open_nursery() as accepting:
            accepting.start_soon(
                partial(trio.serve_listeners, self._serve, listeners, handler_nursery=connections)
            )
            task_status.started(
                [f"http://{repr_socket_addr(one.family, one.getsockname())}" for one in sockets]
            )
            await wait_shutdown()
            accepting.cancel_scope.cancel()

    async def _serve(self, stream: trio.SocketStream) -> None:
        if self._open >= self._connections_max:
            await trio.aclose_forcefully(stream)
            return
        self._open += 1
        try:
            state = ConnectionState({})
            # hypercorn's types know of TLS only; its code knows of both.
            await _Connection(self._app, self._config, self.context, state, stream).run()  # type: ignore[arg-type]
        except Exception:
            structlog.get_logger("api").exception("a connection failed")
            await trio.aclose_forcefully(stream)
        finally:
            self._open -= 1


class _Connection(TCPServer):
    """One connection with its deadlines."""

    protocol: _PlainHttp  # type: ignore[assignment]
    stream: trio.SocketStream  # type: ignore[assignment]

    async def run(self) -> None:
        """Serve it to its end."""
        self._requests = 0
        self._is_idle = True
        self._has_ended = False
        self._has_begun = True  # the first head is not waited for as long as a further one
        socket = self.stream.socket
        try:
            client = parse_socket_addr(socket.family, socket.getpeername())
            server = parse_socket_addr(socket.family, socket.getsockname())
            async with TaskGroup() as tasks:
                self._task_group = tasks
                self.protocol = _PlainHttp(
                    self.app,
                    self.config,
                    self.context,
                    tasks,
                    ConnectionState(self.state),
                    False,
                    client,
                    server,
                    self.protocol_send,
                )
                await self.idle_task.restart(tasks, self._expire_head)
                await self._read_data()
        except OSError:
            pass  # lost
        finally:
            await self._close()

    async def _read_data(self) -> None:
        data = b"-"
        while data:
            was_idle, requests = self._is_idle, self._requests
            try:
                data = await self.stream.receive_some(MAX_RECV)
            except (trio.ClosedResourceError, trio.BrokenResourceError):
                break
            await self.protocol.handle(RawData(bytes(data)))
            if was_idle and requests == self._requests and not self._has_begun:
                # No request came of it: a head has begun, and its time runs.
                self._has_begun = True
                await self.idle_task.restart(self._task_group, self._expire_head)
        # No timer is left to keep a connection that its peer has closed.
        self._has_ended = True
        await self.protocol.handle(Closed())
        await self.idle_task.stop()

    async def protocol_send(self, event: Event) -> None:
        """Send bytes to the peer, or note that a request has begun or ended."""
        if isinstance(event, RawData):
            async with self.send_lock:
                await self._send(event.data)
            return
        if isinstance(event, Updated) and self._has_ended:
            return
        if isinstance(event, Updated):
            self._is_idle = event.idle
            self._has_begun = False
            if not event.idle:
                self._requests += 1
            elif self.protocol.has_rest:
                self._has_begun = True
                await self.idle_task.restart(self._task_group, self._expire_head)
                return
        await super().protocol_send(event)

    async def _send(self, data: bytes) -> None:
        sent = False
        try:
            with trio.move_on_after(API_RESPONSE_TIMEOUT):
                await self.stream.send_all(data)
                sent = True
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            await self.protocol.handle(Closed())
            return
        finally:
            if not sent:
                # Part of an answer may have left: nothing can follow it on this connection.
                self.stream.socket.close()
        if not sent:
            await self.protocol.handle(Closed())

    async def _expire_head(self) -> None:
        """The head of a request has its time; not a second more while the process stops."""
        with trio.move_on_after(API_HEAD_TIMEOUT):
            await self.context.terminated.wait()
        with trio.CancelScope(shield=True, deadline=trio.current_time() + API_HEAD_TIMEOUT):
            if not self.context.terminated.is_set():
                await self.protocol.refuse_head(_REQUEST_TIMEOUT)
            await self._initiate_server_close()


class _Refused(Exception):
    """This request is not taken; `status` says why."""

    def __init__(self, status: int) -> None:
        self.status = status
        super().__init__(status)


class _PlainHttp(H11Protocol):
    """HTTP/1.x and nothing else on a connection."""

    async def handle(self, event: Event) -> None:
        """Bytes of the peer, or its end."""
        try:
            await super().handle(event)
        except _Refused as refused:
            await self.refuse_head(refused.status)
            await self.send(Closed())

    @property
    def has_rest(self) -> bool:
        """Whether bytes of the next request have come already."""
        return bool(self.connection.trailing_data[0])

    async def refuse_head(self, status: int) -> None:
        """Answer instead of the application, if nobody has begun to."""
        if self.stream is None and self.connection.our_state in {h11.IDLE, h11.SEND_RESPONSE}:
            await self._send_error_response(status)

    async def _check_protocol(self, event: h11.Request) -> None:
        # An `Upgrade` to HTTP/2 may be passed over, its preface may not.
        if event.http_version not in _VERSIONS:
            raise _Refused(_VERSION_NOT_SUPPORTED)
        names = {name for name, _value in event.headers}
        if {b"content-length", b"transfer-encoding"} <= names:
            # A proxy in front may have believed the other one (RFC 9112 section 6.1).
            raise _Refused(_BAD_REQUEST)

    async def _create_stream(self, request: h11.Request) -> None:
        # A WebSocket handshake is a request like any other here: there is no such route.
        headers = [pair for pair in request.headers if pair[0] != b"upgrade"]
        await super()._create_stream(
            h11.Request(
                method=request.method,
                target=request.target,
                headers=headers,
                http_version=request.http_version,
            )
        )
