"""Every refusal of the API as `application/problem+json` (RFC 9457), also the framework's own.

`type` is about:blank, so `title` is the status's phrase; `detail` is one sentence; `code`, `field`
and `retry_after` are what programs go by. 429 and 503 carry Retry-After (whole seconds, rounded
up), 401 says which credential is wanted, 405 which methods there are. An error that nobody expected
is logged with its traceback and answered with nothing about it.
"""

from __future__ import annotations

import math
from http import HTTPStatus

import msgspec
import structlog
from quart import Response, g, request
from quart_trio import QuartTrio
from werkzeug.exceptions import HTTPException

from broker.protocol.errors import ProtocolError
from config.limits import UNAVAILABLE_RETRY_AFTER
from storage.errors import StorageRefused, StorageUnavailable

PROBLEM_TYPE = "application/problem+json"

# What of the framework's errors has a code other than `bad_request`.
_CODES = {404: "not_found", 413: "too_large", 429: "rate_limited", 503: "unavailable"}
_SENTENCES = {
    404: "There is no such path.",
    405: "The path does not take this method.",
    408: "The body did not arrive in time.",
    413: "The body is larger than allowed.",
    415: "Send JSON: Content-Type: application/json.",
}


def problem(
    status: int,
    code: str,
    detail: str,
    *,
    field: str | None = None,
    retry_after: float | None = None,
) -> Response:
    """The problem as a response."""
    body = _body(status, code, detail, field, retry_after)
    if status >= 500:
        # What an operator is asked about; other refusals say nothing that differs between two.
        body["request_id"] = g.get("request_id")
    response = Response(msgspec.json.encode(body), status=status, content_type=PROBLEM_TYPE)
    if status in (429, 503):
        seconds = 1 if retry_after is None else max(1, math.ceil(retry_after))
        response.headers["Retry-After"] = str(seconds)
    if status == 401:
        response.headers["WWW-Authenticate"] = "Bearer"
    response.headers["Cache-Control"] = "no-store"
    return response


def problem_body(error: ProtocolError) -> dict[str, object]:
    """The problem document of a refusal, for answers that hold several."""
    return _body(error.status, error.code, error.message, error.field, error.retry_after)


def _body(
    status: int, code: str, detail: str, field: str | None, retry_after: float | None
) -> dict[str, object]:
    return {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        "code": code,
        "field": field,
        "retry_after": retry_after,
    }


class Unsupported(ProtocolError):
    """The body's media type is not JSON: `bad_request` with its own HTTP status."""

    def __init__(self) -> None:
        super().__init__("bad_request", _SENTENCES[415])

    @property
    def status(self) -> int:
        return 415


def register_problems(app: QuartTrio) -> None:
    """Answer every exception of a handler or of the framework with a problem."""
    log = structlog.get_logger("api")

    async def refuse(error: ProtocolError) -> Response:
        return problem(
            error.status,
            error.code,
            error.message,
            field=error.field,
            retry_after=error.retry_after,
        )

    async def refuse_storage(error: StorageUnavailable) -> Response:
        log.warning("storage is not available", backend=error.backend, reason=error.reason)
        return await refuse(ProtocolError("unavailable", retry_after=UNAVAILABLE_RETRY_AFTER))

    async def refuse_http(error: HTTPException) -> Response:
        status = error.code or 500
        code = _CODES.get(status, "bad_request" if status < 500 else "internal")
        response = problem(status, code, _SENTENCES.get(status, HTTPStatus(status).phrase + "."))
        for name, value in error.get_headers():
            if name.lower() in ("allow", "accept", "content-range"):
                response.headers[name] = value
        return response

    async def refuse_bug(error: Exception) -> Response:
        log.error("request failed", route=str(request.url_rule), exc_info=error)
        return problem(500, "internal", "An unexpected error happened.")

    app.register_error_handler(ProtocolError, refuse)
    app.register_error_handler(StorageUnavailable, refuse_storage)
    app.register_error_handler(StorageRefused, refuse_bug)
    app.register_error_handler(HTTPException, refuse_http)
    app.register_error_handler(Exception, refuse_bug)
