"""The rights in `deploy/`: enough for everything (the shared deployment has no others), no more.

What is listed there is compared with what the code says, so a new command or table fails here and
not in somebody's production.
"""

import ast
import hashlib
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import redis as redis_py

from tests.support.deployment import Deployment
from tests.support.servers import PostgresServer, RedisServer, fetch, run_sql
from tests.support.sources import ROOT, tree
from workers.embedded.guarded import GuardedProcess
from workers.embedded.ports import LOOPBACK, free_port
from workers.embedded.redis import find_redis_server

ACL = (ROOT / "deploy" / "redis-users.acl").read_text(encoding="utf-8").splitlines()
REFUSED_BY_POSTGRES = (
    "CREATE TABLE mine (id int)",
    "CREATE TEMPORARY TABLE mine (id int)",
    "CREATE FUNCTION mine() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "CREATE SCHEMA mine",
    "CREATE ROLE mine",
    "DROP TABLE messages",
    "TRUNCATE messages",
    "ALTER TABLE messages ADD COLUMN mine int",
    "ALTER TABLE messages DISABLE TRIGGER ALL",
    "CREATE INDEX mine ON messages (id)",
    "INSERT INTO projects (id) VALUES ('mine')",
    "INSERT INTO api_keys (id, project, prefix, hash) "
    "VALUES (gen_random_uuid(), 'default', 'parley_', '\\x00')",
    "UPDATE api_keys SET revoked_at = NULL",
    "DELETE FROM api_keys",
    "UPDATE audit SET actor = 'nobody'",
    "DELETE FROM audit",
    "UPDATE settings SET value = 'other'",
    "UPDATE dead_letters SET reason = 'none'",
    "DELETE FROM rooms",
    "DELETE FROM users",
    "UPDATE alembic_version SET version_num = 'other'",
    "COPY messages TO PROGRAM 'id'",
    "SELECT pg_read_file('postgresql.conf')",
    "SELECT * FROM pg_authid",
)
REFUSED_BY_REDIS: tuple[tuple[str, ...], ...] = (
    ("FLUSHALL",),
    ("FLUSHDB",),
    ("KEYS", "*"),
    ("SCAN", "0"),
    ("CONFIG", "GET", "*"),
    ("CONFIG", "SET", "maxmemory-policy", "allkeys-lru"),
    ("CONFIG", "REWRITE"),
    ("SHUTDOWN",),
    ("SAVE",),
    ("DEBUG", "SLEEP", "0"),
    ("MONITOR",),
    ("ACL", "LIST"),
    ("ACL", "SETUSER", "mine", "on", "nopass", "+@all"),
    ("CLIENT", "LIST"),
    ("CLIENT", "KILL", "TYPE", "normal"),
    ("SCRIPT", "FLUSH"),
    ("EVAL", "return 1", "0"),
    ("REPLICAOF", "127.0.0.1", "1"),
    ("MIGRATE", "127.0.0.1", "1", "parley:deployment", "0", "100"),
    ("DUMP", "parley:deployment"),
    ("MODULE", "LIST"),
    ("SUBSCRIBE", "any"),
    ("PUBLISH", "any", "thing"),
    ("GET", "session:of-somebody-else"),
    ("SET", "session:of-somebody-else", "1"),
    ("DEL", "session:of-somebody-else"),
)


@pytest.fixture(scope="module")
def database(shared_processes: Deployment) -> str:
    """The address under which the processes of the shared deployment reach PostgreSQL."""
    return shared_processes.processes.env["DATABASE_URL"]


@pytest.fixture(scope="module")
def redis(shared_processes: Deployment) -> Iterator[redis_py.Redis]:
    """A client with the rights that the same processes have in Redis."""
    with redis_py.Redis.from_url(shared_processes.processes.env["REDIS_URL"]) as client:
        yield client


@pytest.mark.parametrize("statement", REFUSED_BY_POSTGRES)
def test_the_postgres_role_can_do_no_more_than_it_needs(database: str, statement: str) -> None:
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        run_sql(database, lambda connection: connection.execute(statement))


@pytest.mark.parametrize("words", REFUSED_BY_REDIS, ids=" ".join)
def test_the_redis_user_can_do_no_more_than_it_needs(
    redis: redis_py.Redis, words: tuple[str, ...]
) -> None:
    with pytest.raises(redis_py.exceptions.NoPermissionError):
        redis.execute_command(*words)


def test_scripts_reach_no_foreign_key_either(redis: redis_py.Redis) -> None:
    """A script runs with the rights of its caller, whatever key it makes up."""
    made_up: Any = redis.script_load("return redis.call('GET', 'session:of-' .. ARGV[1])")
    with pytest.raises(redis_py.exceptions.ResponseError, match=r"(?i)permission|can't access"):
        redis.evalsha(made_up, 0, "somebody")


def test_every_table_is_in_the_file_of_rights(postgres_server: PostgresServer) -> None:
    """A migration that adds a table has to say what the processes may do with it."""
    url = postgres_server.create_database()
    rights = (ROOT / "deploy" / "postgres-roles.sql").read_text(encoding="utf-8")
    given = " ".join(re.findall(r"^GRANT [^;]* ON\s+([^;]*?)\s+TO parley_service;", rights, re.M))
    named = set(re.findall(r"\w+", given))
    tables = fetch(
        url,
        "SELECT relname FROM pg_class WHERE relkind IN ('r', 'p') AND NOT relispartition "
        "AND relnamespace = 'public'::regnamespace",
    )
    postgres_server.drop_database(url)
    assert named - {"SCHEMA", "public"} == {row["relname"] for row in tables}


def test_a_later_migration_can_be_used_before_the_file_is_run_again(
    postgres_server: PostgresServer,
) -> None:
    url = postgres_server.create_database()
    limited = postgres_server.restrict(url)
    run_sql(url, lambda connection: connection.execute("CREATE TABLE later (id int)"))
    run_sql(limited, lambda connection: connection.execute("INSERT INTO later VALUES (1)"))
    postgres_server.restrict(url)
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        run_sql(limited, lambda connection: connection.execute("SELECT * FROM later"))
    postgres_server.drop_database(url)


def commands_of(user: str) -> set[str]:
    """The commands that the file gives to a user."""
    (line,) = (line for line in ACL if line.split()[1] == user)
    return {word[1:] for word in line.split() if word.startswith("+")}


# Words that look like a command: of scripts' headers, arguments, the first words of error replies.
NO_COMMANDS = {"ask", "auth", "keys", "master", "readonly", "sentinel", "streams"}


def words_sent(path: Path) -> Iterator[str]:
    """The commands that a module sends: capitals that stand first in a call or in a tuple."""
    for node in ast.walk(tree(path)):
        words = node.args if isinstance(node, ast.Call) else getattr(node, "elts", [])
        texts = [word.value for word in words[:2] if isinstance(word, ast.Constant)]
        if texts and isinstance(texts[0], str) and re.fullmatch(r"[A-Z]{3,}", texts[0]):
            is_container = texts[0] in ("SCRIPT", "CLIENT")
            name = "|".join(map(str, texts if is_container else texts[:1])).lower()
            if name not in NO_COMMANDS:
                yield name


def test_the_redis_rights_are_what_the_code_uses() -> None:
    """What checks alone send (fsck) is not the processes' business."""
    folder = ROOT / "storage" / "redis"
    scripts = "".join(path.read_text(encoding="utf-8") for path in folder.rglob("*.lua"))
    called = re.findall(r"redis\.p?call\((?:'([A-Z]+)')?", scripts)
    assert "" not in called, "a script calls a command whose name it works out"
    used = {name.lower() for name in called}
    modules = [path for path in folder.glob("*.py") if path.name != "fsck.py"]
    for path in (*modules, ROOT / "api" / "health.py"):
        used |= set(words_sent(path))
    # Scripts are sent by a prepared head; redis-py's methods are INFO alone.
    assert commands_of("parley") == used | {"evalsha", "info"}
    checks = {*words_sent(folder / "fsck.py"), *words_sent(ROOT / "parley" / "checking.py")}
    checks |= {"info", "get", "set", "select", "role", "time"}
    assert commands_of("parley-check") == checks | {"client|setname"}


@pytest.mark.parametrize("user", ["parley", "parley-check"])
def test_the_users_get_named_commands_and_no_whole_groups(user: str) -> None:
    (line,) = (line.split() for line in ACL if line.split()[1] == user)
    assert line[2:7] == ["on", "resetpass", "resetkeys", "resetchannels", "~parley:*"]
    assert line[7] == "-@all"
    assert all(re.fullmatch(r"\+[a-z]+(\|[a-z]+)?", word) for word in line[8:])


@pytest.mark.parametrize(
    ("user", "options"), [("parley", ()), ("parley-check", ("--rooms",))], ids=str
)
def test_parley_check_needs_no_more(
    shared_processes: Deployment, database: str, tmp_path: Path, user: str, options: tuple[str, ...]
) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "parley", "check", *options],
        cwd=tmp_path,
        env=shared_processes.processes.env
        | {"PYTHONPATH": str(ROOT)}
        | {"REDIS_URL": shared_processes.redis.add_user(user), "DATABASE_URL": database},
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    lines = ended.stdout.splitlines()
    names = [
        "configuration",
        "redis",
        "postgres",
        "schema",
        "deployment",
        "clocks",
        "backlog",
        "letters",
        *["rooms"][: len(options)],
    ]
    assert [line.split(":")[0] for line in lines] == [f"ok      {name}" for name in names], ended
    assert ended.returncode == 0


def test_redis_reads_the_file_and_lets_in_who_was_given_a_password(tmp_path: Path) -> None:
    """As it is the file opens nothing; a digest behind `resetpass` opens one user."""
    digest = hashlib.sha256(b"of-the-operator").hexdigest()
    file = "\n".join([*ACL[:1], ACL[1].replace("resetpass", f"resetpass #{digest}"), *ACL[2:], ""])
    (tmp_path / "users.acl").write_text(file, encoding="utf-8")
    port = free_port()
    server = GuardedProcess.start(
        [find_redis_server(), "--port", str(port), "--bind", LOOPBACK, "--aclfile", "users.acl"],
        cwd=tmp_path,
    )
    try:
        good = redis_py.Redis(
            LOOPBACK, port, username="parley", password="of-the-operator", retry=_patient()
        )
        assert good.ping()
        with pytest.raises(redis_py.exceptions.AuthenticationError):
            redis_py.Redis(LOOPBACK, port).ping()
        for user in ("parley", "parley-check"):
            for password in ("", user):
                stranger = redis_py.Redis(LOOPBACK, port, username=user, password=password)
                with pytest.raises(redis_py.exceptions.AuthenticationError):
                    stranger.ping()
    finally:
        server.stop()


def _patient() -> redis_py.retry.Retry:
    backoff = redis_py.backoff.ConstantBackoff(0.05)
    return redis_py.retry.Retry(backoff, 400, (redis_py.exceptions.ConnectionError,))


def test_a_refused_command_leaves_other_users_alone(private_redis: RedisServer) -> None:
    """The wrong password of a user is no reason to let it in as the default one."""
    url = private_redis.add_user().replace("a-password", "another")
    with (
        redis_py.Redis.from_url(url) as client,
        pytest.raises(redis_py.exceptions.AuthenticationError),
    ):
        client.ping()
