"""An ASGI layer under the application: a request is over before its answer ends, or the connection.

A refusal often comes before the body was read. The HTTP server can only go on with a connection
whose request has come in whole, and its reader waits for somebody to take the body: without this
layer a body that nobody wants would hold the connection, and what was read of it, for ever.

The rules: before the head of an answer leaves, the rest of the body is waited for (and thrown
away by the framework), within `API_UNREAD_SECONDS` and `API_UNREAD_BYTES_MAX`. If it has not
come by then, the answer says `Connection: close`, and what still comes is taken and dropped until
the server has closed the connection. That the client has gone is not told while a part of the
answer is being sent: the framework would give up in the middle, and it is with the last part that
the server closes the connection.

When the process is about to stop every answer says `Connection: close`: whoever keeps connections,
such as a balancer, sends the next request elsewhere instead of into one that is being closed.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import trio

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
        sending = trio.Lock()
        body = _Body(receive, sending)

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start" and (
                not await body.wait_taken() or self._readiness.is_stopping
            ):
                message["headers"] = [*message.get("headers", ()), (b"connection", b"close")]
            async with sending:
                await send(message)

        await self._application(scope, body.receive, answer)
        await body.drop_rest()


class _Body:
    """What has come of one request's body, whoever takes it."""

    def __init__(self, receive: Receive, sending: trio.Lock) -> None:
        self._receive = receive
        self._sending = sending
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
        if message["type"] == "http.disconnect":
            async with self._sending:
                pass
        return message

    async def wait_taken(self) -> bool:
        """Wait until the whole body has been taken; False if it takes too long or is too large."""
        with trio.move_on_after(API_UNREAD_SECONDS):
            await self._settled.wait()
        return self._has_ended

    async def drop_rest(self) -> None:
        """Take what still comes, so that the server's reader gets to the end of the connection."""
        with trio.move_on_after(API_UNREAD_SECONDS):
            while not self._has_ended:
                await self.receive()
