"""Secrets are only where they belong: not in outputs, answers, arguments, files open to others.

Each secret is one that nothing else looks like, so that finding it anywhere is a leak.
"""

import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from broker.domain.api_keys import KEY_PREFIX, create_api_key, key_digest
from broker.domain.identity import TokenVerifier
from config.errors import ConfigError
from config.settings import load_settings
from parley.cli import cli
from storage.postgres.pool import open_database
from tests.support.http import request
from tests.support.servers import RedisServer, fetch
from tests.support.sources import ROOT
from tests.support.system import UpProcess
from tests.support.tokens import make_token
from workers.embedded.ports import LOOPBACK, free_port

CANARY = "canary-9f3a-which-is-long-enough-for-a-secret"
PREVIOUS = "canary-77c1-the-former-secret-long-enough-too"


def run(tmp_path: Path, *arguments: str, **env: str) -> str:
    """What a command says that can not do its work, and that it said no secret."""
    ended = subprocess.run(
        [sys.executable, "-m", "parley", *arguments],
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "LOG_FORMAT": "json"} | env,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    said = ended.stdout + ended.stderr
    assert ended.returncode != 0, said
    assert "canary" not in said
    assert "Traceback" not in said
    return said


@pytest.fixture(scope="module")
def locked_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A Redis that wants a password which nobody knows."""
    server = RedisServer(tmp_path_factory.mktemp("locked"))
    server.start()
    server.command("CONFIG", "SET", "requirepass", "nobody-knows-this-password")
    yield server
    server.stop()


async def test_no_failure_of_a_connection_tells_a_password(
    tmp_path: Path, locked_redis: RedisServer, database_url: str
) -> None:
    """Wrong password, nobody there, an address that is none: each is told without it."""
    nobody = f"postgresql://parley:{CANARY}@{LOOPBACK}:{free_port()}/parley"
    account = database_url.split("//")[1].split("@")[0]
    bad_redis = locked_redis.url.replace("redis://", f"redis://:{CANARY}@")
    bad_login = database_url.replace(account, f"parley:{CANARY}")
    secret = {"JWT_SECRET": CANARY, "JWT_SECRET_PREVIOUS": PREVIOUS}
    said = run(tmp_path, "check", REDIS_URL=bad_redis, DATABASE_URL=nobody, **secret)
    assert said.count("FAILED") == 2, said
    assert "password" in said
    run(tmp_path, "migrate", REDIS_URL=bad_redis, DATABASE_URL=bad_login, **secret)


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("DATABASE_URL", f"mysql://parley:{CANARY}@{LOOPBACK}/parley"),
        ("DATABASE_URL", f"parley:{CANARY}@{LOOPBACK}"),
        ("REDIS_URL", f"http://parley:{CANARY}@{LOOPBACK}/0"),
        ("REDIS_URL", f"redis://:{CANARY}@{LOOPBACK}:port/0"),
        ("JWT_SECRET", "canary-short"),
        ("JWT_SECRET_PREVIOUS", "canary-short"),
        ("JWT_PUBLIC_KEY", f"-----BEGIN PUBLIC KEY-----\n{CANARY}\n-----END PUBLIC KEY-----"),
        ("JWT_JWKS_URL", f"ftp://user:{CANARY}@{LOOPBACK}/keys"),
    ],
)
def test_a_wrong_variable_is_named_without_its_secret(variable: str, value: str) -> None:
    """Weak secrets are refused as well; the sentence says how long one must be."""
    given = {"jwt_secret": CANARY} | {variable.lower(): value}
    with pytest.raises(ConfigError) as refused:
        TokenVerifier.from_settings(load_settings(None, **given))
    assert str(refused.value).startswith(variable)
    assert "canary" not in str(refused.value)
    assert "\n" not in str(refused.value)


def test_no_command_takes_a_secret_as_an_argument() -> None:
    """Arguments are for every user of the machine to see."""
    names = {
        option
        for command in cli.commands.values()
        for one in (command, *getattr(command, "commands", {}).values())
        for parameter in one.params
        for option in (*parameter.opts, parameter.name or "")
    }
    words = ("secret", "password", "url", "jwt")
    assert [name for name in names if any(word in name for word in words)] == []


async def test_parley_up_shows_its_secrets_to_its_owner_alone(tmp_path: Path) -> None:
    """Arguments of every process, files, health pages, metrics, and all that the children log."""
    folder = tmp_path / "up"
    up = UpProcess.start(
        folder, env={"JWT_SECRET": CANARY, "JWT_SECRET_PREVIOUS": PREVIOUS, "METRICS_PORT": "0"}
    )
    try:
        await up.wait_ready()
        env = up.env
        passwords = [
            env[name].split("//")[1].split("@")[0].split(":")[1]
            for name in ("REDIS_URL", "DATABASE_URL")
        ]
        tokens = [env["ALICE_TOKEN"], env["BOB_TOKEN"]]
        secrets = [CANARY, PREVIOUS, env["API_KEY"], *tokens, *passwords]
        family = [psutil.Process(up.pid), *up.family().values()]
        arguments = [" ".join(process.cmdline()) for process in family if process.is_running()]
        assert len(arguments) > 5
        assert [line for line in arguments for secret in secrets if secret in line] == []
        assert mode(folder / "up.env") == 0o600
        assert mode(folder / ".parley") == 0o700
        open_files = [
            path
            for path in (folder / ".parley").rglob("*")
            if path.is_file() and path.parent.name != "data" and mode(path) & 0o077
            and any(secret in path.read_text("utf-8", "replace") for secret in secrets)
        ]  # fmt: skip
        assert open_files == []
        bad = make_token("alice", secret="another secret that is long enough to sign")
        broker = env["BROKER_URL"].replace("ws://", "http://").removesuffix("/v1/connect")
        for url in (
            *(f"{broker}/readyz?token={bad}", f"{broker}/healthz", f"{broker}/x?token={bad}"),
            *(f"{env['API_URL']}/readyz", f"{env['API_URL']}/page.json", f"{env['API_URL']}/docs"),
        ):
            answer = await request("GET", url, token=bad)
            assert not any(secret.encode() in answer.body for secret in [*secrets, bad])
        for key in ("parley_" + "x" * 43, env["API_KEY"][:-1] + "x"):
            answer = await request("GET", f"{env['API_URL']}/v1/project", key=key)
            assert (answer.status, key.encode() in answer.body) == (401, False)
        answer = await request("GET", f"{env['API_URL']}/v1/me?token={bad}", token=bad)
        assert answer.status == 401
        # A crash, and a start again.
        up.family()["api"].send_signal(6)
        await up.wait_ready()
        relayed = [
            line
            for line in up.output().splitlines()
            if line.startswith(("broker", "api", "archiver", "redis", "postgres"))
        ]
        assert relayed
        assert [line for line in relayed for secret in [*secrets, bad] if secret in line] == []
        # The banner is for the owner's eyes: it shows the demo's key and tokens, nothing else.
        shown = up.output()
        assert [secret for secret in (CANARY, PREVIOUS, *passwords) if secret in shown] == []
    finally:
        await up.stop()
        up.end()


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


async def test_of_a_key_only_the_digest_is_stored_and_it_can_not_be_guessed(
    database_url: str,
) -> None:
    """It is looked up by SHA-256, so no comparison takes longer for a better guess."""
    async with open_database(database_url, pool_size=1) as db:
        made = [(await create_api_key(db, "default"))[1] for _ in range(20)]
    rows = fetch(database_url, "SELECT api_keys::text AS row, hash, prefix FROM api_keys")
    assert sorted(row["hash"] for row in rows) == sorted(map(key_digest, made))
    for key in made:
        random_part = key.removeprefix(KEY_PREFIX)
        assert len(random_part) == 43, "256 bits in base64"
        assert not any(key in row["row"] for row in rows)
    # Characters of 20 keys at each place: a generator with less to choose from shows here.
    assert all(len({key[at] for key in made}) > 8 for at in range(len(KEY_PREFIX), 49))
