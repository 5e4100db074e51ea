"""Redis as the scripts see it: rooms warmed without PostgreSQL, and the whole state compared.

Everything goes through the product's typed calls; what they wrote is read with plain commands.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import trio

from config.settings import load_settings
from storage.redis.archive import ArchiveStore
from storage.redis.entries import Entry, parse_entry
from storage.redis.fsck import check_rooms
from storage.redis.keys import LEASES_KEY, RoomKeys, inbox_key
from storage.redis.live import LiveStore
from storage.redis.nodes import NodeStore
from storage.redis.outcomes import Appended, Draft, Refusal, Registration, Resume, Snapshot
from storage.redis.rooms import RoomStore
from storage.redis.store import RedisStore, open_store
from tests.support.waiting import wait_until

R = "p/room"
LEASE_MS = 60_000


class ScriptRooms:
    """The typed calls on one Redis; `R` is the room unless another is named."""

    def __init__(self, store: RedisStore) -> None:
        self.store = store
        self.client = store.client
        self.rooms: RoomStore = store.rooms
        self.nodes: NodeStore = store.nodes
        self.live: LiveStore = store.live

    def with_limits(self, **changes: Any) -> "ScriptRooms":
        """The same with other limits, beyond what settings allow."""
        limits = replace(self.store.limits, **changes)
        parts: dict[str, Any] = {
            "keys": self.store.keys, "scripts": self.rooms._scripts, "lives": self.store.lives,
            "limits": limits,
        }  # fmt: skip
        return ScriptRooms(
            replace(
                self.store,
                limits=limits,
                rooms=RoomStore(self.client, **parts),
                nodes=NodeStore(self.client, **parts),
                archive=ArchiveStore(self.client, **parts),
                live=LiveStore(self.client, **parts),
            )
        )

    def keys(self, key: str = R) -> RoomKeys:
        return self.store.keys.room(key)

    def life(self, key: str = R) -> str:
        """The partition's life as this process knows it."""
        return self.store.lives.ids[self.keys(key).partition]

    async def ask(self, *words: bytes | str | int | float) -> Any:
        """One plain command."""
        return await self.client.execute(*words)

    # --- calls --------------------------------------------------------------------------------

    async def warm(self, key: str = R, **given: Any) -> str:
        """Seed the room: empty, fully archived, unless told otherwise."""
        numbers: dict[str, Any] = {
            "offset": 0, "seq": 0, "version": 0, "deleted": False, "sent": [],
        } | given  # fmt: skip
        numbers.setdefault("archived", numbers["offset"])
        return await self.rooms.seed(key, numbers.pop("life", self.life(key)), **numbers)

    async def publish(self, key: str = R, **given: Any) -> Appended | Refusal:
        fields: dict[str, Any] = {
            "event": "message.created", "sender": "alice", "version": 2**53 - 1, "step": 1,
            "data": b'{"id":"m"}',
        } | given  # fmt: skip
        return await self.rooms.publish(key, Draft(**fields))

    async def publish_some(self, count: int, key: str = R) -> None:
        for _ in range(count):
            assert isinstance(await self.publish(key), Appended)

    async def announce(
        self, version: int, key: str = R, event: str = "room.updated"
    ) -> Appended | Refusal:
        return await self.rooms.announce(
            key, event=event, sender=None, version=version, data=b'{"user":"bob"}'
        )

    async def subscribe(
        self,
        node: str = "n",
        *,
        key: str = R,
        gen: int = 1,
        user: str = "alice",
        connections: int = 1,
        version: int = 2**53 - 1,
        lag_from: int = -1,
        since: tuple[str, int] | None = None,
    ) -> Snapshot | Refusal:
        registration = Registration(node, gen, user, connections, version, lag_from)
        return await self.rooms.subscribe(key, registration, Resume(*since) if since else None)

    async def subscribed(self, *args: Any, **given: Any) -> Snapshot:
        """`subscribe`, which must succeed."""
        outcome = await self.subscribe(*args, **given)
        assert isinstance(outcome, Snapshot), outcome
        return outcome

    async def open_node(self, node: str = "n") -> None:
        assert await self.nodes.open_node(node, LEASE_MS)

    async def end_lease(self, node: str) -> None:
        """Let the node's lease have ended in the past."""
        await self.ask("ZADD", LEASES_KEY, 1, node)
        await self.ask("DEL", inbox_key(node))

    async def archive(self, count: int, key: str = R, *, life: str | None = None) -> bool:
        """Acknowledge the oldest `count` entries of the room's partition, all of this room."""
        partition = self.keys(key).partition
        batch = await self.store.archive.read_batch(partition, count)
        assert {item.entry.room for item in batch} == {key}
        if life is not None:
            self.store.lives.ids[partition] = life
        return await self.store.archive.mark_archived(
            partition,
            ids=[item.id for item in batch],
            total_bytes=sum(len(item.raw) for item in batch),
            rooms=[(key, batch[-1].entry.offset)],
        )

    # --- looking ------------------------------------------------------------------------------

    async def numbers(self, key: str = R) -> dict[str, str]:
        """The room hash but for `settled`, which is about its expiry."""
        flat: Any = await self.ask("HGETALL", self.keys(key).room)
        found = {flat[at].decode(): flat[at + 1].decode() for at in range(0, len(flat), 2)}
        found.pop("settled", None)
        return found

    async def entries(self, stream: str) -> list[Entry]:
        """The entries of a log, archive or inbox."""
        found: Any = await self.ask("XRANGE", stream, "-", "+")
        return [parse_entry(fields[1]) for _id, fields in found]

    async def log(self, key: str = R) -> list[Entry]:
        return await self.entries(self.keys(key).log)

    async def archive_entries(self, key: str = R) -> list[Entry]:
        return await self.entries(self.keys(key).archive)

    async def inbox(self, node: str = "n") -> list[Entry]:
        return await self.entries(inbox_key(node))

    async def inbox_events(self, node: str = "n") -> list[str]:
        return [entry.event for entry in await self.inbox(node)]

    async def registered(self, key: str = R) -> dict[str, int]:
        """Node → gen."""
        flat: Any = await self.ask("HGETALL", self.keys(key).nodes)
        return {flat[at].decode(): int(flat[at + 1]) for at in range(0, len(flat), 2)}

    async def online(self, key: str = R) -> list[str]:
        found: Any = await self.ask("HKEYS", self.keys(key).presence)
        return sorted(user.decode() for user in found)

    async def expires(self, key: str = R) -> list[bool]:
        """Whether room, log and reads have an expiry; a key that is not there has none."""
        keys = self.keys(key)
        replies = await self.client.pipeline(
            [("PTTL", name) for name in (keys.room, keys.log, keys.reads)]
        )
        return [isinstance(reply, int) and reply > 0 for reply in replies]

    async def exists(self, name: str) -> bool:
        return bool(await self.ask("EXISTS", name))

    async def state(self) -> dict[bytes, tuple[object, bool]]:
        """Everything in Redis, for comparing: key → (value, whether it expires)."""
        names: Any = await self.ask("KEYS", "*")
        found: dict[bytes, tuple[object, bool]] = {}
        for name in sorted(names):
            value, ttl = await self.client.pipeline([("DUMP", name), ("PTTL", name)])
            found[name] = (value, isinstance(ttl, int) and ttl > 0)
        return found

    async def begin_other_life(self, key: str = R) -> None:
        """As after a failover: the stored replication id is not this server's."""
        await self.ask("HSET", self.keys(key).life, "replid", "another", "run", "another")

    async def check(self) -> list[str]:
        return await check_rooms(self.client, self.store.keys)


@asynccontextmanager
async def open_rooms(redis_url: str, *, checked: bool = True, **changes: Any) -> Any:
    """The calls on this Redis; at the end its rooms must keep the invariants, if `checked`."""
    settings = load_settings(None, redis_url=redis_url, **changes)
    async with open_store(settings, name="test") as store:
        await store.client.wait_connected(trio.current_time() + 10)
        rooms = ScriptRooms(store)
        yield rooms
        if checked:
            assert await rooms.check() == []


async def open_checked(redis_url: str) -> AsyncIterator[ScriptRooms]:
    """For fixtures."""
    async with open_rooms(redis_url) as rooms:
        yield rooms


async def wait_gone(rooms: ScriptRooms, name: str) -> None:
    """Wait until a key has expired."""

    async def is_gone() -> bool:
        return not await rooms.exists(name)

    await wait_until(is_gone, what=f"{name} gone")
