"""Rooms that publish through the real scripts, archivers, and archivers with faults inside.

Faults are wrapped around the database and the store (delay, fail before, fail after doing it);
the archiver itself knows nothing of them.
"""

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import trio
from uuid_utils import uuid7

from broker.domain.seeding import Seeder, sent_digest
from config.metrics import Metrics
from config.settings import Settings, load_settings
from storage.postgres.pool import Database, HeldTransaction, open_database
from storage.redis.fsck import check_rooms
from storage.redis.outcomes import Appended, Draft, Refusal
from storage.redis.store import RedisStore, open_store
from workers.archiver.archiver import Archiver, ArchiverOptions

PROJECT = "default"


class Died(Exception):
    """The archiver was killed here."""


class Refused(Exception):
    """The publish script said no."""


class System:
    """One Redis, one database, and what a broker would do with them."""

    def __init__(self, settings: Settings, store: RedisStore, database: Database) -> None:
        self.settings = settings
        self.store = store
        self.database = database
        self.seeder = Seeder(database, store.rooms)
        self.answered: list[tuple[str, Appended]] = []

    async def create_room(self, room: str) -> str:
        """A room with alice and bob; returns R."""
        await self.database.execute(
            "WITH r AS (INSERT INTO rooms (project, id) VALUES ($1, $2) RETURNING pk) "
            "INSERT INTO members (room_pk, user_id, project) "
            "SELECT pk, u, $1 FROM r, unnest(ARRAY['alice', 'bob']) u",
            PROJECT,
            room,
        )
        return f"{PROJECT}/{room}"

    async def publish(self, key: str, content: str = "hello", **more: Any) -> Appended:
        """`message.created` by alice."""
        message_id = str(uuid7())
        client_id = more.get("client_id")
        data: dict[str, Any] = {
            "id": message_id, "room": key.partition("/")[2], "sender": "alice", "kind": "text",
            "content": content, "metadata": {}, "attachments": [], "mentions": [],
            "reply_to": None, "forwarded_from": None, "client_id": client_id,
        } | more  # fmt: skip
        digest = sent_digest(key, "alice", client_id) if client_id else b""
        return await self.append(key, "message.created", data, 1, digest, message_id)

    async def append(
        self,
        key: str,
        event: str,
        data: dict[str, Any],
        step: int = 0,
        digest: bytes = b"",
        message_id: str = "",
    ) -> Appended:
        """Any durable event by alice; warms the room if that is needed."""
        draft = Draft(event, "alice", 0, step, json.dumps(data).encode(), digest, message_id)
        outcome = await self.store.rooms.publish(key, draft)
        while isinstance(outcome, Refusal):
            if outcome.kind == "fenced":
                await self.store.rooms.refence(self.store.keys.partition(key))
            else:
                if outcome.kind != "cold":
                    raise Refused(outcome.kind)
                await self.seeder.warm(key)
            outcome = await self.store.rooms.publish(key, draft)
        self.answered.append((key, outcome))
        return outcome

    async def backlog(self) -> int:
        """Entries that wait in all partitions."""
        sizes = [await self.store.archive.backlog(p) for p in range(self.store.keys.partitions)]
        return sum(sizes)

    async def is_archived(self) -> bool:
        """Whether nothing waits any more."""
        return await self.backlog() == 0

    async def check(self) -> None:
        """Everything that was answered is in the tables once, and Redis is in order."""
        assert await check_rooms(self.store.client, self.store.keys) == []
        rows = await self.database.fetch(
            "SELECT r.project || '/' || r.id AS key, m.seq, m.event_offset "
            "FROM messages m JOIN rooms r ON r.pk = m.room_pk"
        )
        archived = [(row["key"], row["seq"], row["event_offset"]) for row in rows]
        assert len(archived) == len(set(archived))
        newest = dict(
            await self.database.fetch("SELECT project || '/' || id, archived_offset FROM rooms")
        )
        assert [place for key, place in self.answered if newest[key] < place.offset] == []


@asynccontextmanager
async def open_system(redis_url: str, database_url: str, **more: Any) -> AsyncIterator[System]:
    """Open both servers with the given settings."""
    settings = load_settings(
        None,
        **({"redis_url": redis_url, "database_url": database_url, "room_partitions": 4} | more),
    )
    async with (
        open_store(settings, name="test") as store,
        open_database(database_url, pool_size=6, name="test") as database,
    ):
        await store.client.wait_connected(trio.current_time() + 5)
        yield System(settings, store, database)


def build_archiver(
    system: System, *, database: Any = None, store: Any = None, batch: int = 500
) -> Archiver:
    """An archiver on the system's servers, or on wrapped ones."""
    return Archiver(
        database=database or system.database,
        store=store or system.store.archive,
        options=ArchiverOptions(batch=batch, interval=0.001),
        metrics=Metrics(),
    )


async def flush_everything(archiver: Archiver, system: System) -> None:
    """Flush each partition until it has nothing left."""
    for partition in range(system.store.keys.partitions):
        while await archiver.flush(partition):
            pass


class Fuse:
    """Burns at the n-th step: before it is done or after it was done."""

    def __init__(self, steps: int, *, after: bool) -> None:
        self.left = steps
        self.after = after

    async def step(self, work: Callable[[], Awaitable[Any]]) -> Any:
        """Do `work` unless the fuse has burnt before."""
        self.left -= 1
        if self.left == 0 and not self.after:
            raise Died
        burns_now = self.left == 0
        try:
            return await work()
        finally:
            if burns_now:
                raise Died


class FusedConnection:
    """An asyncpg connection each of whose statements is a step of the fuse."""

    def __init__(self, connection: Any, fuse: Fuse) -> None:
        self._connection = connection
        self._fuse = fuse

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._connection, name)

        async def fused(*args: Any, **kwargs: Any) -> Any:
            return await self._fuse.step(lambda: method(*args, **kwargs))

        return fused


class FusedDatabase:
    """Held transactions whose statements and commit are steps of the fuse."""

    def __init__(self, database: Database, fuse: Fuse) -> None:
        self._database = database
        self._fuse = fuse

    @asynccontextmanager
    async def open_transaction(self) -> AsyncIterator[Any]:
        async with self._database.open_transaction() as transaction:
            yield FusedTransaction(transaction, self._fuse)
            if not self._fuse.after:
                await self._fuse.step(trio.lowlevel.checkpoint)
        if self._fuse.after:
            await self._fuse.step(trio.lowlevel.checkpoint)


class FusedTransaction:
    """See `FusedDatabase`."""

    def __init__(self, transaction: HeldTransaction, fuse: Fuse) -> None:
        self._transaction = transaction
        self._fuse = fuse

    async def run(self, work: Callable[[Any], Awaitable[Any]]) -> Any:
        return await self._transaction.run(lambda c: work(FusedConnection(c, self._fuse)))


class FusedStore:
    """An archive store each of whose calls is a step of the fuse."""

    def __init__(self, store: Any, fuse: Fuse) -> None:
        self._store = store
        self._fuse = fuse
        self.partitions = store.partitions
        self.life_of = store.life_of

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._store, name)

        async def fused(*args: Any, **kwargs: Any) -> Any:
            return await self._fuse.step(lambda: method(*args, **kwargs))

        return fused
