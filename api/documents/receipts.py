"""Marks, receipts and recipients in the OpenAPI document."""

from __future__ import annotations

from msgspec import Struct

from broker.domain.receipts import Receipt, Recipient


class MarkDocument(Struct, kw_only=True):
    """How far the mark stands now, and how many messages are unread."""

    seq: int
    unread: int


class ReceiptListDocument(Struct, kw_only=True, rename={"total_pages": "totalPages"}):
    """A part of the marks of a room's members."""

    items: list[Receipt]
    page: int
    limit: int
    total: int
    total_pages: int


class RecipientListDocument(Struct, kw_only=True, rename={"total_pages": "totalPages"}):
    """A part of the recipients of a message."""

    items: list[Recipient]
    page: int
    limit: int
    total: int
    total_pages: int
