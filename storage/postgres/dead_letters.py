"""Events that the archiver put aside: listed, and put back once their cause is gone.

The law of putting back, one letter a transaction:
- It is applied as the archiver applies an event of an earlier life, with the room's row locked, and
  the letter is removed in the same transaction: whatever breaks off is simply done again.
- A message takes the place of its own placeholder or of nobody. Its seq must be one that the room
  will not give again, and that no other message has; else the letter stays.
- Reactions stay put aside: nothing tells whether they were removed later.
- What PostgreSQL refuses stays, with the reason of today.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Final, NamedTuple

from storage.postgres.archive import write_plan
from storage.postgres.archive_counts import RoomEdge, keep_counts
from storage.postgres.archive_plan import Accepted, DeadLetter, Incoming, placeholder, plan_batch
from storage.redis.entries import Entry, parse_entry
from storage.redis.keys import split_room_key

if TYPE_CHECKING:
    import asyncpg

    from storage.postgres.pool import Database

STATEMENTS: Final = {
    "letters": """
    SELECT id, room, epoch, event_offset, seq, event, reason, created_at, entry
    FROM dead_letters WHERE id > $1 ORDER BY id LIMIT $2
    """,
}
_ONE: Final = "SELECT entry FROM dead_letters WHERE id = $1 FOR UPDATE"
_ROOM: Final = """
SELECT pk, seq, greatest(seq, base_seq) AS given, counted_seq FROM rooms
WHERE project = $1 AND id = $2 FOR NO KEY UPDATE
"""
_REMOVE_PLACEHOLDER: Final = "DELETE FROM messages WHERE room_pk = $1 AND seq = $2 AND id = $3"
_DROP: Final = "DELETE FROM dead_letters WHERE id = $1"


class StoredLetter(NamedTuple):
    """An event that was put aside; `reason` and `entry` may hold what somebody wrote."""

    id: int
    room: str
    epoch: str
    offset: int
    seq: int
    event: str
    reason: str
    created_at: datetime
    entry: bytes


class LetterStays(Exception):
    """The letter can not be put back, and why; nothing was changed."""


async def list_letters(database: Database, above: int, count: int) -> list[StoredLetter]:
    """Letters by id above one, at most so many."""
    rows = await database.fetch(STATEMENTS["letters"], above, count)
    return [StoredLetter(*row) for row in rows]


async def put_back(database: Database, letter_id: int) -> bool:
    """Apply the event and remove the letter; False if there is no such letter (any more).

    Raises LetterStays, StorageUnavailable.
    """

    async def work(connection: asyncpg.Connection) -> bool:
        raw = await connection.fetchval(_ONE, letter_id)
        if raw is None:
            return False
        try:
            entry = parse_entry(raw)
        except ValueError:
            raise LetterStays("it can not be read") from None
        await _apply(connection, Incoming(raw, entry))
        await connection.execute(_DROP, letter_id)
        return True

    return await database.transaction(work)


async def _apply(connection: asyncpg.Connection, incoming: Incoming) -> None:
    entry = incoming.entry
    room = await _lock_room(connection, entry)
    if entry.event.startswith("reaction."):
        raise LetterStays("it may have been undone since; react anew")
    if entry.event == "message.created":
        if not 0 < entry.seq <= room["given"]:
            raise LetterStays(f"seq {entry.seq} is not given yet in this room")
        spare = placeholder(room["pk"], incoming)
        await connection.execute(_REMOVE_PLACEHOLDER, room["pk"], entry.seq, spare.id)
    plan = plan_batch([Accepted(room["pk"], incoming, is_late=True)])
    _require_none(plan.dead)
    dead: list[DeadLetter] = []
    new = await write_plan(connection, plan, dead)
    _require_none(dead)
    await keep_counts(connection, new, {room["pk"]: RoomEdge(room["seq"], room["counted_seq"])})


async def _lock_room(connection: asyncpg.Connection, entry: Entry) -> asyncpg.Record:
    if "\0" not in entry.room:
        room = await connection.fetchrow(_ROOM, *split_room_key(entry.room))
        if room is not None:
            return room
    raise LetterStays("there is no such room")


def _require_none(dead: Sequence[DeadLetter]) -> None:
    if dead:
        raise LetterStays(dead[0].reason)
