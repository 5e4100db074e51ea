"""One run of `tests.scale.redis_cost`: messages through the scripts of any tree.

Not to be called by hand. It imports only what every tree has (settings, the typed calls of Redis,
the private server), so that an older tree can be measured by the same file. Prints one JSON object.

The course is the same in every run and depends on no clock: rooms of two, in which the members
write by turns; `together` publishes are made in one synchronous section, as the frames of one turn
of a broker are; their answers and events are awaited; a partition is archived when `ARCHIVE_AT` of
its events wait, and acknowledged when `ACKNOWLEDGE_AFTER` more messages have been written, as an
archiver does that commits for ten milliseconds at seven thousand messages a second.
"""

from __future__ import annotations

import inspect
import json
import random
import re
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

import trio

from broker.domain.publishing import draft_event
from broker.protocol.message_draft import MessageDraft
from config.settings import load_settings
from storage.redis.blocking import open_blocking
from storage.redis.inbox import InboxReader
from storage.redis.outcomes import Registration, Snapshot
from storage.redis.store import RedisStore, open_store
from workers.archiver import archiver
from workers.embedded import redis as embedded
from workers.embedded.redis import EmbeddedRedis

ANY_VERSION: Final = 2**53 - 1
ARCHIVE_AT: Final = 45
ACKNOWLEDGE_AFTER: Final = 73
LEASE_MS: Final = 600_000
NODE: Final = "0123456789ab.1+"
_CONTENT: Final = "a line of chat as people write it, neither long nor very short,"
_COLLECTED: Final = re.compile(r"Collected : (\d+)")


class Course:
    """Publishes, reads and archives on one Redis; `parts` says which of it."""

    def __init__(self, store: RedisStore, options: dict[str, Any]) -> None:
        self._store = store
        self._together: int = options["together"]
        self._parts: set[str] = set(options["parts"])
        # An archiver that collects a busy partition for longer has so many events more in a batch.
        self._archive_at = ARCHIVE_AT * getattr(archiver, "BUSY_INTERVALS", 1)
        self._keys = [f"default/room{number}" for number in range(options["rooms"])]
        self._dice = random.Random(7)
        self._order: list[str] = []
        self._made = 0
        self._waiting = 0
        self._events = 0
        self._wake = trio.Event()
        self._unarchived = [0] * store.keys.partitions
        self._unacknowledged: list[tuple[int, int, list[Any]]] = []

    async def prepare(self) -> None:
        """Warm rooms, in which the node is registered."""
        if "reader" in self._parts:
            assert await self._store.nodes.open_node(NODE, LEASE_MS)
        for key in self._keys:
            life = self._store.lives.ids[self._store.keys.partition(key)]
            numbers: dict[str, Any] = {"offset": 0, "seq": 0, "archived": 0, "version": 0}
            await self._store.rooms.seed(key, life, **numbers, deleted=False, sent=[])
            if "reader" in self._parts:
                joined = Registration(NODE, 1, "/", 0, ANY_VERSION, -1)
                assert isinstance(await self._store.rooms.subscribe(key, joined, None), Snapshot)

    async def run(self, messages: int) -> None:
        """Write so many messages; everything that belongs to them is done when it returns."""
        last = self._made + messages
        while self._made < last:
            await self._turn(min(self._together, last - self._made))
            if "archiver" in self._parts:
                await self._archive()

    async def _turn(self, count: int) -> None:
        self._waiting = count
        self._events = count if "reader" in self._parts else 0
        self._wake = trio.Event()
        for _ in range(count):
            if not self._order:
                self._order = self._keys[:]
                self._dice.shuffle(self._order)
            self._publish(self._order.pop())
        await self._wake.wait()

    def _publish(self, key: str) -> None:
        self._made += 1
        sender = f"user{self._made // len(self._keys) % 2}-{key[8:]}"
        fields: dict[str, Any] = {"content": _CONTENT}
        if "client_id" in self._parts:
            fields["client_id"] = f"18c2d1d0a7e-{sender}-{self._made}"
        draft = draft_event(key, key[8:], sender, MessageDraft(**fields), 1)
        keys = self._store.keys.room(key)
        self._unarchived[keys.partition] += 1
        submit: Any = self._store.rooms.submit_publish
        # Before publishes shared calls the room was named beside its keys.
        named = (key,) if "key" in inspect.signature(submit).parameters else ()
        submit(keys, *named, draft, self._take_answer)

    def _take_answer(self, reply: Any) -> None:
        assert type(reply) is list, reply
        assert type(reply[0]) is int, reply
        self._waiting -= 1
        self._look()

    def _look(self) -> None:
        if self._waiting <= 0 and self._events <= 0:
            self._wake.set()

    async def read_inbox(self, url: str) -> None:
        """The node's reader, until cancelled."""
        inbox = InboxReader(NODE)
        async with open_blocking(url) as connection:
            while True:
                entries = await inbox.read(connection, 5000)
                self._events -= len(entries)
                self._look()

    async def _archive(self) -> None:
        archive = self._store.archive
        while self._unacknowledged and self._unacknowledged[0][0] <= self._made:
            _due, partition, batch = self._unacknowledged.pop(0)
            rooms = {item.entry.room: item.entry.offset for item in batch}
            call: dict[str, Any] = {
                "ids": [item.id for item in batch],
                "total_bytes": sum(len(item.raw) for item in batch),
                "rooms": list(rooms.items()),
            }
            if hasattr(archive, "life_of"):
                call["life"] = archive.life_of(partition)
            assert await archive.mark_archived(partition, **call)
        busy = {partition for _due, partition, _batch in self._unacknowledged}
        for partition, count in enumerate(self._unarchived):
            if count >= self._archive_at and partition not in busy:
                batch = await archive.read_batch(partition, 500)
                self._unarchived[partition] -= len(batch)
                due = self._made + ACKNOWLEDGE_AFTER
                self._unacknowledged.append((due, partition, batch))


async def _info(store: RedisStore, section: str) -> dict[str, Any]:
    return await store.client.commands.info(section)


async def _account(store: RedisStore) -> dict[str, float]:
    cpu, stats = await _info(store, "cpu"), await _info(store, "stats")
    calls = await _info(store, "commandstats")
    persistence = await _info(store, "persistence")
    found = {
        "cpu": cpu["used_cpu_sys"] + cpu["used_cpu_user"],
        "user": cpu["used_cpu_user"],
        "aof_bytes": float(persistence.get("aof_current_size", 0)),
        "in_bytes": float(stats["total_net_input_bytes"]),
        "out_bytes": float(stats["total_net_output_bytes"]),
    }
    for name, value in calls.items():
        found["calls " + name.removeprefix("cmdstat_")] = float(value["calls"])
    return found


async def _measure(url: str, options: dict[str, Any]) -> dict[str, float]:
    secret = {"jwt_secret": "x" * 40, "database_url": "postgresql://nobody@127.0.0.1:1/none"}
    settings = load_settings(None, redis_url=url, **secret)
    async with open_store(settings, name="redis-cost") as store, trio.open_nursery() as nursery:
        await store.client.wait_connected(trio.current_time() + 60)
        course = Course(store, options)
        if "aof" not in options["parts"]:
            await store.client.execute("CONFIG", "SET", "appendonly", "no")
        await course.prepare()
        if "reader" in options["parts"]:
            nursery.start_soon(course.read_inbox, url)
        await course.run(options["warm_up"])
        before = await _account(store)
        began = time.process_time()
        await course.run(options["messages"])
        client = time.process_time() - began
        after = await _account(store)
        nursery.cancel_scope.cancel()
    count = options["messages"]
    result = {name: (after[name] - before.get(name, 0.0)) / count for name in after}
    return result | {"client": client / count}


def main() -> None:
    """Options as JSON in the first argument."""
    options = json.loads(sys.argv[1])
    with tempfile.TemporaryDirectory(prefix="parley-redis-cost-") as name:
        folder = Path(name)
        if options["valgrind"]:
            wrapper = folder / "redis-under-valgrind"
            tool = "valgrind --tool=callgrind --callgrind-out-file=/dev/null"
            wrapper.write_text(f'#!/bin/sh\nexec {tool} {embedded.find_redis_server()} "$@"\n')
            wrapper.chmod(0o700)
            embedded.find_redis_server = lambda: wrapper
        server = EmbeddedRedis(folder)
        server.start(120.0)
        try:
            result = trio.run(_measure, server.url, options)
        finally:
            server.stop()
        if options["valgrind"]:
            found = _COLLECTED.findall((folder / "redis.log").read_text(errors="replace"))
            result["instructions"] = float(found[-1])
    print(json.dumps(result))


if __name__ == "__main__":
    main()
