"""Counts unread messages as far as they are archived, for many users and rooms in one statement.

One statement, so that each count belongs to the watermark (`archived_offset`) beside it: whoever
adds what is not archived must know exactly which events the count holds. Unread is what lies above
the read mark, is not deleted, not one's own and not of kind `system`. Counting ends at UNREAD_MAX,
which bounds its cost whatever a room holds. Index: members (room_pk, user_id), messages (room_pk,
seq).

Who subscribes is counted in the statement that reads what they are in the room.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from storage.postgres.access import ACCESSES

if TYPE_CHECKING:
    from storage.postgres.pool import Database

UNREAD_MAX: Final = 1000
"""Unread messages are counted exactly up to this."""

# `gone` are the seqs that unarchived events delete, as the text of an array, because an array of
# arrays cannot be ragged.
_COUNT: Final = """
SELECT asked.place, r.archived_offset, r.seq,
       greatest(m.read_seq, asked.read_seq) AS read_seq, (
    SELECT count(*) FROM (
        SELECT FROM messages
        WHERE room_pk = r.pk AND seq > greatest(m.read_seq, asked.read_seq) AND seq <= asked.until
          AND deleted_at IS NULL AND sender IS DISTINCT FROM asked.user_id AND kind <> 'system'
          AND seq <> ALL (asked.gone::bigint[])
        LIMIT $6
    ) AS counted) AS unread
FROM unnest($1::bigint[], $2::text[], $3::bigint[], $4::bigint[], $5::text[])
     WITH ORDINALITY AS asked(room_pk, user_id, read_seq, until, gone, place)
JOIN rooms r ON r.pk = asked.room_pk
JOIN members m ON m.room_pk = asked.room_pk AND m.user_id = asked.user_id
"""
_BEGIN: Final = """
SELECT standing.*, CASE WHEN standing.role IS NULL THEN NULL ELSE (
    SELECT count(*) FROM (
        SELECT FROM messages
        WHERE room_pk = standing.pk AND seq > standing.read_seq
          AND deleted_at IS NULL AND sender IS DISTINCT FROM standing.user_id AND kind <> 'system'
        LIMIT $4
    ) AS counted) END AS unread
FROM ({accesses}) AS standing
""".replace("{accesses}", ACCESSES)
STATEMENTS: Final = {"count": _COUNT, "begin": _BEGIN}
"""Reads of this module, for the test that looks at their plans."""

SEQ_MAX: Final = 2**63 - 1


class UnreadAsked(NamedTuple):
    """Whose unread messages in which room: those above `read_seq`, if PostgreSQL knows no higher
    mark, and up to `until`, but for those in `gone`."""

    room_pk: int
    user: str
    read_seq: int = -1
    gone: Collection[int] = ()
    until: int = SEQ_MAX


class ArchivedUnread(NamedTuple):
    """Unread messages as far as they are archived."""

    archived_offset: int
    seq: int
    """The newest message that is archived."""
    read_seq: int
    """The higher one of what was asked with and what PostgreSQL knows."""
    unread: int


async def count_archived(db: Database, asked: Sequence[UnreadAsked]) -> list[ArchivedUnread | None]:
    """The counts, in the order asked; None for who is no member. Raises StorageUnavailable."""
    return list(await db.run(lambda connection: _count(connection, asked))) if asked else []


async def count_archived_of(db: Database, asked: UnreadAsked) -> ArchivedUnread | None:
    """One count, as of after the call; asked for together with all who ask meanwhile."""
    return await db.gather(_count, asked)


async def gather_standing(
    db: Database, project: str, room: str, user: str
) -> tuple[Any, ArchivedUnread | None]:
    """What `gather_access` gives, and the user's archived unread messages, both as of one instant
    after the call. No count for who is no member."""
    return await db.gather(_read_standings, (project, room, user))


async def _read_standings(
    connection: Any, asked: Sequence[tuple[str, str, str]]
) -> list[tuple[Any, ArchivedUnread | None]]:
    found: list[tuple[Any, ArchivedUnread | None]] = [(None, None)] * len(asked)
    for row in await connection.fetch(_BEGIN, *zip(*asked, strict=True), UNREAD_MAX):
        archived = None
        if row["unread"] is not None:
            archived = ArchivedUnread(
                row["archived_offset"], row["archived_seq"], row["read_seq"], row["unread"]
            )
        found[row["place"] - 1] = (row, archived)
    return found


async def _count(connection: Any, asked: Sequence[UnreadAsked]) -> Sequence[ArchivedUnread | None]:
    found: list[ArchivedUnread | None] = [None] * len(asked)
    rows: Any = await connection.fetch(
        _COUNT,
        [one.room_pk for one in asked],
        [one.user for one in asked],
        [one.read_seq for one in asked],
        [one.until for one in asked],
        [f"{{{','.join(map(str, one.gone))}}}" for one in asked],
        UNREAD_MAX,
    )
    for row in rows:
        found[row["place"] - 1] = ArchivedUnread(
            row["archived_offset"], row["seq"], row["read_seq"], row["unread"]
        )
    return found
