"""Migrations: the sum of them is the schema, and two hosts may start at once."""

import subprocess
import sys
from functools import partial

import pytest
import trio
from alembic.config import Config
from alembic.script import ScriptDirectory

from config.errors import ConfigError
from storage.errors import StorageUnavailable
from storage.postgres.migrate import migrate, read_statements
from storage.postgres.pool import Database, open_database
from storage.postgres.schema import known_revisions, require_schema, schema_version
from tests.support.servers import PostgresServer, fetch
from tests.support.sources import ROOT
from tests.support.waiting import wait_until

MIGRATIONS = ROOT / "storage" / "postgres" / "migrations"
NEWEST = "0009"
_MIGRATE = "import sys; from storage.postgres.migrate import migrate; migrate(sys.argv[1])"
# Everything about a schema that a migration can change, as text.
_SCHEMA = """
SELECT 'column ' || c.relname || '.' || a.attname || ' ' || format_type(a.atttypid, a.atttypmod)
       || CASE WHEN a.attnotnull THEN ' not null' ELSE '' END
       || coalesce(' default ' || pg_get_expr(d.adbin, d.adrelid), '')
       || coalesce(' collate ' || l.collname, '')
       AS line
FROM pg_class c
JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
LEFT JOIN pg_collation l ON l.oid = a.attcollation
LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p')
UNION ALL
SELECT 'constraint ' || conrelid::regclass || ' ' || pg_get_constraintdef(oid)
FROM pg_constraint WHERE connamespace = 'public'::regnamespace
UNION ALL
SELECT 'index ' || pg_get_indexdef(indexrelid)
FROM pg_index JOIN pg_class c ON c.oid = indexrelid
WHERE c.relnamespace = 'public'::regnamespace
ORDER BY line
"""


@pytest.fixture
def empty_url(postgres_server: PostgresServer):
    """A database without any table."""
    url = postgres_server.create_empty()
    yield url
    postgres_server.drop_database(url)


def schema_of(url: str) -> list[str]:
    return [row["line"] for row in fetch(url, _SCHEMA)]


def test_migrations_give_the_schema_and_repeating_changes_nothing(empty_url):
    migrate(empty_url)
    once = schema_of(empty_url)
    migrate(empty_url)
    assert schema_of(empty_url) == once
    assert any("messages_15" in line for line in once)


def test_two_hosts_migrate_at_once(empty_url, database_url):
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", _MIGRATE, empty_url],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        for _ in range(3)
    ]
    outputs = [racer.communicate(timeout=50)[0] for racer in racers]
    assert [racer.returncode for racer in racers] == [0, 0, 0], outputs
    assert schema_of(empty_url) == schema_of(database_url)


async def test_schema_version_is_none_before_the_first_migration(empty_url):
    async with open_database(empty_url) as database:
        assert await schema_version(database) is None
        await trio.to_thread.run_sync(migrate, empty_url)
        assert await schema_version(database) == NEWEST


def test_known_revisions_are_alembics_own_in_its_order():
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    found = [script.revision for script in ScriptDirectory.from_config(config).walk_revisions()]
    assert known_revisions() == found[::-1]
    assert known_revisions()[-1] == NEWEST


async def test_an_older_schema_is_refused_and_a_newer_one_taken(database: Database):
    """What a process does that finds another schema than its own."""
    assert await require_schema(database) == NEWEST
    set_version = "UPDATE alembic_version SET version_num = $1"
    for older in known_revisions()[:-1]:
        await database.execute(set_version, older)
        with pytest.raises(ConfigError, match=f"schema {older}, .*needs {NEWEST}; run: parley mig"):
            await require_schema(database)
    await database.execute(set_version, "9999")
    assert await require_schema(database) == "9999"


async def test_no_schema_is_refused(empty_url):
    async with open_database(empty_url) as empty:
        with pytest.raises(ConfigError, match="no schema yet; run: parley migrate"):
            await require_schema(empty)


async def test_a_migration_that_waits_for_a_table_stops_nobody_for_long(empty_url):
    """A report holds a table that the newest migration changes: whoever reads it meanwhile is
    answered within the time limit of statements; the migration comes when the report is over."""
    await trio.to_thread.run_sync(partial(migrate, empty_url, to=known_revisions()[-2]))
    async with (
        open_database(empty_url) as readers,
        trio.open_nursery() as nursery,
        readers.open_transaction() as report,
    ):
        await report.run(lambda c: c.fetch("SELECT * FROM messages"))
        nursery.start_soon(partial(trio.to_thread.run_sync, migrate, empty_url))
        for _ in range(2):
            await wait_until(lambda: is_waiting(readers), deadline=30, what="the migration waits")
            assert await readers.fetchval("SELECT count(*) FROM messages") == 0
        assert await schema_version(readers) == known_revisions()[-2]
    assert fetch(empty_url, "SELECT version_num FROM alembic_version")[0]["version_num"] == NEWEST


async def is_waiting(database: Database) -> bool:
    """Whether somebody waits for a table."""
    return bool(
        await database.fetchval(
            "SELECT count(*) FROM pg_locks l JOIN pg_database d ON d.oid = l.database "
            "WHERE d.datname = current_database() AND l.locktype = 'relation' AND NOT l.granted"
        )
    )


async def test_a_lock_that_is_never_let_go_is_told_with_its_holder(empty_url):
    await trio.to_thread.run_sync(partial(migrate, empty_url, to=known_revisions()[-2]))
    async with open_database(empty_url, name="report") as reader:
        async with reader.open_transaction() as report:
            await report.run(lambda c: c.fetch("SELECT * FROM messages"))
            pid = await report.run(lambda c: c.fetchval("SELECT pg_backend_pid()"))
            with pytest.raises(StorageUnavailable, match=f"lock is held.*{pid} .report., idle in"):
                await trio.to_thread.run_sync(partial(migrate, empty_url, patience=0.0))
        await trio.to_thread.run_sync(migrate, empty_url)
        assert await schema_version(reader) == NEWEST


def test_a_server_that_is_away_is_one_clear_error(free_port):
    with pytest.raises(StorageUnavailable) as caught:
        migrate(f"postgresql://nobody@127.0.0.1:{free_port}/nothing")
    assert caught.value.backend == "postgres"
    assert caught.value.outcome == "not_done"


def test_an_unknown_database_is_unavailable(postgres_server):
    with pytest.raises(StorageUnavailable):
        migrate(postgres_server.url_of("no_such_database"))


def test_every_statement_of_a_migration_ends_with_a_semicolon():
    statements = read_statements("0001_kernel.sql")
    assert all(statement.endswith(";") for statement in statements)
    assert sum(statement.startswith("CREATE TABLE") for statement in statements) > 20


async def test_the_default_project_is_there(database: Database):
    assert await database.fetchval("SELECT id FROM projects") == "default"
