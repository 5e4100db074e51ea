"""Starting what is measured: a broker of the product, and the system around it.

Rules: everything is a child process that is told to end when its block is left, and killed when it
does not. Cores are inherited, so a process is pinned before its first instruction. The system
(Redis, PostgreSQL, API, archiver) comes from `parley up --ephemeral` on the generator's core, or
is one that runs already and is named by an env file; the broker that is measured is always one of
our own, started from the same variables.
"""

import contextlib
import ctypes
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Final
from urllib.parse import urlsplit

from bench import accounting
from bench.checks import CheckFailed
from bench.connection import BenchError
from bench.rest import Api
from bench.target import Target
from bench.tokens import TokenMaker

START_TIMEOUT: Final = 120.0  # a first start may have to unpack and initialise a database
STOP_TIMEOUT: Final = 20.0
_POLL: Final = 0.1
_PR_SET_PDEATHSIG: Final = 1

# Real settings, raised because a generator is no person; docs/performance.md names them.
BROKER_SETTINGS: Final = {
    "RATE_MESSAGES_PER_SECOND": "1000000",
    "LOG_LEVEL": "warning",
    "METRICS_PORT": "0",
    "DRAIN_SECONDS": "1",
}


def read_env_file(path: Path) -> dict[str, str]:
    """`KEY=value` lines."""
    lines = (line.partition("=") for line in path.read_text().splitlines())
    return {key.strip(): value.strip() for key, found, value in lines if found}


@contextlib.contextmanager
def running(
    command: Sequence[str], environment: Mapping[str, str], core: int | None, log: Path
) -> Iterator[subprocess.Popen[bytes]]:
    """A child process whose output goes to `log`."""
    with log.open("wb") as output, accounting.pinned(core):
        process = subprocess.Popen(
            command,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            preexec_fn=_end_with_parent,
        )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _end_with_parent() -> None:
    """Ask the kernel to end this child when the generator dies, be it by SIGKILL."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _failed(what: str, log: Path) -> BenchError:
    tail = log.read_text(errors="replace")[-2000:]
    return BenchError(f"{what}; the end of its output:\n{tail}")


@contextlib.contextmanager
def open_system(
    generator_core: int | None, settings: Mapping[str, str] = MappingProxyType({})
) -> Iterator[dict[str, str]]:
    """A private system from `parley up --ephemeral`; the variables to join it.

    `SYSTEM_PROCESS` among them is the root of its processes.
    """
    with tempfile.TemporaryDirectory(prefix="parley-bench-") as folder:
        env_file, log = Path(folder) / "system.env", Path(folder) / "up.log"
        command = [
            sys.executable,
            "-m",
            "parley",
            "up",
            "--ephemeral",
            "--env-file",
            str(env_file),
            "--broker-port",
            "0",
            "--api-port",
            "0",
        ]
        with running(
            command, environment({**BROKER_SETTINGS, **settings}), generator_core, log
        ) as process:
            deadline = time.monotonic() + START_TIMEOUT
            while not env_file.exists() or "ROOM=" not in env_file.read_text():
                if process.poll() is not None:
                    raise _failed("`parley up` ended before it was ready", log)
                if time.monotonic() > deadline:
                    raise _failed(f"`parley up` was not ready in {START_TIMEOUT:.0f} s", log)
                time.sleep(_POLL)
            yield {**read_env_file(env_file), "SYSTEM_PROCESS": str(process.pid)}


@contextlib.contextmanager
def open_process(
    kind: str,
    system: Mapping[str, str],
    core: int | None,
    settings: Mapping[str, str] = MappingProxyType({}),
) -> Iterator[tuple[int, int]]:
    """One more `parley broker` or `api` in `system`, once it is ready: its process and port.

    What the block raises comes with the end of the process's log.
    """
    port = _free_port()
    variables = {**system, **BROKER_SETTINGS, "PORT": str(port), "HOST": "127.0.0.1", **settings}
    with tempfile.TemporaryDirectory(prefix="parley-bench-") as folder:
        log = Path(folder) / f"{kind}.log"
        command = [sys.executable, "-m", "parley", kind]
        with running(command, environment(variables), core, log) as process:
            deadline = time.monotonic() + START_TIMEOUT
            while not _is_ready(port):
                if process.poll() is not None:
                    raise _failed(f"`parley {kind}` ended before it was ready", log)
                if time.monotonic() > deadline:
                    raise _failed(f"the {kind} was not ready in {START_TIMEOUT:.0f} s", log)
                time.sleep(_POLL)
            try:
                yield process.pid, port
            except BenchError as error:
                if log.stat().st_size:
                    raise _failed(str(error), log) from error
                raise


@contextlib.contextmanager
def open_broker(
    system: Mapping[str, str],
    api: Api,
    *,
    server_core: int | None,
    generator_core: int | None,
    name: str = "broker",
    settings: Mapping[str, str] = MappingProxyType({}),
) -> Iterator[Target]:
    """A fresh broker of the product in `system`, alone on its core; `api` makes its rooms."""
    with open_process("broker", system, server_core, settings) as (process, port):
        yield Target(
            name=name,
            host="127.0.0.1",
            port=port,
            process=process,
            token=TokenMaker(system).token,
            prepare_rooms=api.prepare_rooms,
            redis_url=system["REDIS_URL"],
            server_core=server_core,
            generator_core=generator_core,
        )


@contextlib.contextmanager
def open_api(
    system: Mapping[str, str], *, server_core: int | None, generator_core: int | None
) -> Iterator[Target]:
    """A fresh REST API of the product in `system`, alone on its core."""
    with open_process("api", system, server_core) as (process, port):
        yield Target(
            name="api",
            host="127.0.0.1",
            port=port,
            process=process,
            token=TokenMaker(system).token,
            prepare_rooms=lambda _: None,
            redis_url=system["REDIS_URL"],
            server_core=server_core,
            generator_core=generator_core,
        )


@contextlib.contextmanager
def join_broker(system: Mapping[str, str], api: Api, name: str) -> Iterator[Target]:
    """The broker that `system` has anyway, for scenarios that measure something else."""
    parts = urlsplit(system["BROKER_URL"])
    yield Target(
        name=name,
        host=parts.hostname or "127.0.0.1",
        port=parts.port or 80,
        process=int(system.get("SYSTEM_PROCESS", os.getpid())),
        token=TokenMaker(system).token,
        prepare_rooms=api.prepare_rooms,
        redis_url=system["REDIS_URL"],
    )


@contextlib.contextmanager
def open_archiver(system: Mapping[str, str], core: int | None) -> Iterator[int]:
    """A further archiver in `system`, alone on its core; its process."""
    with tempfile.TemporaryDirectory(prefix="parley-bench-") as folder:
        log = Path(folder) / "archiver.log"
        command = [sys.executable, "-m", "parley", "archiver"]
        variables = environment({**system, **BROKER_SETTINGS})
        with running(command, variables, core, log) as process:
            try:
                yield process.pid
            except (BenchError, CheckFailed) as error:
                if log.stat().st_size:
                    raise _failed(str(error), log) from error
                raise


def environment(settings: Mapping[str, str]) -> dict[str, str]:
    """Our own environment with `settings`, and the place that this package came from."""
    root = str(Path(__file__).resolve().parent.parent)
    path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
    return {**os.environ, **settings, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1"}


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def _is_ready(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False
