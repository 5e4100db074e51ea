"""The archive stream of each partition: every durable event until PostgreSQL has it.

Read in stream order from the start by whoever holds the partition's lock; entries go away only
after their commit (`mark_archived`), by exact id or, in the life in which they were read, up to the
last that was. Nothing is ever trimmed by length or time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple, cast

from config.archive_limits import ARCHIVE_BATCH_BYTES
from storage.errors import StorageUnavailable
from storage.redis.blocking import BlockingConnection
from storage.redis.client import RedisClient
from storage.redis.entries import Entry, behind, parse_entry
from storage.redis.keys import Keys
from storage.redis.limits import StoreLimits
from storage.redis.lives import Lives
from storage.redis.script_loader import ScriptSet, run_script

READ_CHUNK = 500
"""Entries of a batch that are read in one call: some milliseconds of Redis, and at most some 30 MB
where every event is as large as it may be. A batch ends early behind whole ones only."""
FIND_CHUNK = 500
"""Entries looked at in one call: about a millisecond of Redis."""
FIND_MAX = 20_000
"""Entries looked at for one message; normally the whole backlog is much smaller."""
FIND_BEFORE_MS = 5_000
"""How far the clock of whoever named a message may be ahead of that of Redis."""
FIND_AFTER_MS = 15_000
"""Between naming a message and appending it lies at most a publish's deadline, and the clocks."""
_new: Final = tuple.__new__


class ArchiveEntry(NamedTuple):
    """An entry with its stream id and raw form (dead letters keep the raw form)."""

    id: bytes
    raw: bytes
    entry: Entry


class ArchiveStore:
    """The typed calls of the archiver, over its command connection."""

    def __init__(
        self,
        client: RedisClient,
        *,
        keys: Keys,
        scripts: ScriptSet,
        lives: Lives,
        limits: StoreLimits,
    ) -> None:
        self._client = client
        self._keys = keys
        self._scripts = scripts
        self._lives = lives
        self._limits = limits

    @property
    def partitions(self) -> int:
        """Number of partitions."""
        return self._keys.partitions

    async def read_batch(self, partition: int, count: int) -> list[ArchiveEntry]:
        """The oldest `count` entries, in the order they were appended.

        Fewer, but at least READ_CHUNK, where they are larger than ARCHIVE_BATCH_BYTES together.
        """
        read = await self._read_range(partition, "-", min(count, READ_CHUNK))
        total_bytes = sum(len(fields[1]) for _id, fields in read)
        has_more = len(read) == READ_CHUNK
        while has_more and len(read) < count and total_bytes < ARCHIVE_BATCH_BYTES:
            wanted = min(count - len(read), READ_CHUNK)
            # From the last one on, which has to be there still: another server's stream, after a
            # failover, may have entries below it that this reading would pass by.
            last = read[-1]
            again = await self._read_range(partition, last[0], wanted + 1)
            if not again or again[0] != last:
                break
            has_more = len(again) > wanted
            read += again[1:]
            total_bytes += sum(len(fields[1]) for _id, fields in again[1:])
        return [
            _new(ArchiveEntry, (entry_id, fields[1], parse_entry(fields[1])))
            for entry_id, fields in read
        ]

    async def _read_range(self, partition: int, first: str | bytes, count: int) -> list[Any]:
        key = self._keys.archive(partition)
        reply = await self._client.execute("XRANGE", key, first, "+", "COUNT", count)
        return cast("list[Any]", reply)

    def life_of(self, partition: int) -> str:
        """The life in which the partition is read and acknowledged now."""
        return self._lives.ids[partition]

    async def append_again(self, partition: int, raws: Sequence[bytes]) -> None:
        """Put events that were archived, or should have been, behind all that wait.

        What PostgreSQL has of them changes nothing there. May be repeated.
        """
        for first in range(0, len(raws), FIND_CHUNK):
            replies = await self._client.pipeline(
                [
                    ("XADD", self._keys.archive(partition), "*", "e", raw)
                    for raw in raws[first : first + FIND_CHUNK]
                ]
            )
            for reply in replies:
                if isinstance(reply, Exception):
                    raise reply

    async def find_message(self, message_id: str) -> str | None:
        """R of the room of a message that is not archived yet, None if none waits.

        `message_id` is a UUID of version 7, so it says when to look. Raises StorageUnavailable,
        also when more waits around that time than may be looked at.
        """
        born = int(message_id.replace("-", "")[:12], 16)
        last = f"{born + FIND_AFTER_MS}"
        mark = f'\n{{"id":"{message_id}",'
        budget = FIND_MAX
        for partition in range(self._keys.partitions):
            first = f"{max(0, born - FIND_BEFORE_MS)}"
            while True:
                reply = await run_script(
                    self._client,
                    self._scripts["find_message"],
                    (self._keys.archive(partition),),
                    (first, last, FIND_CHUNK, mark),
                )
                count, newest, room = cast("tuple[int, bytes, bytes]", reply)
                if room:
                    return room.decode()
                if count < FIND_CHUNK:
                    break
                budget -= count
                if budget <= 0:
                    raise StorageUnavailable("redis", reason="too much is unarchived")
                first = f"({newest.decode()}"
        return None

    async def wait_for_entries(
        self, connection: BlockingConnection, cursors: Sequence[str], block_ms: int
    ) -> dict[int, str]:
        """Wait until a partition has an entry behind its cursor; partition -> newest id seen.

        Start from ``0-0``, never from ``$``: entries between two calls would be missed.
        """
        streams = [self._keys.archive(p) for p in range(self._keys.partitions)]
        reply = await connection.execute(
            "XREAD", "COUNT", 1, "BLOCK", block_ms, "STREAMS", *streams, *cursors
        )
        if not reply:
            return {}
        found: dict[int, str] = {}
        for name, entries in cast("list[Any]", reply):
            found[streams.index(name.decode())] = entries[-1][0].decode()
        return found

    async def mark_archived(
        self,
        partition: int,
        *,
        ids: Sequence[bytes],
        total_bytes: int,
        rooms: Sequence[tuple[str, int]],
        life: str | None = None,
    ) -> bool:
        """After the commit: delete exactly these entries, raise each (R, offset)'s mark.

        `life` is what `life_of` said before and after the entries were read from the beginning: as
        long as that holds they are deleted as a whole, which is cheaper than by their ids.
        Idempotent. False if the partition has another life: verify it and call again without.
        """
        flat: list[str | int] = [value for pair in rooms for value in pair]
        entries: list[bytes | str | int] = ["", len(ids), *ids]
        if life is not None and ids:
            entries = [behind(ids[-1]), 0]
        reply = await run_script(
            self._client,
            self._scripts["archived"],
            (self._keys.life(partition), self._keys.archive(partition)),
            (
                self._lives.ids[partition] if life is None else life,
                self._keys.prefixes[partition],
                self._limits.log_length,
                self._limits.log_ttl_ms,
                total_bytes,
                len(ids),
                *entries,
                *flat,
            ),
        )
        return reply != b"FENCED"

    async def refence(self, partition: int) -> None:
        """Verify the partition's life on the present connection and learn it."""
        await self._lives.verify(self._client, [partition])

    async def oldest_ms(self) -> int | None:
        """When the oldest entry that waits was appended, by the clock of Redis; None: none does."""
        oldest: list[int] = []
        for partition in range(self._keys.partitions):
            key = self._keys.archive(partition)
            reply = cast(
                "list[Any]", await self._client.execute("XRANGE", key, "-", "+", "COUNT", 1)
            )
            oldest += [int(entry_id.partition(b"-")[0]) for entry_id, _fields in reply]
        return min(oldest, default=None)

    async def backlog(self, partition: int) -> int:
        """Entries that wait."""
        return cast("int", await self._client.execute("XLEN", self._keys.archive(partition)))
