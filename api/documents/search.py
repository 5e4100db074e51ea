"""Search in the OpenAPI document."""

from __future__ import annotations

from msgspec import Struct

from api.documents.history import NamesDocument
from api.documents.messages import MessageDocument
from api.documents.queries import ActingQuery


class SearchDocument(Struct, kw_only=True):
    """Messages, newest first. With `has_more` there may be fewer than `limit`, even none: the
    search goes on at `next`, a path."""

    items: list[MessageDocument]
    has_more: bool
    next: str | None
    users: dict[str, NamesDocument]


class SearchQueryString(ActingQuery, kw_only=True):
    """Words that must all be there, below which seq to look, and how many messages to give."""

    q: str
    before: int | None = None
    limit: int = 50
