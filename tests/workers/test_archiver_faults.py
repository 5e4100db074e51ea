"""Archivers that die at every point, stop in the middle, and get in each other's way."""

import pytest
import trio

from storage.errors import StorageUnavailable
from storage.postgres.pool import Database, open_database
from tests.support.processes import Processes
from tests.support.waiting import wait_until
from tests.workers.archiver_parts import (
    Died,
    Fuse,
    FusedDatabase,
    FusedStore,
    System,
    build_archiver,
    flush_everything,
    open_system,
)

# Each flush of the story below takes fewer steps than this.
STEPS_MAX = 60


@pytest.fixture
async def system(redis_url: str, database_url: str):
    async with open_system(redis_url, database_url, room_partitions=1) as opened:
        yield opened


async def tell_story(system: System, room: str) -> str:
    """Every kind of event, with one that PostgreSQL refuses in the middle."""
    key = await system.create_room(room)
    await system.publish(key, "one")
    await system.publish(key, "two", reply_to=1)
    await system.append(key, "message.edited", {"seq": 1, "content": "one!", "by": "alice"})
    await system.append(key, "reaction.added", {"seq": 1, "user": "bob", "reaction": "+1"})
    await system.publish(key, "nul \0")
    await system.append(key, "reaction.removed", {"seq": 1, "user": "bob", "reaction": "+1"})
    await system.append(key, "reaction.added", {"seq": 2, "user": "bob", "reaction": "+1"})
    await system.append(key, "message.deleted", {"seq": 2, "by": "alice"})
    await system.publish(key, "three", reply_to=1)
    return key


async def read_story(database: Database, room: str) -> list[tuple[object, ...]]:
    """What the tables say of the room, without ids and times."""
    queries = [
        "SELECT seq, content, kind, reply_count, deleted_at IS NULL, last_offset "
        "FROM messages WHERE room_pk = $1 ORDER BY seq",
        "SELECT seq, reaction, user_id FROM reactions WHERE room_pk = $1",
        "SELECT user_id, read_seq FROM members WHERE room_pk = $1 ORDER BY user_id",
        "SELECT archived_offset, seq FROM rooms WHERE pk = $1",
        "SELECT d.event_offset FROM dead_letters d JOIN rooms r ON r.project || '/' || r.id = "
        "d.room WHERE r.pk = $1",
    ]
    pk = await database.fetchval("SELECT pk FROM rooms WHERE id = $1", room)
    return [tuple(row) for query in queries for row in await database.fetch(query, pk)]


async def watermark(database: Database) -> int:
    return int(await database.fetchval("SELECT sum(archived_offset) FROM rooms"))


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("batch", [2, 100])
async def test_dying_at_every_step_changes_nothing(system: System, after: bool, batch: int):
    """HAZARDS 4: however often it dies, rows = events, and the watermark never goes back."""
    await tell_story(system, "reference")
    await flush_everything(build_archiver(system, batch=batch), system)
    expected = await read_story(system.database, "reference")
    assert len(expected) == 4 + 1 + 2 + 1 + 1

    room = "tested"
    await tell_story(system, room)
    deaths = 0
    highest = await watermark(system.database)
    for steps in range(1, STEPS_MAX):
        fuse = Fuse(steps, after=after)
        dying = build_archiver(
            system,
            database=FusedDatabase(system.database, fuse),
            store=FusedStore(system.store.archive, fuse),
            batch=batch,
        )
        try:
            while await dying.flush(0):
                pass
        except Died:
            deaths += 1
        reached = await watermark(system.database)
        assert reached >= highest
        highest = reached
    assert deaths > 10
    assert await system.is_archived()
    await system.check()
    assert await read_story(system.database, room) == expected


async def test_a_stopped_archiver_loses_its_partition_and_does_no_harm(
    system: System, database_url: str
):
    """HAZARDS 3: one stops inside its transaction, longer than PostgreSQL allows; another goes on.

    The message is created, edited and deleted across the edge of the batch that the first holds.
    """
    key = await system.create_room("general")
    await system.publish(key, "first")
    await system.append(key, "message.edited", {"seq": 1, "content": "second", "by": "alice"})
    resume = trio.Event()
    has_read = trio.Event()

    class StoppingStore(FusedStore):
        """Stops after the batch was read, the partition's lock being held."""

        async def read_batch(self, partition: int, count: int) -> object:
            batch = await system.store.archive.read_batch(partition, count)
            has_read.set()
            await resume.wait()
            return batch

    async def stop_inside(database: Database) -> None:
        stopped = build_archiver(
            system,
            database=database,
            store=StoppingStore(system.store.archive, Fuse(-1, after=True)),
        )
        with pytest.raises(StorageUnavailable):
            await stopped.flush(0)

    other = build_archiver(system)
    async with (
        open_database(database_url, idle_transaction_timeout=0.5) as short,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(stop_inside, short)
        await has_read.wait()
        assert await other.flush(0) is None
        await system.append(key, "message.edited", {"seq": 1, "content": "third", "by": "alice"})
        await system.append(key, "message.deleted", {"seq": 1, "by": "alice"})
        await wait_until(lambda: other.flush(0), what="PostgreSQL ends the idle transaction")
        resume.set()
    await flush_everything(other, system)
    await system.check()
    row = await system.database.fetchrow("SELECT content, last_offset, deleted_by FROM messages")
    assert row is not None
    assert tuple(row) == ("third", 4, "alice")


async def test_a_late_acknowledgement_takes_nothing_away(system: System):
    """Stopped between commit and acknowledgement, while another flushes the same and more."""
    key = await system.create_room("general")
    await system.publish(key, "first")
    resume, committed = trio.Event(), trio.Event()

    class SlowStore(FusedStore):
        async def mark_archived(self, partition: int, **rest: object) -> object:
            committed.set()
            await resume.wait()
            return await system.store.archive.mark_archived(partition, **rest)  # type: ignore[arg-type]

    slow = build_archiver(system, store=SlowStore(system.store.archive, Fuse(-1, after=True)))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(slow.flush, 0)
        await committed.wait()
        await system.publish(key, "second")
        await flush_everything(build_archiver(system), system)
        await system.publish(key, "third")
        resume.set()
    assert await system.backlog() == 1
    await flush_everything(build_archiver(system), system)
    await system.check()
    assert await system.database.fetchval("SELECT count(*) FROM messages") == 3


@pytest.mark.slow
async def test_two_processes_are_killed_and_stopped_while_people_talk(
    processes: Processes, redis_url: str, database_url: str
):
    """Two real archivers, of which one is killed or stopped: every answer is archived."""
    async with open_system(redis_url, database_url, room_partitions=4) as system:
        processes.env["ROOM_PARTITIONS"] = "4"
        running = [await processes.start_archiver(), await processes.start_archiver()]
        keys = [await system.create_room(f"room{number}") for number in range(8)]
        talking = True

        async def talk(key: str) -> None:
            seq = 0
            while talking:
                seq = (await system.publish(key, f"message {seq + 1}")).seq
                edit = {"seq": seq, "content": f"edited {seq}", "by": "alice"}
                await system.append(key, "message.edited", edit)

        async def grown(by: int) -> bool:
            return len(system.answered) >= start + by

        async with trio.open_nursery() as nursery:
            for key in keys:
                nursery.start_soon(talk, key)
            for turn in range(6):
                start = len(system.answered)
                await wait_until(lambda: grown(300), what="people talk")
                victim = running.pop(0)
                victim.pause() if turn % 2 else victim.kill()
                start = len(system.answered)
                await wait_until(lambda: grown(300), what="people talk on")
                if turn % 2:
                    victim.resume()
                    running.append(victim)
                else:
                    running.append(await processes.start_archiver())
            talking = False
        await wait_until(system.is_archived, deadline=30, what="the archive is empty")
        await system.check()
        wrong = await system.database.fetchval(
            "SELECT count(*) FROM messages WHERE content <> 'edited ' || seq"
        )
        assert wrong == 0
        published = len([1 for _, place in system.answered if place.offset % 2])
        assert await system.database.fetchval("SELECT count(*) FROM messages") == published
        assert await system.database.fetchval("SELECT count(*) FROM dead_letters") == 0
        for archiver in running:
            assert await archiver.stop() == 0
