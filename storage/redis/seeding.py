"""Warming a cold room: what is known of its numbering, and the script that seeds it.

The decision about the numbering is PostgreSQL's (a row lock); this is the Redis half.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final, cast

from config.limits import FLOORS_TTL
from storage.redis.outcomes import LateFloor, Refusal, SeedInputs
from storage.redis.room_log import RoomLog
from storage.redis.script_loader import run_script

FLOORS_A_CALL: Final = 500
"""Rooms in one call of the script: about a millisecond of Redis."""


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
        return SeedInputs(life, reply[1], reply[2], reply[3], reply[4] == 1)

    async def raise_floors(self, floors: Iterable[tuple[str, int, int]]) -> list[LateFloor]:
        """Say which numbers (R, offset, seq) were given in earlier lives; the greatest win.

        Those of rooms that were seeded below already: nothing is given from their numbers any more.
        Idempotent: what was late once is not late again.
        """
        by_partition: dict[int, list[str | int]] = {}
        for floor in floors:
            by_partition.setdefault(self.keys.partition(floor[0]), []).extend(floor)
        late: list[LateFloor] = []
        # A room's keys outlive its last event by ROOM_LOG_TTL: a floor must outlive them.
        ttl_ms = max(int(FLOORS_TTL * 1000), 2 * self.limits.log_ttl_ms)
        for partition, numbers in by_partition.items():
            for start in range(0, len(numbers), 3 * FLOORS_A_CALL):
                reply = await run_script(
                    self._client,
                    self._scripts["floors"],
                    (self.keys.life(partition), self.keys.floors(partition)),
                    (
                        self.keys.prefixes[partition],
                        ttl_ms,
                        *numbers[start : start + 3 * FLOORS_A_CALL],
                    ),
                )
                late += [
                    LateFloor(key.decode(), base, given, floor)
                    for key, base, given, floor in cast("list[Any]", reply)
                ]
        return late

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
            (keys.life, keys.room, keys.log, keys.reads, keys.floors),
            (
                key,
                life,
                offset,
                seq,
                archived,
                version,
                int(deleted),
                self.limits.log_ttl_ms,
                keys.prefix,
                *flat,
            ),
        )
        return cast("bytes", reply).decode().lower()
