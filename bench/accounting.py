"""What a measured interval cost: CPU of processes and cores, memory, Redis' own account.

Rules: CPU is user + system time of a process and all its descendants, from `/proc`, in seconds.
Intervals begin and end when the server is quiet, so that what is counted belongs to exactly the
messages that were counted. Redis is asked by a few bytes on a socket of our own, because the
generator has no business in the product's Redis client.
"""

import contextlib
import os
import socket
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

TICKS: Final = os.sysconf("SC_CLK_TCK")
_REDIS_TIMEOUT: Final = 5.0


@dataclass(frozen=True, kw_only=True)
class Moment:
    """Readings at one moment."""

    wall: float
    server: float
    generator: float
    generator_waiting: float
    redis: float | None
    server_core: tuple[float, float] | None  # busy and total seconds since boot
    generator_core: tuple[float, float] | None
    database: float | None = None


@dataclass(frozen=True, kw_only=True)
class Usage:
    """What passed between two moments: seconds, and shares of a core between 0 and 1."""

    wall: float
    server_cpu: float
    generator_cpu: float
    generator_waiting: float  # seconds in which it could have run and others had its core
    redis_cpu: float | None
    server_core: float | None
    generator_core: float | None
    database_cpu: float | None = None


class Meter:
    """Reads the accounts of one target."""

    def __init__(
        self,
        *processes: int,
        redis_url: str | None = None,
        database: int | None = None,
        server_core: int | None = None,
        generator_core: int | None = None,
    ) -> None:
        self._processes = processes
        self._database = database
        self._redis_url = redis_url
        self._server_core = server_core
        self._generator_core = generator_core

    def read(self) -> Moment:
        """The accounts now."""
        return Moment(
            wall=time.perf_counter(),
            server=sum(map(tree_cpu, self._processes)),
            generator=time.process_time(),
            generator_waiting=own_waiting(),
            redis=redis_cpu(self._redis_url) if self._redis_url else None,
            server_core=core_time(self._server_core),
            generator_core=core_time(self._generator_core),
            database=tree_cpu(self._database) if self._database else None,
        )


def between(before: Moment, after: Moment) -> Usage:
    """What passed between two moments."""
    return Usage(
        wall=after.wall - before.wall,
        server_cpu=after.server - before.server,
        generator_cpu=after.generator - before.generator,
        generator_waiting=after.generator_waiting - before.generator_waiting,
        redis_cpu=_difference(before.redis, after.redis),
        server_core=_share(before.server_core, after.server_core),
        generator_core=_share(before.generator_core, after.generator_core),
        database_cpu=_difference(before.database, after.database),
    )


def _difference(before: float | None, after: float | None) -> float | None:
    return None if before is None or after is None else after - before


def _share(before: tuple[float, float] | None, after: tuple[float, float] | None) -> float | None:
    if before is None or after is None or after[1] <= before[1]:
        return None
    return (after[0] - before[0]) / (after[1] - before[1])


def process_tree(root: int) -> list[int]:
    """`root` and all its descendants that are alive."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            fields = _stat_fields(int(entry.name))
            if fields:
                children.setdefault(int(fields[1]), []).append(int(entry.name))
    tree = [root]
    for process in tree:
        tree += children.get(process, [])
    return tree


def tree_cpu(root: int) -> float:
    """CPU seconds of a process tree; children that have ended are in their parents' account."""
    total = 0
    for process in process_tree(root):
        fields = _stat_fields(process)
        if fields:
            own = int(fields[11]) + int(fields[12])
            total += own + int(fields[13]) + int(fields[14])
    return total / TICKS


def own_waiting() -> float:
    """Seconds that this process's main thread was ready to run and did not; 0 where unknown."""
    try:
        return int(Path("/proc/self/schedstat").read_text().split()[1]) / 1e9
    except (FileNotFoundError, IndexError, ValueError):
        return 0.0


def tree_memory(root: int) -> int:
    """Bytes of a process tree's own (anonymous) memory.

    Pages shared between its processes count once (they are counted in parts: PSS). Mapped files are
    left out: their part changes with whoever else on the machine has them open.
    """
    total = 0
    for process in process_tree(root):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            for line in Path(f"/proc/{process}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss_Anon:"):
                    total += int(line.split()[1]) * 1024
    return total


def core_time(core: int | None) -> tuple[float, float] | None:
    """Busy and total seconds of one core since boot, all processes together."""
    if core is None:
        return None
    for line in Path("/proc/stat").read_text().splitlines():
        if line.startswith(f"cpu{core} "):
            # user nice system idle iowait irq softirq steal; guest time is within user
            values = [int(value) for value in line.split()[1:9]]
            total = sum(values)
            return (total - values[3] - values[4]) / TICKS, total / TICKS
    return None


@contextlib.contextmanager
def pinned(core: int | None) -> Iterator[None]:
    """Run the block, and every process started in it, on one core; None: anywhere."""
    before = os.sched_getaffinity(0)
    if core is not None:
        os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def usable_cores() -> list[int]:
    """The cores this process may run on."""
    return sorted(os.sched_getaffinity(0))


def redis_cpu(url: str) -> float:
    """CPU seconds that the Redis server has used since it started."""
    info = redis_command(url, "INFO", "cpu")
    wanted = ("used_cpu_sys:", "used_cpu_user:")
    return sum(float(line.split(":")[1]) for line in info.splitlines() if line.startswith(wanted))


def redis_command(url: str, *words: str) -> str:
    """One command with a text answer over a connection of its own."""
    parts = urlsplit(url)
    try:
        connected = _connect(url)
    except OSError as error:
        raise ConnectionError(f"Redis does not accept connections: {error}") from error
    with connected as sock:
        if parts.password:
            name = [unquote(parts.username)] if parts.username else []
            sock.sendall(_pack(["AUTH", *name, unquote(parts.password)]))
            if not _read_line(sock).startswith(b"+OK"):
                raise ConnectionError("Redis refused the password of REDIS_URL")
        sock.sendall(_pack(words))
        head = _read_line(sock)
        if not head.startswith(b"$"):
            return head[1:].decode()
        body = b""
        while len(body) < int(head[1:]):
            body += sock.recv(65536)
        return body.decode()


def _connect(url: str) -> socket.socket:
    parts = urlsplit(url)
    if parts.scheme == "unix":
        sock = socket.socket(socket.AF_UNIX)
        sock.settimeout(_REDIS_TIMEOUT)
        try:
            sock.connect(unquote(parts.path))
        except OSError:
            sock.close()
            raise
        return sock
    return socket.create_connection(
        (parts.hostname or "127.0.0.1", parts.port or 6379), timeout=_REDIS_TIMEOUT
    )


def _read_line(sock: socket.socket) -> bytes:
    line = b""
    while not line.endswith(b"\r\n"):
        byte = sock.recv(1)
        if not byte:
            raise ConnectionError("Redis closed the connection")
        line += byte
    return line


def _pack(words: Iterable[str]) -> bytes:
    encoded = [word.encode() for word in words]
    parts = [b"*%d\r\n" % len(encoded)]
    parts += [b"$%d\r\n%b\r\n" % (len(word), word) for word in encoded]
    return b"".join(parts)


def _stat_fields(process: int) -> list[str]:
    """Fields of `/proc/PID/stat` after the command name: state, parent, …; empty when gone."""
    try:
        text = Path(f"/proc/{process}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return []
    return text.rpartition(")")[2].split()
