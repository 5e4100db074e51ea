"""A big deployment, made inside PostgreSQL: one room of many messages, one user of many rooms.

Everything is as the archiver would have left it: numbers, watermarks, counts. The tables are
vacuumed, as autovacuum does it in a running deployment.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

HEAVY: Final = "heavy"
"""The user with many rooms; a reader of the big room too."""
BIG, CROWD, WIDE = "big", "crowd", "wide"
"""Rooms: of many messages; of many members; of one widely reacted message."""
START: Final = "timestamptz '2026-01-01T00:00:00Z'"


@dataclass(frozen=True, slots=True)
class Sizes:
    """How big; the room `crowd` has `members`, and so many users there are."""

    messages: int
    rooms: int
    members: int = 10_000
    marks: int = 2000


def statements(sizes: Sizes) -> list[str]:
    """What to run, one after the other."""
    last = f"{START} + {sizes.messages} * interval '1 second'"
    return [
        f"""
        INSERT INTO users (project, id, username, display_name, created_at)
        SELECT 'default', 'user' || n, 'name' || n, 'User ' || n, {START} + n * interval '1 second'
        FROM generate_series(1, {sizes.members}) n
        UNION ALL SELECT 'default', '{HEAVY}', '{HEAVY}', 'Heavy', {START}""",
        f"""
        INSERT INTO rooms (project, id, kind, created_at, epoch, archived_offset, seq,
                           last_message_at, active_at)
        VALUES ('default', '{BIG}', 'group', {START}, 'life', {sizes.messages}, {sizes.messages},
                {last}, {last}),
               ('default', '{CROWD}', 'group', {START}, 'life', 0, 0, NULL, NULL),
               ('default', '{WIDE}', 'group', {START}, 'life', 1, 1, {START}, {START})""",
        f"""
        INSERT INTO rooms (project, id, kind, name, created_at, epoch, archived_offset, seq,
                           last_message_at, active_at)
        SELECT 'default', 'room' || n, CASE WHEN n % 10 = 0 THEN 'public' ELSE 'group' END,
               'Room ' || n, {START}, 'life', 1, 1, at, at
        FROM generate_series(1, {sizes.rooms}) n
        CROSS JOIN LATERAL (
            SELECT {START} + (n * 7919 % {sizes.rooms}) * interval '5 seconds' AS at) AS active""",
        f"""
        INSERT INTO members (room_pk, user_id, project, role)
        SELECT r.pk, m.id, 'default', 'member' FROM rooms r
        CROSS JOIN LATERAL (VALUES ('{HEAVY}'), ('user' || (1 + r.pk % {sizes.members}))) AS m(id)
        WHERE r.id <> '{CROWD}'""",
        f"""
        INSERT INTO members (room_pk, user_id, project, role)
        SELECT r.pk, 'user' || n, 'default', 'member'
        FROM rooms r, generate_series(1, {sizes.members}) n WHERE r.id = '{CROWD}'""",
        f"""
        INSERT INTO messages (room_pk, seq, id, sender, kind, content, reply_to, created_at,
                              event_offset, last_offset)
        SELECT r.pk, n, gen_random_uuid(),
               CASE WHEN n % 2 = 0 THEN 'user1' WHEN n % 500 = 1 THEN 'user3'
                    ELSE 'user' || (4 + n % 50) END,
               CASE WHEN n % 100 = 0 THEN 'image' WHEN n % 10 = 7 THEN 'custom' ELSE 'text' END,
               'Message number ' || n || ' of a big room', CASE WHEN n % 300 = 0 THEN 5 END,
               {START} + n * interval '1 second', n, n
        FROM rooms r, generate_series(1, {sizes.messages}) n WHERE r.id = '{BIG}'""",
        """
        INSERT INTO messages (room_pk, seq, id, sender, content, created_at, event_offset,
                              last_offset)
        SELECT r.pk, 1, gen_random_uuid(), 'user1', 'The only one', r.last_message_at, 1, 1
        FROM rooms r WHERE r.seq = 1""",
        f"""
        INSERT INTO reactions (room_pk, seq, reaction, user_id, created_at)
        SELECT r.pk, 1, 'yes', 'user' || n, {START} + n * interval '1 second'
        FROM rooms r, generate_series(1, {sizes.members}) n WHERE r.id = '{WIDE}'""",
        f"""
        INSERT INTO reactions (room_pk, seq, reaction, user_id, created_at)
        SELECT r.pk, n, 'yes', 'user' || n % 10, {START}
        FROM rooms r, generate_series(1, {sizes.messages}, 10) n WHERE r.id = '{BIG}'""",
        f"""
        INSERT INTO favorites (room_pk, seq, user_id, project)
        SELECT r.pk, n, 'user' || n % 1000, 'default'
        FROM rooms r, generate_series(1, {sizes.messages}, 10) n WHERE r.id = '{BIG}'""",
        f"""
        INSERT INTO favorites (room_pk, seq, user_id, project)
        SELECT r.pk, 1, '{HEAVY}', 'default' FROM rooms r WHERE r.seq = 1
        ORDER BY r.pk LIMIT {sizes.marks}""",
        """
        SELECT count_messages(pk, 0, seq / 2048 - 1) FROM rooms WHERE seq >= 2048""",
        """
        UPDATE rooms SET counted_seq = seq / 2048 * 2048 WHERE seq >= 2048""",
        "VACUUM (ANALYZE) messages, rooms, members, users, reactions, favorites, message_counts",
        "VACUUM (ANALYZE) room_counts",
    ]


async def fill(connection: Any, sizes: Sizes) -> None:
    """Make it all, on a connection to a migrated database."""
    for statement in statements(sizes):
        await connection.execute(statement)
