"""Bans: keeping somebody out of a room.

A banned user is no member, joins nothing, is added by nobody, does not read a public room and has
nothing from its token's capabilities. Admins ban whom they may remove: all but the owner.
"""

from __future__ import annotations

from broker.domain import roles
from broker.domain.access import Access, Actor
from broker.domain.members import RoomAnnouncer, require_action
from broker.domain.roles import Action
from broker.protocol.errors import ProtocolError
from broker.protocol.ids import is_user_id
from storage.postgres import bans as rows
from storage.postgres.pool import Database
from storage.postgres.room_locks import RoomFacts


class Bans:
    """Bans and lifts bans for one process."""

    def __init__(self, db: Database, announcer: RoomAnnouncer, *, create_users: bool) -> None:
        self._db = db
        self._announcer = announcer
        self._create_users = create_users

    async def add(self, actor: Actor, room: str, access: Access, user: str) -> None:
        """Ban; repeating it is harmless. Raises ProtocolError (`not_found`: no such user) and
        StorageUnavailable (it may have been done; repeat)."""

        def permit(facts: RoomFacts) -> None:
            require_action(facts, Action.BAN, actor, room)
            if actor.user == user:
                raise ProtocolError("conflict", "Nobody bans oneself.")
            if facts.role(user) == roles.OWNER:
                if actor.caller == "project":
                    raise ProtocolError("conflict", "An owner hands over before that.")
                raise ProtocolError("forbidden", "The owner can not be banned.")

        outcome = "missing"
        if is_user_id(user):
            outcome = await rows.add_ban(
                self._db,
                actor.project,
                access.room_pk,
                user,
                by=actor.user,
                create_users=self._create_users and actor.caller != "user",
                permit=permit,
            )
        if outcome == "missing":
            raise ProtocolError("not_found", "There is no such user.")
        await self._announcer.drain_room(actor.project, room)

    async def remove(self, actor: Actor, room: str, access: Access, user: str) -> None:
        """Lift a ban; nothing happens if there is none. The membership does not come back."""

        def permit(facts: RoomFacts) -> None:
            require_action(facts, Action.BAN, actor, room)

        await rows.remove_ban(
            self._db, actor.project, room, access.room_pk, user, by=actor.user, permit=permit
        )
