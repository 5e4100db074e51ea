"""The refusals of the OpenAPI document: one response a status and set of codes, with examples."""

from __future__ import annotations

from collections.abc import Collection
from http import HTTPStatus
from typing import Any, Final

from msgspec import UNSET, Struct, UnsetType

from broker.protocol.errors import default_sentence, http_status

PROBLEM_TYPE: Final = "application/problem+json"
_RETRYABLE: Final = (429, 503)
_FIELDS: Final = {"bad_request": "limit", "too_large": "content", "conflict": "id"}
_OWN_SENTENCES: Final = {
    408: "The body did not arrive in time.",
    415: "Send JSON: Content-Type: application/json.",
}


class Problem(Struct, kw_only=True):
    """Why a request was refused (RFC 9457). Programs go by `code`, `field` and `retry_after`."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    field: str | None
    retry_after: float | None
    request_id: str | UnsetType = UNSET


def problem_response(status: int, codes: Collection[str]) -> dict[str, Any]:
    """The response object of a status that says one of these codes."""
    ordered = sorted(codes)
    response: dict[str, Any] = {
        "description": f"{HTTPStatus(status).phrase}: {', '.join(f'`{code}`' for code in ordered)}",
        "content": {
            PROBLEM_TYPE: {
                "schema": {
                    "allOf": [{"$ref": "#/components/schemas/Problem"}],
                    "properties": {"status": {"const": status}, "code": {"enum": ordered}},
                },
                "examples": {code: {"value": _example(status, code)} for code in ordered},
            }
        },
    }
    headers = {"X-Request-Id": {"$ref": "#/components/headers/X-Request-Id"}}
    if status in _RETRYABLE:
        headers["Retry-After"] = {"$ref": "#/components/headers/Retry-After"}
    if status == 401:
        headers["WWW-Authenticate"] = {"$ref": "#/components/headers/WWW-Authenticate"}
    return response | {"headers": headers}


def status_of(code: str) -> int:
    """The HTTP status of a code."""
    return http_status(code)


def _example(status: int, code: str) -> dict[str, Any]:
    return {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": _OWN_SENTENCES.get(status, default_sentence(code)),
        "code": code,
        "field": _FIELDS.get(code) if status not in _OWN_SENTENCES else None,
        "retry_after": 1.0 if status in _RETRYABLE else None,
    }
