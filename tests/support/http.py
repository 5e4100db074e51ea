"""A small HTTP client: the standard library's, in a worker thread."""

import http.client
import json
from contextlib import closing
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import trio


@dataclass(frozen=True, slots=True)
class Response:
    """A complete answer; `headers` have lower-case names."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


async def request(
    method: str,
    url: str,
    *,
    body: Any = None,
    key: str | None = None,
    token: str | None = None,
    headers: dict[str, str] | None = None,
    timeout: float = 15.0,
) -> Response:
    """Send one request; `body` becomes JSON unless it is bytes. Raises OSError when nobody answers.

    `key` is sent as X-API-Key, `token` as bearer token.
    """
    sent = dict(headers or {})
    data = body
    if body is not None and not isinstance(body, bytes):
        data = json.dumps(body).encode()
        sent.setdefault("Content-Type", "application/json")
    if key is not None:
        sent["X-API-Key"] = key
    if token is not None:
        sent["Authorization"] = f"Bearer {token}"
    return await trio.to_thread.run_sync(_request, method, url, data, sent, timeout)


def _request(
    method: str, url: str, data: bytes | None, headers: dict[str, str], timeout: float
) -> Response:
    parts = urlsplit(url)
    path = parts.path or "/"
    if parts.query:
        path += f"?{parts.query}"
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=timeout)
    try:
        connection.request(method, path, body=data, headers=headers)
        # Closed also if reading fails: it keeps the socket open beyond the connection.
        with closing(connection.getresponse()) as answer:
            found = {name.lower(): value for name, value in answer.getheaders()}
            return Response(answer.status, found, answer.read())
    except http.client.HTTPException as error:
        raise OSError(f"no proper answer: {error!r}") from error
    finally:
        connection.close()
