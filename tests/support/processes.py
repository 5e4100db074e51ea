"""Real `parley` processes: started, watched, killed. Their output is kept in files.

They are forked from a process that has imported everything (tests/support/fork_server.py says what
differs), or executed under the product's own guard; none survives the test process.
"""

import re
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import trio

from tests.support import http, tokens
from tests.support.forking import ForkedProcess, fork_server, kept_variables
from tests.support.sources import ROOT
from tests.support.waiting import wait_until
from workers.embedded.guarded import GuardedProcess
from workers.embedded.ports import LOOPBACK, free_port

_READY = re.compile(r"\bis ready\b")


class ServerProcess:
    """One running `parley broker`, `api` or `archiver` (or any other command of ours)."""

    def __init__(
        self, process: GuardedProcess | ForkedProcess, *, kind: str, port: int, log: Path
    ) -> None:
        self._process = process
        self.kind = kind
        self.port = port
        self._log = log

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def url(self) -> str:
        """Where clients go: the WebSocket of a broker, the root of an api."""
        if self.kind == "broker":
            return f"ws://{LOOPBACK}:{self.port}/v1/connect"
        return self.base_url

    @property
    def base_url(self) -> str:
        return f"http://{LOOPBACK}:{self.port}"

    def output(self) -> str:
        """Everything written so far to standard output and error."""
        return self._log.read_text(encoding="utf-8", errors="replace")

    def is_running(self) -> bool:
        return self._process.poll() is None

    async def wait_ready(self, deadline: float = 30.0) -> None:
        """Wait for the line that says so and, where there is a port, for /readyz."""

        async def ready() -> bool:
            if not self.is_running():
                raise AssertionError(f"{self.kind} ended while starting:\n{self.output()}")
            if not _READY.search(self.output()):
                return False
            return self.kind == "archiver" or await self._answers_ready()

        try:
            await wait_until(ready, deadline=deadline, what=f"{self.kind} ready")
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.output()}") from None

    async def _answers_ready(self) -> bool:
        try:
            answer = await http.request("GET", f"{self.base_url}/readyz", timeout=5)
        except OSError:
            return False
        return answer.status == 200

    def kill(self) -> None:
        """kill -9, and wait for the end."""
        self._process.kill()

    def pause(self) -> None:
        """SIGSTOP."""
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT."""
        self._process.send_signal(signal.SIGCONT)

    def terminate(self) -> None:
        """SIGTERM; does not wait."""
        self._process.send_signal(signal.SIGTERM)

    def send_signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    async def wait_ended(self, deadline: float = 30.0) -> int:
        """Wait for the end; the exit status, 128 + N for signal N."""
        with trio.move_on_after(deadline):
            return await trio.to_thread.run_sync(self._process.wait, abandon_on_cancel=True)
        raise AssertionError(f"{self.kind} did not end within {deadline} s:\n{self.output()}")

    async def stop(self, deadline: float = 30.0) -> int:
        """SIGTERM, and wait for the end; the exit status."""
        self.terminate()
        return await self.wait_ended(deadline)


class Processes:
    """Starts processes in a folder with a common environment, and ends them all."""

    def __init__(self, folder: Path, env: dict[str, str]) -> None:
        self.folder = folder
        self.env = {"JWT_SECRET": tokens.JWT_SECRET, "LOG_FORMAT": "text"} | env
        """Variables that every process gets; change it before a start."""
        self.started: list[ServerProcess] = []

    async def start(
        self,
        kind: str,
        *arguments: str,
        ready: bool = True,
        port: int = 0,
        env: Mapping[str, str] | None = None,
        module: str = "parley",
        execute: bool = False,
    ) -> ServerProcess:
        """Start `parley KIND ARGUMENTS` and, with `ready`, wait until it is.

        `port` 0: any free one. `env`: variables for this process only. `module`: what is run in
        the place of `parley`. `execute`: run the command itself, for what forks do not show.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        port = port or free_port()
        log = self.folder / f"{len(self.started)}-{kind}.log"
        with log.open("wb") as output:
            environment = self._environment({"PORT": str(port)} | dict(env or {}))
            # The fork server holds this tree; another release has to be executed.
            is_ours = environment["PYTHONPATH"] == str(ROOT)
            forks = fork_server() if is_ours and not execute else None
            process: GuardedProcess | ForkedProcess
            if forks is not None:
                process = forks.start(
                    module, [kind, *arguments], cwd=self.folder, env=environment, output=output
                )
            else:
                process = GuardedProcess.start(
                    [sys.executable, "-m", module, kind, *arguments],
                    cwd=self.folder,
                    env=environment,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    grace=5.0,
                )
        server = ServerProcess(process, kind=kind, port=port, log=log)
        self.started.append(server)
        if ready:
            await server.wait_ready()
        return server

    async def start_broker(self, **env: str) -> ServerProcess:
        return await self.start("broker", env=env)

    async def start_api(self, **env: str) -> ServerProcess:
        return await self.start("api", env=env)

    async def start_archiver(self, **env: str) -> ServerProcess:
        return await self.start("archiver", env=env)

    def kill_all(self) -> None:
        for server in self.started:
            if server.is_running():
                server.kill()

    def _environment(self, env: Mapping[str, str]) -> dict[str, str]:
        return kept_variables() | {"PYTHONPATH": str(ROOT)} | self.env | dict(env)
