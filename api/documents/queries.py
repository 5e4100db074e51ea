"""Queries that several resources take: the acting user, a part of a list."""

from __future__ import annotations

from msgspec import Struct


class ActingQuery(Struct, kw_only=True):
    """For keys: the user to act for."""

    user_id: str | None = None


class PageQuery(Struct, kw_only=True):
    """A part of a list."""

    page: int = 1
    limit: int = 50


class ListQuery(ActingQuery, kw_only=True):
    """A part of a list."""

    page: int = 1
    limit: int = 50
