"""The fork server: has imported all of the product once, and forks a process for each start.

Nearly all that a start of a process costs is the importing: a second of processor time, and the
suite starts hundreds. This program imports first and then waits for requests of its one owner, the
test process (tests/support/forking.py); for each it forks, and the child runs the module asked for
as `__main__`.

A child behaves as an executed one would: it leads a session of its own; its folder, environment,
arguments, output, signals and open files are its own; a traceback, an exit status, kill -9 and
SIGSTOP are real. What differs: /proc shows the command line of this program; all that the product
may ever import is already there; sets of strings have one order in all children of a server. A test
that is about any of that starts its process with `execute=True` (tests/support/processes.py).

Rules:
- Nothing is done here but importing: no thread, which a fork would lose, and no random number,
  which all children would have in common.
- Nothing outlives the owner. When its end of the socket closes, however it went, every child is
  killed; should this program itself be killed, the kernel kills them (PR_SET_PDEATHSIG).
- The report pipe of a child carries its exit status, once it has ended.
"""

import atexit
import ctypes
import importlib
import json
import os
import runpy
import select
import signal
import socket
import sys
import threading
from dataclasses import dataclass
from types import FrameType
from typing import NoReturn

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_REQUEST_MAX = 1_000_000


@dataclass(frozen=True)
class Request:
    """What the owner asks for: `python -m MODULE ARGUMENTS` in a folder with an environment."""

    module: str
    arguments: list[str]
    folder: str
    env: dict[str, str]


class ForkServer:
    """Answers the owner's requests with process ids, and reports how the children end."""

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._children: dict[int, int] = {}
        """Child → where its exit status is reported."""
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        self._wakeup, self._waking = _wake_on_children()

    def serve(self) -> Request | None:
        """Serve until the owner has gone: None. In a forked child: what it is to run."""
        asking = self._control.fileno()
        while True:
            readable, _, _ = select.select([asking, self._wakeup], [], [])
            if self._wakeup in readable:
                os.read(self._wakeup, 4096)
                self._reap()
            if asking in readable:
                data, descriptors, _, _ = socket.recv_fds(self._control, _REQUEST_MAX, 2)
                if not data:
                    self._end_children()
                    return None
                request = Request(**json.loads(data))
                output, report = descriptors
                if self._fork(output, report) == 0:
                    return request

    def _fork(self, output: int, report: int) -> int:
        assert len(os.listdir("/proc/self/task")) == 1, "a thread would be lost in the child"
        server = os.getpid()
        child = os.fork()
        if child == 0:
            self._become_child(server, output)
            return 0
        os.close(output)
        self._children[child] = report
        self._control.send(str(child).encode())
        return child

    def _become_child(self, server: int, output: int) -> None:
        signal.set_wakeup_fd(-1)
        # As the guard does before it executes a command, whatever this process was started with.
        for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        os.setsid()
        self._libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != server:
            os._exit(1)  # the server died before the request: nobody would ever end us
        os.dup2(output, 1)
        os.dup2(output, 2)
        self._control.detach()
        os.closerange(3, os.sysconf("SC_OPEN_MAX"))

    def _reap(self) -> None:
        """Report and forget every child that has ended, and kill what it has left behind."""
        while True:
            try:
                ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                return
            if ended is None:
                return
            # While it is not collected, nobody else can get its id.
            _kill_group(ended.si_pid)
            _, status = os.waitpid(ended.si_pid, 0)
            report = self._children.pop(ended.si_pid, None)
            if report is not None:  # else an orphan, adopted
                code = os.waitstatus_to_exitcode(status)
                _report(report, code if code >= 0 else 128 - code)

    def _end_children(self) -> None:
        for child in self._children:
            _kill_group(child)
            os.kill(child, signal.SIGKILL)  # it may not lead its group yet
        for child in self._children:
            os.waitpid(child, 0)


def run(request: Request) -> NoReturn:
    """Be the process that was asked for, and end as Python does.

    But for the modules, which would be taken to pieces one by one: it takes half a second, and
    nobody sees it.
    """
    os.chdir(request.folder)
    os.environ.clear()
    os.environ.update(request.env)
    sys.path[0] = request.folder
    sys.argv = [request.module, *request.arguments]
    _draw_other_numbers()
    status = 0
    try:
        runpy.run_module(request.module, run_name="__main__", alter_sys=True)
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
    except BaseException as error:
        sys.excepthook(type(error), error, error.__traceback__)
        status = 130 if isinstance(error, KeyboardInterrupt) else 1
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status & 0xFF)


def _draw_other_numbers() -> None:
    """Give the child numbers of its own. Python does it for `random` itself and OpenSSL for its
    own; trio's order of tasks is drawn by a generator that was seeded at its import."""
    import trio

    trio._core._run._r.seed()


def _wake_on_children() -> tuple[int, int]:
    """Make the ends of children readable, so that one select() sees everything."""
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    os.set_blocking(writing, False)
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)

    def ignore(_number: int, _frame: FrameType | None) -> None:
        """The pipe has what is needed; the handler must only not be the default."""

    signal.signal(signal.SIGCHLD, ignore)
    return reading, writing


def _kill_group(leader: int) -> None:
    try:
        os.killpg(leader, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return


def _report(pipe: int, status: int) -> None:
    try:
        os.write(pipe, b"%d" % status)
    except BrokenPipeError:
        pass  # nobody asks any more
    finally:
        os.close(pipe)


def main() -> None:
    """Import the modules of the arguments after the first, and serve the owner, who holds the other
    end of the descriptor in the first."""
    control = socket.socket(fileno=int(sys.argv[1]))
    for module in sys.argv[2:]:
        importlib.import_module(module)
    control.send(b"ready")
    request = ForkServer(control).serve()
    if request is not None:
        run(request)


if __name__ == "__main__":
    main()
