"""Writes batches of the archive stream into PostgreSQL (mechanism: archive in order).

The law, for one partition:
- One writer at a time: `lock_partition` comes first in the transaction that writes, before the
  batch is read from Redis, so no two writers ever hold the same events.
- Idempotent and in order: the rooms' rows are locked, events up to `archived_offset` of the
  room's epoch are skipped, and the watermark moves in the same transaction. Whatever crashes is
  simply done again.
- An event is taken only if its epoch is the room's, or its offset is at most the base of the
  room's numbering; anything else comes from a life that lost its place and becomes a dead letter
  with an alarm. Nothing is skipped in silence.
- Receipts are no events: they have no offset, and each member's greatest is kept (`archive_marks`).
- Only a row that PostgreSQL refuses for its values becomes a dead letter otherwise; every other
  error means that nothing was written and the batch stays where it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from storage.postgres.archive_audit import audit_rows, keep_audit
from storage.postgres.archive_counts import RoomEdge, keep_counts
from storage.postgres.archive_marks import RECEIPTS, BatchMarks
from storage.postgres.archive_plan import (
    Accepted,
    DeadLetter,
    Incoming,
    MessageRow,
    Plan,
    plan_batch,
)
from storage.postgres.archive_rows import (
    apply_changes,
    apply_reactions,
    count_replies,
    insert_messages,
)
from storage.redis.entries import Entry
from storage.redis.keys import split_room_key

if TYPE_CHECKING:
    import asyncpg

# First half of the advisory lock's key, the second is the partition: "arch" as a number.
_ARCHIVE_LOCK: Final = 0x6172_6368

_LOCK_PARTITION: Final = "SELECT pg_try_advisory_xact_lock($1::int, $2::int)"
# In the order of pk, as everybody who locks several rooms does it: no deadlocks.
_LOCK_ROOMS: Final = """
SELECT r.pk, r.project || '/' || r.id AS room, r.epoch, r.base_offset, r.base_seq,
       r.archived_offset, r.seq
FROM unnest($1::text[], $2::text[]) AS v(project, id)
JOIN rooms r ON r.project = v.project AND r.id = v.id
ORDER BY r.pk
FOR NO KEY UPDATE OF r
"""
# The members' rows follow a room's activity at most once in ACTIVITY_SPREAD_SECONDS: `room_lists`
# looks that much further. (A room that has grown big is 'infinity' and never followed.)
_MOVE_ROOMS: Final = """
WITH moved AS (
    UPDATE rooms r
    SET archived_offset = v.archived_offset, seq = v.seq,
        last_message_at = greatest(r.last_message_at, v.last_message_at),
        active_at = CASE WHEN r.active_at IS NULL
                           OR v.last_message_at > r.active_at + make_interval(secs => $5)
                         THEN v.last_message_at ELSE r.active_at END
    FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::timestamptz[])
         AS v(pk, archived_offset, seq, last_message_at)
    WHERE r.pk = v.pk
    RETURNING r.pk, r.seq, r.counted_seq, r.active_at,
              r.active_at = v.last_message_at AS is_followed
), followed AS (
    UPDATE members m SET active_at = moved.active_at
    FROM moved
    WHERE moved.is_followed AND m.room_pk = moved.pk AND m.active_at < moved.active_at
)
SELECT pk, seq, counted_seq FROM moved
"""
ACTIVITY_SPREAD_SECONDS: Final = 10.0
"""How far `members.active_at` may lag behind the room's activity. Longer means fewer writes for
rooms of many members; shorter means that fewer rooms have to be looked at for a page."""
_KEEP_DEAD: Final = """
INSERT INTO dead_letters (room, epoch, event_offset, seq, event, entry, reason)
SELECT * FROM unnest($1::text[], $2::text[], $3::bigint[], $4::bigint[], $5::text[], $6::bytea[],
                     $7::text[])
ON CONFLICT (room, epoch, event_offset) DO NOTHING
"""
REASON_CHARACTERS_MAX: Final = 500
INTEGER_MAX: Final = 2**63 - 1
_new: Final = tuple.__new__


@dataclass(slots=True)
class BatchResult:
    """What a batch has done, to be believed after its commit only."""

    rooms: list[tuple[str, int]] = field(default_factory=list)
    """(R, archived offset) of every room of the batch that PostgreSQL knows."""
    accepted: int = 0
    repeated: int = 0
    """Events that were archived before."""
    dead: list[DeadLetter] = field(default_factory=list)
    gaps: list[tuple[str, int, int]] = field(default_factory=list)
    """(R, offset expected, offset found): events that never reached the archive stream."""


@dataclass(slots=True)
class _Room:
    """A locked row of `rooms` while a batch is being applied."""

    pk: int
    epoch: str | None
    base_offset: int
    base_seq: int
    archived_offset: int
    seq: int
    is_moved: bool = False


async def lock_partition(connection: asyncpg.Connection, partition: int) -> bool:
    """Become the partition's only writer until the transaction ends; False if another is."""
    return bool(await connection.fetchval(_LOCK_PARTITION, _ARCHIVE_LOCK, partition))


async def write_batch(connection: asyncpg.Connection, events: Sequence[Incoming]) -> BatchResult:
    """Apply events, in stream order, inside the transaction that holds the partition's lock.

    Raises asyncpg's errors; then nothing of the batch must be acknowledged.
    """
    result = BatchResult()
    rooms = await _lock_rooms(connection, events)
    marks = BatchMarks()
    accepted = _accept(events, rooms, result, marks)
    plan = plan_batch(accepted)
    result.dead.extend(plan.dead)
    new = await write_plan(connection, plan, result.dead, marks)
    await keep_audit(connection, audit_rows(accepted))
    await keep_counts(connection, new, await _move_rooms(connection, rooms, plan))
    await _keep_dead(connection, result.dead)
    result.rooms = [(key, room.archived_offset) for key, room in rooms.items()]
    return result


async def write_plan(
    connection: asyncpg.Connection,
    plan: Plan,
    dead: list[DeadLetter],
    marks: BatchMarks | None = None,
) -> list[MessageRow]:
    """Write what the plan says, with the rooms locked; the messages that are new.

    What PostgreSQL refuses is added to `dead`.
    """
    new = await insert_messages(connection, plan.messages, dead)
    await count_replies(connection, new)
    if marks is not None:
        marks.add_senders(message.row for message in plan.messages)
        await marks.write(connection)
    await apply_changes(connection, list(plan.late_changes.values()), dead)
    await apply_reactions(connection, list(plan.reactions.values()), dead)
    await apply_changes(connection, list(plan.changes.values()), dead)
    return new


async def _lock_rooms(
    connection: asyncpg.Connection, events: Sequence[Incoming]
) -> dict[str, _Room]:
    # A key with a NUL would make PostgreSQL refuse the whole statement; no such room exists.
    keys = {event.entry.room: None for event in events if "\0" not in event.entry.room}
    pairs = [split_room_key(key) for key in keys]
    rows = await connection.fetch(_LOCK_ROOMS, [p for p, _ in pairs], [room for _, room in pairs])
    return {
        row["room"]: _Room(
            row["pk"],
            row["epoch"],
            row["base_offset"],
            row["base_seq"],
            row["archived_offset"],
            row["seq"],
        )
        for row in rows
    }


def _accept(
    events: Sequence[Incoming],
    rooms: dict[str, _Room],
    result: BatchResult,
    marks: BatchMarks,
) -> list[Accepted]:
    """Judge each event against its room, whose watermark moves along; receipts have none."""
    accepted: list[Accepted] = []
    for event in events:
        entry = event.entry
        offset = entry.offset
        room = rooms.get(entry.room)
        if offset == 0 and entry.event in RECEIPTS:
            if room is not None:
                # In stream order: whatever a receipt speaks of has come before it.
                marks.add_receipt(room.pk, entry, max(room.seq, room.base_seq))
            continue
        reason = _reason_against(entry, room)
        if room is None or reason is not None:
            result.dead.append(DeadLetter(event, reason or "unknown_room"))
            continue
        archived = room.archived_offset
        is_late = offset <= archived
        if entry.epoch == room.epoch:
            if is_late:
                result.repeated += 1
                continue
            if offset > archived + 1:
                expected = max(archived, room.base_offset) + 1
                if offset > expected:
                    result.gaps.append((entry.room, expected, offset))
        # As in `plan_batch`: past the class's own __new__.
        accepted.append(_new(Accepted, (room.pk, event, is_late)))
        if not is_late:
            room.archived_offset = offset
        if entry.seq > room.seq:
            room.seq = entry.seq
        room.is_moved = True
    result.accepted = len(accepted)
    return accepted


def _reason_against(entry: Entry, room: _Room | None) -> str | None:
    """Why the event can not be taken, None if it can."""
    if room is None:
        return "unknown_room"
    if not 0 < entry.offset <= INTEGER_MAX or not 0 <= entry.seq <= INTEGER_MAX:
        return "impossible_number"
    if entry.epoch != room.epoch and entry.offset > room.base_offset:
        return "late_epoch"
    return None


async def _move_rooms(
    connection: asyncpg.Connection, rooms: dict[str, _Room], plan: Plan
) -> dict[int, RoomEdge]:
    moved = [room for room in rooms.values() if room.is_moved]
    if not moved:
        return {}
    rows = await connection.fetch(
        _MOVE_ROOMS,
        [room.pk for room in moved],
        [room.archived_offset for room in moved],
        [room.seq for room in moved],
        [plan.last_message_at.get(room.pk) for room in moved],
        ACTIVITY_SPREAD_SECONDS,
    )
    return {row["pk"]: RoomEdge(row["seq"], row["counted_seq"]) for row in rows}


async def _keep_dead(connection: asyncpg.Connection, dead: Sequence[DeadLetter]) -> None:
    if dead:
        entries = [letter.incoming.entry for letter in dead]
        await connection.execute(
            _KEEP_DEAD,
            [_plain(entry.room) for entry in entries],
            [_plain(entry.epoch) for entry in entries],
            [_within(entry.offset) for entry in entries],
            [_within(entry.seq) for entry in entries],
            [_plain(entry.event) for entry in entries],
            [letter.incoming.raw for letter in dead],
            [_plain(letter.reason)[:REASON_CHARACTERS_MAX] for letter in dead],
        )


def _plain(text: str) -> str:
    """Text that PostgreSQL certainly takes: a dead letter must never fail itself."""
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}").encode(errors="replace").decode()


def _within(number: int) -> int:
    return max(-INTEGER_MAX, min(number, INTEGER_MAX))
