"""Who is there: of a room, of a user."""

from __future__ import annotations

from msgspec import Struct

from api.documents.queries import ActingQuery


class PresentUserDocument(Struct, kw_only=True):
    """A user who is online in a room. Without connections it has just lost its last one."""

    user: str
    since: str
    connections: int


class RoomPresenceDocument(Struct, kw_only=True):
    """Who is online in a room, and how many all in all."""

    users: list[PresentUserDocument]
    count: int


class UserPresenceDocument(Struct, kw_only=True):
    """Whether a user is online, and in which rooms. `last_seen_at`: the newest coming or going."""

    online: bool
    last_seen_at: str | None
    rooms: list[str]


class PresenceQuery(ActingQuery, kw_only=True):
    """How many users to name: 100, at most 1000."""

    limit: int = 100
