"""Announcements: due ones by room and version, deleted when they have been made."""

import pytest

from storage.errors import StorageRefused
from storage.postgres.announcements import (
    delete_announcements,
    insert_announcement,
    list_announcements,
    take_due,
)
from storage.postgres.pool import Database


async def make_room(database: Database, room: str) -> int:
    return int(
        await database.fetchval(
            "INSERT INTO rooms (project, id) VALUES ('default', $1) RETURNING pk", room
        )
    )


async def announce(database: Database, room_pk: int, *versions: int) -> None:
    async def insert(connection):
        for version in versions:
            await insert_announcement(
                connection,
                room_pk=room_pk,
                version=version,
                event="member.added",
                sender=None if version % 2 else "alice",
                data=f'{{"user": "bob",  "version": {version}}}',
            )

    await database.transaction(insert)


async def test_a_room_is_listed_in_the_order_of_versions(database: Database):
    first, second = await make_room(database, "one"), await make_room(database, "two")
    await announce(database, first, 2, 1, 3)
    await announce(database, second, 1)
    listed = await list_announcements(database, "default", "one")
    assert [known.version for known in listed] == [1, 2, 3]
    assert listed[0].room == "default/one"
    assert listed[0].sender is None
    assert listed[1].sender == "alice"
    # Byte for byte what was stored: it goes to the wire as it is.
    assert listed[0].data == b'{"user": "bob",  "version": 1}'
    assert await list_announcements(database, "other", "one") == []


async def test_due_are_whole_rooms_and_the_oldest_first(database: Database):
    young, old = await make_room(database, "young"), await make_room(database, "old")
    await announce(database, young, 1)
    await announce(database, old, 1, 2)
    assert await take_due(database, 60, 10) == []
    await database.execute(
        "UPDATE announcements SET created_at = now() - make_interval(mins => 5 - version::int) "
        "WHERE room_pk = $1 AND version = 1",
        old,
    )
    # Version 2 is young, but must not stay behind version 1.
    due = await take_due(database, 60, 10)
    assert [(known.room, known.version) for known in due] == [
        ("default/old", 1),
        ("default/old", 2),
    ]
    assert [known.version for known in await take_due(database, 60, 1)] == [1]
    everything = await take_due(database, 0, 10)
    assert [known.room for known in everything] == ["default/old", "default/old", "default/young"]


async def test_deleting_is_by_id_and_repeatable(database: Database):
    pk = await make_room(database, "one")
    await announce(database, pk, 1, 2)
    listed = await list_announcements(database, "default", "one")
    await delete_announcements(database, [listed[0].id])
    await delete_announcements(database, [listed[0].id])
    await delete_announcements(database, [])
    assert [k.version for k in await list_announcements(database, "default", "one")] == [2]


async def test_a_version_is_announced_once(database: Database):
    pk = await make_room(database, "one")
    await announce(database, pk, 1)
    with pytest.raises(StorageRefused) as caught:
        await announce(database, pk, 1)
    assert caught.value.sqlstate == "23505"
