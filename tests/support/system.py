"""A whole system as a user starts it: `parley up` in a folder of its own."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import psutil
import trio

from tests.support import http
from tests.support.owners import ROOT
from tests.support.waiting import wait_until
from workers.embedded.guarded import GuardedProcess

_KEPT_VARIABLES = ("PATH", "HOME", "LANG", "TMPDIR")


class UpProcess:
    """One `parley up`; `env` holds the lines of its env file once it is ready."""

    def __init__(self, folder: Path, process: GuardedProcess, log: Path, env_file: Path) -> None:
        self.folder = folder
        self._process = process
        self._log = log
        self._env_file = env_file

    @classmethod
    def start(
        cls,
        folder: Path,
        *options: str,
        env: Mapping[str, str] | None = None,
        wrap: Callable[[list[str]], list[str]] = list,
    ) -> "UpProcess":
        """Start it on free ports with `folder` as working directory; does not wait.

        `wrap` may change the command line, to run it as somebody else.
        """
        folder.mkdir(parents=True, exist_ok=True)
        logs = len(list(folder.parent.glob(f"{folder.name}-*.log")))
        log = folder.parent / f"{folder.name}-{logs}.log"
        env_file = folder / "up.env"
        ports = [] if "--broker-port" in options else ["--broker-port", "0", "--api-port", "0"]
        command = [sys.executable, "-m", "parley", "up", *ports, "--env-file", str(env_file)]
        inherited = {name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ}
        with log.open("wb") as output:
            process = GuardedProcess.start(
                wrap([*command, *options]),
                cwd=folder,
                env=inherited
                | {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
                | dict(env or {}),
                stdout=output,
                stderr=subprocess.STDOUT,
                grace=30.0,
            )
        return cls(folder, process, log, env_file)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def env(self) -> dict[str, str]:
        lines = self._env_file.read_text().splitlines()
        return dict(line.split("=", 1) for line in lines)

    def output(self) -> str:
        return self._log.read_text(encoding="utf-8", errors="replace")

    async def wait_ready(self, deadline: float = 90.0) -> None:
        """Wait for the end of the banner."""

        def ready() -> bool:
            if self._process.poll() is not None:
                raise AssertionError(f"parley up ended:\n{self.output()}")
            return "Ctrl-C stops everything" in self.output()

        try:
            await wait_until(ready, deadline=deadline, what="parley up ready")
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.output()}") from None

    async def wait_ended(self, deadline: float = 45.0) -> int:
        """Wait for the end; the exit status."""
        with trio.move_on_after(deadline):
            return await trio.to_thread.run_sync(self._process.wait, abandon_on_cancel=True)
        raise AssertionError(f"parley up did not end within {deadline} s:\n{self.output()}")

    async def stop(self, number: signal.Signals = signal.SIGINT) -> int:
        """What Ctrl-C does; the exit status."""
        self._process.send_signal(number)
        return await self.wait_ended()

    def kill(self) -> None:
        """kill -9 of the supervisor alone; nothing else is told."""
        os.kill(self.pid, signal.SIGKILL)

    def end(self) -> None:
        """For the end of a test: whatever still runs is killed."""
        if self._process.poll() is None:
            self._process.kill()

    def family(self) -> dict[str, psutil.Process]:
        """Every process below the supervisor, by a short name (PostgreSQL's own ones numbered)."""
        found: dict[str, psutil.Process] = {}
        for process in psutil.Process(self.pid).children(recursive=True):
            try:
                name = _short_name(process)
            except psutil.NoSuchProcess:
                continue  # it has ended since the list was made
            found[name if name not in found else f"{name} {process.pid}"] = process
        return found

    async def request(self, method: str, path: str, body: object = None) -> http.Response:
        """A REST request with the demo API key."""
        env = self.env
        return await http.request(method, env["API_URL"] + path, body=body, key=env["API_KEY"])


def _short_name(process: psutil.Process) -> str:
    words: list[str] = process.cmdline()
    if any(word.endswith("guard.py") for word in words):
        return f"guard {process.pid}"
    if "parley" in words:
        return words[words.index("parley") + 1]
    return Path(words[0].split(" ")[0].rstrip(":")).name if words else "?"
