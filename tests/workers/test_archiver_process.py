"""`parley archiver` as an operator sees it: ready, metrics, signals, wrong pairings, outages."""

import trio

from storage.postgres.announcements import insert_announcement
from tests.support import http
from tests.support.processes import Processes
from tests.support.servers import PostgresServer, RedisServer
from tests.support.waiting import wait_until
from tests.workers.archiver_parts import open_system


async def test_it_archives_shows_metrics_and_ends_at_sigterm(
    processes: Processes, redis_url: str, database_url: str, free_port: int
):
    archiver = await processes.start_archiver(METRICS_PORT=str(free_port))
    assert "parley archiver is ready" in archiver.output()
    async with open_system(redis_url, database_url, room_partitions=16) as system:
        key = await system.create_room("general")
        for number in range(30):
            await system.publish(key, str(number))
        await wait_until(system.is_archived, what="the archive is empty")
        await system.check()
    page = (await http.request("GET", f"http://127.0.0.1:{free_port}/metrics")).body.decode()
    assert "parley_archived_events_total 30.0" in page
    assert 'parley_archive_backlog{partition="15"}' in page
    assert await archiver.stop(deadline=10) == 0
    assert "Traceback" not in archiver.output()


async def test_it_announces_what_others_left_behind(
    processes: Processes, redis_url: str, database_url: str
):
    async with open_system(redis_url, database_url, room_partitions=16) as system:
        key = await system.create_room("general")
        pk = await system.database.fetchval("UPDATE rooms SET version = 1 RETURNING pk")

        async def insert(connection) -> None:
            await insert_announcement(
                connection, room_pk=pk, version=1, event="member.removed", sender=None,
                data='{"user":"bob","by":null,"reason":"removed"}',
            )  # fmt: skip

        await system.database.transaction(insert)
        await processes.start_archiver()

        async def is_announced() -> bool:
            return not await system.database.fetchval("SELECT count(*) FROM announcements")

        await wait_until(is_announced, what="the change is announced")
        entries = await system.store.rooms.log_range(key, 1, 10)
        assert [(entry.event, entry.ver) for entry in entries] == [("member.removed", 1)]
        await wait_until(system.is_archived)


async def test_another_number_of_partitions_ends_it_with_one_line(processes: Processes):
    first = await processes.start_archiver(ROOM_PARTITIONS="4")
    second = await processes.start("archiver", ready=False, env={"ROOM_PARTITIONS": "8"})
    assert await second.wait_ended() == 2
    lines = [line for line in second.output().splitlines() if "ROOM_PARTITIONS" in line]
    assert len(lines) == 1
    assert "Traceback" not in second.output()
    assert await first.stop() == 0


async def test_a_redis_of_another_deployment_ends_it(
    processes: Processes, postgres_server: PostgresServer
):
    first = await processes.start_archiver()
    assert await first.stop() == 0
    other = postgres_server.create_database()
    try:
        second = await processes.start("archiver", ready=False, env={"DATABASE_URL": other})
        assert await second.wait_ended() == 2
        assert "REDIS_URL" in second.output()
    finally:
        postgres_server.drop_database(other)


async def test_servers_that_come_later_are_waited_for(
    processes: Processes, private_redis: RedisServer, private_postgres: PostgresServer
):
    database_url = private_postgres.create_database()
    private_postgres.stop()
    private_redis.stop()
    processes.env |= {"REDIS_URL": private_redis.url, "DATABASE_URL": database_url}
    archiver = await processes.start("archiver", ready=False)
    await wait_until(lambda: "waiting for a server" in archiver.output(), what="it waits")
    private_postgres.start()
    private_redis.start()
    await archiver.wait_ready()
    async with open_system(private_redis.url, database_url, room_partitions=16) as system:
        await system.publish(await system.create_room("general"))
        await wait_until(system.is_archived)
    assert await archiver.stop() == 0


async def test_a_signal_while_it_waits_for_a_server_ends_it_at_once(
    processes: Processes, free_port: int
):
    away = f"postgresql://nobody@127.0.0.1:{free_port}/nothing"
    archiver = await processes.start("archiver", ready=False, env={"DATABASE_URL": away})
    await wait_until(lambda: "waiting for a server" in archiver.output(), what="it waits")
    with trio.fail_after(5):
        assert await archiver.stop() == 0
