"""What becomes of a deleted user's messages: `delete` leaves tombstones, `erase` nothing at all.

Law of this file:
- Every message is deleted by its event first, like any other: who is connected or resumes hears of
  it, and nothing in the log can bring it back. Only then, once the deletion is archived, is it
  wiped.
- Nothing begins before everything that the user can have published is archived, so PostgreSQL knows
  all of it. What is not archived yet makes the step give up; it is tried again later.
- The room's log in Redis is cut before the rows are wiped: a step that was broken off is repeated
  as long as there are rows to wipe. Clients that resume from before the cut reload (`trimmed`).
- Other people's copies stay theirs; they forget who wrote the first.

Each step may be done by anybody, at once and again; the note in `users.removal` goes away last.
"""

from __future__ import annotations

from typing import Final, Protocol

import msgspec

from broker.domain.access import Actor
from broker.domain.changing import Changer
from broker.protocol.errors import ProtocolError
from storage.errors import StorageUnavailable
from storage.postgres import message_removals as rows
from storage.postgres.message_removals import RoomOf
from storage.postgres.pool import Database
from storage.postgres.removals import Removal
from storage.redis.entries import parse_entry
from storage.redis.keys import room_key

ROOMS_AT_ONCE: Final = 200
MESSAGES_AT_ONCE: Final = 500
CLOCKS_APART_MS: Final = 5_000
"""The clocks of PostgreSQL and Redis, and a publish that was under way at the deletion."""


class Logs(Protocol):
    """What is needed of `RoomStore`."""

    async def cut_log(self, key: str, offset: int) -> None: ...
    async def renew_stamp(self, project: str) -> None: ...


class Archive(Protocol):
    """What is needed of `ArchiveStore`."""

    async def oldest_ms(self) -> int | None: ...


class MessageRemover:
    """Removes messages of deleted users for one process."""

    def __init__(self, db: Database, logs: Logs, archive: Archive, changer: Changer) -> None:
        self._db = db
        self._logs = logs
        self._archive = archive
        self._changer = changer

    async def remove(self, removal: Removal) -> bool:
        """Do what can be done now; whether that was all. Raises StorageUnavailable (repeat)."""
        if not await self._is_archived_since(removal):
            return False
        done = True
        above = 0
        while rooms := await rows.rooms_of(
            self._db, removal.project, removal.user, above, ROOMS_AT_ONCE
        ):
            for room in rooms:
                done = await self._remove_in(removal, room) and done
            above = rooms[-1].pk
        if removal.messages == "erase":
            await self._forget_origins(removal)
            await self._drop_letters(removal)
            # Wiping is no event: pages that were kept before it must not be shown after it.
            await self._logs.renew_stamp(removal.project)
        return done

    async def _is_archived_since(self, removal: Removal) -> bool:
        """Whether all that was published before the user was deleted is in PostgreSQL."""
        deleted_at = await rows.deletion_time(self._db, removal.project, removal.user)
        oldest = await self._archive.oldest_ms()
        if deleted_at is None or oldest is None:
            return True
        return oldest > deleted_at.timestamp() * 1000 + CLOCKS_APART_MS

    async def _remove_in(self, removal: Removal, room: RoomOf) -> bool:
        """Delete what is not deleted, wipe what is; False if something was not archived yet."""
        if room.deleted:
            await rows.delete_hidden(self._db, room.pk, removal.user)
            is_deleted = True
        else:
            is_deleted = await self._delete_in(removal, room)
        if removal.messages == "erase":
            await self._wipe_in(removal, room)
        return is_deleted

    async def _wipe_in(self, removal: Removal, room: RoomOf) -> None:
        # Read after looking for undeleted ones: whatever was found deleted lies at most here.
        archived = await rows.archived_offset(self._db, room.pk)
        await self._logs.cut_log(room_key(removal.project, room.id), archived)
        above: int | None = 0
        while above is not None:
            above = await rows.wipe_deleted(
                self._db,
                room.pk,
                removal.user,
                above=above,
                up_to_offset=archived,
                limit=MESSAGES_AT_ONCE,
            )

    async def _delete_in(self, removal: Removal, room: RoomOf) -> bool:
        project = Actor(removal.project, None, "project")
        above = 0
        found = False
        while seqs := await rows.undeleted_seqs(
            self._db, room.pk, removal.user, above, MESSAGES_AT_ONCE
        ):
            found = True
            for seq in seqs:
                try:
                    await self._changer.delete(project, room.id, seq)
                except ProtocolError as error:
                    if error.code == "room_not_found":
                        return False  # deleted meanwhile: the next time it is a hidden one
                    if error.code != "message_not_found":
                        raise StorageUnavailable("redis", "unknown", str(error)) from error
            above = seqs[-1]
        return not found

    async def _forget_origins(self, removal: Removal) -> None:
        while rooms := await rows.rooms_with_copies(
            self._db, removal.project, removal.user, ROOMS_AT_ONCE
        ):
            for room in rooms:
                await self._logs.cut_log(room_key(removal.project, room.id), room.archived_offset)
                await rows.forget_origin(self._db, room.pk, removal.user)

    async def _drop_letters(self, removal: Removal) -> None:
        above = 0
        while letters := await rows.list_letters(
            self._db, removal.project, above, MESSAGES_AT_ONCE
        ):
            mine = [number for number, raw in letters if _is_from(raw, removal.user)]
            await rows.drop_letters(self._db, mine)
            above = letters[-1][0]


class _Written(msgspec.Struct, gc=False):
    sender: str | None = None


def _is_from(raw: bytes, user: str) -> bool:
    """Whether an event was made by the user or is about a message of the user."""
    try:
        entry = parse_entry(raw)
        return user in (entry.sender, msgspec.json.decode(entry.data, type=_Written).sender)
    except (ValueError, msgspec.DecodeError):
        # What can not be read at all is of nobody known: rather lost than kept.
        return user.encode() in raw
