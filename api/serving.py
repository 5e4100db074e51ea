"""The HTTP server under the application: accepting, bounds, the end.

hypercorn's server gives a client more than we do: it waits for ever for an answer to be taken, more
than a minute for the head of a request, takes any number of connections, and changes to HTTP/2 or a
WebSocket when asked to. None of that is offered here; its configuration and life span are used.

The rules: a connection speaks HTTP/1.0 or 1.1 (`http_connection`). It is closed when its peer
closes it, when it sends nothing for the config's `keep_alive_timeout`, when a head that has begun
(or the first one) does not end within `API_HEAD_TIMEOUT`, and when an answer is not taken within
`API_RESPONSE_TIMEOUT`. At most `connections_max` of them are open; above it a connection is closed
at once. Whatever goes wrong in one ends this connection alone.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial

import structlog
import trio
from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.config import Config
from hypercorn.trio.lifespan import Lifespan
from hypercorn.utils import parse_socket_addr, repr_socket_addr

from api.http_connection import Application, HttpConnection, Watch


async def serve_http(
    application: Application,
    config: Config,
    *,
    connections_max: int,
    wait_shutdown: Callable[[], Awaitable[None]],
    task_status: trio.TaskStatus[list[str]] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve until `wait_shutdown` returns; requests under way get `config.graceful_timeout` then.

    Tells the addresses once it listens. Raises OSError if one of them can not be had.
    """
    lifespan = Lifespan(ASGIWrapper(application), config, {})
    async with trio.open_nursery() as living:
        await living.start(lifespan.handle_lifespan)
        await lifespan.wait_for_startup()
        server = _Server(application, config, connections_max)
        living.start_soon(server.watch.run)
        async with trio.open_nursery() as connections:
            await server.accept_until(wait_shutdown, connections, task_status)
            server.watch.end()
            connections.cancel_scope.deadline = trio.current_time() + config.graceful_timeout
        await lifespan.wait_for_shutdown()
        living.cancel_scope.cancel()


class _Server:
    """The listening sockets and how many connections there are."""

    def __init__(self, application: Application, config: Config, connections_max: int) -> None:
        self._application = application
        self._config = config
        self._connections_max = connections_max
        self._open = 0
        self.watch = Watch()

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
            socket = stream.socket
            client = parse_socket_addr(socket.family, socket.getpeername())
            server = parse_socket_addr(socket.family, socket.getsockname())
            connection = HttpConnection(
                self._application,
                stream,
                self.watch,
                keep_alive=self._config.keep_alive_timeout,
                head_bytes_max=self._config.h11_max_incomplete_size,
                requests_max=self._config.keep_alive_max_requests,
            )
            await connection.run(client, server)
        except OSError:
            await trio.aclose_forcefully(stream)  # lost before it began
        except Exception:
            structlog.get_logger("api").exception("a connection failed")
            await trio.aclose_forcefully(stream)
        finally:
            self._open -= 1
