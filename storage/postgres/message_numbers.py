"""Totals of the messages of a room, and the page behind so many of them: exact, and quick anywhere.

A room's seqs are cut into parts: the counted blocks of `message_counts` one by one, what lies
above them (not counted yet, or cut by a bound of time), and what lies below. The parts' sizes add
up to the total, and tell in which part the page begins; only that part and the two at the ends are
walked. The pieces of SQL here go into the statement of a page (`messages`), whose arguments they
share: $1 room_pk, $9 how many to skip, $11 the offsets of unarchived messages (those above the
watermark of this very snapshot come before the archived ones, so that many fewer archived ones are
skipped).
"""

from __future__ import annotations

from typing import Final

from storage.postgres.archive_counts import BLOCK
from storage.postgres.message_filters import CLOCK_SLACK, PLACES

COUNTED_SHAPES: Final = frozenset({"", "text", "kind", "sender", "sender text", "sender kind"})
"""Shapes of filters that `message_counts` knows, each also with bounds of time."""

# Every seq lies in one part: those from `first` to `last` are whole blocks.
_SPAN: Final = """span AS MATERIALIZED (
    SELECT least(first, last + 1) * {{block}} AS low, (last + 1) * {{block}} AS high,
           least(first, last + 1) AS first, last
    FROM (SELECT {{first}} AS first, greatest(-1, {{last}}) AS last FROM room) AS blocks
), """
_ALL: Final = ("0", "counted_seq / {{block}} - 1")
# Blocks that a clock that was set back can not have upset: see `message_filters`.
_BETWEEN: Final = (
    "(coalesce(message_seq_at($1, $a), 0) + {{slack}} + {{block}} - 1) / {{block}}",
    """least(counted_seq, greatest(0, coalesce(message_seq_at($1, $b), 0) - {{slack}}))
       / {{block}} - 1""",
)
_PARTS: Final = """ranked AS MATERIALIZED (
    SELECT low, high, messages, sum(messages) OVER (ORDER BY high DESC) - messages AS above
    FROM (
        SELECT span.high AS low, 9223372036854775807 AS high,
               (SELECT count(*) FROM messages
                WHERE room_pk = $1{{filter}} AND seq >= (SELECT high FROM span)) AS messages
        FROM span
        UNION ALL
        SELECT block * {{block}}, block * {{block}} + {{block}} - 1, {{messages}}
        FROM message_counts
        WHERE room_pk = $1 AND sender = {{sender}}{{kind}}
          AND block BETWEEN (SELECT first FROM span) AND (SELECT last FROM span)
        GROUP BY block
        UNION ALL
        SELECT 0, span.low - 1,
               (SELECT count(*) FROM messages
                WHERE room_pk = $1{{filter}} AND seq < (SELECT low FROM span))
        FROM span
    ) AS parts
), start AS MATERIALIZED (
    SELECT low, high, (skipped - above)::bigint AS skipped
    FROM ranked CROSS JOIN (
        SELECT greatest(0, $9::bigint - count(*)) AS skipped FROM unnest($11::bigint[]) AS created
        WHERE created > (SELECT archived_offset FROM room)
    ) AS wanted
    WHERE above <= skipped AND skipped < above + messages
), """

COUNTED_PAGE: Final = """
    SELECT * FROM messages
    WHERE room_pk = $1{{filter}} AND seq <= (
        SELECT seq FROM messages
        WHERE room_pk = $1{{filter}}
          AND seq BETWEEN (SELECT low FROM start) AND (SELECT high FROM start)
        ORDER BY seq DESC OFFSET (SELECT skipped FROM start) LIMIT 1)
    ORDER BY seq DESC LIMIT $10
"""
COUNTED_TOTAL: Final = "(SELECT sum(messages)::bigint FROM ranked)"


def counted_parts(shape: str, first: int) -> str | None:
    """SQL to put before the page's; None if the shape has no counts. The filter's arguments begin
    at number `first`."""
    parts = shape.split()
    if " ".join(part for part in parts if part != "time") not in COUNTED_SHAPES:
        return None
    numbers = {}
    for part in parts:
        numbers[part] = first
        first += PLACES[part]
    low, high = _BETWEEN if "time" in parts else _ALL
    sender = f"${numbers['sender']}" if "sender" in parts else "''"
    kind, messages = " AND kind = ''", "sum(messages)"
    if "kind" in parts:
        kind = f" AND kind = ${numbers['kind']}"
    elif "text" in parts:
        # What the other kinds leave of all.
        kind, messages = "", "sum(CASE kind WHEN '' THEN messages ELSE -messages END)"
    time = numbers.get("time", 0)
    pieces = {
        "{{first}}": low,
        "{{last}}": high,
        "{{sender}}": sender,
        "{{kind}}": kind,
        "{{messages}}": messages,
        "{{block}}": str(BLOCK),
        "{{slack}}": str(CLOCK_SLACK),
        "$a": f"${time}",
        "$b": f"${time + 1}",
    }
    found = _SPAN + _PARTS
    for name, piece in pieces.items():
        found = found.replace(name, piece)
    return found
