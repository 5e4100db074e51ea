"""Blocks: a user stops another's direct messages. Nobody but the user sees them."""

from __future__ import annotations

from broker.domain.members import RoomAnnouncer
from broker.protocol.errors import ProtocolError
from broker.protocol.ids import is_user_id
from storage.postgres import blocks as rows
from storage.postgres.pool import Database


async def add_block(
    db: Database, announcer: RoomAnnouncer, project: str, user: str, blocked: str
) -> None:
    """Block; repeating it is harmless. From the return on nothing of the blocked one lands in
    their direct room.

    Raises ProtocolError (`not_found`: no such user) and StorageUnavailable (it may have been done;
    repeat).
    """
    if user == blocked:
        raise ProtocolError("conflict", "Nobody blocks oneself.")
    found, room = False, None
    if is_user_id(blocked):
        found, room = await rows.add_block(db, project, user, blocked)
    if not found:
        raise ProtocolError("not_found", "There is no such user.")
    if room is not None:
        await announcer.drain_room(project, room)


async def remove_block(db: Database, project: str, user: str, blocked: str) -> None:
    """Lift a block; nothing happens if there is none. `not_found`: what no user can be called."""
    if not is_user_id(blocked):
        raise ProtocolError("not_found", "There is no such user.")
    await rows.remove_block(db, project, user, blocked)
