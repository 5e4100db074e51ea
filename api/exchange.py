"""What happens around every request and answer, whatever the operation.

A request id (`X-Request-Id`: the caller's if it is sane, else a new one) goes into the answer and
into every line of the log; OPTIONS is answered; then come the headers that every answer has, CORS,
compression of large JSON, and the metrics. This is on the way of every request: keep it lean.
"""

from __future__ import annotations

import re
import time
from typing import Any, Final
from zlib import compressobj

import structlog
from quart import Request, Response, g, request
from quart.globals import request_ctx
from quart_trio import QuartTrio
from uuid_utils import uuid7

from api.bodies import JSON_TYPE
from api.cors import Cors
from api.history_pages import GZIP_TAG
from api.rates import RateState
from api.services import Services
from config.api_limits import API_GZIP_BYTES_MAX, API_GZIP_BYTES_MIN
from config.spans import Spans

_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._:\-]{1,128}").fullmatch
_GZIP_LEVEL: Final = 1
_GZIP_WINDOW: Final = 31
"""The largest window, in gzip's format."""
_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_OTHER_METHOD: Final = "_OTHER"
"""OpenTelemetry's word for what is none of them: callers may make up as many as they like."""
# Of every answer that does not say otherwise itself: what is for one user is kept by nobody, and no
# answer is a page that may be framed, or may load anything. TLS, and so HSTS, is the balancer's.
_DEFAULT_HEADERS: Final = (
    ("Cache-Control", "no-store"),
    ("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'"),
    ("X-Frame-Options", "DENY"),
)


class Exchange:
    """The frame around the operations of one application."""

    def __init__(self, services: Services) -> None:
        self._metrics = services.metrics
        self._cors = Cors(services.settings.allowed_origins)
        self._counted: dict[tuple[str, str, int], tuple[Any, Any]] = {}

    def register(self, app: QuartTrio) -> None:
        """Stand before and after every request."""
        app.before_request(self.begin)
        app.after_request(self.finish)

    async def begin(self) -> Response | None:
        """Name the request; answer OPTIONS."""
        # What Quart's `request` and `g` stand for, looked up once.
        asked, own = request_ctx.request, g._get_current_object()
        own.started_at = time.perf_counter()
        sent = asked.headers.get("X-Request-Id")
        own.request_id = sent if sent is not None and _REQUEST_ID(sent) else uuid7().hex
        structlog.contextvars.bind_contextvars(request_id=own.request_id)
        if asked.method == "OPTIONS" and asked.routing_exception is None:
            return self._options()
        return None

    async def finish(self, response: Response) -> Response:
        """Headers that every answer has, and its place in the metrics."""
        asked, own = request_ctx.request, g._get_current_object()
        headers = response.headers
        for name, value in _DEFAULT_HEADERS:
            headers.setdefault(name, value)
        headers["X-Content-Type-Options"] = "nosniff"
        headers["X-Request-Id"] = own.request_id
        rate: RateState | None = own.get("rate")
        if rate is not None:
            headers["RateLimit-Limit"] = str(rate.limit)
            headers["RateLimit-Remaining"] = str(rate.remaining)
            headers["RateLimit-Reset"] = str(rate.reset)
        self._cors.mark(response, asked.headers.get("Origin"))
        await _compress(asked, response)
        route = asked.url_rule.rule if asked.url_rule is not None else "none"
        seconds = time.perf_counter() - own.started_at
        method = asked.method if asked.method in _METHODS else _OTHER_METHOD
        self._count(method, route, response.status_code, seconds)
        if self._metrics.spans is not None:
            self._record_span(self._metrics.spans, method, route, seconds, response.status_code)
        return response

    def _count(self, method: str, route: str, status: int, seconds: float) -> None:
        """Looking a metric up by its labels takes longer than counting: they are kept by route."""
        found = self._counted.get((method, route, status))
        if found is None:
            found = (
                self._metrics.requests.labels(method, route, str(status)),
                self._metrics.request_seconds.labels(method, route),
            )
            self._counted[method, route, status] = found
        found[0].inc()
        found[1].observe(seconds)

    def _record_span(
        self, spans: Spans, method: str, route: str, seconds: float, status: int
    ) -> None:
        spans.record(
            f"{method} {route}",
            seconds,
            {
                "http.request.method": method,
                "http.route": route,
                "http.response.status_code": status,
                "parley.request_id": g.request_id,
            },
            kind="server",
            failed=status >= 500,
            traceparent=request.headers.get("traceparent"),
        )

    def _options(self) -> Response:
        """Which methods the path takes, also as the answer to a preflight."""
        adapter = request_ctx.url_adapter
        methods = set() if adapter is None else set(adapter.allowed_methods())
        response = Response(b"", status=204)
        response.headers.pop("Content-Type", None)
        response.headers["Allow"] = ", ".join(sorted(methods))
        origin = request.headers.get("Origin")
        is_preflight = "Access-Control-Request-Method" in request.headers
        if is_preflight and self._cors.mark(response, origin):
            self._cors.allow(response, methods)
        return response


async def _compress(asked: Request, response: Response) -> None:
    """Compress JSON that is worth it, for clients that take it.

    Of a page of fifty messages it takes 0.2 ms and leaves a fifth of the bytes; the page itself
    takes some 4 ms. A strong ETag is of the very bytes, so the compressed ones have their own.
    """
    # Everybody's JSON has this header in these very bytes; parsing it would take longer than all
    # that stands here.
    if response.headers.get("Content-Type") != JSON_TYPE:
        return
    length = int(response.headers.get("Content-Length", 0))
    if not API_GZIP_BYTES_MIN <= length <= API_GZIP_BYTES_MAX:
        return
    vary = response.headers.get("Vary")
    response.headers["Vary"] = f"{vary}, Accept-Encoding" if vary else "Accept-Encoding"
    if "Accept-Encoding" not in asked.headers or not asked.accept_encodings.quality("gzip"):
        return
    packer = compressobj(_GZIP_LEVEL, wbits=_GZIP_WINDOW)
    body = await response.get_data(as_text=False)
    response.set_data(packer.compress(body) + packer.flush())
    response.headers["Content-Encoding"] = "gzip"
    tag = response.headers.get("ETag")
    if tag is not None:
        response.headers["ETag"] = f'{tag[:-1]}{GZIP_TAG}"'
