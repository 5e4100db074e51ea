"""Warming cold rooms (mechanism: seed), lazily and once at a time per room and process.

PostgreSQL decides the numbering under the room's row lock, then one script writes it, unless the
partition has another life by then. Any number of processes may seed one room at once: the row lock
orders them and the script leaves a warm room as it is.
"""

from __future__ import annotations

import hashlib
import time

import trio

from broker.protocol.errors import ProtocolError
from config import limits
from storage.postgres.pool import Database
from storage.postgres.seeds import RoomSeed, SeedTooEarly, seed_room
from storage.redis.keys import split_room_key
from storage.redis.outcomes import Refusal, SeedInputs
from storage.redis.rooms import RoomStore

SEED_ATTEMPTS = 20
"""Each further one needs a fence or a higher number in between; more would be a loop."""


def sent_digest(key: str, user: str, client_id: str) -> bytes:
    """16 bytes that stand for one client_id of one sender in one room, unambiguous by lengths."""
    text = f"{len(key)}:{key}{len(user)}:{user}{client_id}"
    return hashlib.blake2b(text.encode(), digest_size=16).digest()


class Seeder:
    """Warms rooms for one process."""

    def __init__(self, db: Database, rooms: RoomStore) -> None:
        self._db = db
        self._rooms = rooms
        self._under_way: dict[str, trio.Event] = {}

    async def warm(self, key: str) -> None:
        """Make the room warm in the present life, or raise.

        Raises `room_not_found`, `unavailable` when it takes longer than a command may, and
        StorageUnavailable. Cancel-safe: half a seed is a seed not made.
        """
        running = self._under_way.get(key)
        if running is not None:
            # Whoever does it may fail or be cancelled; then the caller finds the room cold again.
            with trio.move_on_after(limits.SEED_DEADLINE):
                await running.wait()
            return
        done = self._under_way[key] = trio.Event()
        try:
            with trio.move_on_after(limits.SEED_DEADLINE) as scope:
                await self._seed(key)
            if scope.cancelled_caught:
                raise ProtocolError("unavailable", retry_after=limits.FENCE_WAIT)
        finally:
            del self._under_way[key]
            done.set()

    async def _seed(self, key: str) -> None:
        partition = self._rooms.keys.partition(key)
        for _attempt in range(SEED_ATTEMPTS):
            verified_at = time.monotonic()
            inputs = await self._rooms.seed_inputs(key)
            if isinstance(inputs, Refusal):
                await self._rooms.refence(partition)
                continue
            try:
                seed = await self._decide(key, inputs, verified_at)
            except SeedTooEarly as early:
                await trio.sleep(early.retry_after)
                continue
            if seed is None:
                raise ProtocolError("room_not_found")
            outcome = await self._write(key, inputs.life, seed)
            if outcome == "ok":
                return
            if outcome == "fenced":
                await self._rooms.refence(partition)
        raise ProtocolError("unavailable", retry_after=limits.FENCE_WAIT)

    async def _decide(self, key: str, inputs: SeedInputs, verified_at: float) -> RoomSeed | None:
        project, room = split_room_key(key)
        # What this very process has told counts whether it has been reported or not.
        offset, seq = self._rooms.answered.floor(key, inputs.life)
        return await seed_room(
            self._db,
            project,
            room,
            inputs.life,
            life_age_ms=inputs.life_age_ms,
            redis_offset=max(offset, inputs.offset),
            redis_seq=max(seq, inputs.seq),
            must_skip=inputs.must_skip,
            fence_wait_ms=int(limits.FENCE_WAIT * 1000),
            window_s=self._rooms.limits.window_ms / 1000,
            verified_at=verified_at,
        )

    async def _write(self, key: str, life: str, seed: RoomSeed) -> str:
        sent = [
            (
                sent_digest(key, known.sender, known.client_id),
                f"{known.message_id} {known.seq} {known.offset} {known.created_ms}".encode(),
                known.created_ms,
            )
            for known in seed.sent
        ]
        return await self._rooms.seed(
            key,
            life,
            offset=seed.offset,
            seq=seed.seq,
            archived=seed.archived_offset,
            version=seed.version_floor,
            deleted=seed.deleted,
            sent=sent,
        )
