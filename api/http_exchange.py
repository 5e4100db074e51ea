"""One HTTP request and its answer, between h11 and the application.

The rules of `http_connection` hold. Nothing here knows of other requests.
"""

from __future__ import annotations

import contextlib
from time import time
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote
from wsgiref.handlers import format_date_time

import h11
import trio

if TYPE_CHECKING:
    from api.http_connection import HttpConnection

# What servers and applications hand each other: mappings whose `type` says the rest.
Message = Any
Address = tuple[str, int] | None

_WITHOUT_BODY: Final = (204, 304)


class Exchange:
    """One request and its answer, as the application sees them."""

    __slots__ = (
        "_connection",
        "_has_ended",
        "_head",
        "_is_last",
        "_is_watched",
        "_method",
        "cancel_scope",
        "has_begun",
        "is_gone",
    )

    def __init__(self, connection: HttpConnection, request: h11.Request, *, is_last: bool) -> None:
        self._connection = connection
        self._method = request.method
        self._is_last = is_last
        self._head: Message = None
        self._has_ended = False
        self._is_watched = False
        self.cancel_scope = trio.CancelScope()
        self.has_begun = False
        self.is_gone = False

    async def receive(self) -> Message:
        """The next part of the body, or that the client has gone. Cancel-safe."""
        self._is_watched = True
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

    def skip_end(self) -> None:
        """Take note of the end of a body that nobody has asked for, if it has come."""
        with contextlib.suppress(h11.RemoteProtocolError):
            self._connection.http.next_event()

    async def end_if_gone(self) -> None:
        """Cancel the application if nobody is there to be answered."""
        if self._is_watched or self.has_begun:
            return
        self.is_gone = await self._connection.has_gone()
        if self.is_gone:
            self.cancel_scope.cancel()

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


def scope_of(request: h11.Request, client: Address, server: Address) -> dict[str, Any]:
    """The request as applications are told of it."""
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
