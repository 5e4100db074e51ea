"""Favourites in the OpenAPI document."""

from __future__ import annotations

from msgspec import Struct

from api.documents.messages import MessageDocument


class FavoriteListDocument(Struct, kw_only=True, rename={"total_pages": "totalPages"}):
    """A part of a user's favourites as they are now, last marked first."""

    items: list[MessageDocument]
    page: int
    limit: int
    total: int
    total_pages: int
