"""Tables that are full before a measurement: rooms and messages made by PostgreSQL itself.

Rules: rows are as the archiver leaves them: dense seqs, watermarks in `rooms`, ids that rise with
time. They are made where they stay, in portions that say how far they are: a million takes about
as long as its indexes do. Only a private system is filled.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from bench.database import Database
from bench.dialect import CONTENT_BYTES, content_of

A_ROOM: Final = 1000  # messages of a room that is made here
PORTION: Final = 500_000  # messages in one statement
_SIZES: Final = """
SELECT sum(pg_relation_size(c.oid))::bigint, sum(pg_indexes_size(c.oid))::bigint
FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
WHERE i.inhparent = 'messages'::regclass"""
_ROOMS: Final = """
INSERT INTO rooms (project, id, kind, epoch, archived_offset, base_offset, seq, base_seq,
                   last_message_at, active_at)
SELECT 'default', '{prefix}-' || n, 'group', 'before', {each}, {each}, {each}, {each}, now(), now()
FROM generate_series({first}, {last}) n"""
# A UUIDv7 by hand, because PostgreSQL has none before 18: time, version, variant, chance.
_MESSAGES: Final = """
INSERT INTO messages (room_pk, seq, id, sender, content, client_id, created_at, event_offset,
                      last_offset)
SELECT r.pk, n, (lpad(to_hex(1767225600000 + r.pk * 1000 + n), 12, '0') || '7'
                 || substr(md5(r.pk || '/' || n), 1, 3) || '8'
                 || substr(md5(n || '/' || r.pk), 1, 15))::uuid,
       '{prefix}-writer', left('{prefix}-writer ' || n || ' {line}', {length}),
       '{prefix}-' || r.pk || '-' || n,
       timestamptz '2026-01-01T00:00:00Z' + (r.pk * 1000 + n) * interval '1 millisecond', n, n
FROM rooms r, generate_series(1, {each}) n
WHERE r.project = 'default' AND r.id = ANY (
    SELECT '{prefix}-' || k FROM generate_series({first}, {last}) k)"""


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """Bytes of all messages, or of one."""

    table: float
    indexes: float

    def __sub__(self, other: "Sizes") -> "Sizes":
        return Sizes(table=self.table - other.table, indexes=self.indexes - other.indexes)

    def __truediv__(self, count: float) -> "Sizes":
        return Sizes(table=self.table / count, indexes=self.indexes / count)


def table_sizes(database: Database) -> Sizes:
    """How big `messages` is now."""
    ((table, indexes),) = database.rows(_SIZES)
    return Sizes(table=float(table), indexes=float(indexes))


def fill_messages(
    database: Database,
    prefix: str,
    count: int,
    say: Callable[[str], None],
    *,
    each: int = A_ROOM,
) -> list[str]:
    """Make rooms `prefix-0`, `prefix-1`, … with `each` messages, `count` in all; their names.

    The writer is `prefix-writer`, the content of a message what `content_of` says of its seq.
    """
    rooms = max(1, count // each)
    line = content_of("", 0).removeprefix(" 0 ")
    step = max(1, PORTION // each)
    for first in range(0, rooms, step):
        last = min(first + step, rooms) - 1
        database.rows(_ROOMS.format(prefix=prefix, first=first, last=last, each=each))
        database.rows(
            _MESSAGES.format(
                prefix=prefix, first=first, last=last, each=each, line=line, length=CONTENT_BYTES
            )
        )
        say(f"{(last + 1) * each:,} of {rooms * each:,} messages are in PostgreSQL")
    database.rows("VACUUM (ANALYZE) messages")
    database.rows("VACUUM (ANALYZE) rooms")
    return [f"{prefix}-{number}" for number in range(rooms)]
