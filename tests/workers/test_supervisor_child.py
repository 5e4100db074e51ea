"""One child of `parley up`: output, restarts, ends."""

import io
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio

from tests.support.owners import is_alive
from tests.support.waiting import wait_until
from workers.supervisor import child as child_module
from workers.supervisor.child import Child, ChildFailed, run_child
from workers.supervisor.console import Console

_WORKER = """
import os, signal, sys, time
def leave(*_):
    print("good-bye", flush=True)
    sys.exit(0)
signal.signal(signal.SIGTERM, leave)
print(f"parley worker is ready: {os.getpid()}", file=sys.stderr, flush=True)
time.sleep(600)
"""
_DEAF = _WORKER.replace("signal.signal(signal.SIGTERM, leave)", "signal.signal(15, signal.SIG_IGN)")


class Screen:
    """A console whose output is kept."""

    def __init__(self) -> None:
        self.stream = io.StringIO()
        self.console = Console(self.stream)
        self.hurry = trio.Event()

    @property
    def lines(self) -> list[str]:
        return self.stream.getvalue().splitlines()


def make_child(code: str, *, grace: float = 10.0) -> Child:
    return Child(name="worker", env=os.environ, grace=grace, command=(sys.executable, "-c", code))


@asynccontextmanager
async def running(child: Child, screen: Screen) -> AsyncIterator[None]:
    """The child runs, and has said that it is ready; it is ended like a stop does."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run_child, child, screen.console, screen.hurry)
        with trio.fail_after(10):
            await child.said_ready.wait()
        yield
        nursery.cancel_scope.cancel()


def pid_of(child: Child) -> int:
    assert child.process is not None
    return child.process.pid


async def test_output_is_shown_with_a_prefix_to_the_last_line() -> None:
    screen, child = Screen(), make_child(_WORKER)
    async with running(child, screen):
        pid = pid_of(child)
    assert screen.lines == [f"worker   | parley worker is ready: {pid}", "worker   | good-bye"]
    assert not is_alive(pid)


async def test_a_crash_is_repaired_once_the_system_was_ready() -> None:
    screen, child = Screen(), make_child(_WORKER)
    async with running(child, screen):
        child.is_past_start = True
        first = pid_of(child)
        os.kill(first, signal.SIGKILL)
        await wait_until(lambda: sum("is ready" in line for line in screen.lines) == 2)
        assert pid_of(child) != first
    assert any(
        "worker ended, killed by SIGKILL; starting it again" in line for line in screen.lines
    )


async def test_repeated_crashes_are_repaired_ever_more_slowly(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(child_module, "_BACKOFF_MIN", 0.01)
    screen, child = Screen(), make_child("print('parley worker is ready')")
    child.is_past_start = True
    async with running(child, screen):
        await wait_until(lambda: sum("again in" in line for line in screen.lines) >= 4)
    pauses = [float(line.split()[-2]) for line in screen.lines if "again in" in line]
    assert pauses[:4] == [0.01, 0.02, 0.04, 0.08]


async def test_a_child_that_never_gets_ready_is_a_failure_with_its_status() -> None:
    screen, child = Screen(), make_child("raise SystemExit('PORT: wrong')")
    with pytest.raises(ChildFailed, match="worker ended while starting, exit status 1"):
        await run_child(child, screen.console, screen.hurry)
    assert screen.lines == ["worker   | PORT: wrong"]


async def test_a_deaf_child_is_killed_after_its_grace() -> None:
    screen, child = Screen(), make_child(_DEAF, grace=0.1)
    async with running(child, screen):
        pid = pid_of(child)
    assert not is_alive(pid)


async def test_a_second_request_does_not_wait_for_the_grace() -> None:
    screen, child = Screen(), make_child(_DEAF, grace=600)
    async with running(child, screen):
        pid = pid_of(child)
        screen.hurry.set()
    assert not is_alive(pid)


async def test_endless_lines_are_cut() -> None:
    screen, child = Screen(), make_child("print('x' * 1_000_000); print('parley w is ready')")
    with pytest.raises(ChildFailed):
        await run_child(child, screen.console, screen.hurry)
    assert max(map(len, screen.lines)) < 100_000
    assert sum(line.count("x") for line in screen.lines) == 1_000_000
    assert child.said_ready.is_set()
