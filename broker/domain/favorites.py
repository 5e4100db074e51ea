"""Messages that a user marks for itself: whoever may read a message may mark it.

Nobody else is told. A deleted message can not be marked (`conflict`, as with reactions); one that
is deleted later stays in the list as a tombstone, until its user takes the mark away. The list
leaves out rooms that the user may not read any more; being let in again brings their marks back.
"""

from __future__ import annotations

import msgspec

from broker.domain.access import Access, Actor
from broker.domain.roles import Action, is_allowed
from broker.domain.scattered import EndReader, Wanted, load_scattered
from broker.protocol.errors import ProtocolError
from storage.postgres import favorites as rows
from storage.postgres.pool import Database
from storage.redis.keys import room_key


class _Message(msgspec.Struct):
    seq: int
    deleted_at: str | None


_decode = msgspec.json.Decoder(_Message).decode


async def add_favorite(db: Database, actor: Actor, access: Access, message: bytes) -> None:
    """Mark a message that the actor may read; nothing happens if it is marked already.

    Raises ProtocolError (`bad_request`: no user acts; `conflict`: it is deleted; `limit_reached`)
    and StorageUnavailable (it may have been done; repeat).
    """
    user = require_user(actor)
    found = _decode(message)
    if found.deleted_at is not None:
        raise ProtocolError("conflict", "The message has been deleted.")
    done = await rows.add_favorite(db, actor.project, user, access.room_pk, found.seq)
    if done == "full":
        raise ProtocolError("limit_reached", f"At most {rows.FAVORITES_MAX} favourites.")


async def remove_favorite(db: Database, actor: Actor, access: Access, message: bytes) -> None:
    """Take the mark away; nothing happens if there is none."""
    await rows.remove_favorite(db, require_user(actor), access.room_pk, _decode(message).seq)


def require_user(actor: Actor) -> str:
    """Who marks; `bad_request` if the project itself acts, whatever it asks for."""
    if actor.user is None:
        raise ProtocolError("bad_request", "Name the user whose favourite it is.", "user_id")
    return actor.user


async def list_favorites(
    db: Database, store: EndReader, actor: Actor, *, skip: int, limit: int
) -> tuple[int, list[bytes]]:
    """How many favourites the user has in rooms that it may read, and some of them as messages,
    last marked first. Raises StorageUnavailable."""
    user = require_user(actor)
    opened = [
        room
        for room, capabilities in actor.capabilities
        if is_allowed(Action.READ, "group", None, capabilities)
    ]
    total, found = await rows.list_favorites(
        db, actor.project, user, opened, skip=skip, limit=limit
    )
    keys = list(dict.fromkeys(room_key(actor.project, one.room) for one in found))
    ends = dict(zip(keys, await store.newest(keys), strict=True))
    wanted = [
        Wanted(key, one.room_pk, one.seq, ends[key])
        for one in found
        for key in [room_key(actor.project, one.room)]
    ]
    bodies = await load_scattered(db, store, wanted, viewer=user)
    return total, [body for body in bodies if body is not None]
