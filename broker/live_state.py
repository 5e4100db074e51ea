"""The live state of one node, put together: who types, who was seen, quiet rooms."""

from __future__ import annotations

import trio

from broker.domain.access import AccessReader
from broker.domain.live import Live
from broker.domain.seeding import Seeder
from broker.hub import Hub
from broker.last_seen import LastSeen
from broker.quiet import QuietRooms
from broker.typists import Typists
from storage.postgres.pool import Database
from storage.redis.store import RedisStore


class LiveState:
    """What commands use of it, and the tasks behind it."""

    def __init__(
        self,
        node: str,
        *,
        hub: Hub,
        store: RedisStore,
        db: Database,
        access: AccessReader,
        seeder: Seeder,
    ) -> None:
        self.rules = Live(store.live, store.rooms, access, seeder)
        self.typists = Typists(node, store.live, self.rules)
        self.last_seen = LastSeen(db, store.nodes, mark_leave=hub.mark_leave)
        self._quiet = QuietRooms(hub, store.live)
        hub.on_seen = self.last_seen.note

    async def run(self) -> None:
        """Serve until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.typists.run)
            nursery.start_soon(self.last_seen.run)
            nursery.start_soon(self._quiet.run)
