"""The sizes the scripts work with, in the units they want, derived once from the settings."""

from __future__ import annotations

from dataclasses import dataclass

from config import limits
from config.settings import Settings


@dataclass(frozen=True, slots=True)
class StoreLimits:
    """Limits of rooms, resumes and the backlog as the scripts take them."""

    log_length: int
    log_ttl_ms: int
    window_ms: int
    """How long a `client_id` is remembered."""
    backlog_events: int
    """Unarchived events one partition may hold before publishing is refused."""
    backlog_bytes: int
    inbox_max: int
    resume_events: int
    resume_bytes: int
    quiet_users: int
    typing_expires_ms: int
    typing_pause_ms: int


def store_limits(settings: Settings) -> StoreLimits:
    """The backlog is shared evenly, since a script sees only its own partition."""
    return StoreLimits(
        log_length=settings.room_log_length,
        log_ttl_ms=int(settings.room_log_ttl * 1000),
        window_ms=int(settings.idempotency_window * 1000),
        backlog_events=max(1, settings.archive_backlog_limit // settings.room_partitions),
        backlog_bytes=limits.ARCHIVE_BACKLOG_BYTES // settings.room_partitions,
        inbox_max=limits.INBOX_LENGTH_MAX,
        resume_events=limits.RESUME_EVENTS_MAX,
        resume_bytes=limits.RESUME_BYTES_MAX,
        quiet_users=settings.quiet_room_users,
        typing_expires_ms=int(limits.TYPING_EXPIRES * 1000),
        typing_pause_ms=int(limits.TYPING_PAUSE * 1000),
    )
