"""Batches of events in PostgreSQL: what is taken, what is skipped, what is put aside."""

import json
from datetime import UTC, datetime

import pytest

from storage.errors import StorageRefused, StorageUnavailable
from storage.postgres.archive import lock_partition
from storage.postgres.pool import Database
from tests.storage.postgres.archiving import (
    START_MS,
    archive,
    archive_cut,
    created,
    event,
    make_room,
    message_id,
    read_messages,
    read_tables,
)


def at(offset: int) -> datetime:
    return datetime.fromtimestamp((START_MS + offset) / 1000, UTC)


async def test_a_message_arrives_with_everything_it_had(database: Database):
    pk = await make_room(database)
    full = created(
        2, 1, "hello", kind="image", sender="bob", metadata={"a": [1, None]},
        attachments=[{"url": "https://x/y", "size": 1}], mentions=["alice", "b|c"],
        forwarded_from={"sender": "carol", "created_at": "2026-01-02T03:04:05.678Z"},
        client_id="c-1",
    )  # fmt: skip
    result = await archive(database, [event(1, "room.updated", {}, seq=0), full])
    assert (result.accepted, result.repeated, result.dead, result.gaps) == (2, 0, [], [])
    assert result.rooms == [("default/general", 2)]
    (row,) = await read_messages(database)
    assert str(row.pop("id")) == message_id(1)
    assert json.loads(row.pop("metadata")) == {"a": [1, None]}
    assert json.loads(row.pop("attachments")) == [{"url": "https://x/y", "size": 1}]
    assert json.loads(row.pop("forwarded_from"))["sender"] == "carol"
    assert row == {
        "room_pk": pk, "seq": 1, "sender": "bob", "kind": "image", "content": "hello",
        "mentions": ["alice", "b|c"], "reply_count": 0, "client_id": "c-1", "created_at": at(2),
        "event_offset": 2, "last_offset": 2,
    }  # fmt: skip
    room = await database.fetchrow("SELECT archived_offset, seq, last_message_at FROM rooms")
    assert tuple(room or ()) == (2, 1, at(2))


async def test_a_batch_again_changes_nothing(database: Database):
    await make_room(database)
    batch = [created(1, 1), created(2, 2, reply_to=1), created(3, 3, sender=None)]
    await archive(database, batch)
    before = await read_tables(database)
    result = await archive(database, batch)
    assert (result.accepted, result.repeated) == (0, 3)
    assert result.rooms == [("default/general", 3)]
    assert await read_tables(database) == before


async def test_publishing_moves_the_senders_read_mark_and_no_other(database: Database):
    await make_room(database)
    await archive(database, [created(1, 1), created(2, 2), created(3, 3, sender="carol")])
    await archive(database, [created(4, 4, sender=None)])
    rows = await database.fetch("SELECT user_id, read_seq, delivered_seq FROM members ORDER BY 1")
    assert [tuple(row) for row in rows] == [("alice", 2, 2), ("bob", 0, 0)]


async def test_replies_are_counted_across_batches(database: Database):
    await make_room(database)
    await archive(database, [created(1, 1), created(2, 2, reply_to=1), created(3, 3, reply_to=1)])
    await archive(database, [created(4, 4, reply_to=1), created(5, 5, reply_to=4)])
    counts = await database.fetch("SELECT reply_count FROM messages ORDER BY seq")
    assert [row["reply_count"] for row in counts] == [3, 0, 0, 1, 0]


@pytest.mark.parametrize("cuts", [(), (1,), (2,), (3,), (1, 2, 3)])
async def test_edits_and_the_deletion_in_one_batch_or_several(database: Database, cuts):
    await make_room(database)
    events = [
        created(1, 1, "first", metadata={"a": 1}),
        event(2, "message.edited", {"seq": 1, "content": "second", "by": "alice"}, seq=1),
        event(3, "message.edited", {"seq": 1, "metadata": {"b": 2}, "by": "alice"}, seq=1),
        event(4, "message.deleted", {"seq": 1, "by": "mod"}, seq=1, sender="mod"),
        event(5, "message.edited", {"seq": 1, "content": "back?", "by": "alice"}, seq=1),
        event(6, "message.deleted", {"seq": 1, "by": None}, seq=1, sender=None),
    ]
    await archive_cut(database, events, cuts)
    (row,) = await read_messages(database)
    # The content stays; whoever reads it decides who may see it.
    assert row["content"] == "second"
    assert json.loads(row["metadata"]) == {"b": 2}
    assert row["edited_at"] == at(3)
    assert (row["deleted_at"], row["deleted_by"]) == (at(4), "mod")
    assert row["last_offset"] == 4


async def test_an_edit_can_empty_what_was_there(database: Database):
    await make_room(database)
    await archive(database, [created(1, 1, "x", attachments=[{"url": "https://x"}])])
    data: dict[str, object] = {
        "seq": 1, "content": None, "attachments": [], "metadata": {"a": 1},
    }  # fmt: skip
    await archive(database, [event(2, "message.edited", data, seq=1)])
    (row,) = await read_messages(database)
    assert "content" not in row
    assert "attachments" not in row
    assert json.loads(row["metadata"]) == {"a": 1}


def reaction(offset: int, name: str, user: str = "bob", seq: int = 1, kind: str = "👍"):
    data = {"message_id": message_id(seq), "seq": seq, "user": user, "reaction": kind}
    return event(offset, f"reaction.{name}", data, seq=1, sender=user)


async def read_reactions(database: Database) -> list[tuple[object, ...]]:
    rows = await database.fetch(
        "SELECT seq, reaction, user_id, created_at FROM reactions ORDER BY 1, 2, 3"
    )
    return [tuple(row) for row in rows]


@pytest.mark.parametrize("cuts", [(), (1,), (2,), (3,), (4,), (1, 2, 3, 4, 5)])
async def test_reactions_are_a_set(database: Database, cuts):
    await make_room(database)
    events = [
        created(1, 1),
        reaction(2, "added"),
        reaction(3, "added", "carol"),
        reaction(4, "removed"),
        reaction(5, "added", kind="❤"),
        reaction(6, "added"),
        reaction(7, "removed", "carol"),
        reaction(8, "added"),
    ]
    await archive_cut(database, events, cuts)
    assert await read_reactions(database) == [(1, "❤", "bob", at(5)), (1, "👍", "bob", at(6))]


@pytest.mark.parametrize("cuts", [(), (2,), (3,), (1, 2, 3)])
async def test_a_deleted_message_takes_no_reactions(database: Database, cuts):
    await make_room(database)
    events = [
        created(1, 1),
        reaction(2, "added"),
        event(3, "message.deleted", {"seq": 1, "by": None}, seq=1),
        reaction(4, "added", "carol"),
        reaction(5, "removed"),
    ]
    await archive_cut(database, events, cuts)
    assert await read_reactions(database) == [(1, "👍", "bob", at(2))]


async def test_an_event_of_an_ended_life_is_put_aside(database: Database):
    """HAZARDS 13: the batch was read before the failover and is written after the new seed."""
    await make_room(database, epoch="life2", base_offset=10, base_seq=8, archived_offset=9, seq=7)
    result = await archive(
        database,
        [
            created(10, 8, epoch="life1"),
            created(11, 9, epoch="life1", content="lost", salt=1),
            created(11, 9, epoch="life2", content="rightful"),
        ],
    )
    assert result.accepted == 2
    assert [(letter.reason, letter.incoming.entry.offset) for letter in result.dead] == [
        ("late_epoch", 11)
    ]
    assert [row["content"] for row in await read_messages(database)] == ["message 8", "rightful"]
    dead = await database.fetchrow("SELECT * FROM dead_letters")
    assert dead is not None
    assert dead["entry"] == result.dead[0].incoming.raw
    assert (dead["room"], dead["epoch"], dead["event_offset"], dead["seq"]) == (
        "default/general", "life1", 11, 9,
    )  # fmt: skip


async def test_events_of_an_earlier_life_below_the_base_are_taken_once(database: Database):
    """After a fence that lost nothing: a batch is repeated although its epoch is not the room's."""
    await make_room(database)
    batch = [
        created(1, 1),
        created(2, 2, reply_to=1),
        event(3, "message.edited", {"seq": 1, "content": "new"}, seq=2),
    ]
    await archive(database, batch[:2])
    await database.execute("UPDATE rooms SET epoch = 'life2', base_offset = 3, base_seq = 2")
    result = await archive(database, [*batch, created(4, 3, epoch="life2")])
    assert (result.accepted, result.dead, result.gaps) == (4, [], [])
    rows = await read_messages(database)
    assert [(row["content"], row["reply_count"]) for row in rows] == [
        ("new", 1), ("message 2", 0), ("message 3", 0),
    ]  # fmt: skip


async def test_a_seq_that_belongs_to_another_message_is_put_aside(database: Database):
    await make_room(database)
    await archive(database, [created(1, 1), created(2, 2)])
    result = await archive(database, [created(3, 2, "thief", salt=1), created(4, 3)])
    assert [letter.incoming.entry.offset for letter in result.dead] == [3]
    assert "seq 2 belongs to" in result.dead[0].reason
    assert [row["content"] for row in await read_messages(database)] == [
        "message 1", "message 2", "message 3",
    ]  # fmt: skip
    assert result.rooms == [("default/general", 4)]


async def test_rooms_nobody_knows_are_put_aside(database: Database):
    await make_room(database, "known")
    strangers = [created(1, 1, room="unknown"), created(1, 1, room="n\0l")]
    result = await archive(database, [*strangers, created(1, 1, room="known")])
    assert [letter.reason for letter in result.dead] == ["unknown_room", "unknown_room"]
    assert result.rooms == [("default/known", 1)]
    assert await database.fetchval("SELECT count(*) FROM dead_letters") == 2
    again = await archive(database, strangers)
    assert len(again.dead) == 2
    assert await database.fetchval("SELECT count(*) FROM dead_letters") == 2


async def test_missing_events_are_reported(database: Database):
    await make_room(database)
    result = await archive(database, [created(1, 1), created(4, 2)])
    assert result.gaps == [("default/general", 2, 4)]
    assert result.rooms == [("default/general", 4)]


@pytest.mark.parametrize(
    "poison",
    [
        {"content": "nul \0 inside"},
        {"mentions": ["ok", "\0"]},
        {"client_id": "\0"},
        {"id": "not an id"},
        {"reply_to": 2**80},
        {"kind": 5},
    ],
    ids=lambda poison: next(iter(poison)),
)
async def test_a_row_that_postgres_refuses_is_put_aside_alone(database: Database, poison):
    """HAZARDS 23, first half."""
    await make_room(database)
    batch = [created(n, n, reply_to=1 if n == 10 else None) for n in range(1, 11)]
    batch[4] = created(5, 5, **poison)
    result = await archive(database, batch)
    assert [letter.incoming.entry.offset for letter in result.dead] == [5]
    rows = await read_messages(database)
    assert [row["seq"] for row in rows] == list(range(1, 11))
    stand_in = rows[4]
    assert (stand_in["kind"], stand_in["deleted_at"], stand_in["created_at"]) == (
        "custom", at(5), at(5),
    )  # fmt: skip
    assert "content" not in stand_in
    assert rows[0]["reply_count"] == 1
    assert result.rooms == [("default/general", 10)]
    assert await database.fetchval("SELECT count(*) FROM dead_letters") == 1
    assert await database.fetchval("SELECT read_seq FROM members WHERE user_id = 'alice'") == 10


async def test_who_wrote_what_is_refused_has_read_it_all_the_same(database: Database):
    """Redis has told them so: a mark that is less later would have gone back."""
    await make_room(database)
    result = await archive(database, [created(1, 1), created(2, 2, content="\0")])
    assert [letter.incoming.entry.offset for letter in result.dead] == [2]
    assert await database.fetchval("SELECT read_seq FROM members WHERE user_id = 'alice'") == 2


async def test_a_sender_that_can_not_be_stored_stops_no_batch(database: Database):
    await make_room(database)
    result = await archive(database, [created(1, 1), created(2, 2, sender="a\0"), created(3, 3)])
    assert [letter.incoming.entry.offset for letter in result.dead] == [2]
    assert result.rooms == [("default/general", 3)]


async def test_refused_edits_and_reactions_are_put_aside_alone(database: Database):
    await make_room(database)
    events = [
        created(1, 1), created(2, 2),
        event(3, "message.edited", {"seq": 1, "content": "fine"}, seq=2),
        event(4, "message.edited", {"seq": 2, "content": "\0"}, seq=2),
        reaction(5, "added"), reaction(6, "added", "\0"), reaction(7, "added", "carol"),
        event(8, "message.edited", b"no json", seq=2),
    ]  # fmt: skip
    result = await archive(database, events)
    assert sorted(letter.incoming.entry.offset for letter in result.dead) == [4, 6, 8]
    assert [row["content"] for row in await read_messages(database)] == ["fine", "message 2"]
    assert [row[2] for row in await read_reactions(database)] == ["bob", "carol"]
    assert result.rooms == [("default/general", 8)]


async def test_a_missing_table_puts_nothing_aside(database: Database):
    """HAZARDS 23, second half: not the rows are at fault."""
    await make_room(database)
    batch = [created(n, n, "\0" if n == 2 else None) for n in range(1, 6)]
    await database.execute("ALTER TABLE messages RENAME TO hidden")
    for _ in range(2):
        with pytest.raises((StorageRefused, StorageUnavailable)):
            await archive(database, batch)
    assert await database.fetchval("SELECT count(*) FROM dead_letters") == 0
    await database.execute("ALTER TABLE hidden RENAME TO messages")
    result = await archive(database, batch)
    assert len(result.dead) == 1
    assert [row["seq"] for row in await read_messages(database)] == [1, 2, 3, 4, 5]


async def test_a_partition_has_one_writer(database: Database):
    async with database.open_transaction() as first, database.open_transaction() as second:
        assert await first.run(lambda c: lock_partition(c, 3))
        assert not await second.run(lambda c: lock_partition(c, 3))
        assert await second.run(lambda c: lock_partition(c, 4))
    async with database.open_transaction() as third:
        assert await third.run(lambda c: lock_partition(c, 3))


async def test_many_rooms_in_one_batch(database: Database):
    for number in range(30):
        await make_room(database, f"room{number}")
    batch = [
        created(offset, offset, room=f"room{number}", salt=number)
        for offset in range(1, 6)
        for number in range(30)
    ]
    result = await archive(database, batch)
    assert result.accepted == 150
    assert dict(result.rooms) == {f"default/room{number}": 5 for number in range(30)}
    assert await database.fetchval("SELECT count(*) FROM messages") == 150
