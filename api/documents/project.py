"""The project, its audit, what a token says, and health, in the OpenAPI document."""

from __future__ import annotations

from typing import Any

from msgspec import Struct


class HealthDocument(Struct, kw_only=True):
    """That the process lives."""

    status: str


class ReadyDocument(Struct, kw_only=True):
    """Whether the process should get requests; if not, because of what."""

    ready: bool
    redis: bool
    postgres: bool
    draining: bool


class ProjectDocument(Struct, kw_only=True):
    """The key's project."""

    id: str
    created_at: str


class AuditRowDocument(Struct, kw_only=True):
    """One change; `actor` is null for the project itself."""

    id: int
    actor: str | None
    action: str
    entity: str
    detail: dict[str, Any]
    created_at: str


class AuditListDocument(Struct, kw_only=True, rename={"total_pages": "totalPages"}):
    """A part of the changes, newest first."""

    items: list[AuditRowDocument]
    page: int
    limit: int
    total: int
    total_pages: int


class VerifiedUserDocument(Struct, kw_only=True, rename={"user_id": "userId"}):
    """Whom a token names."""

    user_id: str


class VerifiedDocument(Struct, kw_only=True):
    """What a good token says."""

    user: VerifiedUserDocument
    project: str
    expires_at: str


class AuditQuery(Struct, kw_only=True):
    """Which changes."""

    page: int = 1
    limit: int = 50
    entity: str | None = None
