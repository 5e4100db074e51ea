"""What a user is in a room, and whether that suffices: the one gate before every action.

A role is always read together with the room's `version` and passed on with it; the scripts refuse
what was read before the newest announced change (`stale`), and then it is read again. So a cached
role can be wrong only until the next script call, never after an announced removal.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from broker.domain import roles
from broker.protocol.errors import ProtocolError
from broker.protocol.ids import is_room_id
from storage.postgres import access as access_rows
from storage.postgres.pool import Database, RowReader
from storage.postgres.unread import ArchivedUnread, gather_standing

ACCESS_CACHE_MAX = 50_000
"""Roles one process remembers: some 300 bytes each, so 15 MiB at most."""


@dataclass(frozen=True, slots=True)
class Actor:
    """Who acts: a user by token, a key for a user, or the project itself (user None)."""

    project: str
    user: str | None
    caller: roles.Caller
    capabilities: tuple[tuple[str, frozenset[str]], ...] = ()
    """(room, capabilities) of the token."""

    def capabilities_in(self, room: str) -> Collection[str]:
        """What the token adds in this room."""
        for name, capabilities in self.capabilities:
            if name == room:
                return capabilities
        return ()


@dataclass(frozen=True, slots=True)
class Access:
    """A user's standing in one room at one version of it."""

    room_pk: int
    kind: str
    version: int
    role: str | None
    frozen: bool
    default_role: str
    muted_until: datetime | None
    read_seq: int
    archived_offset: int
    """As PostgreSQL had it when this was read; only `read_seq` and unread need it."""
    banned: bool = False
    blocked: bool = False
    """By the other member of a direct room."""
    deleted: bool = False
    """Only the project is ever given the standing in a deleted room."""

    def refusal(self, action: roles.Action, actor: Actor, room: str) -> str | None:
        """Why the actor may not do this, as an error code; None if it may."""
        capabilities = actor.capabilities_in(room)
        refused = roles.refusal(
            action,
            kind=self.kind,
            role=self.role,
            capabilities=capabilities,
            caller=actor.caller,
            banned=self.banned,
        )
        if refused is not None or actor.caller == "project":
            return refused
        muted = self.muted_until is not None and self.muted_until > datetime.now(UTC)
        if (self.frozen or muted or self.blocked) and roles.is_silenced(
            action,
            role=self.role,
            capabilities=capabilities,
            frozen=self.frozen,
            muted=muted,
            blocked=self.blocked,
        ):
            return "forbidden"
        return None

    def require(self, action: roles.Action, actor: Actor, room: str) -> None:
        """Raise the refusal, if there is one, as the client is told it."""
        code = self.refusal(action, actor, room)
        if code is not None:
            raise ProtocolError(code)


async def fetch_standing(
    reader: RowReader, project: str, room: str, user: str | None
) -> Access | None:
    """The standing as PostgreSQL has it, also in a deleted room; None if there never was one.

    Also within a `work`, to which everything here is safe.
    """
    return standing_of(await access_rows.read_access(reader, project, room, user))


def standing_of(row: Any) -> Access | None:
    """The standing in a row of `read_access`."""
    if row is None:
        return None
    return Access(
        room_pk=row["pk"],
        kind=row["kind"],
        version=row["version"],
        role=row["role"],
        frozen=row["frozen"],
        default_role=row["default_role"],
        muted_until=row["muted_until"],
        read_seq=-1 if row["read_seq"] is None else row["read_seq"],
        archived_offset=row["archived_offset"],
        banned=row["banned"],
        blocked=row["blocked"],
        deleted=row["deleted"],
    )


class AccessReader:
    """Reads standings, and remembers the newest ones for the hot path."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._known: OrderedDict[tuple[str, str | None], Access] = OrderedDict()

    def known(self, key: str, user: str | None) -> Access | None:
        """What was read last; only for calls whose script compares the version."""
        return self._known.get((key, user))

    async def read(
        self, project: str, room: str, user: str | None, *, deleted_too: bool = False
    ) -> Access:
        """Read PostgreSQL. Raises `room_not_found`, and StorageUnavailable.

        `deleted_too`: what the project may still read of a deleted room. It is not remembered.
        """
        # What can be no id is not asked for: PostgreSQL refuses NUL, for one.
        row = (
            await access_rows.gather_access(self._db, project, room, user)
            if is_room_id(room)
            else None
        )
        return self.take(standing_of(row), project, room, user, deleted_too=deleted_too)

    async def read_and_count(
        self, project: str, room: str, user: str
    ) -> tuple[Access, ArchivedUnread | None]:
        """`read`, and the user's archived unread messages as of the same instant.

        No count for who is no member.
        """
        row, archived = (
            await gather_standing(self._db, project, room, user)
            if is_room_id(room)
            else (None, None)
        )
        return self.take(standing_of(row), project, room, user), archived

    def take(
        self,
        access: Access | None,
        project: str,
        room: str,
        user: str | None,
        *,
        deleted_too: bool = False,
    ) -> Access:
        """What `fetch_standing` has just found, remembered. Raises `room_not_found`."""
        place = (f"{project}/{room}", user)
        if access is None or (access.deleted and not deleted_too):
            self._known.pop(place, None)
            raise ProtocolError("room_not_found")
        if access.deleted:
            return access
        self._known[place] = access
        self._known.move_to_end(place)
        if len(self._known) > ACCESS_CACHE_MAX:
            self._known.popitem(last=False)
        return access

    async def read_as(self, actor: Actor, room: str) -> Access:
        """What the actor reads by: the project still sees deleted rooms."""
        is_project = actor.caller == "project"
        return await self.read(actor.project, room, actor.user, deleted_too=is_project)

    def take_as(self, access: Access | None, actor: Actor, room: str) -> Access:
        """The same as `read_as` with what was found already."""
        is_project = actor.caller == "project"
        return self.take(access, actor.project, room, actor.user, deleted_too=is_project)

    async def get(self, project: str, room: str, user: str | None) -> Access:
        """The known standing, else read it."""
        return self.known(f"{project}/{room}", user) or await self.read(project, room, user)

    def forget(self, key: str, user: str | None) -> None:
        """Read again next time."""
        self._known.pop((key, user), None)
