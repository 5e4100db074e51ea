"""A guarded process ends with its owner, whatever happens to either."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import psutil
import pytest

from tests.support.owners import is_alive, read_pid, running_owner
from tests.support.waiting import wait_until_sync
from workers.embedded.guarded import GuardedProcess, StartError

_SLEEP = [sys.executable, "-c", "import time; time.sleep(600)"]
_STUBBORN = [
    sys.executable,
    "-c",
    "import signal, sys, time; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
    "print('deaf', flush=True); time.sleep(600)",
]
_OWNER = """
import sys, time
from workers.embedded.guarded import GuardedProcess
process = GuardedProcess.start(sys.argv[1:], orphan_grace=0.2, stdout=1)
print(process.pid, flush=True)
time.sleep(600)
"""


def test_ends_when_the_owner_is_killed() -> None:
    with running_owner(_OWNER, *_SLEEP) as owner:
        pid = read_pid(owner)
        owner.kill()
        wait_until_sync(lambda: not is_alive(pid), what="end of the orphan")


def test_a_deaf_process_ends_too_when_the_owner_is_killed() -> None:
    with running_owner(_OWNER, *_STUBBORN) as owner:
        assert owner.stdout is not None
        lines = {owner.stdout.readline().strip(), owner.stdout.readline().strip()}
        (pid,) = lines - {"deaf"}
        owner.kill()
        wait_until_sync(lambda: not is_alive(int(pid)), what="end of the deaf orphan")


def test_what_the_process_has_started_ends_with_it(tmp_path: Path) -> None:
    """Even what went into a session of its own, as PostgreSQL's processes do."""
    code = (
        "import subprocess, sys\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'],"
        " start_new_session=True, stdout=subprocess.DEVNULL)\n"
        "print(child.pid, flush=True)\n"
        "sys.stdin.read()\n"
        "import time; time.sleep(600)\n"
    )
    with running_owner(_OWNER, sys.executable, "-c", code) as owner:
        pids = [read_pid(owner), read_pid(owner)]
        owner.kill()
        wait_until_sync(lambda: not any(map(is_alive, pids)), what="end of the whole family")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_ends_when_the_guard_itself_is_signalled(number: signal.Signals) -> None:
    process = GuardedProcess.start(_SLEEP)
    os.kill(process.guard_pid, number)
    wait_until_sync(lambda: not is_alive(process.pid), what="end of the process")
    process.wait()


def test_outlives_the_thread_that_started_it() -> None:
    started: list[GuardedProcess] = []
    thread = threading.Thread(target=lambda: started.append(GuardedProcess.start(_SLEEP)))
    thread.start()
    thread.join()
    (process,) = started
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.2)
    assert process.stop() == 128 + signal.SIGTERM


def test_is_out_of_reach_of_the_terminal() -> None:
    process = GuardedProcess.start(_SLEEP)
    try:
        assert os.getsid(process.pid) != os.getsid(0)
        assert os.getsid(process.guard_pid) != os.getsid(0)
    finally:
        process.kill()


def test_the_exit_status_is_the_commands() -> None:
    process = GuardedProcess.start([sys.executable, "-c", "raise SystemExit(7)"])
    assert process.wait() == 7


def test_a_deaf_process_is_killed_after_the_grace(tmp_path: Path) -> None:
    with open(tmp_path / "output", "w+b") as output:
        process = GuardedProcess.start(_STUBBORN, stdout=output, grace=0.2)
        wait_until_sync(lambda: (tmp_path / "output").read_bytes(), what="it is deaf")
        assert process.stop() == 128 + signal.SIGKILL


def test_a_suspended_process_can_be_stopped() -> None:
    process = GuardedProcess.start(_SLEEP)
    process.send_signal(signal.SIGSTOP)
    stopped = psutil.Process(process.pid)
    wait_until_sync(lambda: stopped.status() == psutil.STATUS_STOPPED, what="it is suspended")
    assert process.stop() == 128 + signal.SIGTERM


def test_stopping_twice_and_signalling_the_dead_is_harmless() -> None:
    process = GuardedProcess.start(_SLEEP)
    process.stop()
    process.stop()
    process.send_signal(signal.SIGTERM)
    assert process.poll() == 128 + signal.SIGTERM


def test_a_command_that_does_not_exist_is_an_error() -> None:
    with pytest.raises(StartError, match="no-such-program"):
        GuardedProcess.start(["no-such-program"])


def test_the_end_can_be_waited_for_on_a_descriptor() -> None:
    process = GuardedProcess.start([sys.executable, "-c", "pass"])
    with open(os.dup(process.ended_fd), "rb") as ended:
        assert ended.read() == b""
    assert process.wait() == 0
