"""Putting back what was put aside: in its place, once, and never in the place of another."""

import pytest

from storage.postgres.dead_letters import LetterStays, list_letters, put_back
from storage.postgres.pool import Database
from tests.storage.postgres.archiving import archive, created, event, make_room, read_messages

REFUSE = "ALTER TABLE messages ADD CONSTRAINT no_bad CHECK (content <> 'bad')"
TAKE = "ALTER TABLE messages DROP CONSTRAINT no_bad"


async def letter_ids(database: Database) -> list[int]:
    return [letter.id for letter in await list_letters(database, 0, 100)]


async def contents(database: Database) -> list[tuple[int, str | None]]:
    return [(row["seq"], row.get("content")) for row in await read_messages(database)]


async def test_a_message_takes_the_place_of_its_placeholder_once(database: Database):
    await make_room(database)
    await database.execute(REFUSE)
    await archive(database, [created(1, 1), created(2, 2, "bad", reply_to=1), created(3, 3)])
    (letter,) = await letter_ids(database)
    with pytest.raises(LetterStays, match="no_bad"):
        await put_back(database, letter)
    assert await contents(database) == [(1, "message 1"), (2, None), (3, "message 3")]
    await database.execute(TAKE)
    assert await put_back(database, letter)
    rows = await read_messages(database)
    assert [row.get("content") for row in rows] == ["message 1", "bad", "message 3"]
    assert [row["reply_count"] for row in rows] == [1, 0, 0]
    assert rows[1].get("deleted_at") is None
    assert not await put_back(database, letter)
    assert await letter_ids(database) == []
    assert await read_messages(database) == rows


async def test_totals_are_right_afterwards(database: Database):
    """A block that has been counted with the placeholder is counted anew."""
    pk = await make_room(database)
    await database.execute(REFUSE)
    await archive(database, [created(1, 1), created(2, 2, "bad"), created(3, 2048)])
    count = "SELECT messages FROM message_counts WHERE room_pk = $1 AND sender = $2 AND kind = ''"
    assert await database.fetchval(count, pk, "alice") == 1
    await database.execute(TAKE)
    (letter,) = await letter_ids(database)
    await put_back(database, letter)
    assert await database.fetchval(count, pk, "alice") == 2


async def test_an_event_of_a_lost_life(database: Database):
    """Only a seq that is nobody's and will be nobody's: it may have been given again."""
    await make_room(database, epoch="life2", base_offset=10, base_seq=8)
    lost = [created(11, 9, "lost", epoch="life1", salt=1), created(12, 10, "far", epoch="life1")]
    await archive(database, lost)
    first, second = await letter_ids(database)
    for letter in (first, second):
        with pytest.raises(LetterStays, match="not given yet"):
            await put_back(database, letter)
    await archive(database, [created(11, 9, "rightful", epoch="life2")])
    with pytest.raises(LetterStays, match="seq 9 belongs to message"):
        await put_back(database, first)
    # A later life begins above it, as after a fence whose floors were reported.
    await database.execute("UPDATE rooms SET epoch = 'life3', base_seq = 10, base_offset = 12")
    assert await put_back(database, second)
    assert await contents(database) == [(9, "rightful"), (10, "far")]
    assert await letter_ids(database) == [first]


async def test_edits_and_deletions_are_applied_unless_newer_ones_are(database: Database):
    await make_room(database)
    await archive(database, [created(1, 1), created(2, 2)])
    late = [
        event(3, "message.edited", {"seq": 1, "content": "edited"}, seq=2, epoch="lost"),
        event(4, "message.deleted", {"seq": 2, "by": "bob"}, seq=2, epoch="lost"),
        event(5, "reaction.added", {"seq": 1, "user": "bob", "reaction": "x"}, seq=2, epoch="lost"),
    ]
    await archive(database, late)
    edit, deletion, reaction = await letter_ids(database)
    assert await put_back(database, edit)
    assert await put_back(database, deletion)
    with pytest.raises(LetterStays, match="undone"):
        await put_back(database, reaction)
    rows = await read_messages(database)
    assert rows[0]["content"] == "edited"
    assert rows[1]["deleted_by"] == "bob"


async def test_what_has_no_room_or_can_not_be_read_stays(database: Database):
    await make_room(database)
    await archive(database, [created(1, 1, room="unknown"), created(1, 1, kind=5)])
    await database.execute("UPDATE dead_letters SET entry = 'x' WHERE room = 'default/general'")
    for letter, reason in zip(await letter_ids(database), ("no such room", "read"), strict=True):
        with pytest.raises(LetterStays, match=reason):
            await put_back(database, letter)
    assert len(await letter_ids(database)) == 2
