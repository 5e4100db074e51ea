"""One HTTP/1.x connection: heads and bodies in, answers out, one request after the other.

Law of this file:
- One task a connection: it reads a head, runs the application on it, and goes on to the next. There
  is no task, timer or channel for each request: they were a third of what a request cost.
- The socket is read by whoever waits: for a head this task, during a request the application's
  `receive`. What comes of a further request stays where it is until its turn.
- h11 decides what is a request and what may be answered when; nothing here looks at bytes.
- The head of an answer leaves with the first bytes of its body, in one send.
- That the client has gone is told to an application that waits for it, until its answer begins;
  one that does not wait is cancelled (`API_GONE_CHECK`). An answer that has begun is sent to its
  end, or as far as somebody takes it.
- Waiting for a head is bounded (see `serving`), and so is sending: an answer not taken within
  `API_RESPONSE_TIMEOUT` closes the connection, because part of it may have left.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from socket import MSG_PEEK
from typing import Any, Final

import h11
import structlog
import trio

from api.http_exchange import Address, Exchange, date_header, scope_of
from config.api_limits import (
    API_GONE_CHECK,
    API_HEAD_TIMEOUT,
    API_RECEIVE_BYTES,
    API_RESPONSE_TIMEOUT,
)

Application = Callable[[Any, Any, Any], Awaitable[None]]

_VERSIONS: Final = (b"1.0", b"1.1")
_BAD_REQUEST: Final = 400
_REQUEST_TIMEOUT: Final = 408
_INTERNAL: Final = 500
_VERSION_NOT_SUPPORTED: Final = 505
_BOTH_FRAMINGS: Final = {b"content-length", b"transfer-encoding"}


class Watch:
    """Over all connections: those that wait for a request, and requests that take long."""

    def __init__(self) -> None:
        self.is_ending = False
        self.waiting: set[trio.CancelScope] = set()
        self.busy: dict[Exchange, float] = {}
        """Requests without a body, the oldest first, and when they began."""

    def end(self) -> None:
        """No further requests: who waits for one is woken."""
        self.is_ending = True
        for scope in self.waiting:
            scope.cancel()

    async def run(self) -> None:
        """End the requests of clients that have gone."""
        while True:
            await trio.sleep(API_GONE_CHECK)
            latest = trio.current_time() - API_GONE_CHECK
            for exchange, began_at in list(self.busy.items()):
                if began_at > latest:
                    break
                await exchange.end_if_gone()


class HttpConnection:
    """A connection from its first byte to its last. `run` is called once."""

    def __init__(
        self,
        application: Application,
        stream: trio.SocketStream,
        watch: Watch,
        *,
        keep_alive: float,
        head_bytes_max: int,
        requests_max: int,
    ) -> None:
        self._application = application
        self._stream = stream
        self._watch = watch
        self._keep_alive = keep_alive
        self._requests_left = requests_max
        self._is_new = True
        self.http = h11.Connection(h11.SERVER, max_incomplete_event_size=head_bytes_max)
        self.is_lost = False
        """Nothing can be sent any more."""

    async def run(self, client: Address, server: Address) -> None:
        """Serve it to its end, and close it. Cancel-safe: the connection is closed then too."""
        try:
            while (request := await self._read_head()) is not None:
                if not await self._serve(request, client, server):
                    break
        finally:
            try:
                if not self.is_lost:
                    await self._stream.send_eof()
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                pass  # the peer was faster
            finally:
                await trio.aclose_forcefully(self._stream)

    async def receive(self) -> bytes:
        """What comes next; empty if nothing more will."""
        try:
            return bytes(await self._stream.receive_some(API_RECEIVE_BYTES))
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            self.is_lost = True
            return b""

    async def has_gone(self) -> bool:
        """Whether the peer has ended the connection. Nobody may be receiving."""
        socket = self._stream.socket
        try:
            return socket.is_readable() and not await socket.recv(1, MSG_PEEK)
        except OSError:
            return True

    async def send(self, data: bytes) -> None:
        """Send all of it, or note that the connection is lost."""
        if self.is_lost or not data:
            return
        is_sent = False
        try:
            with trio.move_on_after(API_RESPONSE_TIMEOUT):
                await self._stream.send_all(data)
                is_sent = True
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass  # the peer has gone
        finally:
            if not is_sent:
                # Part of an answer may have left: nothing can follow it on this connection.
                self.is_lost = True
                self._stream.socket.close()

    async def refuse(self, status: int) -> None:
        """Answer instead of the application, if nobody has begun to; the connection ends."""
        if self.http.our_state not in {h11.IDLE, h11.SEND_RESPONSE}:
            return
        headers = [(b"content-length", b"0"), (b"connection", b"close"), date_header()]
        head = self.http.send(h11.Response(status_code=status, headers=headers))
        await self.send((head or b"") + (self.http.send(h11.EndOfMessage()) or b""))

    async def _read_head(self) -> h11.Request | None:
        """The next request; None if there is none: the connection ends."""
        # The first head is not waited for as long as a further one.
        has_begun, self._is_new = self._is_new or bool(self.http.trailing_data[0]), False
        deadline = trio.current_time() + (API_HEAD_TIMEOUT if has_begun else self._keep_alive)
        try:
            while (event := self.http.next_event()) is h11.NEED_DATA:
                data = await self._wait_bytes(deadline)
                if data is None:
                    if has_begun and not self._watch.is_ending:
                        await self.refuse(_REQUEST_TIMEOUT)
                    return None
                if not has_begun:
                    has_begun = True
                    deadline = trio.current_time() + API_HEAD_TIMEOUT
                self.http.receive_data(data)
        except h11.RemoteProtocolError as error:
            await self.refuse(error.error_status_hint)
            return None
        return event if isinstance(event, h11.Request) else None

    async def _wait_bytes(self, deadline: float) -> bytes | None:
        """What comes until the deadline; None if it passes, or the server ends."""
        if self._watch.is_ending:
            return None
        with trio.CancelScope(deadline=deadline) as scope:
            self._watch.waiting.add(scope)
            try:
                return await self.receive()
            finally:
                self._watch.waiting.discard(scope)
        return None

    async def _serve(self, request: h11.Request, client: Address, server: Address) -> bool:
        """Run the application on a request; whether the connection takes another."""
        http = self.http
        # An `Upgrade` to HTTP/2 may be passed over, its preface may not.
        if request.http_version not in _VERSIONS:
            await self.refuse(_VERSION_NOT_SUPPORTED)
            return False
        if {name for name, _ in request.headers} >= _BOTH_FRAMINGS:
            # A proxy in front may have believed the other one (RFC 9112 section 6.1).
            await self.refuse(_BAD_REQUEST)
            return False
        self._requests_left -= 1
        exchange = Exchange(self, request, is_last=self._requests_left <= 0)
        scope = scope_of(request, client, server)
        self._watch.busy[exchange] = trio.current_time()
        try:
            with exchange.cancel_scope:
                await self._application(scope, exchange.receive, exchange.send)
        except (Exception, BaseExceptionGroup) as error:
            if isinstance(error, BaseExceptionGroup) and error.split(trio.Cancelled)[1] is None:
                raise
            structlog.get_logger("api").exception("a request failed")
        finally:
            del self._watch.busy[exchange]
        if not exchange.has_begun and not exchange.is_gone:
            await self.refuse(_INTERNAL)
        if http.their_state is h11.SEND_BODY and not exchange.is_gone:
            exchange.skip_end()
        is_over = http.our_state is h11.DONE and http.their_state is h11.DONE
        if not is_over or self.is_lost or self._watch.is_ending:
            return False
        http.start_next_cycle()
        return True
