"""Processes that are forked from one that has imported everything: the owner's side.

`fork_server.py` says why, and what differs from processes that are executed. There is one fork
server for each test process; it is started with the first process, and ends with its owner.
"""

import atexit
import contextlib
import functools
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

from tests.support.sources import ROOT

SERVER = "tests.support.fork_server"
# The composition roots, and what they import only while they run.
IMPORTS = (
    "parley.cli",
    "parley.serving",
    "broker.main",
    "api.main",
    "workers.archiver.main",
    "anyio._backends._asyncio",
    "uvloop",
)
KEPT_VARIABLES = ("PATH", "HOME", "LANG", "TMPDIR")
"""What processes of ours get from the environment of the tests."""


class ForkedProcess:
    """A running child of the fork server; what it offers is a part of GuardedProcess."""

    def __init__(self, pid: int, report: int) -> None:
        self.pid = pid
        self._report = report
        self._status: int | None = None
        self._lock = threading.Lock()

    def poll(self) -> int | None:
        """The exit status (128 + N for signal N), None while it runs."""
        with self._lock:
            if self._status is None and self._has_reported(0):
                # Without a report the fork server is gone, and with it all of its children.
                self._status = int(os.read(self._report, 16) or 128 + signal.SIGKILL)
                os.close(self._report)
            return self._status

    def wait(self) -> int:
        """Wait for the end; the exit status. More than one thread may wait."""
        while (status := self.poll()) is None:
            self._has_reported(0.1)
        return status

    def send_signal(self, number: signal.Signals) -> None:
        """Signal it; nothing happens if it has ended."""
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def kill(self) -> int:
        """End it with SIGKILL and wait until it has ended."""
        self.send_signal(signal.SIGKILL)
        return self.wait()

    def _has_reported(self, timeout: float) -> bool:
        waiting = select.poll()
        waiting.register(self._report, select.POLLIN)
        return bool(waiting.poll(timeout * 1000))


class ForkServer:
    """The running fork server of this process; get it from `fork_server`."""

    def __init__(self, imports: Sequence[str] = IMPORTS) -> None:
        self._control, its_end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._lock = threading.Lock()
        with its_end:
            self._process = subprocess.Popen(
                [sys.executable, "-m", SERVER, str(its_end.fileno()), *imports],
                cwd=ROOT,
                env=kept_variables() | {"PYTHONPATH": str(ROOT)},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=[its_end.fileno()],
                start_new_session=True,
            )
        self.pid = self._process.pid
        self._answer()

    def start(
        self,
        module: str,
        arguments: Sequence[str],
        *,
        cwd: Path,
        env: Mapping[str, str],
        output: IO[bytes],
    ) -> ForkedProcess:
        """Run `python -m MODULE ARGUMENTS` in a fork; both of its outputs go to a file."""
        request = {
            "module": module,
            "arguments": list(arguments),
            "folder": str(cwd),
            "env": dict(env),
        }
        reading, writing = os.pipe()
        try:
            with self._lock:
                descriptors = [output.fileno(), writing]
                socket.send_fds(self._control, [json.dumps(request).encode()], descriptors)
                pid = int(self._answer())
        except BaseException:
            os.close(reading)
            raise
        finally:
            os.close(writing)
        return ForkedProcess(pid, reading)

    def close(self) -> None:
        """End it, and whatever it has forked."""
        self._control.close()
        self._process.wait()

    def _answer(self) -> bytes:
        answer = self._control.recv(64)
        assert answer, "the fork server has ended; it says why on standard error"
        return answer


@functools.cache
def fork_server() -> ForkServer | None:
    """The fork server of this process, started now if need be; None where the kernel is not
    Linux, since it alone makes sure that nothing is left."""
    if not sys.platform.startswith("linux"):
        return None
    server = ForkServer()
    atexit.register(server.close)
    return server


def kept_variables() -> dict[str, str]:
    return {name: os.environ[name] for name in KEPT_VARIABLES if name in os.environ}
