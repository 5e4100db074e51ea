"""Pages of messages in the OpenAPI document, and the queries that ask for them."""

from __future__ import annotations

from msgspec import Struct

from api.documents.messages import MessageDocument
from api.documents.queries import ActingQuery


class NamesDocument(Struct, kw_only=True):
    """What a user is called."""

    display_name: str | None
    avatar_url: str | None


class HistoryDocument(Struct, kw_only=True):
    """A page of messages, rising; `next` is the newer page, `previous` the older one."""

    items: list[MessageDocument]
    has_more_before: bool
    has_more_after: bool
    next: str | None
    previous: str | None
    users: dict[str, NamesDocument]


class NumberedHistoryDocument(Struct, kw_only=True, rename={"total_pages": "totalPages"}):
    """A page by number (`page`, `skip`), rising; `total` counts deleted messages too."""

    items: list[MessageDocument]
    page: int
    limit: int
    total: int
    total_pages: int


class RepliesQuery(ActingQuery, kw_only=True):
    """Which messages: one of before, after, around, page, skip, or none of them."""

    before: int | None = None
    after: int | None = None
    around: int | None = None
    page: int | None = None
    skip: int | None = None
    limit: int = 50
    deleted: bool = False


class HistoryQuery(RepliesQuery, kw_only=True, rename={"from_": "from"}):
    """The same among those of a sender, a kind or a time (both ends included)."""

    sender: str | None = None
    kind: str | None = None
    from_: str | None = None
    to: str | None = None
