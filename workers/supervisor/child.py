"""One child process of `parley up`: its output, its restarts, its end.

`run_child` owns the process. Cancelling it is how the child is ended: the guard sends SIGTERM,
waits the grace, then kills; the last lines of output are still shown. Crashes before the first
readiness are not repaired but reported, since they are mistakes of configuration or of ours that
a restart can not mend; later ones are, with a growing pause.
"""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import trio

from workers.embedded.guarded import GuardedProcess
from workers.supervisor.console import Console

_BACKOFF_MIN = 0.5
_BACKOFF_MAX = 15.0
# A child that ran for so long was healthy: its next crash starts with a short pause again.
_HEALTHY_AFTER = 30.0
_LINE_BYTES_MAX = 16 * 1024
_READY = re.compile(rb"\bis ready\b")


class ChildFailed(Exception):
    """A child ended before it was ever ready."""

    def __init__(self, name: str, status: int) -> None:
        super().__init__(f"{name} ended while starting, {describe_status(status)}")
        self.status = status


@dataclass(slots=True)
class Child:
    """What is to run, and what is known about it while it does."""

    name: str
    env: Mapping[str, str]
    grace: float
    """Seconds between SIGTERM and SIGKILL."""
    said_ready: trio.Event = field(default_factory=trio.Event)
    """Set when the child's output said that it is ready, the first time."""
    is_past_start: bool = False
    """Set by the owner once the whole system has been ready: crashes are repaired from now on."""
    process: GuardedProcess | None = None
    command: Sequence[str] = ()
    """Default: the command `parley NAME` of this installation."""

    def __post_init__(self) -> None:
        self.command = self.command or (*_python(), "-m", "parley", self.name)


def _python() -> list[str]:
    """The interpreter, told not to look for modules in the working directory.

    Our packages have everyday names; somebody's own `config` or `api` folder must not be taken
    for them. Only in our own source tree the working directory is where they are.
    """
    is_source_tree = Path(__file__).resolve().parents[2] == Path.cwd()
    return [sys.executable] if is_source_tree else [sys.executable, "-P"]


async def run_child(child: Child, console: Console, hurry: trio.Event) -> None:
    """Run the child until cancelled, restarting it when it crashes.

    `hurry` set: the end is SIGKILL at once. Raises ChildFailed if the child ends before the
    system was ready. The child has ended when this returns or raises, whatever the reason.
    """
    pause = _BACKOFF_MIN
    while True:
        started_at = trio.current_time()
        status = await _run_once(child, console, hurry)
        if not child.is_past_start:
            raise ChildFailed(child.name, status)
        if trio.current_time() - started_at >= _HEALTHY_AFTER:
            pause = _BACKOFF_MIN
        console.complain(
            f"{child.name} ended, {describe_status(status)}; starting it again in {pause:g} s"
        )
        await trio.sleep(pause)
        pause = min(pause * 2, _BACKOFF_MAX)


async def _run_once(child: Child, console: Console, hurry: trio.Event) -> int:
    reading, writing = os.pipe()
    output = trio.lowlevel.FdStream(reading)
    try:
        # Not in a worker thread: a cancellation must never leave a process without an owner.
        child.process = GuardedProcess.start(
            child.command,
            env=child.env,
            stdout=writing,
            stderr=subprocess.STDOUT,
            grace=child.grace,
            orphan_grace=2.0,
        )
    finally:
        os.close(writing)
    async with output:
        try:
            await _relay(output, child, console)
            await trio.lowlevel.wait_readable(child.process.ended_fd)
        except BaseException:
            with trio.CancelScope(shield=True):
                await _end(child.process, output, child, console, hurry)
            raise
    return child.process.wait()


async def _end(
    process: GuardedProcess,
    output: trio.abc.ReceiveStream,
    child: Child,
    console: Console,
    hurry: trio.Event,
) -> None:
    """End the child, showing what it still says. Bounded by its grace, which the guard keeps."""
    process.request_stop()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_kill_when_set, hurry, process)
        await _relay(output, child, console)
        await trio.lowlevel.wait_readable(process.ended_fd)
        process.wait()
        nursery.cancel_scope.cancel()


async def _kill_when_set(hurry: trio.Event, process: GuardedProcess) -> None:
    await hurry.wait()
    process.send_signal(signal.SIGKILL)


async def _relay(output: trio.abc.ReceiveStream, child: Child, console: Console) -> None:
    """Show the child's output line by line until it ends."""
    kept = b""
    while data := await output.receive_some():
        *lines, kept = (kept + data).split(b"\n")
        if len(kept) > _LINE_BYTES_MAX:
            lines, kept = [*lines, kept], b""
        for line in lines:
            _show(line, child, console)
    if kept:
        _show(kept, child, console)


def _show(line: bytes, child: Child, console: Console) -> None:
    console.relay(child.name, line.decode(errors="replace").rstrip("\r"))
    if _READY.search(line):
        child.said_ready.set()


def describe_status(status: int) -> str:
    """An exit status in words."""
    if status > 128:
        try:
            return f"killed by {signal.Signals(status - 128).name}"
        except ValueError:
            pass
    return f"exit status {status}"
