"""Reads how far members have read and got messages, as far as that is archived.

Marks come into `members` by the archiver alone (`archive_rows`); what is newer is in Redis, and
whoever reads puts both together. A read message counts as delivered. Index: members (room_pk,
user_id), favorites (room_pk, seq, user_id).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from storage.postgres.pool import Database

_COLUMNS: Final = """user_id, read_seq, read_at, greatest(delivered_seq, read_seq) AS delivered_seq,
       CASE WHEN delivered_seq >= read_seq THEN delivered_at ELSE read_at END AS delivered_at"""
_MARKS: Final = """
SELECT read_seq, greatest(delivered_seq, read_seq) FROM members
WHERE room_pk = $1 AND user_id = $2
"""
# $2 is left out: the sender of a message is none of its recipients. Null: everybody.
_LIST: Final = f"""
SELECT {_COLUMNS} FROM members
WHERE room_pk = $1 AND user_id IS DISTINCT FROM $2
ORDER BY user_id OFFSET $3 LIMIT $4
"""  # noqa: S608
_TOTAL: Final = """
SELECT count(*) FROM members WHERE room_pk = $1 AND user_id IS DISTINCT FROM $2
"""
_FAVORED: Final = """
SELECT user_id FROM favorites WHERE room_pk = $1 AND seq = $2 AND user_id = ANY($3::text[])
"""
STATEMENTS: Final = {"marks": _MARKS, "list": _LIST, "total": _TOTAL, "favored": _FAVORED}
"""Reads of this module, for the test that looks at their plans."""


class MemberMarks(NamedTuple):
    """One member's marks; a time is None where the mark came with the membership."""

    user: str
    read_seq: int
    read_at: datetime | None
    delivered_seq: int
    delivered_at: datetime | None


async def read_marks(db: Database, room_pk: int, user: str) -> tuple[int, int] | None:
    """(read, delivered) of a member, None for who is none."""
    row: Any = await db.fetchrow(_MARKS, room_pk, user)
    return None if row is None else (row[0], row[1])


async def list_marks(
    db: Database, room_pk: int, *, without: str | None, skip: int, limit: int
) -> tuple[int, list[MemberMarks]]:
    """How many members there are but for `without`, and some of them by user id."""
    total: int = await db.fetchval(_TOTAL, room_pk, without)
    rows: Any = await db.fetch(_LIST, room_pk, without, skip, limit)
    return total, [MemberMarks(*row) for row in rows]


async def favored_by(db: Database, room_pk: int, seq: int, users: Sequence[str]) -> set[str]:
    """Which of the users have the message among their favourites."""
    return {row["user_id"] for row in await db.fetch(_FAVORED, room_pk, seq, users)}
