"""Live state in Redis: who is online where, who types, signals. Nothing of it is stored for long.

Presence is written by the scripts of `rooms` (subscribe) and `nodes` (presence, leave_due, reap);
here it is read. A record of a node whose lease has ended counts for nothing, also before somebody
has reaped it. Typing and signals are one script each, which refuses what was read too long ago like
a publish (see `storage.redis.outcomes`).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, NamedTuple, cast

import msgspec

from storage.redis.client import RedisClient
from storage.redis.keys import INBOX_PREFIX, LEASES_KEY, Keys
from storage.redis.limits import StoreLimits
from storage.redis.lives import Lives
from storage.redis.outcomes import Refusal
from storage.redis.script_loader import ScriptSet, run_script

_Record = tuple[int, int, int, int]
"""A node's word about a user: connections, gen, since, leaving_at (both in ms)."""

decode_records = msgspec.msgpack.Decoder(dict[str, _Record]).decode
"""What nodes say of one user in one room, out of a value of `presence:R`."""


class Presence(NamedTuple):
    """One user in one room, over all living nodes."""

    user: str
    since_ms: int
    connections: int
    """0: in the grace after the last one has ended."""


class RoomPresence(NamedTuple):
    """Who is online in a room."""

    users: list[Presence]
    online: int


class LiveStore:
    """The typed calls; one per process, over the process's command connection."""

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

    # --- presence -----------------------------------------------------------------------------

    async def presence(self, key: str, users_max: int) -> RoomPresence:
        """At most `users_max` of the users online in R, those who came first ahead, and how many
        there are. Of a room that has more, any; its dead nodes count until they are reaped."""
        keys = self._keys.room(key)
        online, is_whole, living, flat = cast(
            "list[Any]",
            await run_script(
                self._client, self._scripts["present"], (keys.presence, LEASES_KEY), (users_max,)
            ),
        )
        nodes = {node.decode() for node in living}
        users = [
            found
            for place in range(0, len(flat), 2)
            if (found := _present(flat[place].decode(), flat[place + 1], nodes)) is not None
        ]
        users.sort(key=lambda user: (user.since_ms, user.user))
        dead = len(flat) // 2 - len(users)
        return RoomPresence(users[:users_max], len(users) if is_whole else online - dead)

    async def rooms_of(self, project: str, user: str) -> list[str]:
        """The R of every room that the user is online in, in order."""
        seconds, micros = cast("list[bytes]", await self._client.execute("TIME"))
        now_ms = int(seconds) * 1000 + int(micros) // 1000
        living, *wheres = await self._ask(
            [
                ("ZRANGEBYSCORE", LEASES_KEY, f"({now_ms}", "+inf"),
                *(
                    ("HKEYS", self._keys.where(partition, project, user))
                    for partition in range(self._keys.partitions)
                ),
            ]
        )
        nodes = {node.decode() for node in living}
        rooms = sorted(room.decode() for found in wheres for room in found)
        records = await self._ask(
            [("HGET", self._keys.room(room).presence, user) for room in rooms]
        )
        return [
            room
            for room, record in zip(rooms, records, strict=True)
            if record is not None and _present(user, record, nodes) is not None
        ]

    async def online_counts(self, keys: Sequence[str]) -> list[int]:
        """How many users are online in each of these rooms (R)."""
        found = await self._ask([("HLEN", self._keys.room(key).presence) for key in keys])
        return cast("list[int]", found)

    async def _ask(self, commands: list[tuple[str, ...]]) -> list[Any]:
        """Replies in order; the first error raised."""
        replies = await self._client.pipeline(commands) if commands else []
        for reply in replies:
            if isinstance(reply, Exception):
                raise reply
        return replies

    # --- what members do ------------------------------------------------------------------------

    async def signal(
        self, key: str, *, user: str, version: int, origin: str, data: bytes
    ) -> Refusal | None:
        """Hand a signal to the nodes of R; `origin` is the connection that it is not sent back to.

        `version` is that of the room when the user's role was read. Not idempotent.
        """
        keys = self._keys.room(key)
        return _parse_refusal(
            await run_script(
                self._client,
                self._scripts["signal"],
                (keys.life, keys.room, keys.nodes),
                (
                    self._lives.ids[keys.partition],
                    key,
                    user,
                    version,
                    origin,
                    data,
                    INBOX_PREFIX,
                    self._limits.inbox_max,
                ),
            )
        )

    async def typing(
        self, key: str, *, node: str, user: str, version: int, is_active: bool, origin: str
    ) -> int | Refusal:
        """The user types in R on this node, or does no longer; ms until a next start may pass.

        Ending is never refused. Repeating either is harmless.
        """
        keys = self._keys.room(key)
        reply = await run_script(
            self._client,
            self._scripts["typing"],
            (keys.life, keys.room, keys.nodes, keys.presence, keys.typing(user)),
            (
                self._lives.ids[keys.partition],
                key,
                node,
                user,
                version,
                int(is_active),
                origin,
                self._limits.typing_expires_ms,
                self._limits.typing_pause_ms,
                self._limits.quiet_users,
                INBOX_PREFIX,
                self._limits.inbox_max,
            ),
        )
        return _parse_refusal(reply) or cast("list[int]", reply)[0]


def _present(user: str, packed: bytes, living: Collection[str]) -> Presence | None:
    """The user as living nodes have it; None if only dead ones do."""
    records = [words for node, words in decode_records(packed).items() if node in living]
    if not records:
        return None
    return Presence(user, min(r[2] for r in records), sum(r[0] for r in records))


def _parse_refusal(reply: object) -> Refusal | None:
    values = cast("list[Any]", reply)
    if type(values[0]) is int:
        return None
    return Refusal(values[0].decode().lower(), values[1] if len(values) > 1 else b"")
