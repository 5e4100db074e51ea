"""Rooms for tests of storage and faults: made, changed, filled, flushed and looked at directly.

What an API would do in one request is taken apart here, so that a test can stop between the parts.
"""

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import trio

from broker.domain.announcing import Announcer
from broker.domain.publishing import draft_event
from broker.domain.seeding import Seeder
from broker.protocol.message_draft import MessageDraft
from config.metrics import Metrics
from config.settings import Settings, load_settings
from storage.errors import StorageUnavailable
from storage.postgres import members as member_rows
from storage.postgres.deployment import ensure_deployment
from storage.postgres.pool import Database, open_database
from storage.postgres.rooms import NewRoom, create_room
from storage.redis.entries import Entry
from storage.redis.fsck import check_rooms
from storage.redis.keys import room_key
from storage.redis.outcomes import Appended, Draft, Refusal
from storage.redis.store import RedisStore, open_store, require_deployment
from tests.support.tokens import JWT_SECRET
from tests.support.waiting import wait_until
from workers.archiver.archiver import Archiver, ArchiverOptions

PROJECT = "default"
ANY_VERSION = 2**53 - 1
_CONNECT_DEADLINE = 10.0


def key_of(room: str) -> str:
    """R of a room of the default project."""
    return room_key(PROJECT, room)


def fault_settings(redis_url: str, database_url: str, **changes: Any) -> Settings:
    """Settings of a process on these servers; no rate gets in a test's way."""
    given: dict[str, Any] = {
        "redis_url": redis_url,
        "database_url": database_url,
        "jwt_secret": JWT_SECRET,
        "rate_messages_per_second": 100_000,
        "presence_grace": 0.0,
    }
    return load_settings(None, **(given | changes))


@dataclass
class Storage:
    """Both storages as one process has them, and what the domain makes of them."""

    settings: Settings
    store: RedisStore
    db: Database

    def __post_init__(self) -> None:
        self.seeder = Seeder(self.db, self.store.rooms)
        self.announcer = Announcer(self.db, self.store.rooms, self.seeder)

    # --- rooms and members --------------------------------------------------------------------

    async def create_room(self, room: str, *members: str, kind: str = "group") -> int:
        """A room with its members; its pk."""
        new = NewRoom(id=room, kind=kind, founders=[(member, "member") for member in members])
        created = await create_room(self.db, PROJECT, new, create_users=True)
        assert created.outcome == "created", created
        return created.pk

    async def pk_of(self, room: str) -> int:
        found = await self.db.fetchval(
            "SELECT pk FROM rooms WHERE project = $1 AND id = $2", PROJECT, room
        )
        return int(found)

    async def remove_silently(self, room: str, user: str) -> None:
        """What the API commits for a removal, without announcing it."""
        assert await member_rows.remove_member(
            self.db, await self.pk_of(room), user, by=None, reason="removed", permit=_permit
        )

    async def add_silently(self, room: str, user: str) -> None:
        """What the API commits for a new member, without announcing it."""
        added = await member_rows.add_members(
            self.db, PROJECT, await self.pk_of(room), [user], role="member", by=None,
            live_seq=0, create_users=True, permit=_permit,
        )  # fmt: skip
        assert list(added.users) == [user]

    async def announce(self, room: str) -> None:
        """Announce what is committed, as the API does before it answers."""
        await self.announcer.drain_room(PROJECT, room)

    async def members(self, room: str) -> set[str]:
        rows = await self.db.fetch(
            "SELECT user_id FROM members WHERE room_pk = $1", await self.pk_of(room)
        )
        return {row["user_id"] for row in rows}

    # --- events -------------------------------------------------------------------------------

    async def append(self, room: str, draft: Draft) -> Appended:
        """Append one event, warming the room and learning its life as a process would."""
        key = key_of(room)
        while True:
            outcome = await self.store.rooms.publish(key, draft)
            if isinstance(outcome, Appended):
                return outcome
            await self.mend(key, outcome)

    async def mend(self, key: str, refusal: Refusal) -> None:
        """Remove the cause of `cold` and `fenced`; anything else fails the test."""
        if refusal.kind == "cold":
            await self.seeder.warm(key)
        elif refusal.kind == "fenced":
            await self.store.rooms.refence(self.store.keys.partition(key))
        else:
            raise AssertionError(f"{key}: {refusal}")

    async def publish(
        self, room: str, content: str = "text", *, sender: str = "alice", **fields: Any
    ) -> Appended:
        """Append one message."""
        return await self.append(room, message(room, content, sender=sender, **fields))

    async def publish_many(self, room: str, count: int, *, content: str = "message {}") -> None:
        """Append messages, some hundred in flight; their content has the number (from 1)."""
        await self.publish(room, content.format(1))
        for first in range(2, count + 1, 200):
            async with trio.open_nursery() as nursery:
                for number in range(first, min(first + 200, count + 1)):
                    nursery.start_soon(self.publish, room, content.format(number))

    async def append_event(
        self, room: str, event: str, data: dict[str, Any], *, sender: str = "alice"
    ) -> Appended:
        """Append a durable event that no command makes yet, such as `message.edited`."""
        draft = Draft(event, sender, ANY_VERSION, 0, json.dumps(data).encode())
        return await self.append(room, draft)

    # --- the archive --------------------------------------------------------------------------

    def archiver(self, *, batch: int = 500, database: Any = None, store: Any = None) -> Archiver:
        """An archiver that flushes only when asked; its storages may be replaced."""
        return Archiver(
            database=database or self.db,
            store=store or self.store.archive,
            options=ArchiverOptions(batch=batch, interval=0.001),
            metrics=Metrics(),
        )

    async def flush(self, *, batch: int = 500) -> int:
        """Archive everything that waits; how many events there were."""
        archiver = self.archiver(batch=batch)
        total = 0
        for partition in range(self.store.keys.partitions):
            while count := await archiver.flush(partition):
                total += count
        return total

    # --- looking ------------------------------------------------------------------------------

    async def log(self, room: str) -> list[Entry]:
        """Everything that the room log holds."""
        entries: list[Entry] = []
        while True:
            first = entries[-1].offset + 1 if entries else 0
            chunk = await self.store.rooms.log_range(key_of(room), first, 2**53)
            if not chunk:
                return entries
            entries += chunk

    async def rows(self, room: str) -> list[dict[str, Any]]:
        """The room's rows of `messages`, by seq."""
        rows = await self.db.fetch(
            "SELECT m.* FROM messages m JOIN rooms r ON r.pk = m.room_pk "
            "WHERE r.project = $1 AND r.id = $2 ORDER BY m.seq",
            PROJECT,
            room,
        )
        return [dict(row) for row in rows]

    async def dead_letters(self) -> list[tuple[str, int, str]]:
        """(R, offset, reason) of every dead letter."""
        rows = await self.db.fetch("SELECT * FROM dead_letters ORDER BY id")
        return [(row["room"], row["event_offset"], row["reason"]) for row in rows]

    async def hash_of(self, room: str) -> dict[str, str]:
        """The room's counters in Redis; empty if it is not there."""
        flat: Any = await self.store.client.execute(
            "HGETALL", self.store.keys.room(key_of(room)).room
        )
        return {flat[at].decode(): flat[at + 1].decode() for at in range(0, len(flat), 2)}

    async def nodes_of(self, key: str) -> set[str]:
        """The nodes registered for R."""
        found: Any = await self.store.client.execute("HKEYS", self.store.keys.room(key).nodes)
        return {node.decode() for node in found}

    async def online(self, room: str) -> set[str]:
        """The users with presence in the room."""
        keys = self.store.keys.room(key_of(room))
        found: Any = await self.store.client.execute("HKEYS", keys.presence)
        return {user.decode() for user in found}

    async def wait_postgres(self) -> None:
        """Wait until PostgreSQL answers."""

        async def answers() -> bool:
            try:
                return bool(await self.db.fetchval("SELECT true"))
            except StorageUnavailable:
                return False

        await wait_until(answers, what="PostgreSQL answers")

    async def check_rooms(self) -> None:
        """Everything in Redis keeps the invariants."""
        assert await check_rooms(self.store.client, self.store.keys) == []


def message(
    room: str,
    content: str = "text",
    *,
    sender: str = "alice",
    version: int = ANY_VERSION,
    **fields: Any,
) -> Draft:
    """A `message.created` with a fresh id, as the publish command makes it."""
    draft = MessageDraft(content=content, **fields)
    return draft_event(key_of(room), room, sender, draft, version)


def contents(rows: Sequence[Any]) -> list[Any]:
    """The content of rows or message objects."""
    return [row["content"] for row in rows]


def parse_data(entry: Entry) -> Any:
    """An entry's JSON."""
    return json.loads(entry.data)


@asynccontextmanager
async def open_storage(
    redis_url: str, database_url: str, *, name: str = "test", **changes: Any
) -> AsyncIterator[Storage]:
    """Both storages, connected and belonging together. `changes` are settings."""
    settings = fault_settings(redis_url, database_url, **changes)
    async with (
        open_store(settings, name=name) as store,
        open_database(settings.database_url, pool_size=6, name=name) as db,
    ):
        await store.client.wait_connected(trio.current_time() + _CONNECT_DEADLINE)
        deployment = await ensure_deployment(db, settings.room_partitions)
        await require_deployment(store.client, deployment)
        yield Storage(settings, store, db)


def _permit(_facts: member_rows.RoomFacts) -> None:
    """Everything is allowed."""
