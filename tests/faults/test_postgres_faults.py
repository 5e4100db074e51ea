"""PostgreSQL that refuses, is full, read-only, slow or cut off: the archive waits.

Each fault lasts while events come and the archiver tries; nothing is put aside, nothing goes away
from Redis, and when the fault is over everything is archived by itself.
"""

from contextlib import suppress

import pytest
import trio

from storage.errors import StorageRefused, StorageUnavailable
from storage.postgres.pool import open_database
from tests.support.rooms import Storage, contents, open_storage
from tests.support.servers import PostgresServer, run_sql
from tests.support.waiting import wait_until

ROOM = "general"
RAISING = """
CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN RAISE EXCEPTION 'no space left on device' USING ERRCODE = '{code}'; END $$;
CREATE TRIGGER fail BEFORE INSERT ON messages FOR EACH ROW EXECUTE FUNCTION fail();
"""
SLOW = """
CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN PERFORM pg_sleep(30); RETURN NEW; END $$;
CREATE TRIGGER fail BEFORE INSERT ON messages FOR EACH ROW EXECUTE FUNCTION fail();
"""
NO_TRIGGER = "DROP TRIGGER fail ON messages; DROP FUNCTION fail()"
READ_ONLY = "ALTER DATABASE {name} SET default_transaction_read_only = on"
READ_WRITE = "ALTER DATABASE {name} RESET default_transaction_read_only"
CUT_OTHERS = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
    "WHERE datname = current_database() AND pid <> pg_backend_pid()"
)
FAULTS = {
    "disk full": (RAISING.format(code="53100"), NO_TRIGGER),
    "out of memory": (RAISING.format(code="53200"), NO_TRIGGER),
    "a column is missing": ("ALTER TABLE messages RENAME COLUMN content TO hidden",
                 "ALTER TABLE messages RENAME COLUMN hidden TO content"),
    "statement timeout": (SLOW, NO_TRIGGER),
    "read-only after a failover": (READ_ONLY, READ_WRITE),
}  # fmt: skip


@pytest.fixture
async def storage(redis_url, database_url):
    async with open_storage(redis_url, database_url) as opened:
        await opened.create_room(ROOM, "alice", "bob")
        yield opened
        await opened.check_rooms()


def administer(server: PostgresServer, database_url: str, statement: str) -> None:
    """Run a statement, then cut off everybody: settings hold for new connections only."""
    if statement.startswith("ALTER DATABASE"):
        server.execute(statement.format(name=database_url.rpartition("/")[2]))
    else:
        run_sql(database_url, lambda connection: connection.execute(statement))
    run_sql(database_url, lambda connection: connection.execute(CUT_OTHERS))


async def flush_all(storage: Storage) -> bool:
    """Whether everything could be archived."""
    try:
        await storage.flush()
    except (StorageUnavailable, StorageRefused):
        return False
    return await storage.store.archive.backlog(storage.store.keys.partition(f"default/{ROOM}")) == 0


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_fault_of_postgres_is_waited_for(
    storage: Storage, postgres_server: PostgresServer, database_url, fault
):
    begin, end = FAULTS[fault]
    await storage.publish(ROOM, "before")
    await storage.flush()
    administer(postgres_server, database_url, begin)
    async with open_database(database_url, statement_timeout=0.3, name="short") as short:
        for number in range(3):
            await storage.publish(ROOM, f"during {number}")
            archiver = storage.archiver(database=short)
            with pytest.raises(Exception, match=r"postgres|content|messages|read-only|timeout"):
                await archiver.flush(storage.store.keys.partition(f"default/{ROOM}"))
    administer(postgres_server, database_url, end)
    await wait_until(lambda: flush_all(storage), deadline=30, what="it is archived by itself")
    assert contents(await storage.rows(ROOM)) == ["before", "during 0", "during 1", "during 2"]
    assert await storage.dead_letters() == []


async def test_every_connection_is_cut_in_the_middle_of_a_batch(
    storage: Storage, postgres_server: PostgresServer, database_url
):
    """pg_terminate_backend: the transaction is gone, the batch is not."""
    for number in range(5):
        await storage.publish(ROOM, f"message {number}")
    partition = storage.store.keys.partition(f"default/{ROOM}")

    async def flush() -> None:
        with pytest.raises(StorageUnavailable):
            await storage.archiver().flush(partition)
        flushed.set()

    flushed = trio.Event()
    async with trio.open_nursery() as nursery:
        with suppress(StorageUnavailable):
            async with storage.db.open_transaction() as held:
                await held.run(lambda c: c.execute("SELECT 1 FROM rooms FOR UPDATE"))
                nursery.start_soon(flush)
                await wait_until(lambda: is_waiting(storage), what="the batch waits for the room")
                administer(postgres_server, database_url, "SELECT 1")
                await flushed.wait()
    await wait_until(lambda: flush_all(storage), deadline=30, what="it is archived by itself")
    assert len(await storage.rows(ROOM)) == 5
    assert await storage.dead_letters() == []


async def is_waiting(storage: Storage) -> bool:
    """Whether somebody waits for a lock."""
    return bool(
        await storage.db.fetchval(
            "SELECT count(*) FROM pg_stat_activity "
            "WHERE wait_event_type = 'Lock' AND datname = current_database()"
        )
    )
