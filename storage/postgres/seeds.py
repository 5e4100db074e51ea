"""Where the numbering of a cold room goes on: the transaction half of the seed.

Rules (mechanisms: life, seed):
- The room's row is locked, so seeds, the archiver's batches and changes of the room take turns.
- A room that is in this life already keeps its numbering; nothing is written then, unless somebody
  was late to say that higher seqs were given in an earlier life: these are skipped.
- A room that comes from another life gets a base above everything that anybody reported. The
  archiver takes events of other lives only up to that base, so no number is ever given twice.
- Where numbers may have been given that nobody reports in time, the base lies UNREPORTED_SKIP seqs
  higher: another server may go on numbering under the life before (a promoted replica, and a master
  that has not noticed), or Redis was emptied, and the only node that knows is stopped.
  The same if a room is taken over by an older life, which is how such a master looks from here.
- A life is never taken back: whoever verified a life before the room was last seeded may hold one
  that has ended meanwhile, and has to verify again.
- The idempotency window is read again from what is archived, for the keys that Redis has lost: the
  end of the room, by its primary key, and only if something was written lately.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final, NamedTuple

from storage.postgres.message_filters import CLOCK_SLACK

if TYPE_CHECKING:
    import asyncpg

    from storage.postgres.pool import Database

# Idempotency keys given back to Redis: as many as one script call should carry. The newest: a
# repeat comes within seconds of its first try.
SEED_SENT_MAX: Final = 5000
# Seqs that a room skips where numbers may be out that nobody reports: more than a busy room's
# messages (1000 a second) until the last node has left an old master (some seconds;
# docs/durability.md), or than were not archived yet when Redis was emptied.
UNREPORTED_SKIP: Final = 10_000
# What a seeder that has to look again is told to wait.
VERIFY_AGAIN_AFTER: Final = 0.05

# The age is read after the lock, by the server's clock, in a statement of its own: a row that was
# waited for is another one then.
_LOCK: Final = "SELECT pk FROM rooms WHERE project = $1 AND id = $2 FOR NO KEY UPDATE"
_READ: Final = """
SELECT pk, kind, frozen, deleted_at IS NOT NULL AS deleted, epoch, base_offset, base_seq,
       archived_offset, seq, extract(epoch FROM clock_timestamp() - seeded_at) AS seeded_ago,
       coalesce((SELECT min(version) - 1 FROM announcements WHERE room_pk = pk), version)
           AS version_floor,
       last_message_at >= now() - make_interval(secs => $2) AS has_window
FROM rooms WHERE pk = $1
"""
_REBASE: Final = """
UPDATE rooms
SET epoch = $2, base_offset = $3, base_seq = $4, seeded_at = clock_timestamp()
WHERE pk = $1
"""
_RAISE: Final = "UPDATE rooms SET base_seq = $2 WHERE pk = $1"
_SENT: Final = f"""
SELECT coalesce(sender, ''), client_id, id::text, seq, event_offset,
       (extract(epoch FROM created_at) * 1000)::bigint
FROM messages
WHERE room_pk = $1 AND client_id IS NOT NULL
    AND seq >= (SELECT message_seq_at($1, now() - make_interval(secs => $2)) - {CLOCK_SLACK})
    AND created_at >= now() - make_interval(secs => $2)
ORDER BY seq DESC
LIMIT $3
"""  # noqa: S608
STATEMENTS: Final = {"read": _READ, "sent": _SENT}
"""Reads of this module, for the tests that look at their plans."""


class SentMessage(NamedTuple):
    """A message whose client_id is still in the idempotency window."""

    sender: str
    """Empty for the project itself."""
    client_id: str
    message_id: str
    seq: int
    offset: int
    created_ms: int


class RoomSeed(NamedTuple):
    """What the seed script needs. The room goes on above `offset` and `seq`."""

    room_pk: int
    epoch: str
    offset: int
    seq: int
    archived_offset: int
    version_floor: int
    """Newest version that has certainly been announced."""
    deleted: bool
    kind: str
    frozen: bool
    sent: list[SentMessage]


class SeedTooEarly(Exception):
    """Nothing was written; look again after `retry_after` seconds and with fresh inputs."""

    def __init__(self, reason: str, retry_after: float) -> None:
        super().__init__(reason)
        self.retry_after = retry_after


async def seed_room(
    database: Database,
    project: str,
    room: str,
    life: str,
    *,
    life_age_ms: int,
    redis_offset: int,
    redis_seq: int,
    must_skip: bool,
    fence_wait_ms: int,
    window_s: float,
    verified_at: float,
) -> RoomSeed | None:
    """Decide under the room's row lock where its numbering goes on; None if there is no room.

    `life`, `life_age_ms`, `redis_offset` and `redis_seq` (the greatest that Redis, the room log or
    a node knows) come from one script call; `verified_at` is `time.monotonic()` from before it.
    Raises SeedTooEarly for a room of an earlier life while `life` is younger than `fence_wait_ms`,
    and if the room was seeded after `verified_at`. Idempotent; a deleted room is seeded too.
    `must_skip`: numbers of the life before `life` may be out that are not in `redis_seq`.
    """

    async def decide(connection: asyncpg.Connection) -> RoomSeed | None:
        pk = await connection.fetchval(_LOCK, project, room)
        if pk is None:
            return None
        row = await connection.fetchrow(_READ, pk, window_s)
        offset = max(row["archived_offset"], row["base_offset"])
        seq = max(row["seq"], row["base_seq"])
        if row["epoch"] != life:
            _check_patience(row, life_age_ms, fence_wait_ms, verified_at)
            offset, seq = max(offset, redis_offset), max(seq, redis_seq)
            if _may_lack_numbers(row["epoch"], life, must_skip):
                seq += UNREPORTED_SKIP
            await connection.execute(_REBASE, pk, life, offset, seq)
        elif redis_seq > seq:
            seq = redis_seq
            await connection.execute(_RAISE, pk, seq)
        sent = []
        if row["has_window"]:
            sent = await connection.fetch(_SENT, pk, window_s, SEED_SENT_MAX)
        return RoomSeed(
            pk,
            life,
            offset,
            seq,
            row["archived_offset"],
            row["version_floor"],
            row["deleted"],
            row["kind"],
            row["frozen"],
            [SentMessage(*known) for known in sent],
        )

    return await database.transaction(decide)


def _may_lack_numbers(before: str | None, life: str, must_skip: bool) -> bool:
    """Lives are UUIDs of version 7: an older one sorts first; a clock that is off costs a skip."""
    return before is not None and (must_skip or life < before)


def _check_patience(
    row: asyncpg.Record, life_age_ms: int, fence_wait_ms: int, verified_at: float
) -> None:
    if row["epoch"] is None:
        return
    if life_age_ms < fence_wait_ms:
        raise SeedTooEarly(
            "the nodes may still report higher numbers", (fence_wait_ms - life_age_ms) / 1000
        )
    ago = row["seeded_ago"]
    if ago is not None and float(ago) <= time.monotonic() - verified_at:
        raise SeedTooEarly("the room was seeded in another life meanwhile", VERIFY_AGAIN_AFTER)
