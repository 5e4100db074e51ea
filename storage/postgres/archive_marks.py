"""How far members have read and got messages: what a batch of the archive says of it.

A mark comes from a receipt, or from one's own message: whoever writes has read. Marks take no
offset, move no watermark and have no order of their own: each member's greatest of a batch is
written in one statement, and only ever upwards, so a repeat changes nothing. A mark that nobody can
use (of a user who is no member any more, of a room that does not exist) is left out quietly.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from storage.postgres.archive_plan import MessageRow

if TYPE_CHECKING:
    import asyncpg

    from storage.redis.entries import Entry

READ: Final = "receipt.read"
DELIVERED: Final = "receipt.delivered"
RECEIPTS: Final = frozenset({READ, DELIVERED})
_MS_MAX: Final = 10**14

_MOVE: Final = """
UPDATE members m
SET read_seq = greatest(m.read_seq, v.read_seq),
    read_at = CASE WHEN v.read_seq > m.read_seq THEN v.read_at ELSE m.read_at END,
    delivered_seq = greatest(m.delivered_seq, v.delivered_seq),
    delivered_at = CASE WHEN v.delivered_seq > m.delivered_seq
                        THEN v.delivered_at ELSE m.delivered_at END
FROM unnest($1::bigint[], $2::text[], $3::bigint[], $4::timestamptz[], $5::bigint[],
            $6::timestamptz[])
     AS v(room_pk, user_id, read_seq, read_at, delivered_seq, delivered_at)
WHERE m.room_pk = v.room_pk AND m.user_id = v.user_id
    AND (v.read_seq > m.read_seq OR v.delivered_seq > m.delivered_seq)
"""


@dataclass(slots=True)
class _Mark:
    """One member's greatest marks of a batch."""

    read_seq: int = 0
    read_at: datetime | None = None
    delivered_seq: int = 0
    delivered_at: datetime | None = None


@dataclass(slots=True)
class BatchMarks:
    """The marks of a batch, by room and user."""

    _marks: dict[tuple[int, str], _Mark] = field(default_factory=dict)

    def add_receipt(self, room_pk: int, entry: Entry, seq_max: int) -> None:
        """Take a receipt over; it never reaches beyond the room's newest message."""
        user = entry.sender
        if user is None or "\0" in user or entry.seq < 0 or not 0 <= entry.ms < _MS_MAX:
            return
        at = datetime.fromtimestamp(entry.ms / 1000, UTC)
        self._raise(room_pk, user, min(entry.seq, seq_max), at, is_read=entry.event == READ)

    def add_senders(self, rows: Iterable[MessageRow]) -> None:
        """Take over what writing the messages says of their senders.

        Also of messages that PostgreSQL has refused: their senders were told so.
        """
        for row in rows:
            if row.sender is not None and "\0" not in row.sender:
                self._raise(row.room_pk, row.sender, row.seq, row.created_at, is_read=True)

    def _raise(self, room_pk: int, user: str, seq: int, at: datetime, *, is_read: bool) -> None:
        mark = self._marks.get((room_pk, user))
        if mark is None:
            mark = self._marks[room_pk, user] = _Mark()
        if is_read and seq > mark.read_seq:
            mark.read_seq, mark.read_at = seq, at
        if seq > mark.delivered_seq:
            mark.delivered_seq, mark.delivered_at = seq, at

    async def write(self, connection: asyncpg.Connection) -> None:
        """Move the members' marks, inside the batch's transaction (rooms locked)."""
        if not self._marks:
            return
        marks: Sequence[_Mark] = list(self._marks.values())
        await connection.execute(
            _MOVE,
            [room_pk for room_pk, _ in self._marks],
            [user for _, user in self._marks],
            [mark.read_seq for mark in marks],
            [mark.read_at for mark in marks],
            [mark.delivered_seq for mark in marks],
            [mark.delivered_at for mark in marks],
        )
