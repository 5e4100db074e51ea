"""What a resource gives the app: its routes, each a method, a path and a handler.

A handler is an async method; its docstring is the operation's text in the OpenAPI document, its
decorators (quart-schema) the operation's query and body. Handlers are straight-line code: no
nurseries, no background work, and each may be cancelled at any await.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple, Protocol

from quart import Response

Handler = Callable[..., Awaitable[Response]]


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
