"""Announcing committed changes of rooms and members (mechanism: announcements).

A change and its announcement commit together; the process that made it announces at once, before it
answers, and the archiver announces whatever is older than a second. The script is idempotent by
version, so both may do it, and repeat it, in any interleaving; rows go away only afterwards.

Changes of one room that are made at once are announced together: one task of a process reads what
waits and announces it, and whoever had committed before that reading is answered by it. If each
announced what it found, a hundred changes at once would be announced ten thousand times over, and
the last of them be told `unavailable` for the work of the others.

What concerns a user's own connections has rows of its own, without an order: the nodes answer by
reading the user again, so repeats do no harm.
"""

from __future__ import annotations

from collections.abc import Sequence

import structlog
import trio

from broker.domain.notifying import Notifier
from broker.domain.seeding import Seeder
from broker.domain.users import USER_CHANGED
from broker.protocol.errors import ProtocolError
from storage.errors import StorageUnavailable
from storage.postgres.announcements import (
    ROOM_ANNOUNCEMENTS_MAX,
    Announcement,
    UserAnnouncement,
    delete_announcements,
    delete_user_announcements,
    list_announcements,
    list_user_announcements,
    take_due,
    take_due_users,
)
from storage.postgres.pool import Database
from storage.redis.keys import room_key, user_channel
from storage.redis.outcomes import Appended
from storage.redis.rooms import RoomStore

ANNOUNCE_ATTEMPTS = 5
"""A room may be cold and its partition fenced meanwhile; more is left to the archiver."""


class _Drain:
    """The drains of one room in this process: one works, the others wait for their turn."""

    __slots__ = ("asked", "done", "failed", "failure", "turn")

    def __init__(self) -> None:
        self.turn = trio.Lock()
        self.asked = 0
        """How many drains have been asked for."""
        self.done = 0
        """Up to which of them a reading that began later has been announced."""
        self.failed = 0
        """Up to which of them one has failed, and why."""
        self.failure: Exception | None = None


class Announcer:
    """Announces for one process."""

    def __init__(self, db: Database, rooms: RoomStore, seeder: Seeder) -> None:
        self._db = db
        self._rooms = rooms
        self._seeder = seeder
        self._drains: dict[str, _Drain] = {}
        self._notifier = Notifier(db, rooms)
        self._log = structlog.get_logger("broker.domain.announcing")

    async def drain_room(self, project: str, room: str) -> None:
        """Announce everything of the room that is waiting, in order of version.

        Raises StorageUnavailable, also when the room cannot be warmed now: the change stays
        committed and is announced later. Cancel-safe.
        """
        key = room_key(project, room)
        drain = self._drains.setdefault(key, _Drain())
        drain.asked += 1
        place = drain.asked
        try:
            async with drain.turn:
                if drain.done < place:
                    await self._take_turn(drain, place, project, room)
        finally:
            if drain.turn.statistics().owner is None and self._drains.get(key) is drain:
                del self._drains[key]

    async def _take_turn(self, drain: _Drain, place: int, project: str, room: str) -> None:
        """Announce for everybody who has asked so far; what fails, fails for all of them."""
        if drain.failed >= place and drain.failure is not None:
            raise drain.failure
        asked = drain.asked
        try:
            while waiting := await list_announcements(self._db, project, room):
                await self._announce_all(waiting)
                if len(waiting) < ROOM_ANNOUNCEMENTS_MAX:
                    break
        except (StorageUnavailable, ProtocolError) as error:
            drain.failed, drain.failure = asked, error
            raise
        drain.done = asked

    async def tell_founders(self, project: str, room: str, room_pk: int, users: list[str]) -> None:
        """Tell the first members of a new room, which is announced to nobody.

        The room is there, so a storage that is away now is no failure: it is a hint, and lost then.
        """
        try:
            await self._notifier.tell_added(room_key(project, room), room_pk, users)
        except StorageUnavailable as error:
            self._log.info("founders were not told", room=room, reason=error.reason)

    async def drain_due(self, older_than: float, limit: int) -> int:
        """Announce what others left behind, at most `limit` of each kind; how many there were."""
        users = await take_due_users(self._db, older_than, limit)
        await self._announce_users(users)
        waiting = await take_due(self._db, older_than, limit)
        by_room: dict[str, list[Announcement]] = {}
        for announcement in waiting:
            by_room.setdefault(announcement.room, []).append(announcement)
        for room, announcements in by_room.items():
            try:
                await self._announce_all(announcements)
            except ProtocolError as error:
                # One room that cannot be warmed must not keep the others from being announced.
                self._log.warning("announcements wait", room=room, reason=str(error))
        return len(waiting) + len(users)

    async def drain_user(self, project: str, user: str) -> None:
        """Make the user's connections look at the row again, if something is to be announced.

        Raises StorageUnavailable: then it is announced later. Cancel-safe.
        """
        await self._announce_users(await list_user_announcements(self._db, project, user))

    async def _announce_users(self, waiting: list[UserAnnouncement]) -> None:
        # Before the rows go: pages that were kept meanwhile show who they were.
        for project in {found.project for found in waiting}:
            await self._rooms.renew_stamp(project)
        for project, user in {(found.project, found.user) for found in waiting}:
            channel = user_channel(project, user)
            await self._rooms.broadcast(channel, event=USER_CHANGED, sender=None, data=b"{}")
        await delete_user_announcements(self._db, [found.id for found in waiting])

    async def _announce_all(self, announcements: Sequence[Announcement]) -> None:
        for announcement in announcements:
            await self._announce(announcement)
            # Before the row goes: whoever finds it left behind tells again.
            await self._notifier.tell_change(
                announcement.room, announcement.room_pk, announcement.event, announcement.data
            )
        await delete_announcements(self._db, [announcement.id for announcement in announcements])

    async def _announce(self, announcement: Announcement) -> None:
        key = announcement.room
        for _attempt in range(ANNOUNCE_ATTEMPTS):
            outcome = await self._rooms.announce(
                key,
                event=announcement.event,
                sender=announcement.sender,
                version=announcement.version,
                data=announcement.data,
            )
            if isinstance(outcome, Appended) or outcome.kind == "done":
                return
            if outcome.kind == "cold":
                await self._seeder.warm(key)
            else:
                await self._rooms.refence(self._rooms.keys.partition(key))
        raise StorageUnavailable("redis", "not_done", f"{key} could not be warmed")
