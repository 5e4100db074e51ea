"""The guard: a small process between us and a server, so that the server never outlives us.

It runs as a script of its own (`python -I -S guard.py …`), imports the standard library only and
does one thing: start a command, and end it when its standard input reaches its end. Nobody but the
process that started the guard holds the other end of that pipe, so the end is reached however
that process went: by closing the pipe on purpose, by a crash, or by kill -9.

Rules:
- The command runs in a session of its own, apart from the terminal: Ctrl-C reaches the owner only,
  and the owner decides the order of the end.
- Ending is the stop signal, then, after the grace, SIGKILL for its whole process group. An owner
  that means to end the command writes a byte before it closes the pipe; without that byte the
  owner has died, and the grace is the shorter one: nobody waits for a polite good-bye any more.
- The guard is single-threaded, so on Linux the command can ask the kernel to be killed with the
  guard (PR_SET_PDEATHSIG is tied to the parent's *thread*: asked for from a thread pool it kills
  a healthy server as soon as the pool drops the thread). That covers a guard killed with -9.
- What the command leaves behind is adopted by the guard (PR_SET_CHILD_SUBREAPER), given the grace
  to end by itself, then killed. So when the guard has ended, everything below it has, wherever it
  put itself; and no zombies stay on machines whose first process reaps nothing.
- The user is changed before PDEATHSIG is asked for, because a change of user clears it.
- The report pipe carries one line, `started PID` or `failed REASON`, and stays open until the
  guard ends: readable afterwards means that the command has ended. The exit status is the
  command's, 128 + N for signal N.

The argument is one JSON object: command, stop_signal, grace and orphan_grace (seconds), report
(descriptor), user, group, groups (numbers, or null for our own).
"""

import contextlib
import ctypes
import json
import os
import select
import signal
import sys
import time
from collections.abc import Callable
from types import FrameType
from typing import Any

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36


def main() -> int:
    """Run the command of the first argument until it ends or our owner does."""
    plan: dict[str, Any] = json.loads(sys.argv[1])
    wakeup = _wake_on_signals()
    ask_kernel_to_kill = _prepare_death_signal()
    report: int = plan["report"]
    os.set_inheritable(report, False)
    child, failure = _start(plan, ask_kernel_to_kill)
    if failure:
        os.write(report, f"failed {failure}\n".encode())
        os.waitpid(child, 0)
        return 127
    os.write(report, f"started {child}\n".encode())
    _release_output()
    return _watch(child, wakeup, plan)


def _wake_on_signals() -> int:
    """Make child and stop signals readable from a pipe, so one select() sees everything."""
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    os.set_blocking(writing, False)
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)

    def ignore(_number: int, _frame: FrameType | None) -> None:
        """The wakeup pipe has what we need; the handler must only not be the default."""

    for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, ignore)
    return reading


def _prepare_death_signal() -> Callable[[], None]:
    """Adopt orphans, and return what the child calls to be killed with us.

    Does nothing where the kernel is not Linux. The library is loaded here, before the fork, since
    little is safe between fork and exec.
    """
    if not sys.platform.startswith("linux"):
        return lambda: None
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    guard = os.getpid()

    def ask() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != guard:
            os._exit(1)  # the guard died before the request: nobody would ever end us

    return ask


def _start(plan: dict[str, Any], ask_kernel_to_kill: Callable[[], None]) -> tuple[int, str]:
    """Fork and exec. Returns the child's id and the reason why it could not start, if any."""
    failure_reading, failure_writing = os.pipe()  # closed by a successful exec
    child = os.fork()
    if child == 0:
        try:
            _become(plan, ask_kernel_to_kill)
        except BaseException as error:
            os.write(failure_writing, str(error).encode())
        finally:
            os._exit(127)
    os.close(failure_writing)
    with open(failure_reading, "rb") as pipe:
        return child, pipe.read().decode(errors="replace")


def _become(plan: dict[str, Any], ask_kernel_to_kill: Callable[[], None]) -> None:
    """Turn the forked child into the command. Does not return."""
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    for number in (signal.SIGPIPE, signal.SIGXFSZ):  # Python ignores these; a server must not
        signal.signal(number, signal.SIG_DFL)
    os.setsid()
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    if plan["user"] is not None:
        os.setgroups(plan["groups"])
        os.setgid(plan["group"])
        os.setuid(plan["user"])
    ask_kernel_to_kill()
    command: list[str] = plan["command"]
    os.execvp(command[0], command)


def _release_output() -> None:
    """Let go of the command's output: its reader must see the end when the command ends."""
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 1)
    os.dup2(nothing, 2)
    os.close(nothing)


def _watch(child: int, wakeup: int, plan: dict[str, Any]) -> int:
    """Wait for the child's end, ending it when our owner closes the pipe or asks us to stop."""
    grace: float = plan["orphan_grace"]
    watched = [0, wakeup]
    kill_at: float | None = None
    while True:
        patience = None if kill_at is None else max(0.0, kill_at - time.monotonic())
        readable, _, _ = select.select(watched, [], [], patience)
        stopping = False
        if 0 in readable:
            if os.read(0, 4096):
                grace = plan["grace"]
            else:
                watched = [wakeup]
                stopping = True
        if wakeup in readable:
            asked = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP}
            stopping = stopping or not asked.isdisjoint(os.read(wakeup, 4096))
        status = _reap(child)
        if status is not None:
            _end_remains(child, grace)
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code
        if stopping and kill_at is None:
            kill_at = time.monotonic() + grace
            _signal(child, signal.SIGCONT)  # a stopped process hears nothing else
            _signal(child, signal.Signals(plan["stop_signal"]))
        elif kill_at is not None and time.monotonic() >= kill_at:
            _signal_group(child, signal.SIGKILL)
            kill_at = time.monotonic() + grace


def _reap(child: int) -> int | None:
    """Collect every ended process of ours. Returns the wait status of `child` once it is there."""
    found: int | None = None
    while True:
        try:
            ended, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return found
        if not ended:
            return found
        if ended == child:
            found = status


def _end_remains(child: int, grace: float) -> None:
    """See to the end of what the command has started and left behind."""
    _signal_group(child, signal.SIGKILL)
    kill_at = time.monotonic() + grace
    while True:
        try:
            ended, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if ended:
            continue
        if time.monotonic() >= kill_at:
            for process in _children():
                _signal(process, signal.SIGKILL)
        time.sleep(0.005)


def _children() -> list[int]:
    """Our direct children, from /proc (only Linux hands us orphans)."""
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{name}/stat", "rb") as file:
                # The second field is the name in parentheses and may hold anything.
                after_name = file.read().rpartition(b")")[2].split()
        except OSError:
            continue
        if int(after_name[1]) == os.getpid():
            found.append(int(name))
    return found


def _signal(process: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(process, number)


def _signal_group(leader: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, number)


if __name__ == "__main__":
    # Not sys.exit: there is nothing to clean up, and our owner is waiting.
    os._exit(main())
