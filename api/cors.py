"""Which pages of other origins may use the API from a browser (ALLOWED_ORIGINS).

The same list as the broker's, so a page that may connect may also call. Without a list no page of
another origin may: there are no CORS headers at all. Credentials are headers that the page sets
itself, never cookies, so `Access-Control-Allow-Credentials` is not needed and not sent. Nothing
here refuses a request: browsers do, by the headers that are not there.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from quart import Response

from config.origins import is_listed

_EXPOSED: Final = (
    "ETag, Location, RateLimit-Limit, RateLimit-Remaining, RateLimit-Reset, Retry-After, "
    "X-Request-Id"
)
_ACCEPTED: Final = (
    "Authorization, Content-Type, Idempotency-Key, If-None-Match, X-API-Key, X-Request-Id"
)
_PREFLIGHT_SECONDS: Final = "7200"
"""What browsers keep at most (Chromium: two hours)."""


class Cors:
    """The headers for pages of the allowed origins."""

    def __init__(self, allowed_origins: tuple[str, ...]) -> None:
        self._allowed = allowed_origins
        self._is_open = "*" in allowed_origins

    def mark(self, response: Response, origin: str | None) -> bool:
        """Let the page of this origin read the response, if it may; whether it may."""
        if not self._allowed:
            return False
        if not self._is_open:
            response.vary.add("Origin")
        if origin is None or not is_listed(origin, self._allowed):
            return False
        shown = "*" if self._is_open else origin
        response.headers.setdefault("Access-Control-Allow-Origin", shown)
        response.headers["Access-Control-Expose-Headers"] = _EXPOSED
        return True

    def allow(self, response: Response, methods: Iterable[str]) -> None:
        """Complete the answer to a preflight of an allowed page."""
        response.headers["Access-Control-Allow-Methods"] = ", ".join(sorted(methods))
        response.headers["Access-Control-Allow-Headers"] = _ACCEPTED
        response.headers["Access-Control-Max-Age"] = _PREFLIGHT_SECONDS
