"""Changing users: profiles, status, revocation of tokens, deletion.

What live connections must look at commits together with a note for the user's own channel; then the
nodes are told, then it is answered. If Redis is away in between, the caller is told `unavailable`:
the change is stored, the nodes are told in the end, and asking again is harmless.

A deleted user acts no more from the first commit on. Its memberships end in steps, each announced;
what a process leaves undone the archiver's does.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final, Literal, Protocol

import msgspec
import trio

from broker.domain.fields import check_email, check_name, check_url, metadata_text
from broker.domain.users import explain_taken
from broker.protocol.errors import ProtocolError
from broker.protocol.ids import is_user_id
from config import limits
from storage.errors import StorageRefused
from storage.postgres import removals
from storage.postgres import user_changes as rows
from storage.postgres.pool import Database
from storage.postgres.removals import Removal

NAMES_MAX: Final = 100
_OWN: Final = ("display_name", "email", "avatar_url", "metadata")
"""What a user may change of itself; the rest is its backend's."""


class Announcing(Protocol):
    """What is needed of `Announcer`."""

    async def drain_room(self, project: str, room: str) -> None:
        """Announce whatever of the room is committed and not announced; StorageUnavailable."""

    async def drain_user(self, project: str, user: str) -> None:
        """Tell the nodes about the user if something is to be told; StorageUnavailable."""


class RemovingMessages(Protocol):
    """What is needed of `MessageRemover`."""

    async def remove(self, removal: Removal) -> bool:
        """Do what can be done now about the messages; whether that was all."""


class UserPatch(msgspec.Struct, kw_only=True):
    """What to change of a user: given fields replace, null empties."""

    username: str | msgspec.UnsetType | None = msgspec.UNSET
    external_user_id: str | msgspec.UnsetType | None = msgspec.UNSET
    display_name: str | msgspec.UnsetType | None = msgspec.UNSET
    email: str | msgspec.UnsetType | None = msgspec.UNSET
    avatar_url: str | msgspec.UnsetType | None = msgspec.UNSET
    status: Literal["active", "banned"] | msgspec.UnsetType = msgspec.UNSET
    metadata: dict[str, Any] | msgspec.UnsetType | None = msgspec.UNSET


def parse_user_patch(patch: UserPatch, *, own: bool) -> dict[str, Any]:
    """The fields to set; raises ProtocolError naming the first at fault. `own`: by the user."""
    fields = {
        name: value
        for name in rows.EDITABLE
        if (value := getattr(patch, name)) is not msgspec.UNSET
    }
    for name in ("username", "external_user_id"):
        check_name(fields.get(name), name, may_be_empty=False)
    check_name(fields.get("display_name"), "display_name")
    check_email(fields.get("email"))
    check_url(fields.get("avatar_url"), "avatar_url")
    if "metadata" in fields:
        metadata_text(fields["metadata"])
        fields["metadata"] = fields["metadata"] or {}
    foreign = [name for name in fields if own and name not in _OWN]
    if foreign:
        raise ProtocolError("forbidden", f"`{foreign[0]}` is changed with an API key.", foreign[0])
    return fields


def parse_ids(text: str) -> list[str]:
    """The users of `?ids=a,b`; raises ProtocolError naming `ids`."""
    users = [part for part in text.split(",") if part]
    if not 1 <= len(users) <= NAMES_MAX or not all(map(is_user_id, users)):
        raise ProtocolError("bad_request", f"`ids` are 1 to {NAMES_MAX} user ids.", "ids")
    return users


class UserChanges:
    """Changes users for one process."""

    def __init__(
        self, db: Database, announcer: Announcing, messages: RemovingMessages | None = None
    ) -> None:
        """`messages`: removes the messages of deleted users; without it that is left to others."""
        self._db = db
        self._announcer = announcer
        self._messages = messages

    async def update(
        self, project: str, user: str, fields: dict[str, Any], *, by: str | None
    ) -> None:
        """Set the fields; `status: banned` ends live connections. Raises ProtocolError
        (`not_found`; `conflict` with field) and StorageUnavailable (repeat)."""
        found = False
        if is_user_id(user):
            try:
                found = await rows.update_user(self._db, project, user, fields, by=by)
            except StorageRefused as refused:
                explain_taken(refused)
        if not found:
            raise ProtocolError("not_found", "There is no such user.")
        await self._announcer.drain_user(project, user)

    async def delete(self, project: str, user: str, messages: str) -> None:
        """Delete the user; `messages` is `keep`, `delete` or `erase`.

        A few messages are gone when this returns; of many, or while there is a backlog, the
        archiver does the rest. Raises ProtocolError (`not_found`: there is none, or nothing is left
        to do about it) and StorageUnavailable (repeat, or leave the rest to the archiver).
        """
        if not is_user_id(user):
            raise ProtocolError("not_found", "There is no such user.")
        is_new = await removals.begin_removal(self._db, project, user, messages, by=None)
        left = await removals.removal_left(self._db, project, user)
        if not is_new and left is None:
            raise ProtocolError("not_found", "There is no such user.")
        await self._announcer.drain_user(project, user)
        await self.leave_rooms(project, user)
        if left is not None:
            with trio.move_on_after(limits.REMOVAL_WAIT):
                await self._remove_messages(Removal(project, user, left))

    async def _remove_messages(self, removal: Removal) -> None:
        """Go on until all is done, cancelled whenever it takes too long."""
        while not await self._finish(removal):
            if self._messages is None:
                return
            await trio.sleep(limits.REMOVAL_PAUSE)

    async def _finish(self, removal: Removal) -> bool:
        """Do what can be done now; whether that was all."""
        done = removal.messages == "keep" or (
            self._messages is not None and await self._messages.remove(removal)
        )
        if done:
            await removals.end_removal(self._db, removal)
        return done

    async def leave_rooms(self, project: str, user: str) -> None:
        """End every membership of a deleted user and announce it. Raises StorageUnavailable."""
        while (rooms := await removals.leave_rooms(self._db, project, user)) is not None:
            for room in rooms:
                await self._announcer.drain_room(project, room)

    async def finish_removals(self, older_than: float, limit: int) -> int:
        """Do what others left undone, `older_than` seconds after the deletion; how many users.

        Raises StorageUnavailable.
        """
        due = await removals.due_removals(self._db, older_than, limit)
        for removal in due:
            await self.leave_rooms(removal.project, removal.user)
            await self._finish(removal)
        return len(due)


async def revoke_user_tokens(db: Database, announcer: Announcing, project: str, user: str) -> None:
    """Void every token issued so far and end the connections that rest on one of them.

    By this process's clock, which is also the one that stamps new tokens. Raises `not_found`, and
    StorageUnavailable: then the tokens are void already, and the connections end in the end.
    """
    if not is_user_id(user) or not await rows.revoke_tokens(db, project, user, datetime.now(UTC)):
        raise ProtocolError("not_found", "There is no such user.")
    await announcer.drain_user(project, user)
