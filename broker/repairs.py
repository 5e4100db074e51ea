"""Mending what a node may have missed: gaps, lost inboxes, new lives.

The rules: a room that may have missed events delivers nothing more until the gap has been filled
from the room log by the same test as a client's resume; where that fails, its subscriptions end
with `resync`. After a lost inbox every role is read again, since a removal may have been in it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import TypeVar

import structlog
import trio

from broker.delivery import Delivery, end_subscriptions_of
from broker.domain.floors import FloorReporter
from broker.domain.seeding import Seeder
from broker.hub import Hub
from broker.hub_room import HubRoom
from broker.protocol.errors import ProtocolError
from config import limits
from config.metrics import Metrics
from storage.errors import StorageUnavailable
from storage.postgres.access import standing_among
from storage.postgres.pool import Database
from storage.redis.entries import NOBODY, parse_entry
from storage.redis.keys import split_room_key
from storage.redis.nodes import NodeStore
from storage.redis.outcomes import Refusal, Registration, Resume, Snapshot
from storage.redis.rooms import RoomStore

T = TypeVar("T")

ANY_VERSION = 2**53 - 1
"""A registration for the node itself reads no role, so no role can be stale."""

RESYNC_SENTENCE = "Events may have been missed: subscribe again with the last position."


class Repairer:
    """Fills gaps for one node."""

    def __init__(
        self,
        *,
        hub: Hub,
        delivery: Delivery,
        rooms: RoomStore,
        nodes: NodeStore,
        seeder: Seeder,
        db: Database,
        metrics: Metrics,
    ) -> None:
        self._hub = hub
        self._delivery = delivery
        self._rooms = rooms
        self._nodes = nodes
        self._seeder = seeder
        self._db = db
        self._floors = FloorReporter(rooms, metrics)
        self._gaps = metrics.gaps
        self._log = structlog.get_logger("broker.repairs")

    async def repair(self, room: HubRoom, node: str) -> None:
        """Register for the room again and fill what was missed, or end its subscriptions.

        Goes on until one of both has happened; while Redis is away the room waits. Cancel-safe: a
        cancelled repair is made again by the next incarnation.
        """
        room.is_repairing = True
        while self._hub.rooms.get(room.key) is room and room.epoch is not None:
            try:
                if await self._try_repair(room, node):
                    return
            except StorageUnavailable:
                await trio.sleep(limits.REPAIR_RETRY_AFTER)
            except ProtocolError as error:
                self._log.warning("room cannot be repaired", room=room.key, reason=str(error))
                self.end_for_resync(room)
        room.is_repairing = False

    async def _try_repair(self, room: HubRoom, node: str) -> bool:
        assert room.epoch is not None
        outcome = await self._rooms.subscribe(
            room.key,
            Registration(node, self._hub.next_gen(), NOBODY, 0, ANY_VERSION, -1),
            Resume(room.epoch, room.offset),
        )
        if isinstance(outcome, Refusal):
            return await self._mend(room, outcome)
        if outcome.reason:
            self._gaps.labels("resync").inc()
            self._log.warning("gap cannot be filled", room=room.key, reason=outcome.reason)
            self.end_for_resync(room)
            return True
        self._hub.note_online(room, outcome.online)
        return self._fill(room, outcome)

    def _fill(self, room: HubRoom, snapshot: Snapshot) -> bool:
        if snapshot.tail:
            self._gaps.labels("filled").inc()
            self._log.info("gap filled", room=room.key, events=len(snapshot.tail))
        is_whole = self._delivery.fill(room, map(parse_entry, snapshot.tail))
        if not is_whole:
            room.is_repairing = True
        return is_whole

    async def _mend(self, room: HubRoom, refusal: Refusal) -> bool:
        if refusal.kind == "cold":
            await self._seeder.warm(room.key)
            return False
        if refusal.kind == "gone":
            self._hub.end_all(room, "room_not_found", "The room has been deleted.")
            return True
        if refusal.kind == "fenced":
            # A new life ends the room's subscriptions by way of the listener.
            await self._rooms.refence(room.keys.partition)
            return False
        # The inbox is lost: the next incarnation repairs every room.
        return True

    def end_for_resync(self, room: HubRoom) -> None:
        """The position is void or cannot be reached: clients subscribe again with theirs."""
        self._hub.end_all(room, "resync", RESYNC_SENTENCE)

    async def rejoin(self, node: str, changed: Collection[int]) -> None:
        """Bring every room and channel over to a new incarnation.

        `changed` are partitions with a new life: their rooms end with `resync`, after their floors
        were reported. Raises StorageUnavailable; then it is to be called again.
        """
        rooms = list(self._hub.rooms.values())
        for room in rooms:
            room.spoil_holds()
        await self._floors.report(changed)
        for room in rooms:
            if room.keys.partition in changed and room.epoch is not None:
                self.end_for_resync(room)
        kept = [room for room in self._hub.rooms.values() if room.epoch is not None]
        await self._for_each(kept, lambda room: self._bring_over(room, node))
        await self._for_each(
            list(self._hub.channels), lambda channel: self._watch_again(channel, node)
        )
        for room in self._hub.rooms.values():
            self._hub.dirty_presence.update((room.key, user) for user in room.users)

    def note_positions(self, partition: int) -> None:
        """A life is over: what was delivered in it was given out, too."""
        for room in self._hub.rooms.values():
            if room.keys.partition == partition and room.epoch is not None:
                self._rooms.answered.note(room.key, room.epoch, room.offset, room.seq)

    async def _bring_over(self, room: HubRoom, node: str) -> None:
        await self.repair(room, node)
        await self._check_roles(room)

    async def _check_roles(self, room: HubRoom) -> None:
        project, name = split_room_key(room.key)
        asked = {subscriber.user for subscriber in room.subscribers()}
        if not asked:
            return
        members, banned = await standing_among(self._db, project, name, sorted(asked))
        for user in asked - members | banned:
            end_subscriptions_of(self._hub, room, user, is_banned=user in banned)

    async def _watch_again(self, channel: str, node: str) -> None:
        await self._nodes.watch(channel, node, self._hub.next_gen())
        for connection in list(self._hub.channels.get(channel, ())):
            connection.recheck()

    async def _for_each(self, items: Sequence[T], work: Callable[[T], Awaitable[None]]) -> None:
        """Do the work for all items, some at once; the first StorageUnavailable ends the rest."""
        limiter = trio.CapacityLimiter(limits.REPAIRS_AT_ONCE)
        failures: list[StorageUnavailable] = []

        async def do(item: T) -> None:
            async with limiter:
                if failures:
                    return
                try:
                    await work(item)
                except StorageUnavailable as error:
                    failures.append(error)

        async with trio.open_nursery() as nursery:
            for item in items:
                nursery.start_soon(do, item)
        if failures:
            raise failures[0]
