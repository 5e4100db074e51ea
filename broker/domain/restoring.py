"""What is done once after PostgreSQL was restored to an earlier time (`parley restored`).

- Every room goes on `skip` seqs later: those in between may have been given to messages that only
  clients remember.
- Every partition begins a new life, so clients are told to reload and no room in Redis goes on with
  a version or a numbering that PostgreSQL does not know.
- What a kept Redis still has in its room logs and PostgreSQL lacks is put into the archive again;
  the archiver takes it as events of an earlier life. Rooms that PostgreSQL does not know are lost.

All of it may be repeated, and be broken off anywhere. Processes may run or not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from broker.domain.seeding import Seeder
from broker.protocol.errors import ProtocolError
from storage.errors import StorageUnavailable
from storage.postgres.pool import Database
from storage.postgres.restoring import RestoredRoom, list_rooms, present_seqs, skip_numbers
from storage.redis.archive import ArchiveStore
from storage.redis.entries import parse_entry
from storage.redis.rooms import RoomStore

ROOMS_AT_ONCE: Final = 500


@dataclass(frozen=True, slots=True)
class Restored:
    """What was done."""

    rooms: int
    """That PostgreSQL has."""
    refilled: int
    """Of them, those of which Redis knew more."""
    events: int
    """That were put into the archive again."""


class Restorer:
    """Does it for one command."""

    def __init__(
        self, database: Database, rooms: RoomStore, archive: ArchiveStore, seeder: Seeder
    ) -> None:
        self._database = database
        self._rooms = rooms
        self._archive = archive
        self._seeder = seeder

    async def run(self, skip: int) -> Restored:
        """Do all of it. Raises StorageUnavailable; repeat it then."""
        rooms = await self._skip(skip)
        await self._rooms.begin_lives()
        refilled = events = above = 0
        while found := await list_rooms(self._database, above, ROOMS_AT_ONCE):
            known = await self._rooms.newest([room.key for room in found])
            for room, end in zip(found, known, strict=True):
                if end is not None and (count := await self._refill(room)):
                    refilled += 1
                    events += count
            above = found[-1].pk
        return Restored(rooms, refilled, events)

    async def _skip(self, skip: int) -> int:
        rooms = above = 0
        while True:
            count, above = await skip_numbers(self._database, above, ROOMS_AT_ONCE, skip)
            rooms += count
            if count < ROOMS_AT_ONCE:
                return rooms

    async def _refill(self, room: RestoredRoom) -> int:
        """Put into the archive what the log has from the first event on that is missing."""
        log = await self._rooms.log_fields(room.key)
        entries = [parse_entry(raw) for raw in log]
        seqs = [entry.seq for entry in entries if entry.event == "message.created"]
        present = await present_seqs(self._database, room.pk, seqs)
        lacking = [
            raw
            for raw, entry in zip(log, entries, strict=True)
            if entry.offset > room.archived_offset
            or (entry.event == "message.created" and entry.seq not in present)
        ]
        if not lacking:
            return 0
        # Only now: the archiver takes events of other lives up to the base that a seed has set.
        try:
            await self._seeder.warm(room.key)
        except ProtocolError as error:
            raise StorageUnavailable(
                "redis", reason=f"{room.key} can not be seeded ({error.code}); try again"
            ) from error
        again = log[log.index(lacking[0]) :]
        await self._archive.append_again(self._rooms.keys.partition(room.key), again)
        return len(again)
