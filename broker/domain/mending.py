"""What each refusal of a script that appends asks for, so that the same event can be tried again.

A refusal is no outcome: nothing was written. Its cause is removed here (a cold room is warmed, a
new life learned, a stale role read again), or the client is told about it. Refusals that only one
command knows are that command's business.
"""

from __future__ import annotations

from collections.abc import Callable

from broker.domain.access import Access, AccessReader, Actor
from broker.domain.seeding import Seeder
from broker.protocol.errors import ProtocolError
from config import limits
from storage.redis.keys import room_key
from storage.redis.outcomes import Refusal
from storage.redis.rooms import RoomStore

APPEND_ATTEMPTS = 10
"""Stale, cold and fenced may follow each other, and each may repeat under a storm of changes."""


class Mender:
    """Removes the causes of refusals for one process."""

    def __init__(self, rooms: RoomStore, access: AccessReader, seeder: Seeder) -> None:
        self._rooms = rooms
        self._access = access
        self._seeder = seeder

    async def mend(
        self, refusal: Refusal, actor: Actor, room: str, permit: Callable[[Access], None]
    ) -> Access | None:
        """Remove the cause, or raise what the client is told: ProtocolError, StorageUnavailable.

        A role that was stale is read again, put to `permit` (which raises) and returned.
        """
        key = room_key(actor.project, room)
        match refusal.kind:
            case "cold":
                await self._seeder.warm(key)
            case "fenced":
                await self._rooms.refence(self._rooms.keys.partition(key))
            case "stale":
                access = await self._access.read(actor.project, room, actor.user)
                permit(access)
                return access
            case "gone":
                self._access.forget(key, actor.user)
                raise ProtocolError("room_not_found")
            case "full":
                raise ProtocolError("overloaded", retry_after=limits.OVERLOADED_RETRY_AFTER)
            case other:
                raise AssertionError(f"nobody knows the refusal {other!r} here")
        return None
