"""Creating rooms in the database: what wins a race, what is taken for good."""

from __future__ import annotations

import trio

from storage.postgres.pool import Database
from storage.postgres.rooms import CreatedRoom, NewRoom, create_room


def direct(room: str) -> NewRoom:
    founders = (("ann", "member"), ("ben", "member"))
    return NewRoom(id=room, kind="direct", direct=("ann", "ben"), founders=founders)


async def create(database: Database, new: NewRoom) -> CreatedRoom:
    return await create_room(database, "p", new, create_users=True)


async def test_who_loses_the_race_finds_the_winners_room(database):
    made: list[CreatedRoom] = []

    async def run(number: int) -> None:
        made.append(await create(database, direct(f"room{number}")))

    async with trio.open_nursery() as nursery:
        for number in range(20):
            nursery.start_soon(run, number)
    assert sorted(room.outcome for room in made) == ["created"] + ["existing"] * 19
    assert len({(room.pk, room.id) for room in made}) == 1


async def test_a_deleted_room_frees_its_pair_and_external_id_but_not_its_id(database):
    first = await create(database, direct("r1"))
    await create(database, NewRoom(id="r2", kind="group", external_id="x"))
    assert (await create(database, direct("r3"))).id == "r1"
    assert (await create(database, NewRoom(id="r4", kind="group", external_id="x"))).id == "r2"
    await database.execute("UPDATE rooms SET deleted_at = now()")
    assert (await create(database, NewRoom(id="r1", kind="group"))).outcome == "id_taken"
    assert (await create(database, direct("r1"))).outcome == "id_taken"
    again = await create(database, direct("r5"))
    assert again.outcome == "created"
    assert again.pk != first.pk
    external = NewRoom(id="r6", kind="public", external_id="x")
    assert (await create(database, external)).outcome == "created"


async def test_a_missing_founder_makes_nothing(database):
    await database.execute("INSERT INTO users (project, id, deleted_at) VALUES ('p', 'x', now())")
    new = NewRoom(id="r", kind="group", founders=(("x", "owner"), ("new", "member")))
    made = await create(database, new)
    assert (made.outcome, made.missing) == ("missing", ["x"])
    assert await database.fetchval("SELECT count(*) FROM rooms") == 0


async def test_projects_do_not_meet(database):
    await create(database, NewRoom(id="r", kind="group", external_id="x"))
    other = NewRoom(id="r", kind="group", external_id="x")
    assert (await create_room(database, "q", other, create_users=True)).outcome == "created"
