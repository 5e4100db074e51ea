"""A TCP proxy between a process and its server, for faults on the way.

Normal: bytes pass both ways. `delay` holds each piece back; `pause` stops forwarding (the kernel
buffers fill up); `swallow` makes the peer look vanished (half-open: bytes are taken and dropped,
nothing is closed); `trickle` passes one byte at a time; `cut` ends all connections; `cut_after`
ends a connection once so many bytes have passed in one direction, in the middle of a reply if need
be; `lose_answer_to` lets a request reach the server and ends the connection with its answer;
`refuse` ends new connections at once, `hang` accepts them and never answers. All may be changed at
any time.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Literal

import trio

from tests.support.waiting import pass_time
from workers.embedded.ports import LOOPBACK

Direction = Literal["to_server", "to_client"]
# Of a piece that trickles only so much is broken up, or a reply of 64 KiB would take minutes.
_TRICKLED_BYTES_MAX = 200


class TcpProxy:
    """Opened by `open_proxy`; connect to `port` instead of to the server."""

    def __init__(self, target_port: int) -> None:
        self.target_port = target_port
        self.port = 0
        self.delay = 0.0
        """Seconds that each piece is held back, in both directions."""
        self.connections_made = 0
        self.bytes_passed: dict[Direction, int] = {"to_server": 0, "to_client": 0}
        self._refusing = False
        self._swallowing = False
        self._trickling = False
        self._answering = trio.Event()
        self._answering.set()
        self._going = trio.Event()
        self._going.set()
        self._limits: dict[Direction, int] = {}
        self._unanswerable = b""
        self._without_answer: set[trio.CancelScope] = set()
        self._open: set[trio.CancelScope] = set()

    @property
    def open_connections(self) -> int:
        return len(self._open)

    def replace_port(self, url: str) -> str:
        """The server's URL with the proxy's port in it."""
        changed = url.replace(f":{self.target_port}", f":{self.port}")
        assert changed != url, f"{url} does not name port {self.target_port}"
        return changed

    def cut(self) -> None:
        """End every connection there is, at once and on both sides."""
        for scope in tuple(self._open):
            scope.cancel()

    def cut_after(self, count: int, direction: Direction) -> None:
        """End the next connection that would pass more than `count` further bytes that way.

        Exactly `count` bytes pass before; then the limit is gone.
        """
        self._limits[direction] = self.bytes_passed[direction] + count

    def lose_answer_to(self, request: bytes) -> None:
        """The next piece to the server that holds `request` is answered, and the answer is lost."""
        self._unanswerable = request

    @property
    def has_lost_answer(self) -> bool:
        """Whether that has happened."""
        return not self._unanswerable and not self._without_answer

    def refuse(self) -> None:
        """End existing and new connections, until `accept`."""
        self._refusing = True
        self.cut()

    def accept(self) -> None:
        self._refusing = False

    def hang(self) -> None:
        """Accept new connections and neither answer nor end them, until `stop_hanging`."""
        self._answering = trio.Event()

    def stop_hanging(self) -> None:
        """Connections that hang are ended; new ones are served again."""
        self._answering.set()

    def trickle(self) -> None:
        """Pass one byte at a time, until `stop_trickling`."""
        self._trickling = True

    def stop_trickling(self) -> None:
        self._trickling = False

    def pause(self) -> None:
        """Forward nothing, lose nothing, until `resume`."""
        self._going = trio.Event()

    def resume(self) -> None:
        self._going.set()

    def swallow(self) -> None:
        """Take bytes and drop them, from now on and for good on connections that exist."""
        self._swallowing = True

    def stop_swallowing(self) -> None:
        """New bytes pass again. What was dropped is gone: streams are spoiled, so cut them."""
        self._swallowing = False
        self.cut()

    async def _serve(self, client: trio.SocketStream) -> None:
        with trio.CancelScope() as scope:
            async with client:
                if self._refusing:
                    return
                if not self._answering.is_set():
                    await self._answering.wait()
                    return
                self._open.add(scope)
                self.connections_made += 1
                try:
                    await self._forward(client, scope)
                finally:
                    self._open.discard(scope)

    async def _forward(self, client: trio.SocketStream, scope: trio.CancelScope) -> None:
        try:
            server = await trio.open_tcp_stream(LOOPBACK, self.target_port)
        except OSError:
            return  # the server is down: the client sees its connection end
        async with server, trio.open_nursery() as nursery:
            nursery.start_soon(self._pump, client, server, "to_server", scope)
            nursery.start_soon(self._pump, server, client, "to_client", scope)

    async def _pump(
        self,
        source: trio.SocketStream,
        target: trio.SocketStream,
        direction: Direction,
        scope: trio.CancelScope,
    ) -> None:
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            async for data in source:
                if self.delay:
                    await trio.sleep(self.delay)
                await self._going.wait()
                if self._swallowing:
                    continue
                if direction == "to_client" and scope in self._without_answer:
                    self._without_answer.discard(scope)
                    break
                if direction == "to_server" and self._unanswerable and self._unanswerable in data:
                    self._unanswerable = b""
                    self._without_answer.add(scope)
                passed, is_last = self._within_limit(bytes(data), direction)
                self.bytes_passed[direction] += len(passed)
                if self._trickling:
                    await self._send_bytewise(target, passed)
                else:
                    await target.send_all(passed)
                if is_last:
                    break
        scope.cancel()

    async def _send_bytewise(self, target: trio.SocketStream, data: bytes) -> None:
        for place in range(min(len(data), _TRICKLED_BYTES_MAX)):
            await target.send_all(data[place : place + 1])
            await pass_time(0.001)
        await target.send_all(data[_TRICKLED_BYTES_MAX:])

    def _within_limit(self, data: bytes, direction: Direction) -> tuple[bytes, bool]:
        limit = self._limits.get(direction)
        if limit is None or self.bytes_passed[direction] + len(data) <= limit:
            return data, False
        del self._limits[direction]
        return data[: limit - self.bytes_passed[direction]], True


@asynccontextmanager
async def open_proxy(target_port: int) -> AsyncIterator[TcpProxy]:
    """A proxy to a port of this machine, on a free port of its own."""
    proxy = TcpProxy(target_port)
    failure: BaseException | None = None
    async with trio.open_nursery() as nursery:
        listeners = await trio.open_tcp_listeners(0, host=LOOPBACK)
        proxy.port = listeners[0].socket.getsockname()[1]
        nursery.start_soon(trio.serve_listeners, proxy._serve, listeners)
        # What the block raises leaves as itself, not as a group of one.
        try:
            yield proxy
        except BaseException as error:
            failure = error
        nursery.cancel_scope.cancel()
    if failure is not None:
        raise failure
