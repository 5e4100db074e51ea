"""One request between the server and Quart: its objects, and sending what came of it.

Quart starts two tasks a request, one for the body and one for the handler, and sends an answer in
three pieces. A request without a body needs neither: it is handled in the task of its connection,
and an answer whose bytes are there is sent at once. Who sends a body is served Quart's own way.

That the client has gone is the server's to notice where nobody waits for a body; it cancels the
handler then (`http_connection`).
"""

from __future__ import annotations

from typing import Any, Final

import structlog
from quart.utils import encode_headers
from quart.wrappers.response import DataBody
from quart_trio.asgi import TrioASGIHTTPConnection

FRAMINGS: Final = frozenset({b"content-length", b"transfer-encoding"})
"""A request without any of these headers has no body."""


def has_body(scope: Any) -> bool:
    """Whether a body follows the head of this request, be it an empty one."""
    return any(name in FRAMINGS for name, _ in scope["headers"])


class Answering(TrioASGIHTTPConnection):
    """What Quart calls with each request."""

    async def __call__(self, receive: Any, send: Any) -> None:
        """Serve it."""
        try:
            if has_body(self.scope):
                await super().__call__(receive, send)
                return
            request = self._create_request_from_scope(send)
            request.body.set_complete()
            await self._send_response(send, await self.app.handle_request(request))
        finally:
            # The task goes on with the connection's next request.
            structlog.contextvars.clear_contextvars()

    async def _send_response(self, send: Any, response: Any) -> None:
        body = response.response
        if type(body) is not DataBody:
            await super()._send_response(send, response)
            return
        headers = encode_headers(response.headers)
        await send(
            {"type": "http.response.start", "status": response.status_code, "headers": headers}
        )
        await send({"type": "http.response.body", "body": body.data, "more_body": False})
