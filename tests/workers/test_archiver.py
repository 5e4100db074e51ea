"""The archiver at work on real servers: batches, many partitions, outages, poison, cold rooms."""

import pytest
import trio

from storage.errors import StorageRefused, StorageUnavailable
from storage.postgres.seeds import UNREPORTED_SKIP
from storage.redis.answered import AnsweredNumbers
from storage.redis.archive import READ_CHUNK
from storage.redis.entries import Entry, pack_entry
from tests.support.servers import PostgresServer, RedisServer
from tests.support.waiting import wait_until
from tests.workers.archiver_parts import (
    Refused,
    System,
    build_archiver,
    flush_everything,
    open_system,
)
from workers.archiver.archiver import Archiver
from workers.archiver.waiting import watch_archive


@pytest.fixture
async def system(redis_url: str, database_url: str):
    async with open_system(redis_url, database_url) as opened:
        yield opened


async def run_archiver(
    archiver: Archiver, system: System, *, task_status: trio.TaskStatus[None]
) -> None:
    """The archiver with its waiting, as the composition root starts them."""
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(
                watch_archive, archiver, system.store.archive, system.store.client, 0.01
            )
            task_status.started()
            await archiver.run()
            scope.cancel()


async def test_everything_published_arrives_in_order(system: System):
    keys = [await system.create_room(f"room{number}") for number in range(12)]
    archiver = build_archiver(system, batch=7)
    async with trio.open_nursery() as nursery:
        await nursery.start(run_archiver, archiver, system)
        for round_number in range(10):
            for key in keys:
                await system.publish(key, f"{key} {round_number}")
        await wait_until(system.is_archived, what="the archive is empty")
        archiver.stop()
    await system.check()
    rows = await system.database.fetch(
        "SELECT r.id, array_agg(m.content ORDER BY m.seq) AS contents "
        "FROM messages m JOIN rooms r ON r.pk = m.room_pk GROUP BY r.id"
    )
    assert {row["id"]: row["contents"] for row in rows} == {
        f"room{n}": [f"default/room{n} {number}" for number in range(10)] for n in range(12)
    }


async def test_events_of_all_kinds_take_their_place(system: System):
    key = await system.create_room("general")
    await system.publish(key, "one")
    await system.append(key, "message.edited", {"seq": 1, "content": "two", "by": "alice"})
    await system.append(key, "reaction.added", {"seq": 1, "user": "bob", "reaction": "+1"})
    await system.append(key, "member.added", {"user": "carol"})
    await system.append(key, "message.deleted", {"seq": 1, "by": "alice"})
    await flush_everything(build_archiver(system), system)
    await system.check()
    row = await system.database.fetchrow("SELECT * FROM messages")
    assert row is not None
    assert (row["content"], row["deleted_by"], row["last_offset"]) == ("two", "alice", 5)
    assert await system.database.fetchval("SELECT count(*) FROM reactions") == 1
    assert await system.database.fetchval("SELECT archived_offset FROM rooms") == 5


async def test_stopping_finishes_the_batch_in_hand(system: System):
    key = await system.create_room("general")
    for number in range(20):
        await system.publish(key, str(number))
    archiver = build_archiver(system, batch=5)
    partition = system.store.keys.partition(key)
    async with trio.open_nursery() as nursery, system.database.open_transaction() as holder:
        # Somebody holds the room's row, so the first batch is in hand when the stop comes.
        await holder.run(lambda c: c.execute("SELECT 1 FROM rooms FOR UPDATE"))
        nursery.start_soon(archiver.run)
        archiver.mark_due(partition)

        async def is_waiting() -> bool:
            return bool(
                await system.database.fetchval(
                    "SELECT count(*) FROM pg_stat_activity "
                    "WHERE wait_event_type = 'Lock' AND datname = current_database()"
                )
            )

        await wait_until(is_waiting, what="the batch waits for the row")
        archiver.stop()
    assert await system.database.fetchval("SELECT count(*) FROM messages") == 5
    assert await system.backlog() == 15


async def test_a_batch_that_large_events_have_ended_is_not_taken_for_the_last(system: System):
    """The partition is marked due once: whoever stopped at the first batch would stop for good."""
    key = await system.create_room("general")
    await system.database.execute("UPDATE rooms SET epoch = 'e'")
    count = READ_CHUNK + 5
    partition = system.store.keys.partition(key)
    data = b'{"id":"0198c5b6-7a0e-7000-8000-000000000000"}'
    await system.store.archive.append_again(
        partition,
        [
            pack_entry(Entry("e", n, n, n, "message.created", key, "alice", 0, data))
            for n in range(1, count + 1)
        ],
    )

    class LargeEvents:
        """Reads as if every event were large."""

        def __getattr__(self, name: str) -> object:
            return getattr(system.store.archive, name)

        async def read_batch(self, number: int, wanted: int) -> object:
            return await system.store.archive.read_batch(number, min(wanted, READ_CHUNK))

    archiver = build_archiver(system, store=LargeEvents(), batch=5 * READ_CHUNK)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(archiver.run)
        archiver.mark_due(partition)
        await wait_until(system.is_archived, what="the archive is empty")
        archiver.stop()
    assert await system.database.fetchval("SELECT archived_offset FROM rooms") == count
    assert await system.database.fetchval("SELECT count(*) FROM messages") == count


async def test_an_outage_of_postgres_loses_nothing(
    redis_url: str, private_postgres: PostgresServer
):
    database_url = private_postgres.create_database()
    async with open_system(redis_url, database_url) as system:
        key = await system.create_room("general")
        archiver = build_archiver(system)
        async with trio.open_nursery() as nursery:
            await nursery.start(run_archiver, archiver, system)
            await system.publish(key)
            await wait_until(system.is_archived)
            private_postgres.stop()
            # Publishing needs no PostgreSQL once the room is warm.
            for number in range(50):
                await system.publish(key, str(number))
            assert await system.backlog() == 50
            private_postgres.start()
            await wait_until(system.is_archived, what="the backlog is written")
            archiver.stop()

        async def is_back() -> bool:
            try:
                return bool(await system.database.fetchval("SELECT 1"))
            except StorageUnavailable:
                return False

        await wait_until(is_back)
        await system.check()
        assert await system.database.fetchval("SELECT count(*) FROM messages") == 51
        assert await system.database.fetchval("SELECT count(*) FROM dead_letters") == 0


async def test_an_outage_of_redis_loses_nothing(private_redis: RedisServer, database_url: str):
    async with open_system(private_redis.url, database_url) as system:
        key = await system.create_room("general")
        archiver = build_archiver(system)
        async with trio.open_nursery() as nursery:
            await nursery.start(run_archiver, archiver, system)
            for number in range(20):
                await system.publish(key, str(number))
            await wait_until(system.is_archived)
            private_redis.restart()

            async def publishes() -> bool:
                try:
                    await system.publish(key, "after")
                except StorageUnavailable:
                    return False
                return True

            await wait_until(publishes, what="Redis is used again")
            await wait_until(system.is_archived)
            archiver.stop()
        await system.check()
        seqs = await system.database.fetch("SELECT seq FROM messages ORDER BY seq")
        assert [row["seq"] for row in seqs] == list(range(1, 22))
        assert await system.database.fetchval("SELECT count(*) FROM dead_letters") == 0


async def test_a_poisoned_row_does_not_stop_the_others(system: System):
    """HAZARDS 23: one dead letter and dense seq; without its table, none and all rows later."""
    key = await system.create_room("general")
    archiver = build_archiver(system)
    for number in range(1, 10):
        await system.publish(key, "nul \0" if number == 4 else str(number))
    await system.database.execute("ALTER TABLE messages RENAME TO hidden")
    with pytest.raises((StorageRefused, StorageUnavailable)):
        await archiver.flush(system.store.keys.partition(key))
    assert await system.backlog() == 9
    await system.database.execute("ALTER TABLE hidden RENAME TO messages")
    await flush_everything(archiver, system)
    await system.check()
    rows = await system.database.fetch("SELECT seq, content, kind FROM messages ORDER BY seq")
    assert [row["seq"] for row in rows] == list(range(1, 10))
    assert [row["seq"] for row in rows if row["content"] is None] == [4]
    dead = await system.database.fetch("SELECT event_offset, reason FROM dead_letters")
    assert [row["event_offset"] for row in dead] == [4]


async def test_a_room_stays_in_redis_until_it_is_archived(redis_url: str, database_url: str):
    """HAZARDS 2: with a short ROOM_LOG_TTL and no archiver, numbering goes on; nothing expires."""
    async with open_system(redis_url, database_url, room_log_ttl="1s") as system:
        key = await system.create_room("general")
        keys = system.store.keys.room(key)
        archiver = build_archiver(system)

        async def pttl(name: str) -> int:
            return int(await system.store.client.execute("PTTL", name))  # type: ignore[arg-type]

        async def is_gone() -> bool:
            return await pttl(keys.room) == -2 and await pttl(keys.log) == -2

        for seq in range(1, 4):
            place = await system.publish(key, str(seq))
            assert (place.offset, place.seq) == (seq, seq)
            assert (await pttl(keys.room), await pttl(keys.log)) == (-1, -1)
        await flush_everything(archiver, system)
        assert 0 < await pttl(keys.room) <= 1000
        assert 0 < await pttl(keys.log) <= 1000
        await wait_until(is_gone, what="the archived room leaves Redis")
        # The same life: the numbering goes on without a hole and without waiting.
        place = await system.publish(key, "4")
        assert (place.offset, place.seq) == (4, 4)
        assert (await pttl(keys.room), await pttl(keys.log)) == (-1, -1)
        await flush_everything(archiver, system)
        await system.check()
        rows = await system.database.fetch("SELECT content FROM messages ORDER BY seq")
        assert [row["content"] for row in rows] == ["1", "2", "3", "4"]
        assert await system.database.fetchval("SELECT count(*) FROM dead_letters") == 0


async def test_a_repeat_after_a_loss_of_redis_is_still_known(
    redis_server: RedisServer, redis_url: str, database_url: str
):
    """HAZARDS 14: the idempotency key comes back with the seed, out of PostgreSQL."""
    async with open_system(redis_url, database_url) as system:
        key = await system.create_room("general")
        first = await system.publish(key, "once", client_id="c1")
        await flush_everything(build_archiver(system), system)
        redis_server.flush()
        await system.publish(key, "another")
        with pytest.raises(Refused, match="sent"):
            await system.publish(key, "once", client_id="c1")
        await flush_everything(build_archiver(system), system)
        seqs = await system.database.fetch("SELECT seq, client_id FROM messages ORDER BY seq")
        assert [tuple(row) for row in seqs] == [(1, "c1"), (2 + UNREPORTED_SKIP, None)]
        assert first.seq == 1


async def test_a_batch_read_before_a_failover_does_not_take_its_seq(
    redis_server: RedisServer, redis_url: str, database_url: str
):
    """HAZARDS 13: the archiver holds entries that Redis has lost and given out again."""
    async with open_system(redis_url, database_url) as system:
        key = await system.create_room("general")
        partition = system.store.keys.partition(key)
        await system.publish(key, "kept")
        await flush_everything(build_archiver(system), system)
        await system.publish(key, "lost")
        held = await system.store.archive.read_batch(partition, 10)
        # Whoever answered it is gone with Redis, so nobody can tell that it was given.
        system.store.rooms.answered = AnsweredNumbers(system.store.keys, system.store.lives.ids)
        redis_server.flush()
        place = await system.publish(key, "rightful")
        assert place.seq == 2 + UNREPORTED_SKIP
        assert system.answered.pop(1)[1].seq == 2

        class StaleStore:
            """Reads the old batch first."""

            partitions = system.store.archive.partitions

            def __getattr__(self, name: str) -> object:
                return getattr(system.store.archive, name)

            async def read_batch(self, number: int, count: int) -> object:
                return held

        stale = build_archiver(system, store=StaleStore())
        assert await stale.flush(partition) == 1
        await flush_everything(build_archiver(system), system)
        await system.check()
        rows = await system.database.fetch("SELECT seq, content FROM messages ORDER BY seq")
        assert [tuple(row) for row in rows] == [(1, "kept"), (2 + UNREPORTED_SKIP, "rightful")]
        dead = await system.database.fetch("SELECT reason, entry FROM dead_letters")
        assert [row["reason"] for row in dead] == ["late_epoch"]
        assert b'"lost"' in dead[0]["entry"]
