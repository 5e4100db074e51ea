"""Who is there: the presence of a room and of a user, for REST and the WebSocket alike.

Readers may ask about a room; it counts everybody who is subscribed, members or not. A project may
ask about any user; a user only about people it shares a room with, and is told of shared rooms
only. Who asks about anybody else is answered as if there were no such user.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from broker.domain.access import AccessReader, Actor
from broker.domain.roles import Action
from broker.protocol.errors import ProtocolError
from broker.protocol.events import iso_time
from broker.protocol.ids import is_user_id
from broker.protocol.signals import PRESENCE_USERS_DEFAULT
from storage.postgres import presence as rows
from storage.postgres.pool import Database
from storage.redis.keys import room_key, split_room_key
from storage.redis.live import LiveStore

_encode: Final = msgspec.json.Encoder().encode


async def room_presence(
    access: AccessReader, live: LiveStore, actor: Actor, room: str, limit: int | None
) -> bytes:
    """`{users: [{user, since, connections}], count}`, who came first ahead.

    Raises ProtocolError and StorageUnavailable.
    """
    (await access.read_as(actor, room)).require(Action.READ, actor, room)
    key = room_key(actor.project, room)
    found = await live.presence(key, PRESENCE_USERS_DEFAULT if limit is None else limit)
    users = [
        {"user": who.user, "since": iso_time(who.since_ms), "connections": who.connections}
        for who in found.users
    ]
    return _encode({"users": users, "count": found.online})


async def user_presence(db: Database, live: LiveStore, actor: Actor, user: str) -> bytes:
    """`{online, last_seen_at, rooms}`. Raises ProtocolError and StorageUnavailable."""
    viewer = actor.user
    row: Any = None
    if is_user_id(user):
        row = await rows.fetch_seen(db, actor.project, user, viewer)
    if row is None:
        raise ProtocolError("not_found", "There is no such user.")
    rooms = [split_room_key(key)[1] for key in await live.rooms_of(actor.project, user)]
    is_online = bool(rooms)
    if viewer is not None and rooms:
        rooms = await rows.fetch_shared(db, actor.project, rooms, viewer)
    return _encode({"online": is_online, "last_seen_at": row["last_seen_at"], "rooms": rooms})
