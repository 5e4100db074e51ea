"""Members of rooms: adding, removing, ranking and muting.

A change commits in PostgreSQL with its announcement, then it is announced, then it is answered: so
what was answered holds on every node. If Redis is away in between, the caller is told
`unavailable`; the change is stored and is announced in the end, and asking again is harmless.
Whoever asks again has the room drained too, even if there is nothing left to change.

Who may do what to whom is decided under the room's row lock, from roles read there.
A direct room has its two members for good. An owner goes only as the last member, or after handing
over; nobody but the owner (or the project) makes an owner.
"""

from __future__ import annotations

from datetime import datetime
from typing import Final, Literal, Protocol

import msgspec

from broker.domain import roles
from broker.domain.access import Access, Actor
from broker.domain.roles import Action
from broker.protocol.errors import ProtocolError
from broker.protocol.ids import is_user_id
from storage.postgres import members as rows
from storage.postgres.members import MemberChange, RoomFacts
from storage.postgres.pool import Database

MEMBERS_ADDED_MAX: Final = 100
_GRANTED: Final = (roles.READER, roles.MEMBER, roles.ADMIN)
_FIXED_IN_DIRECT: Final = frozenset(
    {Action.ADD_MEMBER, Action.REMOVE_MEMBER, Action.RANK, Action.HAND_OVER, Action.BAN}
)


class RoomAnnouncer(Protocol):
    """What is needed of `Announcer`."""

    async def drain_room(self, project: str, room: str) -> None:
        """Announce whatever of the room is committed and not announced; StorageUnavailable."""


class LiveSeq(Protocol):
    """What is needed of `RoomStore`."""

    async def numbering(self, key: str) -> tuple[str, int, int] | None:
        """(epoch, offset, seq) of a warm room."""


class MembersBody(msgspec.Struct, kw_only=True):
    """Whom to add: one `user` or several `users`; without `role` the room's default."""

    user: str | None = None
    users: list[str] | None = None
    role: Literal["reader", "member", "admin", "owner"] | None = None


class MemberPatch(msgspec.Struct, kw_only=True):
    """What to change of a member; `muted_until: null` ends the silence."""

    role: Literal["reader", "member", "admin", "owner"] | msgspec.UnsetType = msgspec.UNSET
    muted_until: datetime | msgspec.UnsetType | None = msgspec.UNSET


class Members:
    """Changes memberships for one process."""

    def __init__(
        self, db: Database, store: LiveSeq, announcer: RoomAnnouncer, *, create_users: bool
    ) -> None:
        self._db = db
        self._store = store
        self._announcer = announcer
        self._create_users = create_users

    async def add(
        self, actor: Actor, room: str, access: Access, body: MembersBody
    ) -> tuple[list[str], bool]:
        """Make users members: whom was asked for, and whether anybody is new.

        Raises ProtocolError (`not_found` with field if one is no user: then nobody is added) and
        StorageUnavailable (it may have been done; repeat).
        """
        users, field = parse_members(body)
        role = body.role or access.default_role
        numbering = await self._store.numbering(f"{actor.project}/{room}")

        def permit(facts: RoomFacts) -> None:
            require_action(facts, Action.ADD_MEMBER, actor, room)
            banned = sorted(facts.banned.intersection(users))
            if banned:
                names = ", ".join(banned[:3])
                raise ProtocolError("conflict", f"Banned from the room: {names}.", field)
            if role not in _GRANTED:
                raise ProtocolError("bad_request", "An owner hands over with PATCH.", "role")

        added = await rows.add_members(
            self._db,
            actor.project,
            access.room_pk,
            users,
            role=role,
            by=actor.user,
            live_seq=0 if numbering is None else numbering[2],
            create_users=self._create_users and actor.caller != "user",
            permit=permit,
        )
        if added.missing:
            names = ", ".join(added.missing[:3])
            raise ProtocolError("not_found", f"There is no user {names}.", field)
        await self._announcer.drain_room(actor.project, room)
        return users, bool(added.users)

    async def join(self, actor: Actor, room: str, access: Access, user: str) -> None:
        """Make the user a member by its own will: in a public room, or in any group by key.

        Nothing happens if it is one. Raises as `add` does; `forbidden` for a banned user.
        """
        numbering = await self._store.numbering(f"{actor.project}/{room}")

        def permit(facts: RoomFacts) -> None:
            if facts.deleted:
                raise ProtocolError("room_not_found")
            _refuse_direct(facts)
            if user in facts.banned:
                raise ProtocolError("forbidden", "The user is banned from the room.")
            is_open = facts.kind == "public" or facts.role(user) is not None
            if actor.caller == "user" and not is_open:
                raise ProtocolError("forbidden", "One is added to this room by its admins.")

        added = await rows.add_members(
            self._db,
            actor.project,
            access.room_pk,
            [user],
            role=access.default_role,
            by=user,
            live_seq=0 if numbering is None else numbering[2],
            create_users=False,
            permit=permit,
        )
        if added.missing:
            raise ProtocolError("not_found", "There is no such user.")
        await self._announcer.drain_room(actor.project, room)

    async def was_member(self, actor: Actor, room: str, user: str) -> bool:
        """Whether the user once was a member of the room, which lives."""
        return await rows.was_member(self._db, actor.project, room, user)

    async def remove(self, actor: Actor, room: str, access: Access, user: str) -> None:
        """End a membership, one's own or another's; nothing happens if there is none.

        Raises ProtocolError and StorageUnavailable (it may have been done; repeat).
        """
        leaves = actor.user == user

        def permit(facts: RoomFacts) -> None:
            if not leaves:
                require_action(facts, Action.REMOVE_MEMBER, actor, room)
            if facts.deleted:
                raise ProtocolError("room_not_found")
            _refuse_direct(facts)
            if facts.role(user) == roles.OWNER and not (leaves and facts.member_count == 1):
                if leaves or actor.caller == "project":
                    raise ProtocolError("conflict", "An owner hands over before leaving.")
                raise ProtocolError("forbidden", "The owner can not be removed.")

        if is_user_id(user):
            await rows.remove_member(
                self._db,
                access.room_pk,
                user,
                by=actor.user,
                reason="left" if leaves else "removed",
                permit=permit,
            )
        await self._announcer.drain_room(actor.project, room)

    async def update(
        self, actor: Actor, room: str, access: Access, user: str, patch: MemberPatch
    ) -> None:
        """Rank or mute a member. Raises ProtocolError (`not_found`: the user is no member) and
        StorageUnavailable (it may have been done; repeat)."""
        change = parse_change(patch)

        def permit(facts: RoomFacts) -> None:
            _permit_update(facts, change, actor, room, user)

        found = is_user_id(user) and await rows.update_member(
            self._db, access.room_pk, user, change, by=actor.user, permit=permit
        )
        if not found:
            raise ProtocolError("not_found", "The user is no member of the room.")
        await self._announcer.drain_room(actor.project, room)


def parse_members(body: MembersBody) -> tuple[list[str], str]:
    """The users that a body names, each once, and the field that named them."""
    field = "user" if body.users is None else "users"
    if (body.user is None) == (body.users is None):
        raise ProtocolError("bad_request", "Give `user` or `users`.", field)
    users = list(dict.fromkeys(body.users if body.user is None else [body.user]))  # type: ignore[arg-type]
    if not 1 <= len(users) <= MEMBERS_ADDED_MAX:
        raise ProtocolError("bad_request", f"Give 1 to {MEMBERS_ADDED_MAX} users.", field)
    if not all(map(is_user_id, users)):
        raise ProtocolError("bad_request", "This is no user id.", field)
    return users, field


def parse_change(patch: MemberPatch) -> MemberChange:
    """What a PATCH asks for; raises ProtocolError if it is nothing or has no time zone."""
    if patch.role is msgspec.UNSET and patch.muted_until is msgspec.UNSET:
        raise ProtocolError("bad_request", "Give `role` or `muted_until`.", "role")
    role = None if patch.role is msgspec.UNSET else patch.role
    if patch.muted_until is msgspec.UNSET:
        return MemberChange(role=role)
    until = patch.muted_until
    if until is not None and until.tzinfo is None:
        raise ProtocolError("bad_request", "A time has a zone, such as Z.", "muted_until")
    return MemberChange(role=role, mutes=True, muted_until=until)


def _permit_update(
    facts: RoomFacts, change: MemberChange, actor: Actor, room: str, user: str
) -> None:
    if change.role is not None:
        action = Action.HAND_OVER if change.role == roles.OWNER else Action.RANK
        require_action(facts, action, actor, room)
    if change.mutes:
        require_action(facts, Action.MUTE, actor, room)
    if facts.role(user) == roles.OWNER and change.role not in (None, roles.OWNER):
        if actor.caller != "project" and actor.user != user:
            raise ProtocolError("forbidden", "The owner can not be ranked.", "role")
        raise ProtocolError("conflict", "An owner is ranked by handing over to another.", "role")
    if facts.role(user) == roles.OWNER and change.mutes and actor.caller != "project":
        raise ProtocolError("forbidden", "The owner can not be muted.", "muted_until")


def require_action(facts: RoomFacts, action: Action, actor: Actor, room: str) -> None:
    """Raise what the actor is told if its role, as it is under the lock, does not suffice."""
    if facts.deleted:
        raise ProtocolError("room_not_found")
    refused = roles.refusal(
        action,
        kind=facts.kind,
        role=facts.role(actor.user),
        capabilities=actor.capabilities_in(room),
        caller=actor.caller,
        banned=actor.user in facts.banned,
    )
    # In a direct room no role would ever suffice: that says more than `forbidden`.
    if refused in (None, "forbidden") and action in _FIXED_IN_DIRECT:
        _refuse_direct(facts)
    if refused is not None:
        raise ProtocolError(refused)


def _refuse_direct(facts: RoomFacts) -> None:
    if facts.kind == "direct":
        raise ProtocolError("conflict", "A direct room has its two members for good.")
