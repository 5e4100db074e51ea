"""Keeps `message_counts` with the archive: messages of a room by blocks of BLOCK seqs.

A block is counted once it is full, in the transaction that archives the first message behind it,
and again if a message of an earlier life arrives in it late. So between `rooms.counted_seq` and the
newest message lie at most a block and a batch, which whoever wants a total counts itself. Rows
that go away are the business of a trigger (messages_gone). What must hold: the counts of the blocks
below `counted_seq` are exactly what counting the rows would give, in every snapshot.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Final, NamedTuple

from storage.postgres.archive_plan import MessageRow

if TYPE_CHECKING:
    import asyncpg

BLOCK: Final = 2048
"""Seqs a block; the function count_messages has it too, so it never changes. A total reads a row a
block and counts the messages of up to three: 500 rows and some thousand for a million messages."""

_COUNT: Final = "SELECT count_messages($1, $2, $3)"
_MOVE: Final = "UPDATE rooms SET counted_seq = $2 WHERE pk = $1"


class RoomEdge(NamedTuple):
    """A room after a batch: its newest archived message, and up to where it was counted before."""

    seq: int
    counted_seq: int


async def keep_counts(
    connection: asyncpg.Connection, new: Iterable[MessageRow], rooms: Mapping[int, RoomEdge]
) -> None:
    """Count what the new rows have filled or changed; the rooms (by pk) are locked."""
    late: set[tuple[int, int]] = set()
    for row in new:
        if row.seq < rooms[row.room_pk].counted_seq:
            late.add((row.room_pk, row.seq // BLOCK))
    for room_pk, block in sorted(late):
        await connection.execute(_COUNT, room_pk, block, block)
    for room_pk, room in sorted(rooms.items()):
        first, end = room.counted_seq // BLOCK, room.seq // BLOCK
        if first < end:
            await connection.execute(_COUNT, room_pk, first, end - 1)
            await connection.execute(_MOVE, room_pk, end * BLOCK)
