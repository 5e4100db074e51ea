"""A child process that ends when we do, even when we are killed with -9 (see guard.py).

Everything here is synchronous and may be called from any thread. Trio code runs `start`, `stop`
and `wait` in a worker thread, and can wait for the end with
`trio.lowlevel.wait_readable(process.ended_fd)`.
"""

import contextlib
import json
import os
import pwd
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Self

_GUARD = Path(__file__).with_name("guard.py")


class StartError(Exception):
    """A server or process could not be started; the text says why in one line or a few."""


@dataclass(frozen=True, slots=True)
class Account:
    """The system user that a command runs as."""

    user: int
    group: int

    @classmethod
    def named(cls, name: str) -> Self | None:
        """The account of that name, None if this machine has none."""
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            return None
        return cls(user=entry.pw_uid, group=entry.pw_gid)


class GuardedProcess:
    """A running command under a guard. Start it with `start`; end it with `stop` or `kill`."""

    def __init__(self, guard: subprocess.Popen[bytes], report: IO[bytes], pid: int) -> None:
        self._guard = guard
        self._report = report
        self.pid = pid
        """The command's own process id (not the guard's)."""
        self.guard_pid = guard.pid

    @classmethod
    def start(
        cls,
        command: Sequence[str | Path],
        *,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        stdout: int | IO[bytes] = subprocess.DEVNULL,
        stderr: int | IO[bytes] = subprocess.DEVNULL,
        account: Account | None = None,
        stop_signal: signal.Signals = signal.SIGTERM,
        grace: float = 10.0,
        orphan_grace: float = 5.0,
        keep_open: Sequence[int] = (),
    ) -> Self:
        """Start `command` and return once it has been executed.

        `stdout` and `stderr` are real files or descriptors, not PIPE; `grace` is how many seconds
        the command has between its stop signal and SIGKILL, `orphan_grace` the same when we
        have died without stopping it; `keep_open` are descriptors that it
        (and everything it starts) inherits. Raises StartError if it can not be executed.
        """
        reading, writing = os.pipe()
        plan = {
            "command": [str(word) for word in command],
            "stop_signal": int(stop_signal),
            "grace": grace,
            "orphan_grace": orphan_grace,
            "report": writing,
            "user": account.user if account else None,
            "group": account.group if account else None,
            "groups": [account.group] if account else [],
        }
        try:
            guard = subprocess.Popen(
                [sys.executable, "-I", "-S", str(_GUARD), json.dumps(plan)],
                stdin=subprocess.PIPE,
                bufsize=0,
                stdout=stdout,
                stderr=stderr,
                cwd=cwd,
                env=env,
                pass_fds=[writing, *keep_open],
                start_new_session=True,
            )
        except OSError as error:
            os.close(reading)
            raise StartError(f"can not start {plan['command']}: {error}") from error
        finally:
            os.close(writing)
        report = open(reading, "rb", buffering=0)  # noqa: SIM115 - closed in _finish
        return cls._from_report(guard, report, str(command[0]))

    @classmethod
    def _from_report(cls, guard: subprocess.Popen[bytes], report: IO[bytes], name: str) -> Self:
        line = _read_line(report)
        word, _, rest = line.partition(" ")
        if word == "started":
            return cls(guard, report, int(rest))
        report.close()
        assert guard.stdin is not None
        guard.stdin.close()
        guard.wait()
        raise StartError(f"can not start {name}: {rest or 'the guard ended early'}")

    @property
    def ended_fd(self) -> int:
        """A descriptor that becomes readable when the command has ended. Valid until then."""
        return self._report.fileno()

    def poll(self) -> int | None:
        """The exit status (128 + N for signal N), None while the command runs."""
        status = self._guard.poll()
        if status is None:
            return None
        self._finish()
        return _as_status(status)

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end. Raises subprocess.TimeoutExpired after `timeout` seconds."""
        status = self._guard.wait(timeout)
        self._finish()
        return _as_status(status)

    def send_signal(self, number: signal.Signals) -> None:
        """Signal the command itself; nothing happens if it has ended."""
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def request_stop(self) -> None:
        """Have the guard end the command: stop signal, grace, SIGKILL. Returns at once."""
        pipe = self._guard.stdin
        assert pipe is not None
        if not pipe.closed:
            with contextlib.suppress(BrokenPipeError):
                pipe.write(b".")
            pipe.close()

    def stop(self) -> int:
        """End the command as `request_stop` does, and wait until it has ended."""
        self.request_stop()
        return self.wait()

    def kill(self) -> int:
        """End the command with SIGKILL and wait until it has ended."""
        self.send_signal(signal.SIGKILL)
        return self.wait()

    def _finish(self) -> None:
        self.request_stop()
        self._report.close()


def _as_status(code: int) -> int:
    """The guard's return code as an exit status: negative ones mean it was itself killed."""
    return code if code >= 0 else 128 - code


def _read_line(report: IO[bytes]) -> str:
    """One line, byte by byte: nothing after it may be taken from the pipe."""
    line = b""
    while not line.endswith(b"\n"):
        byte = report.read(1)
        if not byte:
            break
        line += byte
    return line.decode(errors="replace").strip()
