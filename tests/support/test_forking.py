"""Forked processes behave as executed ones, and end with their owner."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.support.forking import ForkedProcess, ForkServer, kept_variables
from tests.support.owners import is_alive, read_pid, running_owner
from tests.support.sources import ROOT
from tests.support.waiting import wait_until_sync
from workers.embedded.guarded import GuardedProcess

_SURROUNDINGS = """
import gc, json, os, signal, sys, threading
print(json.dumps({
    "open": sorted(name for name in os.listdir("/proc/self/fd")
                   if os.path.exists(f"/proc/self/fd/{name}")),
    "name": __name__,
    "arguments": sys.argv[1:],
    "folder": os.getcwd(),
    "first on the path": sys.path[0],
    "environment": dict(os.environ),
    "environment of children": os.popen("echo $COLOUR").read(),
    "leads a session": os.getsid(0) == os.getpid(),
    "input": sys.stdin.read(),
    "handlers": {number.name: str(signal.getsignal(number)) for number in signal.valid_signals()
                 if isinstance(number, signal.Signals)},
    "threads": threading.active_count(),
    "freezes": gc.get_freeze_count(),
    "buffers": [sys.stdout.line_buffering, sys.stderr.line_buffering, sys.stdout.isatty()],
}))
"""
_NUMBERS = """
import os, random, secrets, ssl, tempfile, uuid
import trio, uuid_utils
print(random.random(), trio._core._run._r.random(), secrets.token_hex(), ssl.RAND_bytes(8).hex(),
      uuid.uuid4(), uuid_utils.uuid4(), str(uuid_utils.uuid7())[15:], tempfile.mktemp())
"""
_OWNER = """
import signal
from pathlib import Path
from tests.support.forking import ForkServer
server = ForkServer(imports=[])
with open("out", "wb") as output:
    child = server.start("stays", [], cwd=Path.cwd(), env={}, output=output)
print(server.pid, flush=True)
print(child.pid, flush=True)
signal.pause()
"""
_STAYS = "import signal; print('here', flush=True); signal.pause()"


class Forks:
    """A fork server, and modules for its children to be."""

    def __init__(self, folder: Path, server: ForkServer) -> None:
        self.folder = folder
        self.server = server
        self.env = kept_variables() | {"PYTHONPATH": str(ROOT), "COLOUR": "green"}

    def start(self, code: str, *arguments: str) -> ForkedProcess:
        self.write("child", code)
        with self.log.open("wb") as output:
            return self.server.start(
                "child", arguments, cwd=self.folder, env=self.env, output=output
            )

    def write(self, module: str, code: str) -> None:
        (self.folder / f"{module}.py").write_text(code)

    @property
    def log(self) -> Path:
        return self.folder / "output"

    def wait_here(self) -> None:
        wait_until_sync(lambda: "here" in self.log.read_text(), what="the child's first word")


@pytest.fixture(scope="module")
def module_forks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forks]:
    forks = Forks(tmp_path_factory.mktemp("forks"), ForkServer())
    yield forks
    forks.server.close()


@pytest.fixture
def forks(module_forks: Forks, tmp_path: Path) -> Forks:
    module_forks.folder = tmp_path
    return module_forks


def test_a_child_finds_what_an_executed_process_finds(forks: Forks) -> None:
    assert forks.start(_SURROUNDINGS, "one", "--two=3").wait() == 0
    found = json.loads(forks.log.read_text())
    with forks.log.open("wb") as output:
        executed = GuardedProcess.start(
            [sys.executable, "-m", "child", "one", "--two=3"],
            cwd=forks.folder,
            env=forks.env,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    assert executed.wait() == 0
    assert found == json.loads(forks.log.read_text())
    assert found["environment of children"] == "green\n"


def test_every_child_draws_numbers_of_its_own(forks: Forks) -> None:
    drawn: list[Any] = []
    for _ in range(2):
        assert forks.start(_NUMBERS).wait() == 0
        drawn.append(forks.log.read_text().split())
    assert len(drawn[0]) == 8
    assert [one for one, other in zip(*drawn, strict=True) if one == other] == []


@pytest.mark.parametrize(
    ("code", "status", "said"),
    [
        ("print('well')", 0, "well"),
        ("import sys; print('ill'); sys.exit(3)", 3, "ill"),
        ("raise SystemExit('in words')", 1, "in words"),
        ("1 / 0", 1, "ZeroDivisionError"),
        ("import atexit; atexit.register(print, 'at last')", 0, "at last"),
        ("import threading; threading.Thread(target=print, args=['late']).start()", 0, "late"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGTERM)", 143, ""),
        ("import os, signal; os.kill(os.getpid(), signal.SIGINT)", 130, "KeyboardInterrupt"),
    ],
)
def test_a_child_ends_as_an_executed_process_does(
    forks: Forks, code: str, status: int, said: str
) -> None:
    child = forks.start(code)
    assert child.wait() == status
    assert child.poll() == status
    assert said in forks.log.read_text()


def test_a_child_can_be_stopped_and_killed(forks: Forks) -> None:
    child = forks.start(_STAYS)
    forks.wait_here()
    waiting = threading.Thread(target=child.wait)
    waiting.start()
    child.send_signal(signal.SIGSTOP)
    wait_until_sync(
        lambda: psutil.Process(child.pid).status() == psutil.STATUS_STOPPED, what="the stop"
    )
    assert child.poll() is None
    assert child.kill() == 137
    waiting.join()
    assert not is_alive(child.pid)
    child.send_signal(signal.SIGTERM)


def test_what_a_child_leaves_behind_in_its_session_ends_with_it(forks: Forks) -> None:
    child = forks.start(
        "import subprocess, sys\n"
        "sleeper = subprocess.Popen([sys.executable, '-c', 'import signal; signal.pause()'])\n"
        f"print(sleeper.pid, flush=True)\n{_STAYS}"
    )
    forks.wait_here()
    sleeper = int(forks.log.read_text().split()[0])
    assert is_alive(sleeper)
    child.kill()
    wait_until_sync(lambda: not is_alive(sleeper), what="the end of what was left")


def test_nothing_is_left_when_the_owner_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "stays.py").write_text(_STAYS)
    with running_owner(_OWNER) as owner:
        pids = [read_pid(owner), read_pid(owner)]
        assert all(is_alive(pid) for pid in pids)
        owner.kill()
        wait_until_sync(
            lambda: not any(is_alive(pid) for pid in pids), what="the end of the orphans"
        )


def test_children_end_with_a_killed_fork_server(tmp_path: Path) -> None:
    forks = Forks(tmp_path, ForkServer(imports=[]))
    child = forks.start(_STAYS)
    forks.wait_here()
    os.kill(forks.server.pid, signal.SIGKILL)
    assert child.wait() == 137
    wait_until_sync(lambda: not is_alive(child.pid), what="the end of the child")
    forks.server.close()
