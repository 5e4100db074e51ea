"""The message object that PostgreSQL builds, and reading it for some messages of several rooms.

Pages of one room are `messages`; here is what lists over rooms need: the newest message of each of
some rooms, or certain messages by (room, seq), in one statement, each beside the watermark of its
room (see `messages` for why). Indexes: the primary keys of rooms, messages and reactions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from storage.postgres.json_text import with_times
from storage.postgres.pool import Database

REACTION_USERS: Final = 10
"""So many users are named with a reaction; its count is exact."""

# Of `page` (a row of messages), `room`, `reacted.reactions` and `flag.shown`. In the order of a
# new message in the log: archiving it then changes no page's ETag.
MESSAGE_FIELDS: Final = with_times(
    """page.id, room.id AS room, page.sender, page.kind,
               CASE WHEN shown THEN page.content END AS content,
               CASE WHEN shown AND page.metadata IS NOT NULL
                    THEN page.metadata ELSE '{}' END AS metadata,
               CASE WHEN shown AND page.attachments IS NOT NULL
                    THEN page.attachments ELSE '[]' END AS attachments,
               CASE WHEN shown AND page.mentions IS NOT NULL
                    THEN page.mentions ELSE '{}' END AS mentions,
               page.reply_to, page.forwarded_from, page.client_id, page.seq,
               {{created_at}} AS created_at, page.reply_count, {{edited_at}} AS edited_at,
               {{deleted_at}} AS deleted_at, page.deleted_by,
               CASE WHEN page.deleted_at IS NULL AND reacted.reactions IS NOT NULL
                    THEN reacted.reactions ELSE '{}' END AS reactions""",
    created_at="page.created_at",
    edited_at="page.edited_at",
    deleted_at="page.deleted_at",
)

# $1 $2 $3 are parallel: room, seq (null: its newest), users listed of a reaction. $4 is the
# viewer. $5 to $8 are parallel: reactions whose presence is asked.
_SOME: Final = """
SELECT asked.place, room.archived_offset, page.seq,
       convert_to(row_to_json(body)::text, 'UTF8') AS body,
       ARRAY(SELECT EXISTS (SELECT FROM reactions r WHERE r.room_pk = which.room_pk
                            AND r.seq = which.seq AND r.reaction = which.reaction
                            AND r.user_id = which.user_id)
             FROM unnest($5::bigint[], $6::bigint[], $7::text[], $8::text[]) WITH ORDINALITY
                  AS which(room_pk, seq, reaction, user_id, place)
             ORDER BY place) AS present
FROM unnest($1::bigint[], $2::bigint[], $3::int[]) WITH ORDINALITY
     AS asked(room_pk, seq, users, place)
JOIN rooms room ON room.pk = asked.room_pk
LEFT JOIN LATERAL (
    SELECT * FROM messages
    WHERE room_pk = asked.room_pk AND seq <= coalesce(asked.seq, 9223372036854775807)
    ORDER BY seq DESC LIMIT 1
) AS page ON asked.seq IS NULL OR page.seq = asked.seq
LEFT JOIN LATERAL (
    SELECT json_object_agg(reaction, CASE WHEN $4::text IS NULL
               THEN json_build_object('count', count, 'users', users)
               ELSE json_build_object('count', count, 'users', users, 'mine', mine)
               END ORDER BY reaction) AS reactions
    FROM (SELECT reaction, count(*) AS count, bool_or(user_id = $4) AS mine,
                 (array_agg(user_id ORDER BY created_at, user_id))[1:asked.users] AS users
          FROM reactions WHERE room_pk = page.room_pk AND seq = page.seq
          GROUP BY reaction) AS kinds
) AS reacted ON true
CROSS JOIN LATERAL (SELECT page.deleted_at IS NULL AS shown) AS flag
CROSS JOIN LATERAL (
        SELECT {{fields}}
) AS body
""".replace("{{fields}}", MESSAGE_FIELDS)
STATEMENTS: Final = {"some": _SOME}
"""Reads of this module, for the test that looks at their plans."""


class Asked(NamedTuple):
    """A message of a room: by seq, or the newest that is archived.

    `reactions` are (seq, reaction, user) whose presence is asked; for the message they are about
    so many more users are listed.
    """

    room_pk: int
    seq: int | None = None
    reactions: Sequence[tuple[int, str, str]] = ()


class ArchivedMessage(NamedTuple):
    """What a snapshot holds of one that was asked for."""

    archived_offset: int
    seq: int | None
    """None: there is no such message (yet)."""
    body: bytes
    present: Sequence[bool]
    """Parallel to the reactions asked for."""


async def read_some(
    db: Database, asked: Sequence[Asked], *, viewer: str | None
) -> list[ArchivedMessage | None]:
    """The messages in the order asked, all of one snapshot; None where there is no such room."""
    found: list[ArchivedMessage | None] = [None] * len(asked)
    if not asked:
        return found
    which = [(one.room_pk, *reaction) for one in asked for reaction in one.reactions]
    rows: Any = await db.fetch(
        _SOME,
        [one.room_pk for one in asked],
        [one.seq for one in asked],
        [REACTION_USERS + len(one.reactions) for one in asked],
        viewer,
        [pk for pk, *_ in which],
        [seq for _, seq, *_ in which],
        [reaction for *_, reaction, _ in which],
        [user for *_, user in which],
    )
    firsts = [0]
    for one in asked:
        firsts.append(firsts[-1] + len(one.reactions))
    for row in rows:
        place = row["place"] - 1
        present = row["present"][firsts[place] : firsts[place + 1]]
        found[place] = ArchivedMessage(row["archived_offset"], row["seq"], row["body"], present)
    return found
