"""`parley check`: a line for each check, status 1 with the reason if one fails."""

from pathlib import Path

import pytest
import trio

from storage.redis.keys import Keys
from tests.parley.conftest import SECRET, Run
from tests.support.issuer import open_issuer
from tests.support.sentinels import SentinelServer, url_of
from tests.support.servers import RedisServer, run_sql
from workers.embedded import ports


def states(out: str) -> dict[str, str]:
    """Check → its first word."""
    lines = [line for line in out.splitlines() if not line.startswith(" ")]
    return {line.split()[1].rstrip(":"): line.split()[0] for line in lines}


def test_all_is_well(run: Run, redis_url: str, database_url: str) -> None:
    found = run("check", REDIS_URL=redis_url, DATABASE_URL=database_url, JWT_SECRET=SECRET)
    assert states(found.out) == dict.fromkeys(
        [
            "configuration",
            "redis",
            "postgres",
            "schema",
            "deployment",
            "clocks",
            "backlog",
            "letters",
        ],
        "ok",
    )
    assert (found.status, found.err) == (0, "")


def test_rooms_are_checked_when_asked_for(run: Run, redis_url: str, database_url: str) -> None:
    urls = {"REDIS_URL": redis_url, "DATABASE_URL": database_url}
    found = run("check", "--rooms", **urls, JWT_SECRET=SECRET)
    assert states(found.out)["rooms"] == "ok"
    assert found.status == 0


def test_servers_that_are_away_fail_with_their_reason(run: Run, free_port: int) -> None:
    found = run(
        "check",
        REDIS_URL=f"redis://:hunter2@127.0.0.1:{free_port}",
        DATABASE_URL=f"postgresql://u:hunter2@127.0.0.1:{free_port}/d",
        JWT_SECRET=SECRET,
    )
    assert states(found.out) == {
        "configuration": "ok",
        "redis": "FAILED",
        "postgres": "FAILED",
        "schema": "skipped",
        "deployment": "skipped",
        "clocks": "skipped",
        "backlog": "skipped",
        "letters": "skipped",
    }
    assert found.status == 1
    assert "refused" in found.out
    assert "hunter2" not in found.out + found.err


def test_a_url_that_can_not_be_understood_is_one_line(run: Run, database_url: str) -> None:
    urls = {"REDIS_URL": "redis://:hunter2@h?colour=red", "DATABASE_URL": database_url}
    for command in ("check", "archiver"):
        found = run(command, **urls, JWT_SECRET=SECRET)
        assert found.status == 2
        assert found.err.startswith("parley: REDIS_URL: unknown option colour")
        assert found.err.count("\n") == 1


def test_what_the_sentinels_say_is_told(
    run: Run, private_redis: RedisServer, database_url: str, tmp_path: Path, free_port: int
) -> None:
    sentinel = SentinelServer(tmp_path / "sentinel", ports.free_port())
    sentinel.start(private_redis.port)
    try:
        trio.run(sentinel.wait_ready)
        url = url_of(sentinel.port, free_port)
        found = run("check", REDIS_URL=url, DATABASE_URL=database_url, JWT_SECRET=SECRET)
    finally:
        sentinel.stop()
    assert states(found.out)["redis"] == "ok"
    assert f"127.0.0.1:{private_redis.port} is the master by 1 of 2 sentinels; " in found.out
    assert f"127.0.0.1:{free_port}: Connection refused" in found.out
    away = url_of(free_port)
    found = run("check", REDIS_URL=away, DATABASE_URL=database_url, JWT_SECRET=SECRET)
    assert states(found.out)["redis"] == "FAILED"
    assert f"no sentinel of chat: 127.0.0.1:{free_port}: Connection refused" in found.out


def test_a_redis_that_may_drop_keys_is_refused(
    run: Run, private_redis: RedisServer, database_url: str
) -> None:
    private_redis.command("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
    urls = {"REDIS_URL": private_redis.url, "DATABASE_URL": database_url}
    found = run("check", **urls, JWT_SECRET=SECRET)
    assert states(found.out)["redis"] == "FAILED"
    assert "maxmemory-policy is allkeys-lru" in found.out
    assert found.status == 1


def test_servers_of_two_deployments_are_refused(
    run: Run, redis_server: RedisServer, redis_url: str, database_url: str
) -> None:
    urls = {"REDIS_URL": redis_url, "DATABASE_URL": database_url}
    assert run("check", **urls, JWT_SECRET=SECRET).status == 0
    for key in redis_server.command("KEYS", "*deployment*"):
        redis_server.command("SET", key, "another")
    found = run("check", **urls, JWT_SECRET=SECRET)
    assert states(found.out)["deployment"] == "FAILED"
    assert found.status == 1


def test_another_number_of_partitions_is_refused(
    run: Run, redis_url: str, database_url: str
) -> None:
    urls = {"REDIS_URL": redis_url, "DATABASE_URL": database_url}
    assert run("check", **urls, JWT_SECRET=SECRET).status == 0
    found = run("check", **urls, JWT_SECRET=SECRET, ROOM_PARTITIONS="8")
    assert states(found.out)["deployment"] == "FAILED"
    assert "ROOM_PARTITIONS" in found.out


@pytest.mark.parametrize(
    "variables", [{"JWT_PUBLIC_KEY": "no-such-file.pem"}, {"JWT_JWKS_URL": "file:///jwks"}]
)
def test_keys_that_can_not_be_used_are_one_line(run: Run, variables: dict[str, str]) -> None:
    found = run("check", REDIS_URL="redis://r", DATABASE_URL="postgresql://p/d", **variables)
    assert found.status == 2
    assert found.error_line.startswith(f"parley: {next(iter(variables))}: ")


def test_the_keys_of_a_provider_are_looked_at(
    run: Run, redis_url: str, database_url: str, free_port: int
) -> None:
    urls = {"REDIS_URL": redis_url, "DATABASE_URL": database_url}
    with open_issuer() as issuer:
        issuer.add_key("k1")
        issuer.add_key("k2", "EdDSA")
        found = run("check", **urls, JWT_JWKS_URL=issuer.url)
        assert states(found.out)["jwks"] == "ok"
        assert "2 keys: RS256 k1, EdDSA k2" in found.out
        assert found.status == 0
    found = run("check", **urls, JWT_JWKS_URL=f"http://127.0.0.1:{free_port}/jwks")
    assert states(found.out)["jwks"] == "FAILED"
    assert found.status == 1


def test_what_somebody_should_look_at_is_a_warning(
    run: Run, redis_server: RedisServer, redis_url: str, database_url: str
) -> None:
    """An old backlog and dead letters: Parley runs, so that the status stays 0."""
    urls = {"REDIS_URL": redis_url, "DATABASE_URL": database_url}
    redis_server.command("XADD", Keys(16).archive(3), "1000-0", "e", "x")
    run_sql(
        database_url,
        lambda connection: connection.execute(
            "INSERT INTO dead_letters (room, epoch, event_offset, seq, event, reason, entry) "
            "VALUES ('default/r', 'e', 1, 1, 'message.created', 'unknown_room', 'x')"
        ),
    )
    found = run("check", **urls, JWT_SECRET=SECRET)
    assert states(found.out)["backlog"] == states(found.out)["letters"] == "WARNING"
    assert "1 events wait for an archiver, the oldest for" in found.out
    assert "1 events could not be archived" in found.out
    assert found.status == 0


def test_an_older_schema_is_refused_by_every_process(
    run: Run, redis_url: str, database_url: str
) -> None:
    """One line, status 2: the migration comes first."""
    urls = {"REDIS_URL": redis_url, "DATABASE_URL": database_url}
    run_sql(
        database_url,
        lambda connection: connection.execute("UPDATE alembic_version SET version_num = '0004'"),
    )
    for process in ("broker", "api", "archiver"):
        found = run(process, **urls, JWT_SECRET=SECRET, PORT="0")
        assert found.status == 2
        assert "Traceback" not in found.err
        assert "schema 0004, this version needs" in found.err.splitlines()[-1]
    found = run("check", **urls, JWT_SECRET=SECRET)
    assert states(found.out)["schema"] == "FAILED"
    assert states(found.out)["deployment"] == "skipped"
