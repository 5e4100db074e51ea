"""Scripts while Redis Cluster moves a slot: two real servers, as far as one shard's client sees.

The client knows no routing yet, so this is about what the scripts promise: a publish is whole or
refused before its first write, whatever has moved away under it.
"""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from storage.errors import StorageUnavailable
from storage.redis.entries import parse_entry
from storage.redis.keys import inbox_key
from storage.redis.outcomes import Appended
from tests.support.script_rooms import ScriptRooms, open_rooms
from tests.support.waiting import wait_until_sync
from workers.embedded.guarded import GuardedProcess
from workers.embedded.ports import LOOPBACK, free_port
from workers.embedded.redis import find_redis_server

SLOTS = 16384


def free_pair() -> int:
    """A free port whose bus port, 10000 above, is free too: others may use that for anything."""
    for _ in range(100):
        port = free_port()
        with socket.socket() as bus:
            try:
                bus.bind((LOOPBACK, port + 10_000))
            except OSError:
                continue
            return port
    raise AssertionError("no port is free together with the one 10000 above it")


class Shard:
    """One cluster-enabled server."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.port = free_pair()
        options = {
            "bind": LOOPBACK, "port": self.port, "cluster-enabled": "yes", "save": "",
            "cluster-require-full-coverage": "no",
        }  # fmt: skip
        (folder / "redis.conf").write_text("".join(f'{k} "{v}"\n' for k, v in options.items()))
        self._process = GuardedProcess.start(
            [find_redis_server(), "redis.conf"], cwd=folder, stdout=subprocess.DEVNULL
        )
        self.client: Any = redis.Redis(LOOPBACK, self.port)
        try:
            wait_until_sync(self._answers, what="a shard answers")
        except BaseException:
            self._process.kill()
            raise
        self.id = self.client.execute_command("CLUSTER MYID").decode()

    def _answers(self) -> bool:
        try:
            return bool(self.client.ping())
        except redis.RedisError:
            return False

    @property
    def url(self) -> str:
        return f"redis://{LOOPBACK}:{self.port}/0"

    def is_joined(self) -> bool:
        info = self.client.execute_command("CLUSTER INFO")
        return (info["cluster_known_nodes"], info["cluster_state"]) == ("2", "ok")

    def stop(self) -> None:
        self.client.close()
        self._process.kill()

    def slot(self, number: int, word: str, *more: str) -> None:
        self.client.execute_command("CLUSTER SETSLOT", number, word, *more)


class Pair:
    """Two shards; the first has every slot until something is moved."""

    def __init__(self, first: Shard, second: Shard) -> None:
        self.first, self.second = first, second

    def slot_of(self, key: str) -> int:
        return int(self.first.client.execute_command("CLUSTER KEYSLOT", key))

    def begin(self, key: str, source: Shard, target: Shard) -> None:
        """Announce the move of the key's slot; no key has gone yet."""
        number = self.slot_of(key)
        target.slot(number, "IMPORTING", source.id)
        source.slot(number, "MIGRATING", target.id)

    def migrate(self, source: Shard, target: Shard, *keys: str) -> None:
        source.client.execute_command("MIGRATE", LOOPBACK, target.port, "", 0, 5000, "KEYS", *keys)

    def end(self, key: str, target: Shard) -> None:
        for shard in (self.first, self.second):
            shard.slot(self.slot_of(key), "NODE", target.id)


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    shards: list[Shard] = []
    try:
        shards += [Shard(tmp_path / "first"), Shard(tmp_path / "second")]
        first, second = shards
        first.client.execute_command("CLUSTER ADDSLOTS", *range(SLOTS))
        first.client.execute_command("CLUSTER MEET", LOOPBACK, second.port)
        for shard in shards:
            wait_until_sync(shard.is_joined, deadline=30, what="the shards know each other")
        yield Pair(first, second)
    finally:
        for shard in shards:
            shard.stop()


def offsets(entries: list[Any]) -> list[int]:
    return [entry.offset for entry in entries]


async def publish_some(rooms: ScriptRooms, count: int) -> list[int]:
    outcomes = [await rooms.publish() for _ in range(count)]
    assert all(isinstance(outcome, Appended) for outcome in outcomes), outcomes
    return [outcome.offset for outcome in outcomes if isinstance(outcome, Appended)]


async def test_a_slot_moves_while_people_publish(pair: Pair):
    """B10 (test 21): the inbox moves first, then the room; every answered publish is stored once,
    offsets are dense, and what is refused is refused before it is done."""
    inbox = inbox_key("n")
    async with open_rooms(pair.first.url, checked=False) as rooms:
        await rooms.warm()
        # The node's own scripts take keys of several slots: a cluster has an inbox a partition.
        await rooms.ask("XADD", inbox, "*", "e", b"/ 0 0 0 x y / 0\n")
        await rooms.ask("HSET", rooms.keys().nodes, "n", 1)
        assert await publish_some(rooms, 5) == [1, 2, 3, 4, 5]
        assert offsets(await rooms.inbox()) == [0, 1, 2, 3, 4, 5]

        pair.begin(inbox, pair.first, pair.second)
        assert await publish_some(rooms, 1) == [6], "not gone yet"
        pair.migrate(pair.first, pair.second, inbox)
        assert await publish_some(rooms, 5) == [7, 8, 9, 10, 11]
        assert await rooms.registered() == {"n": 1}, "an error is no death"
        assert offsets(await rooms.log()) == offsets(await rooms.archive_entries())
        assert (await rooms.numbers())["offset"] == "11"
        pair.end(inbox, pair.second)
        assert await publish_some(rooms, 2) == [12, 13]
        assert pair.second.client.xlen(inbox) == 7, "nothing was lost of what was delivered"

        room = rooms.keys().room
        pair.begin(room, pair.first, pair.second)
        pair.migrate(pair.first, pair.second, room)
        with pytest.raises(StorageUnavailable) as refused:
            await rooms.publish()
        assert refused.value.outcome == "not_done"
        assert pair.first.client.xlen(rooms.keys().log) == 13
        slot = pair.slot_of(room)
        left = pair.first.client.execute_command("CLUSTER GETKEYSINSLOT", slot, 1000)
        pair.migrate(pair.first, pair.second, *left)
        pair.end(room, pair.second)
        with pytest.raises(StorageUnavailable) as refused:
            await rooms.publish()
        assert refused.value.outcome == "not_done"

        keys = rooms.keys()
    moved = pair.second.client
    assert (moved.hget(keys.room, "offset"), moved.hget(keys.room, "seq")) == (b"13", b"13")
    for stream in (keys.log, keys.archive):
        entries = [parse_entry(fields[b"e"]) for _id, fields in moved.xrange(stream)]
        assert offsets(entries) == list(range(1, 14)), stream
