"""The few HTTP requests of `parley up`: the standard library's client, in a worker thread."""

import http.client
import json
from typing import Any
from urllib.parse import urlsplit

import trio

_TIMEOUT = 15.0
_READINESS_TIMEOUT = 2.0


class RestFailed(Exception):
    """The API did not do what the demo needs; the text says what was asked and answered."""


class Rest:
    """Requests with one API key. A cancelled one may have happened."""

    def __init__(self, base_url: str, key: str) -> None:
        self._base_url = base_url
        self._key = key

    async def call(
        self, method: str, path: str, body: Any = None, *, accept: tuple[int, ...] = ()
    ) -> tuple[int, Any]:
        """The status and the JSON of the answer.

        Raises RestFailed for a status that is neither 2xx nor in `accept`.
        """
        headers = {"X-API-Key": self._key, "Content-Type": "application/json"}
        data = None if body is None else json.dumps(body).encode()
        url = f"{self._base_url}{path}"
        try:
            status, answer = await trio.to_thread.run_sync(
                _request, method, url, data, headers, _TIMEOUT
            )
        except OSError as error:
            raise RestFailed(f"{method} {path}: {error}") from error
        if not (200 <= status < 300 or status in accept):
            raise RestFailed(f"{method} {path}: {status} {answer.decode(errors='replace')[:500]}")
        try:
            return status, json.loads(answer) if answer else None
        except ValueError:
            raise RestFailed(f"{method} {path}: the answer is not JSON") from None


async def is_ready(base_url: str) -> bool:
    """Whether the process there answers /readyz with 200."""
    try:
        status, _ = await trio.to_thread.run_sync(
            _request, "GET", f"{base_url}/readyz", None, {}, _READINESS_TIMEOUT
        )
    except OSError:
        return False
    return status == 200


def _request(
    method: str, url: str, data: bytes | None, headers: dict[str, str], timeout: float
) -> tuple[int, bytes]:
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=timeout)
    try:
        connection.request(method, parts.path, body=data, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.read()
    except http.client.HTTPException as error:
        raise OSError(f"no proper answer: {error!r}") from error
    finally:
        connection.close()
