"""`parley migrate`, `parley apikey` and `parley deadletters` against a real PostgreSQL."""

import pytest

from tests.parley.conftest import Run
from tests.support.servers import PostgresServer, fetch, run_sql


@pytest.fixture
def empty_database(postgres_server: PostgresServer) -> str:
    """A database without any schema."""
    name = "parley_empty"
    postgres_server.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
    postgres_server.execute(f"CREATE DATABASE {name}")
    return postgres_server.url_of(name)


def test_migrate_brings_the_schema_and_may_be_repeated(run: Run, empty_database: str) -> None:
    for _ in range(2):
        found = run("migrate", DATABASE_URL=empty_database)
        assert found.status == 0
        assert found.out.startswith("the database has the newest schema: 0")
    assert fetch(empty_database, "SELECT * FROM rooms") == []


def test_a_key_is_shown_once_listed_by_prefix_and_revoked(run: Run, database_url: str) -> None:
    created = run("apikey", "create", "--project", "shop", DATABASE_URL=database_url)
    key = created.out.strip()
    assert created.status == 0
    assert len(key) > 40

    listed = run("apikey", "list", DATABASE_URL=database_url)
    heading, row = listed.out.splitlines()
    assert heading.split()[:3] == ["PROJECT", "PREFIX", "ID"]
    project, prefix, key_id, *_ = row.split()
    assert project == "shop"
    assert key.startswith(prefix)
    assert key not in listed.out
    assert row.endswith("  -")

    revoked = run("apikey", "revoke", key_id, DATABASE_URL=database_url)
    assert (revoked.status, revoked.out) == (0, f"revoked: {key_id}\n")
    row = run("apikey", "list", DATABASE_URL=database_url).out.splitlines()[1]
    assert not row.endswith("  -")
    stored = fetch(database_url, "SELECT * FROM api_keys")
    assert key not in repr(stored)


def test_lists_are_by_project(run: Run, database_url: str) -> None:
    for project in ("shop", "game"):
        run("apikey", "create", "--project", project, DATABASE_URL=database_url)
    found = run("apikey", "list", "--project", "game", DATABASE_URL=database_url)
    assert [line.split()[0] for line in found.out.splitlines()] == ["PROJECT", "game"]


def test_revoking_an_unknown_key_is_one_line(run: Run, database_url: str) -> None:
    found = run("apikey", "revoke", "nonsense", DATABASE_URL=database_url)
    assert found.status == 1
    assert found.error_line == "parley: no key has the id or prefix 'nonsense'"


def test_dead_letters_are_listed_without_what_people_wrote_and_put_back(
    run: Run, database_url: str
) -> None:
    entry = b'e 1 1 1763000000000 message.created default/r alice 0\n{"id":"%s","content":"psst"}'
    raw = entry % b"0198c5b6-7a0e-7000-8000-000000000000"
    insert = (
        "INSERT INTO dead_letters (room, epoch, event_offset, seq, event, reason, entry) "
        "VALUES ('default/r', 'e', 1, 1, 'message.created', 'DataError: invalid: ''psst''', $1)"
    )
    run_sql(database_url, lambda connection: connection.execute(insert, raw))
    listed = run("deadletters", "list", DATABASE_URL=database_url)
    assert "psst" not in listed.out
    heading, line = listed.out.splitlines()
    number, *fields = line.split()
    assert heading.split()[0] == "ID"
    assert fields[:4] == ["default/r", "1", "1", "message.created"]
    assert fields[-1] == "DataError"
    with_bodies = run("deadletters", "list", "--bodies", DATABASE_URL=database_url).out
    assert with_bodies.count("psst") == 2
    elsewhere = run("deadletters", "list", "--room", "default/q", DATABASE_URL=database_url)
    assert len(elsewhere.out.splitlines()) == 1

    stays = run("deadletters", "putback", number, DATABASE_URL=database_url)
    assert (stays.status, stays.out) == (1, f"{number}: stays, there is no such room\n")
    room = "INSERT INTO rooms (project, id, epoch, seq) VALUES ('default', 'r', 'e', 1)"
    run_sql(database_url, lambda connection: connection.execute(room))
    done = run("deadletters", "putback", "--all", DATABASE_URL=database_url)
    assert (done.status, done.out) == (0, f"{number}: put back\n")
    assert [row["content"] for row in fetch(database_url, "SELECT content FROM messages")] == [
        "psst"
    ]
    again = run("deadletters", "putback", number, DATABASE_URL=database_url)
    assert (again.status, again.out) == (0, f"{number}: there is no such letter\n")
    assert run("deadletters", "putback", DATABASE_URL=database_url).status == 2
