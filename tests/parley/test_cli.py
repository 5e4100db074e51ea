"""The command line: help for everything, one line for every mistake."""

import subprocess
import sys
from pathlib import Path

import pytest

from broker.domain.identity import TokenVerifier
from config.settings import load_settings
from parley import cli
from tests.parley.conftest import SECRET, Run

COMMANDS = [
    "up", "broker", "api", "archiver", "migrate", "restored", "token", "apikey", "deadletters",
    "check", "bench", "demo",
]  # fmt: skip


@pytest.mark.parametrize(
    "command",
    [
        "",
        *COMMANDS,
        "apikey create",
        "apikey list",
        "deadletters list",
        "deadletters putback",
    ],
)
def test_every_command_has_help(run: Run, command: str) -> None:
    found = run(*command.split(), "--help")
    assert found.status == 0
    assert found.out.startswith(f"Usage: parley {command}".rstrip())
    assert found.err == ""


def test_the_list_of_commands_is_the_contract(run: Run) -> None:
    assert sorted(cli.cli.commands) == sorted(COMMANDS)
    assert set(COMMANDS) <= set(run("--help").out.split())


def test_the_version_is_told_with_or_without_being_installed(run: Run) -> None:
    assert run("--version").out.startswith("parley")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nonsense"], "No such command 'nonsense'"),
        (["token"], "Missing option '--user'"),
        (["token", "--user", "a/b"], "'a/b' is not a user id"),
        (["token", "--user", "a", "--ttl", "5x"], "unknown unit 'x'"),
        (["token", "--user", "a", "--ttl", "0s"], "ttl must be above 0"),
        (["token", "--user", "a", "--room", "a/b"], "not a room id"),
        (["up", "--broker-port", "70000"], "70000 is not in the range"),
        (["apikey", "create", "--project", "a b"], "'a b' is not a project id"),
        (["broker", "--nonsense"], "No such option"),
    ],
)
def test_wrong_usage_is_one_line_and_status_2(run: Run, arguments: list[str], words: str) -> None:
    found = run(*arguments, JWT_SECRET=SECRET)
    assert words in found.error_line
    assert found.error_line.startswith("parley: ")
    assert (found.status, found.out) == (2, "")


@pytest.mark.parametrize(
    ("command", "variable"),
    [
        ("broker", "REDIS_URL"),
        ("api", "REDIS_URL"),
        ("archiver", "REDIS_URL"),
        ("check", "REDIS_URL"),
        ("migrate", "DATABASE_URL"),
        ("apikey list", "DATABASE_URL"),
        ("token --user anna", "JWT_SECRET"),
    ],
)
def test_a_missing_variable_is_one_line_and_status_2(run: Run, command: str, variable: str) -> None:
    found = run(*command.split())
    assert found.error_line.startswith(f"parley: {variable}: it is missing")
    assert (found.status, found.out) == (2, "")


@pytest.mark.parametrize("command", ["up", "broker", "api", "archiver", "migrate", "check"])
def test_a_wrong_variable_is_one_line_and_status_2(run: Run, command: str) -> None:
    found = run(command, PING_INTERVAL="25")
    assert found.error_line.startswith("parley: PING_INTERVAL: '25' has no unit; allowed: ")
    assert (found.status, found.out) == (2, "")


@pytest.mark.parametrize("command", ["migrate", "apikey list", "apikey create --project p"])
def test_a_database_that_is_away_is_one_line_and_status_1(
    run: Run, free_port: int, command: str
) -> None:
    found = run(*command.split(), DATABASE_URL=f"postgresql://u:hunter2@127.0.0.1:{free_port}/d")
    assert found.error_line.startswith("parley: postgres: ")
    assert "hunter2" not in found.err
    assert (found.status, found.out) == (1, "")


def test_a_token_says_what_was_asked_for(run: Run) -> None:
    found = run(
        "token", "--user", "anna", "--ttl", "5m", "--project", "shop", "--name", "Anna",
        "--room", "r1", "--room", "r2", JWT_SECRET=SECRET,
    )  # fmt: skip
    assert (found.status, found.err) == (0, "")
    verifier = TokenVerifier.from_settings(load_settings(None, jwt_secret=SECRET))
    identity = verifier.verify(found.out.strip())
    assert (identity.user, identity.project, identity.name) == ("anna", "shop", "Anna")
    assert identity.issued_at is not None
    assert 299 <= identity.expires_at - identity.issued_at <= 300
    assert identity.rooms == dict.fromkeys(("r1", "r2"), frozenset({"join", "publish"}))


def test_a_token_lasts_a_day_if_nothing_is_said(run: Run) -> None:
    found = run("token", "--user", "anna", JWT_SECRET=SECRET)
    verifier = TokenVerifier.from_settings(load_settings(None, jwt_secret=SECRET))
    identity = verifier.verify(found.out.strip())
    assert identity.issued_at is not None
    assert round(identity.expires_at - identity.issued_at) == 86_400


def test_the_file_in_the_folder_is_read(run: Run, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text(f"JWT_SECRET={SECRET}\n")
    assert run("token", "--user", "anna").status == 0


def test_an_unforeseen_error_keeps_its_traceback(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> str:
        raise RuntimeError("a bug")

    monkeypatch.setattr("parley.administration.run_migrate", fail)
    with pytest.raises(RuntimeError, match="a bug"):
        run("migrate")


@pytest.mark.parametrize(
    "raised", [KeyboardInterrupt(), BaseExceptionGroup("", [KeyboardInterrupt()])]
)
def test_ctrl_c_is_no_traceback(
    run: Run, monkeypatch: pytest.MonkeyPatch, raised: BaseException
) -> None:
    def interrupt() -> str:
        raise raised

    monkeypatch.setattr("parley.administration.run_migrate", interrupt)
    assert run("migrate").status == 130


def test_the_module_runs_as_a_process_of_its_own(tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "parley", "token", "--user", "anna"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(Path(__file__).parents[2]), "JWT_SECRET": "short"},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert ended.returncode == 2
    assert ended.stdout == ""
    assert ended.stderr.startswith("parley: JWT_SECRET: it is 5 bytes long")
    assert len(ended.stderr.splitlines()) == 1
