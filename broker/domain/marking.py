"""Marking messages as read or delivered: the same way in for the WebSocket and for REST.

Law of this file:
- Marks never go back and never beyond the newest message; reading implies delivery. One script call
  moves a mark, whatever devices and nodes do at once; only members have marks.
- What is answered is how far the mark stands now, and how much is unread above the read mark.
- A room hears of a user's mark at most once a second (`RECEIPT_INTERVAL`), the newest counts. The
  script decides; what it holds back is asked for again here when the time has come. That is kept in
  memory: if this process dies within the second, the next mark tells, and the stored mark is right.
"""

from __future__ import annotations

import heapq
from typing import Final, NamedTuple

import structlog
import trio

from broker.domain.access import Access, AccessReader, Actor
from broker.domain.mending import APPEND_ATTEMPTS, Mender
from broker.domain.notifying import Notifier
from broker.domain.roles import Action
from broker.domain.seeding import Seeder
from broker.domain.unread import Reader, Unread, count_unread
from broker.protocol.errors import ProtocolError
from config import limits
from storage.errors import StorageUnavailable
from storage.postgres.pool import Database
from storage.postgres.receipts import read_marks
from storage.redis.keys import room_key, split_room_key
from storage.redis.outcomes import Mark, Marked, Refusal
from storage.redis.rooms import RoomStore

NEWEST: Final = 2**53 - 1
"""A seq above every message: all of the room."""


class MarkAnswer(NamedTuple):
    """How far the mark stands, and how many messages are unread."""

    seq: int
    unread: int


class Marker:
    """Moves marks for one process. `run` tells rooms what was held back."""

    def __init__(
        self, db: Database, rooms: RoomStore, access: AccessReader, seeder: Seeder
    ) -> None:
        self._db = db
        self._rooms = rooms
        self._access = access
        self._mender = Mender(rooms, access, seeder)
        self._due: list[tuple[float, str, str]] = []
        self._waiting: dict[tuple[str, str], int] = {}
        self._notifier = Notifier(db, rooms)
        self._log = structlog.get_logger("broker.domain.marking")
        self._wake = trio.Event()

    async def mark(self, actor: Actor, room: str, kind: str, seq: int | None) -> MarkAnswer:
        """Move the actor's mark of this kind (`read`, `delivered`) to `seq`, None: the newest.

        Raises ProtocolError and StorageUnavailable. Cancelled, it may have happened; repeating is
        harmless.
        """
        if actor.user is None:
            raise ProtocolError("bad_request", "Say which user: `user_id`.", "user_id")
        key = room_key(actor.project, room)
        access = self._access.known(key, actor.user)
        if access is None or access.refusal(Action.MARK, actor, room) is not None:
            access = await self._access.read(actor.project, room, actor.user)
        access.require(Action.MARK, actor, room)
        wanted = NEWEST if seq is None else min(seq, NEWEST)
        mark = Mark(actor.user, access.version, **{kind: wanted})
        marked = await self._move(actor, room, key, mark, access.room_pk)
        self._note(key, actor.user, access.room_pk, marked)
        read, unread = marked.read, 0
        if read < marked.seq:
            # Another device may have moved the mark meanwhile: both are said as they are now.
            counted = await self._count(actor, room, Reader(key, access.room_pk, actor.user))
            read, unread = max(read, counted.read_seq), counted.unread
        if marked.is_told:
            await self._tell_read(key, actor.user, read, unread)
        return MarkAnswer(read if kind == "read" else marked.delivered, unread)

    async def _move(self, actor: Actor, room: str, key: str, mark: Mark, room_pk: int) -> Marked:
        def permit(access: Access) -> None:
            access.require(Action.MARK, actor, room)

        for _attempt in range(APPEND_ATTEMPTS):
            outcome = await self._rooms.mark(key, mark)
            if isinstance(outcome, Marked):
                return outcome
            if outcome.kind == "unknown":
                floors = await read_marks(self._db, room_pk, mark.user)
                # Who is no member any more will be refused as stale.
                read, delivered = floors or (0, 0)
                mark = mark._replace(read_floor=read, delivered_floor=delivered)
                continue
            access = await self._mender.mend(outcome, actor, room, permit)
            # A life that began meanwhile must be told what PostgreSQL has now.
            mark = mark._replace(read_floor=-1, delivered_floor=-1)
            if access is not None:
                mark = mark._replace(version=access.version)
        raise ProtocolError("unavailable", retry_after=limits.UNAVAILABLE_RETRY_AFTER)

    async def _count(self, actor: Actor, room: str, reader: Reader) -> Unread:
        unread = (await count_unread(self._db, self._rooms, [reader]))[0]
        if unread is None:
            access = await self._access.read(actor.project, room, actor.user)
            access.require(Action.MARK, actor, room)
            raise ProtocolError("unavailable", retry_after=limits.UNAVAILABLE_RETRY_AFTER)
        return unread

    # --- what was held back -------------------------------------------------------------------

    def _note(self, key: str, user: str, room_pk: int, marked: Marked) -> None:
        place = (key, user)
        if marked.wait_ms <= 0 or place in self._waiting:
            return
        if len(self._waiting) >= limits.RECEIPTS_HELD_MAX:
            return
        self._waiting[place] = room_pk
        heapq.heappush(self._due, (trio.current_time() + marked.wait_ms / 1000, key, user))
        self._wake.set()

    async def run(self) -> None:
        """Tell rooms of marks that were held back, until cancelled."""
        while True:
            wait = self._due[0][0] - trio.current_time() if self._due else 3600.0
            with trio.move_on_after(max(wait, 0.0)):
                await self._wake.wait()
            self._wake = trio.Event()
            while self._due and self._due[0][0] <= trio.current_time():
                _at, key, user = heapq.heappop(self._due)
                room_pk = self._waiting.pop((key, user))
                try:
                    await self._tell(key, user, room_pk)
                except StorageUnavailable as error:
                    self._log.info("a receipt was not told", room=key, reason=error.reason)

    async def _tell(self, key: str, user: str, room_pk: int) -> None:
        outcome = await self._rooms.tell(key, user)
        if isinstance(outcome, Refusal):
            return
        self._note(key, user, room_pk, outcome)
        if outcome.is_told:
            unread = (await count_unread(self._db, self._rooms, [Reader(key, room_pk, user)]))[0]
            if unread is not None:
                await self._tell_read(key, user, unread.read_seq, unread.unread)

    async def _tell_read(self, key: str, user: str, read_seq: int, unread: int) -> None:
        """Tell the user's other devices; the mark itself is set, so failing is no failure of it."""
        project, room = split_room_key(key)
        try:
            await self._notifier.tell_read(project, room, user, read_seq=read_seq, unread=unread)
        except StorageUnavailable as error:
            self._log.info("other devices were not told", room=key, reason=error.reason)
