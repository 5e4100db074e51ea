"""The pool: results, errors, cancellation and a server that goes away and comes back."""

from collections import Counter

import pytest
import trio

from storage.errors import StorageRefused, StorageUnavailable
from storage.postgres.pool import Database, open_database
from tests.support.servers import PostgresServer
from tests.support.waiting import wait_until


async def test_the_four_ways_to_ask(database: Database):
    rows = await database.fetch("SELECT n FROM generate_series(1, $1::int) n", 3)
    assert [row["n"] for row in rows] == [1, 2, 3]
    row = await database.fetchrow("SELECT 1 AS a, 2 AS b")
    assert row is not None
    assert row["b"] == 2
    assert await database.fetchrow("SELECT 1 WHERE false") is None
    assert await database.fetchval("SELECT 'x'") == "x"
    assert await database.execute("INSERT INTO settings VALUES ('a', 'b')") == "INSERT 0 1"


async def test_many_tasks_share_few_connections(database: Database):
    answers: list[int] = []

    async def ask(number: int) -> None:
        answers.append(await database.fetchval("SELECT $1::int", number))

    async with trio.open_nursery() as nursery:
        for number in range(200):
            nursery.start_soon(ask, number)
    assert sorted(answers) == list(range(200))
    statistics = database.statistics()
    assert statistics.open == statistics.idle <= 4
    assert statistics.waiting == 0
    assert not statistics.is_away


async def test_a_constraint_is_refused_by_name(database: Database):
    await database.execute("INSERT INTO projects (id) VALUES ('p')")
    with pytest.raises(StorageRefused) as caught:
        await database.execute("INSERT INTO projects (id) VALUES ('p')")
    assert caught.value.sqlstate == "23505"
    assert caught.value.constraint == "projects_pkey"


@pytest.mark.parametrize(
    ("sql", "arguments"),
    [("SELECT $1::text", ("\0",)), ("SELECT $1::int", ("seven",)), ("SELECT $1::int", (2**40,))],
)
async def test_values_that_postgres_cannot_hold_are_refused(database: Database, sql, arguments):
    with pytest.raises(StorageRefused):
        await database.fetchval(sql, *arguments)
    assert await database.fetchval("SELECT 1") == 1


async def test_a_transaction_commits_or_leaves_nothing(database: Database):
    async def store(connection, name):
        await connection.execute("INSERT INTO settings VALUES ($1, '')", name)
        if name == "bad":
            raise ZeroDivisionError
        return name

    assert await database.transaction(lambda c: store(c, "good")) == "good"
    with pytest.raises(ZeroDivisionError):
        await database.transaction(lambda c: store(c, "bad"))
    assert [row["name"] for row in await database.fetch("SELECT name FROM settings")] == ["good"]


async def test_deadlocks_are_retried(database: Database):
    """Two transactions lock the same two rows in opposite orders: both of them end well."""
    await database.execute("INSERT INTO settings VALUES ('a', '0'), ('b', '0')")
    tries: Counter[int] = Counter()

    async def cross(connection, number):
        tries[number] += 1
        for name in ("ab", "ba")[number % 2]:
            await connection.execute(
                "UPDATE settings SET value = (value::int + 1)::text WHERE name = $1", name
            )
            await connection.execute("SELECT pg_sleep(0.05)")

    async with trio.open_nursery() as nursery:
        for number in range(2):
            nursery.start_soon(database.transaction, lambda c, n=number: cross(c, n))
    assert await database.fetchval("SELECT string_agg(value, ',') FROM settings") == "2,2"
    assert sum(tries.values()) > 2


async def test_without_retry_a_deadlock_comes_out_as_not_done(database: Database):
    runs = 0

    async def fail(connection):
        nonlocal runs
        runs += 1
        await connection.execute("DO $$ BEGIN RAISE SQLSTATE '40001'; END $$")

    with pytest.raises(StorageUnavailable) as caught:
        await database.transaction(fail, retry=False)
    assert caught.value.outcome == "not_done"
    assert runs == 1
    with pytest.raises(StorageUnavailable):
        await database.transaction(fail)
    assert 1 < runs < 10


async def test_a_held_transaction_alternates_with_trio(database: Database):
    async with database.open_transaction() as transaction:
        await transaction.run(lambda c: c.execute("INSERT INTO settings VALUES ('a', '')"))
        await trio.lowlevel.checkpoint()
        assert await database.fetchval("SELECT count(*) FROM settings") == 0
        await transaction.run(lambda c: c.execute("INSERT INTO settings VALUES ('b', '')"))
    assert await database.fetchval("SELECT count(*) FROM settings") == 2

    async def delete_and_fail() -> None:
        async with database.open_transaction() as transaction:
            await transaction.run(lambda c: c.execute("DELETE FROM settings"))
            await transaction.run(lambda c: c.fetch("SELECT 1/0"))

    with pytest.raises(StorageRefused):
        await delete_and_fail()
    assert await database.fetchval("SELECT count(*) FROM settings") == 2


async def test_cancelling_ends_the_statement_and_rolls_back(database: Database):
    async def store_and_sleep(connection):
        await connection.execute("INSERT INTO settings VALUES ('half', '')")
        await connection.execute("SELECT pg_sleep(30)")

    with trio.move_on_after(0.2) as scope, trio.fail_after(5):
        await database.transaction(store_and_sleep)
    assert scope.cancelled_caught
    assert await database.fetchval("SELECT count(*) FROM settings") == 0
    sleeping = "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query ~ '^SELECT pg_sleep' AND datname = current_database()"  # noqa: E501

    async def ended() -> bool:
        return bool(await database.fetchval(sleeping) == 0)

    await wait_until(ended, what="the cancelled statement ends on the server")


@pytest.mark.parametrize("when", ["before the commit is asked for", "before it has begun"])
async def test_a_held_transaction_that_is_cancelled_at_its_end_keeps_nothing(
    database: Database, when: str
):
    """Between the last statement and the commit: the connection must not be lost with its locks."""
    await database.execute("CREATE TABLE things (n int PRIMARY KEY)")
    async with trio.open_nursery() as nursery:

        async def insert(task_status=trio.TASK_STATUS_IGNORED) -> None:
            async with database.open_transaction() as transaction:
                await transaction.run(lambda c: c.execute("INSERT INTO things VALUES (1)"))
                task_status.started()
                if when == "before the commit is asked for":
                    nursery.cancel_scope.cancel()

        await nursery.start(insert)
        # It asks for the commit as soon as this task waits; at the latest then it is cancelled.
        nursery.cancel_scope.cancel()
    stored = await database.fetchval("SELECT count(*) FROM things")
    # It would wait for the lock of a transaction that nobody ends.
    await database.execute("INSERT INTO things VALUES (1) ON CONFLICT DO NOTHING")
    assert await database.fetchval("SELECT count(*) FROM things") == 1
    assert stored == 0 or when == "before it has begun"
    await wait_until(lambda: database.statistics().open == database.statistics().idle)


async def test_cancelling_before_the_call_does_nothing(database: Database):
    with trio.CancelScope() as scope:
        scope.cancel()
        await database.execute("INSERT INTO settings VALUES ('never', '')")
    assert await database.fetchval("SELECT count(*) FROM settings") == 0


async def test_a_cancelled_waiter_does_not_take_a_turn_along(database: Database):
    """With every connection busy, waiters come and go; the pool still serves afterwards."""

    async def sleep_briefly() -> None:
        await database.execute("SELECT pg_sleep(0.3)")

    async def wait_a_moment() -> None:
        with trio.move_on_after(0.1):
            await database.fetchval("SELECT 1")

    async with trio.open_nursery() as nursery:
        for _ in range(4):
            nursery.start_soon(sleep_briefly)
        for _ in range(20):
            nursery.start_soon(wait_a_moment)
    assert await database.fetchval("SELECT 1") == 1
    assert database.statistics().waiting == 0


async def test_the_server_ends_statements_that_take_too_long(database_url):
    async with open_database(database_url, statement_timeout=0.2) as database:
        with pytest.raises(StorageUnavailable) as caught, trio.fail_after(5):
            await database.execute("SELECT pg_sleep(30)")
        assert caught.value.outcome == "not_done"
        assert await database.fetchval("SELECT 1") == 1


async def test_an_impatient_caller_does_not_make_the_server_look_away(database: Database):
    with pytest.raises(StorageUnavailable) as caught:
        await database.execute("SELECT pg_sleep(30)", timeout=0.1)
    assert caught.value.outcome == "unknown"
    assert not database.statistics().is_away


async def test_an_idle_transaction_is_ended_by_the_server(database_url):
    async with open_database(database_url, idle_transaction_timeout=0.2) as database:
        pid = "SELECT pg_backend_pid()"
        gone = "SELECT count(*) = 0 FROM pg_stat_activity WHERE pid = $1"

        async def say_nothing_for_too_long() -> None:
            async with database.open_transaction() as transaction:
                backend = await transaction.run(lambda c: c.fetchval(pid))
                await wait_until(lambda: database.fetchval(gone, backend))
                await transaction.run(lambda c: c.execute("DELETE FROM settings"))

        with pytest.raises(StorageUnavailable):
            await say_nothing_for_too_long()
        assert await database.fetchval("SELECT 1") == 1


async def test_nothing_at_the_address_fails_at_once(free_port):
    url = f"postgresql://nobody@127.0.0.1:{free_port}/nothing"
    with trio.fail_after(5):
        async with open_database(url) as database:
            for _ in range(20):
                with pytest.raises(StorageUnavailable) as caught:
                    await database.fetchval("SELECT 1")
                assert caught.value.outcome == "not_done"


async def test_a_restarted_server_is_used_again(private_postgres: PostgresServer):
    url = private_postgres.create_database()
    async with open_database(url) as database:
        await database.execute("INSERT INTO settings VALUES ('a', '')")
        private_postgres.stop()
        for _ in range(50):
            with pytest.raises(StorageUnavailable), trio.fail_after(2.5):
                await database.fetchval("SELECT 1")
        private_postgres.start()

        async def works() -> bool:
            try:
                return bool(await database.fetchval("SELECT count(*) FROM settings") == 1)
            except StorageUnavailable:
                return False

        await wait_until(works, what="the database is used again")


async def test_a_hanging_server_costs_only_the_first_callers_time(
    private_postgres: PostgresServer,
):
    url = private_postgres.create_database()
    async with open_database(url, statement_timeout=0.5) as database:
        assert await database.fetchval("SELECT 1") == 1
        private_postgres.pause()
        with trio.fail_after(4), pytest.raises(StorageUnavailable) as caught:
            await database.fetchval("SELECT 1")
        assert caught.value.outcome == "unknown"
        with trio.fail_after(0.5):
            for _ in range(20):
                with pytest.raises(StorageUnavailable):
                    await database.fetchval("SELECT 1")
        private_postgres.resume()

        async def works() -> bool:
            try:
                return bool(await database.fetchval("SELECT 1"))
            except StorageUnavailable:
                return False

        await wait_until(works, what="the database answers again")
