"""What a resource gives the app: its routes, each a method, a path and a handler.

A handler is an async method; its docstring is the operation's text in the OpenAPI document, and
`@describe` (api/openapi/operations) says the rest of it. Handlers are straight-line code: no
nurseries, no background work, and each may be cancelled at any await.
"""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from typing import Any, NamedTuple, Protocol

from quart import Response


class Handler(Protocol):
    """An async method that answers a request."""

    @property
    def __name__(self) -> str: ...

    def __call__(self, *args: Any, **kwargs: Any) -> Awaitable[Response]: ...


class Route(NamedTuple):
    """One operation; `path` in the framework's notation (`/v1/users/<user>`)."""

    method: str
    path: str
    handler: Handler


class Resource(Protocol):
    """A group of operations on one kind of thing."""

    @property
    def tag(self) -> str:
        """The heading of the operations in the OpenAPI document."""

    def routes(self) -> Sequence[Route]:
        """The operations."""
