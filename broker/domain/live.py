"""What members let others know without writing: typing and signals. Ephemeral, never stored.

Both take what publishing takes: a member's role (or the `publish` capability), not muted, the
room not frozen. The script compares the version at which the role was read, so nothing passes
after a removal that was answered. A lost event is lost; nobody is told twice.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import trio

from broker.domain.access import Access, AccessReader, Actor
from broker.domain.mending import APPEND_ATTEMPTS, Mender
from broker.domain.roles import Action
from broker.domain.seeding import Seeder
from broker.protocol.errors import ProtocolError
from broker.protocol.signals import signal_data
from config import limits
from storage.redis.keys import room_key
from storage.redis.live import LiveStore
from storage.redis.outcomes import Refusal
from storage.redis.rooms import RoomStore

T = TypeVar("T")


class Live:
    """Typing and signals of one process."""

    def __init__(
        self, live: LiveStore, rooms: RoomStore, access: AccessReader, seeder: Seeder
    ) -> None:
        self._live = live
        self._access = access
        self._mender = Mender(rooms, access, seeder)

    async def signal(self, actor: Actor, room: str, name: str, data: Any, *, origin: str) -> None:
        """Send a signal to everybody subscribed but the connection `origin`.

        Raises ProtocolError and StorageUnavailable; cancelled, it may have been sent.
        """
        user = _user_of(actor)
        key = room_key(actor.project, room)
        packed = signal_data(user, name, data)

        async def send(access: Access) -> Refusal | None:
            return await self._live.signal(
                key, user=user, version=access.version, origin=origin, data=packed
            )

        await self._act(Action.SIGNAL, actor, room, send)

    async def begin_typing(self, actor: Actor, room: str, *, node: str, origin: str) -> int:
        """The user types on this node; milliseconds until a next `typing.started` may pass.

        Raises ProtocolError and StorageUnavailable.
        """
        user = _user_of(actor)
        key = room_key(actor.project, room)

        async def send(access: Access) -> int | Refusal:
            return await self._live.typing(
                key, node=node, user=user, version=access.version, is_active=True, origin=origin
            )

        return await self._act(Action.TYPE, actor, room, send)

    async def require_typing(self, actor: Actor, room: str) -> None:
        """Raise ProtocolError unless the user may type in the room."""
        await self._permitted(Action.TYPE, actor, room)

    async def _permitted(self, action: Action, actor: Actor, room: str) -> Access:
        access = self._access.known(room_key(actor.project, room), actor.user)
        if access is None or access.refusal(action, actor, room) is not None:
            # Nothing is refused on a remembered role: it may have risen since.
            access = await self._access.read(actor.project, room, actor.user)
            access.require(action, actor, room)
        return access

    async def _act(
        self,
        action: Action,
        actor: Actor,
        room: str,
        send: Callable[[Access], Awaitable[T | Refusal]],
    ) -> T:
        def permit(access: Access) -> None:
            access.require(action, actor, room)

        with trio.move_on_after(limits.PUBLISH_DEADLINE):
            access = await self._permitted(action, actor, room)
            for _attempt in range(APPEND_ATTEMPTS):
                outcome = await send(access)
                if not isinstance(outcome, Refusal):
                    return outcome
                access = await self._mender.mend(outcome, actor, room, permit) or access
        raise ProtocolError("unavailable", retry_after=limits.UNAVAILABLE_RETRY_AFTER)


def _user_of(actor: Actor) -> str:
    if actor.user is None:
        raise ProtocolError("forbidden", "Only users type and signal.")
    return actor.user
