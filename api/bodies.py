"""Requests in, responses out: bodies, query numbers, JSON.

A body is one JSON object, decoded into the struct that documents it; unknown fields are ignored,
what can not be stored (NUL, lone surrogates, numbers without end) is refused wherever it stands.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Final, TypeVar

import msgspec
from quart import Response, request

from api.problems import Unsupported
from broker.protocol.commands import PAGE_DEFAULT, PAGE_MAX
from broker.protocol.errors import ProtocolError
from broker.protocol.message_draft import has_escaped_nul
from broker.protocol.refusal import INTEGER_MAX, body_fault
from broker.protocol.text import has_forbidden

Body = TypeVar("Body")

_decode_fields: Final = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
JSON_TYPE: Final = "application/json"
"""Of every JSON answer but problems."""

_JSON_TYPES = (JSON_TYPE, "text/json")


async def read_body() -> bytes:
    """The request's body; refuses what does not say that it is JSON, and what is too large."""
    mimetype = (request.mimetype or "").lower()
    if mimetype not in _JSON_TYPES and not mimetype.endswith("+json"):
        raise Unsupported
    data: bytes = await request.get_data(cache=False, as_text=False, parse_form_data=False)
    return data


async def read_optional_body() -> bytes:
    """The same, but no body at all counts as an empty object."""
    if not request.content_length and "transfer-encoding" not in request.headers:
        return b"{}"
    return await read_body() or b"{}"


def parse_body(data: bytes, struct: type[Body]) -> Body:
    """The struct in a JSON body; raises ProtocolError naming the field, and nothing else."""
    try:
        body = msgspec.json.decode(data, type=struct)
    except (msgspec.DecodeError, RecursionError, ValueError) as fault:
        raise body_fault(data, fault) or ProtocolError("bad_request") from None
    if has_escaped_nul(data):
        error = body_fault(data, None)
        if error is not None:
            raise error
    return body


class ActingBody(msgspec.Struct):
    """The field that every body of an acting request may have."""

    user_id: Any = None


def acting_user(data: bytes) -> object:
    """`user_id` of a JSON body that is parsed for more elsewhere; None if it has none."""
    return parse_body(data, ActingBody).user_id


def json_response(body: object, status: int = 200, *, location: str | None = None) -> Response:
    """A JSON answer; bytes are JSON already."""
    data = body if isinstance(body, bytes) else msgspec.json.encode(body)
    response = Response(data, status=status, content_type=JSON_TYPE)
    response.headers["Cache-Control"] = "private, no-cache"
    if location is not None:
        response.headers["Location"] = location
    return response


def no_content() -> Response:
    """204."""
    response = Response(b"", status=204)
    response.headers.pop("Content-Type", None)
    return response


def check_query() -> None:
    """Refuse a parameter that is given twice (which one would count?) and one that holds NUL."""
    if not request.query_string:
        return
    for name, values in request.args.lists():
        if len(values) > 1:
            raise ProtocolError("bad_request", f"`{name}` is given more than once.", name)
        if has_forbidden(values[0]):
            raise ProtocolError("bad_request", "NUL is not allowed.", name)


def refuse_fixed(data: bytes, fields: Collection[str]) -> None:
    """Refuse a change of what can not be changed. What is no object is left to `parse_body`."""
    try:
        given = _decode_fields(data)
    except (msgspec.DecodeError, RecursionError, ValueError):
        return
    found = next((name for name in given if name in fields), None)
    if found is not None:
        raise ProtocolError("bad_request", f"`{found}` can not be changed.", found)


def query_text(name: str) -> str | None:
    """A parameter of the query; None if it is absent."""
    # `get` of what is absent makes an exception that describes itself: ten of them a page.
    args = request.args
    if name not in args:
        return None
    return args[name]


def query_number(name: str, *, low: int = 0, high: int = INTEGER_MAX) -> int | None:
    """A whole number of the query, None if it is absent; `bad_request` naming it otherwise."""
    text = query_text(name)
    if text is None:
        return None
    number = int(text) if text.isascii() and text.isdigit() and len(text) <= 19 else -1
    if not low <= number <= high:
        raise ProtocolError("bad_request", f"`{name}` is a number from {low} to {high}.", name)
    return number


def query_flag(name: str) -> bool:
    """`true` or `false` of the query, false if absent."""
    text = query_text(name)
    if text is None:
        return False
    if text not in ("true", "false"):
        raise ProtocolError("bad_request", f"`{name}` is true or false.", name)
    return text == "true"


def list_page() -> tuple[int, int]:
    """`page` (from 1) and `limit` of a list."""
    page = query_number("page", low=1) or 1
    limit = query_number("limit", low=1, high=PAGE_MAX) or PAGE_DEFAULT
    return page, limit


def list_body(items: bytes, *, page: int, limit: int, total: int) -> bytes:
    """The list's envelope around its items."""
    pages = (total + limit - 1) // limit
    return b'{"items":%b,"page":%d,"limit":%d,"total":%d,"totalPages":%d}' % (
        items,
        page,
        limit,
        total,
        pages,
    )
