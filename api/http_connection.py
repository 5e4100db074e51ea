"""One HTTP/1.x connection: heads and bodies in, answers out, one request after the other.

Law of this file:
- One task a connection: it reads a head, runs the application on it, and goes on to the next. There
  is no task, timer or channel for each request: they were a third of what a request cost.
- The socket is read by whoever waits: for a head this task, during a request the application's
  `receive`. What comes of a further request stays where it is until its turn.
- h11 decides what is a request and what may be answered when; nothing here looks at bytes.
- The head of an answer leaves with the first bytes of its body, in one send.
- That the client has gone is told to the application until its answer begins. Then the answer is
  sent to its end, or as far as somebody takes it.
- Waiting for a head is bounded (see `serving`), and so is sending: an answer not taken within
  `API_RESPONSE_TIMEOUT` closes the connection, because part of it may have left.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from time import time
from typing import Any, Final
from urllib.parse import unquote
from wsgiref.handlers import format_date_time

import h11
import structlog
import trio

from config.api_limits import API_HEAD_TIMEOUT, API_RECEIVE_BYTES, API_RESPONSE_TIMEOUT

# What servers and applications hand each other: mappings whose `type` says the rest.
Message = Any
Application = Callable[[Any, Any, Any], Awaitable[None]]
Address = tuple[str, int] | None

_VERSIONS: Final = (b"1.0", b"1.1")
_BAD_REQUEST: Final = 400
_REQUEST_TIMEOUT: Final = 408
_INTERNAL: Final = 500
_VERSION_NOT_SUPPORTED: Final = 505
_BOTH_FRAMINGS: Final = {b"content-length", b"transfer-encoding"}
_WITHOUT_BODY: Final = (204, 304)


class Ending:
    """Whether the server is about to end, and who waits for a request that need not come then."""

    def __init__(self) -> None:
        self.is_set = False
        self.waiting: set[trio.CancelScope] = set()

    def set(self) -> None:
        """No further requests: who waits for one is woken."""
        self.is_set = True
        for scope in self.waiting:
            scope.cancel()


class HttpConnection:
    """A connection from its first byte to its last. `run` is called once."""

    def __init__(
        self,
        application: Application,
        stream: trio.SocketStream,
        ending: Ending,
        *,
        keep_alive: float,
        head_bytes_max: int,
        requests_max: int,
    ) -> None:
        self._application = application
        self._stream = stream
        self._ending = ending
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
                    if has_begun and not self._ending.is_set:
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
        if self._ending.is_set:
            return None
        with trio.CancelScope(deadline=deadline) as scope:
            self._ending.waiting.add(scope)
            try:
                return await self.receive()
            finally:
                self._ending.waiting.discard(scope)
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
        exchange = _Exchange(self, request, is_last=self._requests_left <= 0)
        scope = _scope_of(request, client, server)
        try:
            await self._application(scope, exchange.receive, exchange.send)
        except (Exception, BaseExceptionGroup) as error:
            if isinstance(error, BaseExceptionGroup) and error.split(trio.Cancelled)[1] is None:
                raise
            structlog.get_logger("api").exception("a request failed")
        if not exchange.has_begun and not exchange.is_gone:
            await self.refuse(_INTERNAL)
        is_over = http.our_state is h11.DONE and http.their_state is h11.DONE
        if not is_over or self.is_lost or self._ending.is_set:
            return False
        http.start_next_cycle()
        return True


class _Exchange:
    """One request and its answer, as the application sees them."""

    __slots__ = (
        "_connection",
        "_has_ended",
        "_head",
        "_is_last",
        "_method",
        "has_begun",
        "is_gone",
    )

    def __init__(self, connection: HttpConnection, request: h11.Request, *, is_last: bool) -> None:
        self._connection = connection
        self._method = request.method
        self._is_last = is_last
        self._head: Message = None
        self._has_ended = False
        self.has_begun = False
        self.is_gone = False

    async def receive(self) -> Message:
        """The next part of the body, or that the client has gone. Cancel-safe."""
        if not self._has_ended and not self.is_gone:
            event = await self._next_event()
            if isinstance(event, h11.Data):
                return {"type": "http.request", "body": bytes(event.data), "more_body": True}
            if isinstance(event, h11.EndOfMessage):
                self._has_ended = True
                return {"type": "http.request", "body": b"", "more_body": False}
            self.is_gone = True
        http = self._connection.http
        if not self.is_gone and not http.trailing_data[0]:
            data = await self._connection.receive()
            http.receive_data(data)
            self.is_gone = not data
        if not self.is_gone or self.has_begun:
            # A further request waits for its turn; or the answer goes on.
            await trio.sleep_forever()
        return {"type": "http.disconnect"}

    async def _next_event(self) -> Any:
        """The next of the body; None if the client has gone, or sends what is none."""
        connection, http = self._connection, self._connection.http
        if http.they_are_waiting_for_100_continue:
            go_on = h11.InformationalResponse(status_code=100, headers=[date_header()])
            await connection.send(http.send(go_on) or b"")
        try:
            while (event := http.next_event()) is h11.NEED_DATA:
                http.receive_data(await connection.receive())
        except h11.RemoteProtocolError as error:
            await connection.refuse(error.error_status_hint)
            return None
        return None if isinstance(event, h11.ConnectionClosed) else event

    async def send(self, message: Message) -> None:
        """The head of the answer, kept until something of the body follows, or the body."""
        if message["type"] == "http.response.start":
            if not self.is_gone:
                self._head, self.has_begun = message, True
            return
        body, has_more = message.get("body", b""), message.get("more_body", False)
        if not self.has_begun or self._connection.is_lost or (has_more and not body):
            return
        http, head = self._connection.http, self._head
        data = b""
        if head is not None:
            self._head = None
            headers = [*head.get("headers", ()), date_header()]
            if self._is_last:
                headers.append((b"connection", b"close"))
            data = http.send(h11.Response(status_code=head["status"], headers=headers)) or b""
            if self._method == b"HEAD" or head["status"] in _WITHOUT_BODY:
                body = b""
        if body:
            data += http.send(h11.Data(data=body)) or b""
        if not has_more:
            data += http.send(h11.EndOfMessage()) or b""
        await self._connection.send(data)


def _scope_of(request: h11.Request, client: Address, server: Address) -> dict[str, Any]:
    path, _, query = request.target.partition(b"?")
    return {
        "type": "http",
        "http_version": request.http_version.decode(),
        "asgi": {"spec_version": "2.1", "version": "3.0"},
        "method": request.method.decode("ascii").upper(),
        "scheme": "http",
        "path": unquote(path.decode("ascii")),
        "raw_path": path,
        "query_string": query,
        "root_path": "",
        # A WebSocket handshake is a request like any other here: there is no such route.
        "headers": [pair for pair in request.headers if pair[0] != b"upgrade"],
        "client": client,
        "server": server,
        "state": {},
        "extensions": {},
    }


def date_header() -> tuple[bytes, bytes]:
    """The time, as HTTP wants it."""
    return b"date", format_date_time(time()).encode("ascii")
