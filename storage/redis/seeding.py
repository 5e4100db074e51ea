"""Warming a cold room: what Redis knows of its numbering, and the script that seeds it.

The decision about the numbering is PostgreSQL's (a row lock); this is the Redis half.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from storage.redis.outcomes import Refusal, SeedInputs
from storage.redis.room_log import RoomLog
from storage.redis.script_loader import run_script


class SeedStore(RoomLog):
    """The seeding part of `storage.redis.rooms.RoomStore`."""

    async def seed_inputs(self, key: str) -> SeedInputs | Refusal:
        """The greatest numbers that Redis or a node knows of for a cold room."""
        keys = self.keys.room(key)
        life = self.lives.ids[keys.partition]
        reply = cast(
            "list[Any]",
            await run_script(
                self._client,
                self._scripts["seed_inputs"],
                (keys.life, keys.room, keys.log, keys.floors),
                (life, key),
            ),
        )
        if reply[0] != b"OK":
            return Refusal("fenced")
        return SeedInputs(life, reply[1], reply[2], reply[3])

    async def seed(
        self,
        key: str,
        life: str,
        *,
        offset: int,
        seq: int,
        archived: int,
        version: int,
        deleted: bool,
        sent: Sequence[tuple[bytes, bytes, int]],
    ) -> str:
        """Warm the room. ``"ok"``, ``"fenced"``, or ``"ahead"``: Redis knows higher numbers.

        ``sent`` is (digest, packed answer, milliseconds) of each idempotency key to restore.
        """
        keys = self.keys.room(key)
        flat: list[bytes | int] = [value for triple in sent for value in triple]
        reply = await run_script(
            self._client,
            self._scripts["seed"],
            (keys.life, keys.room, keys.log, keys.reads),
            (
                life,
                offset,
                seq,
                archived,
                version,
                int(deleted),
                self.limits.log_ttl_ms,
                keys.sent_prefix,
                *flat,
            ),
        )
        return cast("bytes", reply).decode().lower()
