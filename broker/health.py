"""HTTP answers of the broker's port: health for load balancers, and sentences for the lost.

`/healthz` says that the process runs; `/readyz` whether it should get new connections, with the
details that the application gives. Every answer ends its connection. Pure: bytes only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

from broker.protocol.frames import encode_json

_METHODS: Final = frozenset({"GET", "HEAD"})


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    """A whole HTTP response; the connection is closed after it."""

    status: int
    data: bytes


def health_answer(
    method: str, path: str, readiness: Callable[[], dict[str, object]]
) -> HttpAnswer | None:
    """The answer to a health check; None if the request is none."""
    if method not in _METHODS or path not in ("/healthz", "/readyz"):
        return None
    status, body = 200, dict[str, object](status="ok")
    if path == "/readyz":
        body = readiness()
        status = 200 if body.get("ready") else 503
    return _answer(status, "application/json", encode_json(body), is_head=method == "HEAD")


def text_answer(
    status: int,
    sentence: str,
    headers: Iterable[tuple[str, str]] = (),
    *,
    is_head: bool = False,
) -> HttpAnswer:
    """An answer in plain words."""
    body = f"{sentence}\n".encode()
    return _answer(status, "text/plain; charset=utf-8", body, headers, is_head=is_head)


def _answer(
    status: int,
    media_type: str,
    body: bytes,
    headers: Iterable[tuple[str, str]] = (),
    *,
    is_head: bool,
) -> HttpAnswer:
    lines = [
        f"HTTP/1.1 {status} {HTTPStatus(status).phrase}",
        f"Content-Type: {media_type}",
        f"Content-Length: {len(body)}",
        "Cache-Control: no-store",
        "X-Content-Type-Options: nosniff",
        *(f"{name}: {value}" for name, value in headers),
        "Connection: close",
    ]
    head = "\r\n".join((*lines, "", "")).encode("ascii")
    return HttpAnswer(status, head if is_head else head + body)
