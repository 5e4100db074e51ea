"""Reads archived messages: one page, as JSON that PostgreSQL builds, with the archive's watermark.

One statement a page, so that rows and `rooms.archived_offset` come from the same snapshot: whoever
merges the room log into the page must know exactly which events the rows already hold. Nothing is
ever joined or decoded here; each message comes back as the bytes of its JSON object. Writing
messages is the archiver's work (`archive`), what lies above the watermark is the room log's.

Every selection walks one index: the primary key (room_pk, seq), messages_id (id, room_pk), or that
of its filter (`message_filters`).
Arguments common to all statements: $1 room_pk, $2 viewer or null, $3 whether deleted content is
shown, $4 further user ids whose names are wanted (null: no names at all), $5 users listed of a
reaction of the messages in $6, $6 $7 $8 parallel arrays (seq, reaction, user) whose presence is
asked. What the selection needs begins at $9.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from storage.postgres.access import STANDING, STANDING_FROM
from storage.postgres.message_filters import NO_FILTER, SHAPES, MessageFilter, conditions
from storage.postgres.message_json import MESSAGE_FIELDS
from storage.postgres.message_json import REACTION_USERS as REACTION_USERS
from storage.postgres.message_numbers import COUNTED_PAGE, COUNTED_TOTAL, counted_parts
from storage.postgres.pool import RowReader

SEQ_MAX: Final = 2**63 - 1

_BARE_PAGE: Final = """
WITH room AS (
    SELECT r.seq, r.counted_seq,{{standing}}
    FROM {{standing_from}}
    WHERE r.pk = $1
), {{parts}}page AS MATERIALIZED (
    {{page}}
), kinds AS (
    SELECT seq, reaction, count(*) AS count, bool_or(user_id = $2) AS mine,
           (array_agg(user_id ORDER BY created_at, user_id))
               [1:CASE WHEN seq = ANY($6::bigint[]) THEN $5::int ELSE 10 END] AS users
    FROM reactions
    WHERE room_pk = $1 AND {{among}}
    GROUP BY seq, reaction
), reacted AS (
    SELECT seq, json_object_agg(reaction, CASE WHEN $2::text IS NULL
               THEN json_build_object('count', count, 'users', users)
               ELSE json_build_object('count', count, 'users', users, 'mine', mine)
               END ORDER BY reaction) AS reactions
    FROM kinds GROUP BY seq
), bodies AS (
    SELECT page.seq, convert_to(row_to_json(body)::text, 'UTF8') AS body
    FROM page
    CROSS JOIN room
    LEFT JOIN reacted ON reacted.seq = page.seq
    CROSS JOIN LATERAL (SELECT page.deleted_at IS NULL OR $3::boolean AS shown) AS flag
    CROSS JOIN LATERAL (
        SELECT {{fields}}
    ) AS body
), rows AS (
    SELECT coalesce(array_agg(seq ORDER BY seq), '{}') AS seqs,
           coalesce(array_agg(body ORDER BY seq), '{}') AS bodies
    FROM bodies
)
SELECT room.*, rows.seqs, rows.bodies,
       (SELECT min(seq) FROM messages WHERE room_pk = $1{{filter}}) AS oldest,
       (SELECT max(seq) FROM messages WHERE room_pk = $1{{filter}}) AS newest,
       {{total}} AS total,
       ARRAY(SELECT EXISTS (SELECT FROM reactions r WHERE r.room_pk = $1 AND r.seq = asked.seq
                            AND r.reaction = asked.reaction AND r.user_id = asked.user_id)
             FROM unnest($6::bigint[], $7::text[], $8::text[]) WITH ORDINALITY
                  AS asked(seq, reaction, user_id, place)
             ORDER BY place) AS present,
       CASE WHEN $4::text[] IS NOT NULL THEN (
           SELECT convert_to(json_object_agg(u.id, json_build_object(
                      'display_name', u.display_name, 'avatar_url', u.avatar_url)
                      ORDER BY u.id)::text, 'UTF8')
           FROM users u
           WHERE u.project = room.project AND u.deleted_at IS NULL
             AND u.id = ANY($4::text[] || ARRAY(SELECT sender FROM page WHERE sender IS NOT NULL))
       ) END AS users
FROM room CROSS JOIN rows
""".replace("{{fields}}", MESSAGE_FIELDS)
_PAGE: Final = _BARE_PAGE.replace("{{standing}}", STANDING.replace("{user}", "$2")).replace(
    "{{standing_from}}", STANDING_FROM.replace("{user}", "$2")
)

_COUNT: Final = "(SELECT count(*) FROM messages WHERE room_pk = $1{{filter}})"
_NO_COUNT: Final = "NULL::bigint"

_BEFORE: Final = """
    SELECT * FROM messages WHERE room_pk = $1{{filter}} AND seq < $9 ORDER BY seq DESC LIMIT $10
"""
_AFTER: Final = """
    SELECT * FROM messages WHERE room_pk = $1{{filter}} AND seq > $9 ORDER BY seq LIMIT $10
"""
_AROUND: Final = """
    (SELECT * FROM messages WHERE room_pk = $1{{filter}} AND seq < $9 ORDER BY seq DESC LIMIT $10)
    UNION ALL
    (SELECT * FROM messages WHERE room_pk = $1{{filter}} AND seq >= $9 ORDER BY seq LIMIT $11)
"""
# Where nothing is counted (`message_numbers`, whose arguments these are): for replies. The inner
# select finds the newest seq of the page in the index alone.
_SKIP: Final = """
    SELECT * FROM messages
    WHERE room_pk = $1{{filter}} AND seq <= (
        SELECT seq FROM messages WHERE room_pk = $1{{filter}} ORDER BY seq DESC
        OFFSET (SELECT greatest(0, $9::bigint - count(*)) FROM unnest($11::bigint[]) AS created
                WHERE created > (SELECT archived_offset FROM room))
        LIMIT 1)
    ORDER BY seq DESC LIMIT $10
"""
_SEQ: Final = "SELECT * FROM messages WHERE room_pk = $1 AND seq = $9"
_ID: Final = "SELECT * FROM messages WHERE id = $9::uuid AND room_pk = $1"
_SOME: Final = "SELECT * FROM messages WHERE room_pk = $1 AND seq = ANY($9::bigint[])"
# Reactions of a page of neighbours are one range; of scattered messages that would be the room.
_NEIGHBOURS: Final = "seq BETWEEN (SELECT min(seq) FROM page) AND (SELECT max(seq) FROM page)"
_SCATTERED: Final = "seq = ANY($9::bigint[])"


def _statement(
    page: str,
    total: str = _NO_COUNT,
    filtered: str = "",
    among: str = _NEIGHBOURS,
    parts: str = "",
) -> str:
    whole = _PAGE.replace("{{page}}", page.strip()).replace("{{total}}", total)
    whole = whole.replace("{{parts}}", parts)
    return whole.replace("{{among}}", among).replace("{{filter}}", filtered)


# The page, the total, and how many arguments the selection takes before those of the filter.
_FILTERED: Final = {
    "before": (_BEFORE, _NO_COUNT, 2),
    "after": (_AFTER, _NO_COUNT, 2),
    "around": (_AROUND, _NO_COUNT, 3),
}


def _skip_statement(shape: str) -> str:
    filtered = conditions(shape, 12)
    parts = counted_parts(shape, 12)
    if parts is None:
        return _statement(_SKIP, _COUNT, filtered)
    return _statement(COUNTED_PAGE, COUNTED_TOTAL, filtered, parts=parts)


STATEMENTS: Final = {
    "seq": _statement(_SEQ),
    "id": _statement(_ID),
    "some": _statement(_SOME, among=_SCATTERED),
    **{
        f"{name} {shape}".rstrip(): _statement(page, total, conditions(shape, 9 + count))
        for name, (page, total, count) in _FILTERED.items()
        for shape in SHAPES
    },
    **{f"skip {shape}".rstrip(): _skip_statement(shape) for shape in SHAPES},
}
"""By selection and shape of the filter; public for the test that looks at their plans."""


@dataclass(frozen=True, slots=True)
class Selection:
    """Which messages of a room: the name of a statement and the arguments it takes from $9 on."""

    name: str
    arguments: tuple[object, ...]

    def among(self, chosen: MessageFilter) -> Selection:
        """The same among the messages of a filter (not for one message by seq or id)."""
        if chosen == NO_FILTER:
            return self
        return Selection(f"{self.name} {chosen.shape}", (*self.arguments, *chosen.arguments))


def select_before(seq: int, limit: int) -> Selection:
    """The newest `limit` messages below `seq`."""
    return Selection("before", (seq, limit))


def select_after(seq: int, limit: int) -> Selection:
    """The oldest `limit` messages above `seq`."""
    return Selection("after", (seq, limit))


def select_around(seq: int, older: int, newer: int) -> Selection:
    """`older` messages below `seq` and `newer` from `seq` on."""
    return Selection("around", (seq, older, newer))


def select_skip(skip: int, limit: int, created_offsets: Sequence[int]) -> Selection:
    """`limit` messages after skipping the `skip` newest, counted with the unarchived ones whose
    events have the given offsets; asks for the number of messages too."""
    return Selection("skip", (skip, limit, created_offsets))


def select_seq(seq: int) -> Selection:
    """The message with this seq."""
    return Selection("seq", (seq,))


def select_id(message_id: str) -> Selection:
    """The message with this id (text of a UUID), if it is in the room."""
    return Selection("id", (message_id,))


def select_some(seqs: Sequence[int]) -> Selection:
    """The messages with these seqs, wherever in the room they are."""
    return Selection("some", (seqs,))


@dataclass(frozen=True, slots=True)
class ReactionsAsked:
    """Parallel lists: is there this reaction of this user on this message?"""

    seqs: Sequence[int] = ()
    reactions: Sequence[str] = ()
    users: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class ArchivedPage:
    """What one snapshot of PostgreSQL holds of a page; `seqs` ascending, parallel to `bodies`."""

    archived_offset: int
    seq: int
    seqs: list[int]
    bodies: list[bytes]
    oldest: int | None = None
    newest: int | None = None
    total: int | None = None
    present: Sequence[bool] = ()
    users: bytes | None = None
    standing: Any = None
    """What the viewer is in the room, as a row of `access.read_access`."""

    def is_of(self, project: str, room: str) -> bool:
        """Whether it is of this room."""
        row = self.standing
        return row is not None and (row["project"], row["id"]) == (project, room)


async def read_page(
    reader: RowReader,
    room_pk: int,
    selection: Selection,
    *,
    viewer: str | None = None,
    reveal: bool = False,
    names_of: Sequence[str] | None = None,
    asked: ReactionsAsked | None = None,
) -> ArchivedPage | None:
    """The selected archived messages and the watermark they stand at; None without such a room.

    `viewer` adds `mine` to reactions, `reveal` shows what deleted messages held. For the messages
    in `asked` more users are listed with a reaction than REACTION_USERS: as many more as are asked,
    so that some can be taken away.
    """
    question = asked or ReactionsAsked()
    row: Any = await reader.fetchrow(
        STATEMENTS[selection.name],
        room_pk,
        viewer,
        reveal,
        names_of,
        REACTION_USERS + len(question.seqs),
        question.seqs,
        question.reactions,
        question.users,
        *selection.arguments,
    )
    if row is None:
        return None
    users = row["users"]
    return ArchivedPage(
        archived_offset=row["archived_offset"],
        seq=row["seq"],
        seqs=row["seqs"],
        bodies=row["bodies"],
        oldest=row["oldest"],
        newest=row["newest"],
        total=row["total"],
        present=row["present"],
        users=users if users is not None or names_of is None else b"{}",
        standing=row,
    )
