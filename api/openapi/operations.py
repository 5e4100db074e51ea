"""What a handler says about itself, once: credential, query, body, answers, refusals.

`@describe` keeps it beside the handler; `openapi.json` is made of it, and a test fails for a route
without it. Refusals that follow from the rest (a path with a room, a body, a credential) are
derived here, so that a handler names only its own.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final, TypeVar

from quart import Response

_Handler = TypeVar("_Handler", bound=Callable[..., Awaitable[Response]])
_ATTRIBUTE: Final = "_described_operation"
_PATH_PARAMETER: Final = re.compile(r"<(?:\w+:)?(\w+)>")


class Credentials(Enum):
    """Which credentials an operation takes."""

    NONE = ()
    KEY = ("key",)
    TOKEN = ("token",)
    EITHER = ("key", "token")


NONE: Final = Credentials.NONE
KEY: Final = Credentials.KEY
TOKEN: Final = Credentials.TOKEN
EITHER: Final = Credentials.EITHER

Shape = Any
"""A type that msgspec has a schema for, a tuple of alternatives, ItemsOf, or None: no body."""


@dataclass(frozen=True, slots=True)
class ItemsOf:
    """`{items}`, each of one of these types."""

    kinds: tuple[type, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One operation as the OpenAPI document tells it."""

    credentials: Credentials
    answers: Mapping[int, Shape]
    query: type | None
    body: Shape
    is_body_optional: bool
    codes: frozenset[str]
    is_conditional: bool
    has_location: bool
    takes_idempotency_key: bool
    cache: str

    def refusals(self, path: str) -> frozenset[tuple[int | None, str]]:
        """Every problem it may answer: (HTTP status where it is not the code's own, code)."""
        found: set[tuple[int | None, str]] = {(None, "internal")}
        found |= {(None, code) for code in self.codes}
        if self.credentials is not NONE:
            found |= {
                (None, code)
                for code in (
                    "unauthenticated",
                    "token_expired",
                    "forbidden",
                    "rate_limited",
                    "unavailable",
                )
            }
        names = path_parameters(path)
        if "room" in names:
            found |= {(None, code) for code in ("room_not_found", "not_a_member")}
        if "message" in names:
            found.add((None, "message_not_found"))
        if self.query is not None:
            found.add((None, "bad_request"))
            if "user_id" in self.query.__struct_fields__:  # type: ignore[attr-defined]
                found.add((None, "not_found"))
        if self.body is not None:
            found |= {(None, "bad_request"), (None, "too_large")}
            found |= {(408, "bad_request"), (415, "bad_request")}
        return frozenset(found)


def describe(
    credentials: Credentials,
    answers: Mapping[int, Shape],
    *,
    query: type | None = None,
    body: Shape = None,
    optional_body: Shape = None,
    codes: tuple[str, ...] = (),
    conditional: bool = False,
    location: bool = False,
    idempotency_key: bool = False,
    cache: str = "private, no-cache",
) -> Callable[[_Handler], _Handler]:
    """Describe the handler below; its docstring is the summary and the description.

    `answers` maps a status to the type of its JSON body. `codes` are the handler's own refusals.
    `conditional`: ETag and 304; `location`: the header of what was made.
    """
    operation = Operation(
        credentials=credentials,
        answers=answers,
        query=query,
        body=optional_body if body is None else body,
        is_body_optional=body is None,
        codes=frozenset(codes),
        is_conditional=conditional,
        has_location=location,
        takes_idempotency_key=idempotency_key,
        cache=cache,
    )

    def keep(handler: _Handler) -> _Handler:
        setattr(handler, _ATTRIBUTE, operation)
        return handler

    return keep


def hidden(handler: _Handler) -> _Handler:
    """Leave a handler out of the document: it serves files of a page, not the API."""
    setattr(handler, _ATTRIBUTE, None)
    return handler


def operation_of(handler: object) -> Operation | None:
    """What a handler says about itself, None if it is hidden; LookupError if it says nothing."""
    try:
        operation: Operation | None = getattr(handler, _ATTRIBUTE)
    except AttributeError:
        raise LookupError(f"{handler!r} is not described: give it @describe") from None
    return operation


def path_parameters(path: str) -> list[str]:
    """The names in a path of the framework's notation."""
    return _PATH_PARAMETER.findall(path)


def openapi_path(path: str) -> str:
    """The path in OpenAPI's notation."""
    return _PATH_PARAMETER.sub(r"{\1}", path)
