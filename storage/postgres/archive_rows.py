"""Writes a planned batch into the tables, each table in one statement.

The fast way in is COPY straight into `messages`: within one life a conflict cannot happen, since
events up to the room's archived offset were skipped before. Where it fails nevertheless, and for
everything else that holds people's text, rows go in by INSERT and are halved down to the one that
PostgreSQL refuses, with a savepoint around each try. Only values may be to blame (SQLSTATE class
22 or 23): any other error comes out, and the batch is tried again another time.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from operator import itemgetter
from typing import TYPE_CHECKING, Final, TypeVar

import msgspec

from storage.postgres.archive_plan import (
    COLUMNS,
    Change,
    DeadLetter,
    Incoming,
    MessageRow,
    NewMessage,
    ReactionChange,
    placeholder,
)
from storage.postgres.errors import is_content_error

if TYPE_CHECKING:
    import asyncpg

T = TypeVar("T")
_ROOM_PK: Final = itemgetter(COLUMNS.index("room_pk"))
_encode: Final = msgspec.json.Encoder().encode

# From here on only what this INSERT returns counts as new: a row that is there already was
# archived under an earlier life.
_INSERT: Final = f"""
INSERT INTO messages ({", ".join(COLUMNS)})
SELECT v.room_pk, v.seq, v.id, v.sender, v.kind, v.content, v.metadata, v.attachments,
       CASE WHEN v.mentions IS NOT NULL
            THEN ARRAY(SELECT json_array_elements_text(v.mentions)) END,
       v.reply_to, v.forwarded_from, v.client_id, v.created_at, v.deleted_at, v.event_offset,
       v.last_offset
FROM unnest($1::bigint[], $2::bigint[], $3::uuid[], $4::text[], $5::text[], $6::text[],
            $7::json[], $8::json[], $9::json[], $10::bigint[], $11::json[], $12::text[],
            $13::timestamptz[], $14::timestamptz[], $15::bigint[], $16::bigint[])
     AS v({", ".join(COLUMNS)})
ON CONFLICT (room_pk, seq) DO NOTHING
RETURNING room_pk, seq
"""  # noqa: S608
_STORED_IDS: Final = """
SELECT m.room_pk, m.seq, m.id::text
FROM unnest($1::bigint[], $2::bigint[]) AS v(room_pk, seq)
JOIN messages m USING (room_pk, seq)
"""
_COUNT_REPLIES: Final = """
UPDATE messages m SET reply_count = m.reply_count + v.replies
FROM unnest($1::bigint[], $2::bigint[], $3::int[]) AS v(room_pk, seq, replies)
WHERE m.room_pk = v.room_pk AND m.seq = v.seq
"""
_CHANGE: Final = """
UPDATE messages m
SET content = CASE WHEN v.has_content THEN v.content ELSE m.content END,
    metadata = CASE WHEN v.has_metadata THEN v.metadata ELSE m.metadata END,
    attachments = CASE WHEN v.has_attachments THEN v.attachments ELSE m.attachments END,
    edited_at = coalesce(v.edited_at, m.edited_at),
    deleted_at = v.deleted_at,
    deleted_by = v.deleted_by,
    last_offset = v.last_offset
FROM unnest($1::bigint[], $2::bigint[], $3::bool[], $4::text[], $5::bool[], $6::json[],
            $7::bool[], $8::json[], $9::timestamptz[], $10::timestamptz[], $11::text[],
            $12::bigint[])
     AS v(room_pk, seq, has_content, content, has_metadata, metadata, has_attachments,
          attachments, edited_at, deleted_at, deleted_by, last_offset)
WHERE m.room_pk = v.room_pk AND m.seq = v.seq
    AND m.deleted_at IS NULL AND m.last_offset < v.last_offset
"""
_UNREACT: Final = """
DELETE FROM reactions r
USING unnest($1::bigint[], $2::bigint[], $3::text[], $4::text[])
      AS v(room_pk, seq, reaction, user_id), messages m
WHERE r.room_pk = v.room_pk AND r.seq = v.seq AND r.reaction = v.reaction
    AND r.user_id = v.user_id
    AND m.room_pk = v.room_pk AND m.seq = v.seq AND m.deleted_at IS NULL
"""
_REACT: Final = """
INSERT INTO reactions (room_pk, seq, reaction, user_id, created_at)
SELECT v.*
FROM unnest($1::bigint[], $2::bigint[], $3::text[], $4::text[], $5::timestamptz[])
     AS v(room_pk, seq, reaction, user_id, created_at)
JOIN messages m ON m.room_pk = v.room_pk AND m.seq = v.seq AND m.deleted_at IS NULL
ON CONFLICT DO NOTHING
"""


async def insert_messages(
    connection: asyncpg.Connection, messages: Sequence[NewMessage], dead: list[DeadLetter]
) -> list[MessageRow]:
    """Insert messages and return the rows that are new.

    A row that PostgreSQL refuses is added to `dead` and leaves a placeholder; a row whose seq
    belongs to another message is added to `dead`.
    """
    if not messages:
        return []
    # Room by room, in their order: neighbours go to the same pages of the table and the indexes.
    rows = sorted([message.row for message in messages], key=_ROOM_PK)

    async def copy() -> None:
        await connection.copy_records_to_table("messages", records=rows, columns=COLUMNS)

    if await _try(connection, copy) is None:
        return rows
    inserted: list[NewMessage] = []

    async def insert(some: Sequence[NewMessage]) -> None:
        inserted.extend(await _insert(connection, some, dead))

    for refused, reason in await _apply_halving(connection, messages, insert):
        dead.append(DeadLetter(refused.incoming, reason))
        spare = NewMessage(placeholder(refused.row.room_pk, refused.incoming), refused.incoming)
        await _apply_halving(connection, [spare], insert)
    return [message.row for message in inserted]


async def count_replies(connection: asyncpg.Connection, rows: Sequence[MessageRow]) -> None:
    """Add the new rows that answer another message to that message's count."""
    replies: dict[tuple[int, int], int] = {}
    for row in rows:
        if row.reply_to is not None:
            key = (row.room_pk, row.reply_to)
            replies[key] = replies.get(key, 0) + 1
    if replies:
        await connection.execute(
            _COUNT_REPLIES, [pk for pk, _ in replies], [seq for _, seq in replies],
            list(replies.values()),
        )  # fmt: skip


async def apply_reactions(
    connection: asyncpg.Connection, reactions: Sequence[ReactionChange], dead: list[DeadLetter]
) -> None:
    """Add and remove reactions; those of messages that are deleted already stay as they are."""

    async def apply(some: Sequence[ReactionChange]) -> None:
        removed = [change for change in some if change.was_removed]
        if removed:
            await connection.execute(_UNREACT, *_reaction_keys(removed))
        added = [change for change in some if change.added_at is not None]
        if added:
            await connection.execute(
                _REACT, *_reaction_keys(added), [change.added_at for change in added]
            )

    refused: list[tuple[ReactionChange, str]] = await _apply_halving(connection, reactions, apply)
    _bury(refused, dead)


async def apply_changes(
    connection: asyncpg.Connection, changes: Sequence[Change], dead: list[DeadLetter]
) -> None:
    """Apply folded edits and deletions to messages that are not deleted and not newer."""

    async def apply(some: Sequence[Change]) -> None:
        await connection.execute(
            _CHANGE,
            [change.room_pk for change in some],
            [change.seq for change in some],
            *_given([change.content for change in some]),
            *_given([change.metadata for change in some]),
            *_given([change.attachments for change in some]),
            [change.edited_at for change in some],
            [change.deleted_at for change in some],
            [change.deleted_by for change in some],
            [change.last_offset for change in some],
        )

    effective = [change for change in changes if change.incoming]
    refused: list[tuple[Change, str]] = await _apply_halving(connection, effective, apply)
    _bury(refused, dead)


async def _insert(
    connection: asyncpg.Connection, messages: Sequence[NewMessage], dead: list[DeadLetter]
) -> list[NewMessage]:
    columns = [list(column) for column in zip(*(m.row for m in messages), strict=True)]
    mentions = COLUMNS.index("mentions")
    columns[mentions] = [_encode_texts(value) for value in columns[mentions]]
    returned = await connection.fetch(_INSERT, *columns)
    if len(returned) == len(messages):
        return list(messages)
    fresh = {(row["room_pk"], row["seq"]) for row in returned}
    inserted: list[NewMessage] = []
    others: list[NewMessage] = []
    for message in messages:
        key = (message.row.room_pk, message.row.seq)
        (inserted if key in fresh else others).append(message)
        fresh.discard(key)
    stored = {
        (pk, seq): message_id
        for pk, seq, message_id in await connection.fetch(
            _STORED_IDS, [m.row.room_pk for m in others], [m.row.seq for m in others]
        )
    }
    for message in others:
        found = stored.get((message.row.room_pk, message.row.seq))
        if found != message.row.id:
            dead.append(
                DeadLetter(message.incoming, f"seq {message.row.seq} belongs to message {found}")
            )
    return inserted


async def _apply_halving(
    connection: asyncpg.Connection,
    items: Sequence[T],
    apply: Callable[[Sequence[T]], Awaitable[None]],
) -> list[tuple[T, str]]:
    """Apply to all items but those that PostgreSQL refuses for their values; return these."""
    if not items:
        return []
    reason = await _try(connection, lambda: apply(items))
    if reason is None:
        return []
    if len(items) == 1:
        return [(items[0], reason)]
    middle = len(items) // 2
    first = await _apply_halving(connection, items[:middle], apply)
    return first + await _apply_halving(connection, items[middle:], apply)


async def _try(connection: asyncpg.Connection, step: Callable[[], Awaitable[None]]) -> str | None:
    """Run a step in a savepoint; return why its values were refused, None if they were not."""
    await connection.execute("SAVEPOINT step")
    try:
        await step()
    except Exception as error:
        # COPY encodes the rows itself and raises plain errors for values that do not fit.
        if not is_content_error(error) and not isinstance(error, ValueError | OverflowError):
            raise
        await connection.execute("ROLLBACK TO SAVEPOINT step")
        return f"{type(error).__name__}: {error}"
    await connection.execute("RELEASE SAVEPOINT step")
    return None


def _encode_texts(values: list[str] | None) -> str | None:
    """A list of texts as JSON text: an array of arrays could not be ragged."""
    return None if values is None else _encode(values).decode()


def _given(values: Sequence[tuple[str | None] | None]) -> tuple[list[bool], list[str | None]]:
    """Two columns from optional values: whether there is one, and which."""
    given = [value is not None for value in values]
    return given, [None if value is None else value[0] for value in values]


def _reaction_keys(
    changes: Sequence[ReactionChange],
) -> tuple[list[int], list[int], list[str], list[str]]:
    return (
        [change.room_pk for change in changes],
        [change.seq for change in changes],
        [change.reaction for change in changes],
        [change.user for change in changes],
    )


def _bury(refused: Sequence[tuple[Change | ReactionChange, str]], dead: list[DeadLetter]) -> None:
    for change, reason in refused:
        incoming: list[Incoming] = change.incoming
        dead.extend(DeadLetter(one, reason) for one in incoming)
