"""Reading a node's inbox: blocked in Redis, from a cursor that only this reader moves.

Reading consumes nothing, so a cut connection is simply read again from the same cursor; what has
been delivered is trimmed now and then, in the same write as a read, and all of it once nothing new
has come for a while: what was erased must not stay here. The count is chosen so that a
read brings about `INBOX_READ_BYTES`: between two reads the outboxes' writers get their turn.
"""

from __future__ import annotations

from typing import Any, cast

from config import limits
from storage.redis.blocking import BlockingConnection
from storage.redis.entries import behind
from storage.redis.keys import inbox_key


class InboxReader:
    """The position in one incarnation's inbox."""

    def __init__(self, node: str) -> None:
        self._key = inbox_key(node)
        self._cursor = "0-0"
        self._count = limits.INBOX_READ_COUNT
        self._untrimmed_bytes = 0
        self._is_idle = False
        self._is_empty = True

    async def read(self, connection: BlockingConnection, block_ms: int) -> list[bytes]:
        """Wait at most `block_ms` for entries; the next ones, oldest first.

        Raises StorageUnavailable, also for a connection that has fallen silent, soon after
        `block_ms`. Cancelled or failed, the next call reads the same entries.
        """
        read = (
            *("XREAD", "COUNT", self._count, "BLOCK", block_ms),
            *("STREAMS", self._key, self._cursor),
        )
        commands: list[tuple[str | int, ...]] = [read]
        if self._untrimmed_bytes >= limits.INBOX_TRIM_BYTES:
            commands.insert(0, ("XTRIM", self._key, "MINID", "~", self._cursor))
        elif self._is_idle and not self._is_empty:
            commands.insert(0, ("XTRIM", self._key, "MINID", "=", behind(self._cursor)))
        timeout = block_ms / 1000 + limits.COMMAND_TIMEOUT
        replies = await connection.pipeline(commands, timeout)
        if len(commands) > 1:
            self._is_empty = self._untrimmed_bytes < limits.INBOX_TRIM_BYTES
            self._untrimmed_bytes = 0
        reply = replies[-1]
        if isinstance(reply, Exception):
            raise reply
        self._is_idle = not reply
        if not reply:
            return []
        found = cast("list[Any]", reply)[0][1]
        self._cursor = found[-1][0].decode()
        entries: list[bytes] = [event for _id, fields in found for event in fields[1::2]]
        size_bytes = sum(map(len, entries))
        self._untrimmed_bytes += size_bytes
        self._is_empty = False
        fitting = limits.INBOX_READ_BYTES * len(found) // max(1, size_bytes)
        self._count = max(1, min(limits.INBOX_READ_COUNT, fitting))
        return entries
