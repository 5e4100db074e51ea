"""Many connections that do nothing: KiB of server memory for each, and what they cost in CPU.

Rules: memory is what the process tree holds more (anonymous memory) than before the connections
came; a small crowd comes and goes first, so that what is allocated once is not counted. Two
figures: connected and authenticated, and the same with one room subscribed each. What the kernel
holds for a socket is in no process and not counted. Pings are answered, as by any client.
"""

import select
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from bench import accounting, figures, wire
from bench.connection import (
    Connection,
    close_all,
    open_connections,
    subscribe_all,
)
from bench.target import Target

CROWD: Final = 100
SETTLE_STEP: Final = 0.5  # seconds between two readings of a memory that has to come to rest
SETTLE_TIMEOUT: Final = 15.0
SETTLED: Final = 65536  # bytes by which a memory at rest may differ


@dataclass(frozen=True, kw_only=True)
class IdleOptions:
    """Sizes of the scenario."""

    connections: int = 5000
    seconds: float = 55.0  # of watching the CPU: two pings of each, at PING_INTERVAL 25 s


class _Crowd:
    """Connections that answer pings and expect nothing else of importance."""

    def __init__(self, connections: Sequence[Connection]) -> None:
        self._connections = {one.fd: one for one in connections}
        self._epoll = select.epoll()
        for fd in self._connections:
            self._epoll.register(fd, select.EPOLLIN)

    def stay(self, seconds: float) -> None:
        """Stay connected for a while."""
        end = time.perf_counter() + seconds
        while (now := time.perf_counter()) < end:
            for fd, _ in self._epoll.poll(end - now, 1024):
                self._take(self._connections[fd])

    def _take(self, connection: Connection) -> None:
        data = connection.rest + connection.receive()
        places, rest_at = wire.walk_frames(data)
        connection.rest = data[rest_at:]
        for opcode, start, end in places:
            if opcode & wire.CONTROL:
                connection.answer_control(opcode, data[start:end])
            else:
                frame = connection.dialect.classify(data, start, end)
                connection.take_other(frame.kind, data[start:end])


def _settled_memory(process: int, crowd: _Crowd) -> int:
    """The memory of the server once it has stopped changing."""
    deadline = time.perf_counter() + SETTLE_TIMEOUT
    last = accounting.tree_memory(process)
    while True:
        crowd.stay(SETTLE_STEP)
        now = accounting.tree_memory(process)
        if abs(now - last) <= SETTLED or time.perf_counter() > deadline:
            return now
        last = now


def run_idle(
    target: Target, rooms: Sequence[str], users: Sequence[str], options: IdleOptions
) -> figures.Round:
    """One turn of a freshly started `target`: `users[i]` subscribes `rooms[i]`.

    The figure is KiB per connection, authenticated and subscribed.
    """
    close_all(open_connections(target, users[:CROWD], rooms[:CROWD]))
    before = _settled_memory(target.process, _Crowd([]))
    meter = target.meter()
    start = meter.read()
    connections = open_connections(target, users, rooms)
    try:
        opened = accounting.between(start, meter.read())
        for connection in connections:
            connection.sock.setblocking(False)
        crowd = _Crowd(connections)
        connected = _settled_memory(target.process, crowd)
        for connection in connections:
            connection.sock.settimeout(SETTLE_TIMEOUT)
        subscribe_all(connections, rooms)
        subscribed = _settled_memory(target.process, crowd)
        start = meter.read()
        crowd.stay(options.seconds)
        usage = accounting.between(start, meter.read())
    finally:
        close_all(connections)
    count = len(users)
    return figures.Round(
        target=target.name,
        figure=(subscribed - before) / count / 1024,
        usage=usage,
        details={
            "connections": float(count),
            "kib_connected": (connected - before) / count / 1024,
            "kib_subscribed": (subscribed - before) / count / 1024,
            "connects_per_cpu_second": figures.per_cpu_second(count, opened.server_cpu),
            "connects_per_second": count / opened.wall,
            "cpu_percent_per_1000_idle": usage.server_cpu / usage.wall / count * 1e5,
        },
    )
