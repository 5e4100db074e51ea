"""Everything of one user as a JSON document, in pieces: never more than a batch in memory.

What is archived is in it (of what was written in the last second perhaps not all). The document
is read over some time, not in one snapshot: what is added meanwhile may be there or not.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Final

import msgspec

from broker.protocol.ids import is_user_id
from storage.postgres import exports as rows
from storage.postgres.exports import TracedRoom
from storage.postgres.pool import Database

ROWS_AT_ONCE: Final = 100
"""The largest messages are some 100 KiB each."""
ROOMS_AT_ONCE: Final = 500
_OF_USER: Final[tuple[tuple[str, Any], ...]] = (
    ("memberships", 0),
    ("blocks", ""),
    ("favorites", 0),
    ("audit", 0),
)
_OF_ROOMS: Final = ("messages", "reactions")


async def open_export(db: Database, project: str, user: str) -> AsyncIterator[bytes] | None:
    """The pieces of the document, to be read once; None if there never was such a user.

    Reading them raises StorageUnavailable. A deleted user can be exported: what is left of it.
    """
    profile = await rows.export_user(db, project, user) if is_user_id(user) else None
    return None if profile is None else _pieces(db, project, user, profile)


async def _pieces(db: Database, project: str, user: str, profile: bytes) -> AsyncIterator[bytes]:
    yield b'{"user":' + profile
    for section, first in _OF_USER:
        yield b',"%b":[' % section.encode()
        join = b""
        place = first
        while True:
            part = await rows.export_of_user(db, section, project, user, place, ROWS_AT_ONCE)
            if part.bodies:
                yield join + b",".join(part.bodies)
                join = b","
            if len(part.bodies) < ROWS_AT_ONCE:
                break
            place = part.place
        yield b"]"
    async for piece in _room_pieces(db, project, user):
        yield piece
    yield b"}"


async def _room_pieces(db: Database, project: str, user: str) -> AsyncIterator[bytes]:
    """Messages, reactions, bans and departures: one walk over the project's rooms for each."""
    for section in _OF_ROOMS:
        yield b',"%b":[' % section.encode()
        join = b""
        async for room in _walk(db, project, user):
            if not (room.has_messages if section == "messages" else room.has_reactions):
                continue
            place = -1
            while True:
                part = await rows.export_of_room(db, section, room, user, place, ROWS_AT_ONCE)
                if part.bodies:
                    yield join + b",".join(part.bodies)
                    join = b","
                if len(part.bodies) < ROWS_AT_ONCE:
                    break
                place = part.place
        yield b"]"
    for section, name in (("bans", "banned_at"), ("departures", "left_at")):
        yield b',"%b":[' % section.encode()
        join = b""
        async for room in _walk(db, project, user):
            at = getattr(room, name)
            if at is not None:
                yield join + msgspec.json.encode({"room": room.id, name: at})
                join = b","
        yield b"]"


async def _walk(db: Database, project: str, user: str) -> AsyncIterator[TracedRoom]:
    above = 0
    while rooms := await rows.traced_rooms(db, project, user, above, ROOMS_AT_ONCE):
        for room in rooms:
            yield room
        above = rooms[-1].pk
