"""A user's rooms by activity: the order is exact although members' rows lag behind their rooms."""

from __future__ import annotations

import random
from datetime import UTC, datetime
from typing import Any

from storage.postgres.archive import ACTIVITY_SPREAD_SECONDS
from storage.postgres.pool import Database
from storage.postgres.room_lists import count_rooms, list_active
from tests.storage.postgres.archiving import START_MS, archive, created, event
from tests.storage.postgres.archiving import make_room as make_room_now

SPREAD_MS = round(ACTIVITY_SPREAD_SECONDS * 1000)
_TRUTH = """
SELECT r.pk FROM rooms r JOIN members m ON m.room_pk = r.pk
WHERE m.user_id = 'alice' AND r.deleted_at IS NULL
ORDER BY greatest(r.last_message_at, r.created_at) DESC, r.pk DESC
"""
# What must hold between a member's row and its room for the list to find it.
_BROKEN = """
SELECT r.id, m.user_id, m.active_at, r.last_message_at
FROM rooms r JOIN members m ON m.room_pk = r.pk
CROSS JOIN LATERAL (SELECT greatest(r.last_message_at, r.created_at) AS at) AS truth
WHERE CASE WHEN r.deleted_at IS NOT NULL THEN m.active_at IS NOT NULL
           WHEN m.active_at = 'infinity' THEN r.active_at IS DISTINCT FROM 'infinity'
           ELSE m.active_at IS NULL OR m.active_at > truth.at
                OR truth.at > m.active_at + make_interval(secs => $1) END
"""
_MISCOUNTED = """
SELECT 'members of ' || r.id FROM rooms r
WHERE r.member_count <> (SELECT count(*) FROM members m WHERE m.room_pk = r.pk)
UNION ALL
SELECT 'rooms of ' || user_id FROM (
    SELECT m.user_id, count(*) AS rooms FROM members m JOIN rooms r ON r.pk = m.room_pk
    WHERE r.deleted_at IS NULL GROUP BY m.user_id
) AS found
FULL JOIN (SELECT user_id, rooms FROM room_counts WHERE rooms <> 0) AS kept USING (user_id)
WHERE found.rooms IS DISTINCT FROM kept.rooms
"""


BIRTH = datetime.fromtimestamp(START_MS / 1000, UTC)


async def make_room(database: Database, room: str = "general") -> int:
    """A room that is older than its messages."""
    return await make_room_now(database, room, created_at=BIRTH)


async def check(database: Database, sizes: list[tuple[int, int]]) -> None:
    """The list agrees with the truth for these (skip, limit); counts and rows are as they must."""
    assert await database.fetch(_BROKEN, ACTIVITY_SPREAD_SECONDS) == []
    assert await database.fetch(_MISCOUNTED) == []
    truth = [row["pk"] for row in await database.fetch(_TRUTH)]
    total = await count_rooms(database, "default", "alice")
    assert total == len(truth)
    for skip, limit in sizes:
        found = await list_active(database, "default", "alice", skip=skip, limit=limit, total=total)
        assert [room.pk for room in found] == truth[skip : skip + limit], (skip, limit)


async def test_every_page_is_in_the_order_of_the_newest_messages(database: Database):
    dice = random.Random(7)
    count = 40
    for number in range(count):
        await make_room(database, f"r{number}")
    offsets = dict.fromkeys(range(count), 0)
    sizes = [(skip, limit) for skip in range(count + 1) for limit in (1, 3, 50)]
    for step in range(12):
        batch: list[Any] = []
        for number in dice.sample(range(count), 12):
            # Offsets are milliseconds here: a few seconds on, so that rows follow now and then.
            offsets[number] += dice.choice((1, 500, 3000, SPREAD_MS, SPREAD_MS * 2))
            offset = offsets[number]
            name = f"r{number}"
            if dice.random() < 0.2:
                data = {"id": "x", "seq": 1, "content": "edited"}
                batch.append(event(offset, "message.edited", data, seq=0, room=name))
            else:
                batch.append(created(offset, offset, room=name, salt=number))
        await archive(database, batch)
        if step % 3 == 2:
            await check(database, sizes)


async def test_rooms_that_grow_big_are_looked_at_and_their_members_left_alone(database: Database):
    pks = [await make_room(database, f"r{number}") for number in range(6)]
    await archive(database, [created(n + 1, 1, room=f"r{n}", salt=n) for n in range(6)])
    for pk in pks[1:4]:
        await database.execute(
            "INSERT INTO members (room_pk, user_id, project) "
            "SELECT $1, 'user' || n, 'default' FROM generate_series(1, 250) n",
            pk,
        )
    sizes = [(skip, limit) for skip in range(7) for limit in (1, 2, 50)]
    await check(database, sizes)
    marks = "SELECT count(*) FROM members WHERE active_at = 'infinity'"
    assert await database.fetchval(marks) == 3 * 252
    before = await database.fetch("SELECT ctid, user_id FROM members WHERE room_pk = $1", pks[2])
    for offset in (SPREAD_MS * 3, SPREAD_MS * 9):
        await archive(database, [created(offset, offset, room="r2", salt=2, sender="user1")])
        await check(database, sizes)
    after = await database.fetch(
        "SELECT ctid, user_id FROM members WHERE room_pk = $1 AND user_id <> 'user1'", pks[2]
    )
    assert set(after) <= set(before)
    await database.execute("UPDATE rooms SET deleted_at = now() WHERE pk = $1", pks[2])
    await database.execute("DELETE FROM members WHERE room_pk = $1", pks[3])
    await check(database, sizes)


async def test_members_follow_their_room_once_in_a_while_only(database: Database):
    pk = await make_room(database)
    places = "SELECT ctid FROM members WHERE room_pk = $1 AND user_id = 'bob'"
    await archive(database, [created(1, 1)])
    first = await database.fetchval(places, pk)
    for offset in range(2, 50):
        await archive(database, [created(offset, offset)])
    assert await database.fetchval(places, pk) == first
    await archive(database, [created(SPREAD_MS + 60, 60)])
    assert await database.fetchval(places, pk) != first
    await check(database, [(0, 10)])
