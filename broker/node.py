"""One broker node: its incarnations, its inbox, its lease.

The rules (mechanism: incarnation): a node's name is used once; only its owner creates its inbox,
once. A missing inbox is the only sign of loss. When it is lost, or a partition has a new life,
the node takes a new name, opens a new inbox, brings every room over from the position it has
delivered, checks users and roles again, and only then reaps its former self, so that nobody is
announced as gone.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from typing import Any
from uuid import uuid4

import structlog
import trio

from broker.counts import Counts
from broker.delivery import Delivery
from broker.domain.access import AccessReader
from broker.domain.seeding import Seeder
from broker.hub import Hub
from broker.hub_room import HubRoom
from broker.live_state import LiveState
from broker.repairs import Repairer
from broker.spreading import Spreading
from broker.upkeep import Upkeep
from config import limits
from config.metrics import Metrics
from config.settings import Settings
from storage.errors import StorageRefused, StorageUnavailable
from storage.postgres.pool import Database
from storage.redis.address import RedisAddress
from storage.redis.blocking import open_blocking
from storage.redis.inbox import InboxReader
from storage.redis.keys import joining_node
from storage.redis.store import RedisStore


class Node:
    """The node's tasks and the hub they serve."""

    def __init__(
        self,
        settings: Settings,
        *,
        store: RedisStore,
        db: Database,
        access: AccessReader,
        seeder: Seeder,
        counts: Counts,
        metrics: Metrics,
        audit_interval: float = limits.AUDIT_INTERVAL,
    ) -> None:
        self.settings = settings
        self.store = store
        self.id = uuid4().hex[:12]
        self.name = ""
        """The present incarnation, as Redis knows it."""
        self.on_lease_lost: Callable[[], None] = lambda: None
        """Called when the lease could not be renewed in time: nobody may be served on a guess."""
        self.inbox_server: Callable[[], RedisAddress] = lambda: store.client.server
        """Where the inbox is read: on the server that the commands go to."""
        self._incarnation = 0
        self._former: list[str] = []
        self._renewed_at = math.inf
        self._changed: set[int] = set()
        self._audit_interval = audit_interval
        self._lease = settings.node_lease
        self._scope = trio.CancelScope()
        self._nursery: trio.Nursery | None = None
        self._verifying: set[int] = set()
        self.upkeep = Upkeep(
            store.nodes, node_name=lambda: self.name, presence_grace=settings.presence_grace
        )
        self.hub = Hub(
            store.keys,
            Spreading(counts),
            wake_upkeep=self.upkeep.wake,
            quiet_users=settings.quiet_room_users,
        )
        self.upkeep.attach(self.hub)
        self.live = LiveState(
            self.id, hub=self.hub, store=store, db=db, access=access, seeder=seeder
        )
        self.upkeep.before_reap = self.live.last_seen.note_dead
        self._metrics = metrics
        self.delivery = Delivery(self.hub, access, self, counts)
        self.repairer = Repairer(
            hub=self.hub,
            delivery=self.delivery,
            rooms=store.rooms,
            nodes=store.nodes,
            seeder=seeder,
            db=db,
            metrics=metrics,
        )
        store.lives.add_listener(self._note_new_life)
        self._log = structlog.get_logger("broker.node").bind(node=self.id)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Be a node until cancelled; started once the first inbox is open."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            await self._open_incarnation()
            nursery.start_soon(self.upkeep.run)
            nursery.start_soon(self.upkeep.sweep_dead)
            nursery.start_soon(self.live.run)
            nursery.start_soon(self.hub.spreading.run)
            nursery.start_soon(self._audit)
            task_status.started()
            while True:
                await self._serve_incarnation()
                await self._open_incarnation()

    def begin_drain(self) -> None:
        """Connections that end from now on keep their presence until the node has left."""
        self.upkeep.keep_presence()

    async def drain(self, linger: float) -> None:
        """Leave: the inbox ends now, the presence in `linger` seconds (whoever is back is not
        announced). Raises StorageUnavailable; the lease then ends by itself."""
        await self.store.nodes.drain_node(self.name, int(linger * 1000))

    # --- incarnations -------------------------------------------------------------------------

    async def _open_incarnation(self) -> None:
        """Take a new name and open its inbox; repeats while Redis is away."""
        while True:
            try:
                await self._open_inbox()
                # A lost inbox often means a lost life. It must be known before a room is brought
                # over, or the room would be seeded before its floor has been reported.
                await self.store.lives.verify(self.store.client, range(self.store.keys.partitions))
                return
            except StorageUnavailable as error:
                await self._wait_for_storage(error)

    async def _wait_for_storage(self, error: StorageUnavailable) -> None:
        self._log.info("waiting for storage", reason=str(error))
        self._judge_lease()
        await trio.sleep(limits.REPAIR_RETRY_AFTER)

    def _judge_lease(self) -> None:
        if trio.current_time() - self._renewed_at > self._lease:
            self.on_lease_lost()

    async def _open_inbox(self) -> None:
        self._incarnation += 1
        name = joining_node(f"{self.id}.{self._incarnation}")
        lease_ms = int(self._lease * 1000)
        asked_at = trio.current_time()
        if not await self.store.nodes.open_node(name, lease_ms):
            raise StorageUnavailable("redis", "not_done", f"the name {name} is taken")
        if self.name:
            self._former.append(self.name)
        self.name = name
        self._renewed_at = asked_at
        self._metrics.incarnations.inc()
        self._log.info("inbox open", name=name)

    async def _serve_incarnation(self) -> None:
        with trio.CancelScope() as self._scope:
            async with trio.open_nursery() as nursery:
                # From the start: bringing thousands of rooms over may take longer than a lease.
                nursery.start_soon(self._beat, self.name)
                await self._bring_over()
                nursery.start_soon(self._read_inbox, self.name)
                await self._reap_former()

    async def _bring_over(self) -> None:
        """Register for every room under the new name; repeats while storage is away."""
        while True:
            changed, self._changed = self._changed, set()
            try:
                await self.repairer.rejoin(self.name, changed)
                return
            except StorageUnavailable as error:
                self._changed |= changed
                await self._wait_for_storage(error)
            except BaseException:
                self._changed |= changed
                raise

    async def _reap_former(self) -> None:
        """Say who is here under the new name, then remove the former ones; nobody has left."""
        while self._former:
            try:
                await self.upkeep.flush()
                while await self.store.nodes.reap(self._former[0], force=True) > 0:
                    pass
                del self._former[0]
            except StorageUnavailable as error:
                await self._wait_for_storage(error)

    def _end_incarnation(self, reason: str) -> None:
        self._log.warning("incarnation ends", name=self.name, reason=reason)
        self._scope.cancel()

    def _note_new_life(self, partition: int, _known: str, _life: str) -> None:
        self._changed.add(partition)
        self.repairer.note_positions(partition)
        self._metrics.fences.inc()
        self._end_incarnation(f"partition {partition} has a new life")

    # --- tasks --------------------------------------------------------------------------------

    async def _read_inbox(self, name: str) -> None:
        inbox = InboxReader(name)
        block_ms = int(limits.INBOX_BLOCK * 1000)
        while True:
            try:
                async with open_blocking(
                    self.inbox_server(), name=f"parley-inbox-{self.id}"
                ) as connection:
                    while True:
                        self.delivery.deliver(await inbox.read(connection, block_ms))
                        await self.hub.spreading.wait_short()
            except (StorageUnavailable, StorageRefused) as error:
                # Also what only the operator can mend: until then connections are served on.
                self._log.info("inbox cannot be read", reason=str(error))
                await trio.sleep(limits.REPAIR_RETRY_AFTER)

    async def _beat(self, name: str) -> None:
        # A new life must be noticed, and the floors reported, before a room is seeded in it.
        interval = min(self._lease / limits.HEARTBEATS_PER_LEASE, limits.LIVES_INTERVAL)
        lease_ms = int(self._lease * 1000)
        while True:
            await trio.sleep(interval)
            asked_at = trio.current_time()
            try:
                stale = await self.store.nodes.heartbeat(name, lease_ms)
                if stale is None:
                    self._end_incarnation("the inbox is lost")
                elif stale:
                    await self.store.lives.verify(self.store.client, stale)
                self._renewed_at = asked_at
            except StorageUnavailable as error:
                self._log.info("heartbeat failed", reason=str(error))
                self._judge_lease()

    async def _audit(self) -> None:
        while True:
            await trio.sleep(self._audit_interval)
            rooms = [r for r in self.hub.rooms.values() if r.epoch and not r.is_repairing]
            try:
                for start in range(0, len(rooms), limits.AUDIT_ROOMS):
                    await self._audit_some(rooms[start : start + limits.AUDIT_ROOMS])
            except StorageUnavailable as error:
                self._log.info("audit failed", reason=str(error))

    async def _audit_some(self, rooms: list[HubRoom]) -> None:
        asked = [(room.key, room.epoch or "", room.offset) for room in rooms]
        differing = {state.place: state for state in await self.store.nodes.audit(self.name, asked)}
        for index, room in enumerate(rooms):
            state = differing.get(index)
            if state is None:
                room.behind_at = 0
            elif state.epoch and state.epoch != room.epoch:
                self.request_verify(room.keys.partition)
            elif not state.registered:
                self.request_repair(room)
            elif room.behind_at and room.offset < room.behind_at:
                room.behind_at = 0
                self.request_repair(room)
            else:
                room.behind_at = state.offset

    # --- what delivery asks for ---------------------------------------------------------------

    def request_repair(self, room: HubRoom) -> None:
        """Fill the room's gap in a task of its own, unless that is under way; too long: resync."""
        if len(room.pending) > limits.PENDING_EVENTS_MAX:
            self.repairer.end_for_resync(room)
            return
        if room.is_repairing or self.hub.rooms.get(room.key) is not room:
            return
        room.is_repairing = True
        self._log.info("gap", room=room.key, offset=room.offset)
        self._start(self.repairer.repair, room, self.name)

    def request_verify(self, partition: int) -> None:
        """Ask whether the partition has a new life; if so, the listener ends the incarnation."""
        if partition not in self._verifying:
            self._verifying.add(partition)
            self._start(self._verify, partition)

    async def _verify(self, partition: int) -> None:
        try:
            await self.store.lives.verify(self.store.client, [partition])
        except StorageUnavailable as error:
            self._log.info("verification failed", partition=partition, reason=str(error))
        finally:
            self._verifying.discard(partition)

    def _start(self, work: Callable[..., Awaitable[None]], *args: Any) -> None:
        assert self._nursery is not None, "delivery runs inside run()"
        self._nursery.start_soon(work, *args)
