"""Python programs that own something and are then killed, and running as an ordinary user."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parents[2]
ORDINARY_USER = 65534
_CAP_DAC_OVERRIDE, _CAP_DAC_READ_SEARCH = 1, 2


@contextmanager
def running_owner(code: str, *arguments: str | Path) -> Iterator[subprocess.Popen[str]]:
    """Run Python `code` in a process of its own, in its own session; killed at the end.

    Its standard output is a pipe.
    """
    owner = subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        start_new_session=True,
    )
    with owner:
        try:
            yield owner
        finally:
            owner.kill()


def read_pid(owner: subprocess.Popen[str]) -> int:
    """The number in the next line of the owner's output."""
    assert owner.stdout is not None
    line = owner.stdout.readline()
    assert line.strip().isdigit(), f"no process id: {line!r}"
    return int(line)


def is_alive(pid: int) -> bool:
    """Whether the process exists and is not a zombie."""
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def as_ordinary_user(command: list[str]) -> list[str]:
    """The command as it must be run for an ordinary user to run it.

    For root that is `nobody`, allowed to read what it otherwise could not (an interpreter below
    /root, for one), but neither root nor able to become it.
    """
    if os.geteuid() != 0:
        return command
    capability = "dac_read_search" if _has_capability(_CAP_DAC_READ_SEARCH) else "dac_override"
    return [
        "setpriv",
        f"--reuid={ORDINARY_USER}",
        f"--regid={ORDINARY_USER}",
        "--clear-groups",
        f"--inh-caps=+{capability}",
        f"--ambient-caps=+{capability}",
        *command,
    ]


def give_to_ordinary_user(folder: Path) -> None:
    """Make an empty folder that of the ordinary user."""
    folder.mkdir(parents=True, exist_ok=True)
    if os.geteuid() == 0:
        os.chown(folder, ORDINARY_USER, ORDINARY_USER)


def _has_capability(number: int) -> bool:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("CapBnd:"):
            return bool(int(line.split()[1], 16) >> number & 1)
    return False
