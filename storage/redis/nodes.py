"""Broker nodes in Redis: incarnation, inbox, lease, audit, and reaping the dead.

A node's id is used once. Its inbox is created by its owner, once; its expiry is the lease. A
missing inbox is the only sign of loss, and it is never created again under the same id.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, cast

from storage.redis.client import RedisClient
from storage.redis.keys import (
    INBOX_PREFIX,
    LEASES_KEY,
    Keys,
    inbox_key,
    rooms_of_key,
)
from storage.redis.limits import StoreLimits
from storage.redis.lives import Lives
from storage.redis.script_loader import ScriptSet, run_script

REAP_ROOMS = 100
REAP_USERS = 2000
"""What one `reap` call cleans of rooms, and of users who are online in them: some milliseconds."""

SCAN_COUNT = 1000
"""Members of a set that one SSCAN looks at."""


class RoomState(NamedTuple):
    """A room as the audit found it to differ from what the node said."""

    place: int
    """Which of the rooms asked for, from 0."""
    registered: bool
    epoch: str
    offset: int


class NodeStore:
    """The typed calls of a node; one per process, over the process's command connection."""

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

    async def open_node(self, node: str, lease_ms: int) -> bool:
        """Create the inbox and the lease; False if the id has been used."""
        reply = await run_script(
            self._client,
            self._scripts["open_node"],
            (inbox_key(node), LEASES_KEY),
            (node, lease_ms),
        )
        return reply == 1

    async def heartbeat(self, node: str, lease_ms: int) -> list[int] | None:
        """Renew the lease. None if the inbox is lost, else the partitions whose life is another."""
        lives = self._lives.ids
        reply = cast(
            "list[Any]",
            await run_script(
                self._client,
                self._scripts["heartbeat"],
                (
                    inbox_key(node),
                    LEASES_KEY,
                    *(self._keys.life(p) for p in range(self._keys.partitions)),
                ),
                (node, lease_ms, *lives),
            ),
        )
        if reply[0] == b"LOST":
            return None
        return [position - 1 for position in reply[1:]]

    async def watch(self, key: str, node: str, gen: int) -> bool:
        """Register the node for a user's own channel; False if the node's inbox is lost."""
        keys = self._keys.room(key)
        reply = await run_script(
            self._client,
            self._scripts["watch"],
            (keys.nodes, inbox_key(node), rooms_of_key(node)),
            (key, node, gen, keys.tag),
        )
        return reply == b"OK"

    async def leave(self, key: str, node: str, gen: int, *, forget: bool) -> None:
        """The node has no connection in the room any more (a join with a newer gen wins)."""
        keys = self._keys.room(key)
        await run_script(
            self._client,
            self._scripts["leave"],
            (keys.nodes, rooms_of_key(node)),
            (key, node, gen, keys.tag, int(forget), self._limits.log_ttl_ms),
        )

    async def presence(self, key: str, node: str, user: str, connections: int, gen: int) -> None:
        """The node has this many connections of the user in the room (absolute; 0: grace).

        Without an inbox nothing is taken but a zero: the next name says everything again.
        """
        keys = self._keys.room(key)
        await run_script(
            self._client,
            self._scripts["presence"],
            (
                keys.presence,
                inbox_key(node),
                rooms_of_key(node),
                keys.nodes,
                keys.where(user),
            ),
            (
                key,
                node,
                user,
                connections,
                gen,
                keys.tag,
                self._limits.quiet_users,
                INBOX_PREFIX,
                self._limits.inbox_max,
            ),
        )

    async def leave_due(self, key: str, node: str, user: str, grace_ms: int) -> int:
        """A grace of the user on this node is over; milliseconds that are left of it, else 0.

        Only the newest absence counts, by the clock of Redis.
        """
        keys = self._keys.room(key)
        reply = await run_script(
            self._client,
            self._scripts["leave_due"],
            (keys.presence, keys.nodes, keys.where(user)),
            (
                key,
                node,
                user,
                self._limits.quiet_users,
                INBOX_PREFIX,
                self._limits.inbox_max,
                grace_ms,
            ),
        )
        return cast("int", reply)

    async def drain_node(self, node: str, linger_ms: int) -> None:
        """End the inbox; the presence stays until `linger_ms` from now."""
        await run_script(
            self._client,
            self._scripts["drain_node"],
            (inbox_key(node), LEASES_KEY),
            (node, linger_ms),
        )

    async def dead_nodes(self) -> list[str]:
        """At most ten nodes whose lease has ended."""
        seconds, micros = cast("list[bytes]", await self._client.execute("TIME"))
        now_ms = int(seconds) * 1000 + int(micros) // 1000
        reply = await self._client.execute(
            "ZRANGEBYSCORE", LEASES_KEY, "-inf", now_ms, "LIMIT", 0, 10
        )
        return [node.decode() for node in cast("list[bytes]", reply)]

    async def lease_end(self, node: str) -> int | None:
        """When the node's lease ends, in ms since 1970; None if nothing of it is left."""
        reply = cast("bytes | None", await self._client.execute("ZSCORE", LEASES_KEY, node))
        return None if reply is None else int(float(reply))

    async def channels_of(self, node: str) -> list[str]:
        """The users' own channels (R) that the node is in."""
        channels: set[str] = set()
        cursor = b"0"
        while True:
            reply = await self._client.execute(
                "SSCAN", rooms_of_key(node), cursor, "MATCH", "*//*", "COUNT", SCAN_COUNT
            )
            cursor, members = cast("tuple[bytes, list[bytes]]", reply)
            channels.update(member.decode().partition(" ")[2] for member in members)
            if cursor == b"0":
                return sorted(channels)

    async def reap(self, node: str, *, force: bool = False) -> int:
        """Clean up to `REAP_ROOMS` rooms of a dead node; rooms left, -1 if it is alive.

        `force` is for a node that reaps its own former incarnation.
        """
        reply = await run_script(
            self._client,
            self._scripts["reap"],
            (LEASES_KEY, rooms_of_key(node), inbox_key(node)),
            (
                node,
                REAP_ROOMS,
                self._limits.quiet_users,
                INBOX_PREFIX,
                self._limits.inbox_max,
                int(force),
                REAP_USERS,
                self._limits.log_ttl_ms,
            ),
        )
        return cast("int", reply)

    async def audit(self, node: str, rooms: Sequence[tuple[str, str, int]]) -> list[RoomState]:
        """Compare (R, epoch, offset) of the node's rooms with Redis; those that differ."""
        arguments: list[str | int] = []
        for key, epoch, offset in rooms:
            arguments += (self._keys.tag(key), key, epoch, offset)
        reply = await run_script(
            self._client,
            self._scripts["audit"],
            (),
            (node, self._limits.log_ttl_ms, *arguments),
        )
        return [
            RoomState(place - 1, bool(registered), epoch.decode(), offset)
            for place, registered, epoch, offset in cast("list[Any]", reply)
        ]
