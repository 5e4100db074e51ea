"""An ASGI layer under the application: a request is over before its answer ends, or the connection.

A refusal often comes before the body was read. The HTTP server can only go on with a connection
whose request has come in whole, so a body that nobody wants would end every such connection.

The rules: before the head of an answer leaves, the rest of the body is waited for (and thrown
away by the framework), within `API_UNREAD_SECONDS` and `API_UNREAD_BYTES_MAX`. If it has not
come by then, the answer says `Connection: close`, and the server closes behind it.

When the process is about to stop every answer says `Connection: close`: whoever keeps connections,
such as a balancer, sends the next request elsewhere instead of into one that is being closed.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import trio

from api.answering import has_body
from config.api_limits import API_UNREAD_BYTES_MAX, API_UNREAD_SECONDS
from config.readiness import Readiness

# What ASGI servers and applications hand each other: mappings whose `type` says the rest.
Message = Any
Receive = Callable[[], Awaitable[Message]]
Application = Callable[[Any, Any, Any], Awaitable[None]]


class WholeRequests:
    """The application, with the rest of every request's body taken care of."""

    def __init__(self, application: Application, readiness: Readiness) -> None:
        self._application = application
        self._readiness = readiness

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve one request (or the lifespan, which is passed on)."""
        if scope["type"] != "http":
            await self._application(scope, receive, send)
            return
        body = _Body(receive) if has_body(scope) else None

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start" and (
                (body is not None and not await body.wait_taken()) or self._readiness.is_stopping
            ):
                message["headers"] = [*message.get("headers", ()), (b"connection", b"close")]
            await send(message)

        await self._application(scope, receive if body is None else body.receive, answer)


class _Body:
    """What has come of one request's body, whoever takes it."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._bytes = 0
        self._settled = trio.Event()
        self._has_ended = False

    async def receive(self) -> Message:
        """The server's next message, noted on its way."""
        message = await self._receive()
        self._bytes += len(message.get("body", b""))
        if message["type"] != "http.request" or not message.get("more_body", False):
            self._has_ended = True
        if self._has_ended or self._bytes > API_UNREAD_BYTES_MAX:
            self._settled.set()
        return message

    async def wait_taken(self) -> bool:
        """Wait until the whole body has been taken; False if it takes too long or is too large."""
        with trio.move_on_after(API_UNREAD_SECONDS):
            await self._settled.wait()
        return self._has_ended
