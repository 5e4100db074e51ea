"""Connections that are only there: they answer pings in a thread of their own while others measure.

Rules: whatever comes is passed over, but a refusal or a lost connection ends the run when the
block is left: a crowd that was not there proves nothing.
"""

import contextlib
import select
import threading
from collections.abc import Iterator, Sequence
from typing import Final

from bench import product, wire
from bench.connection import BenchError, Connection, close_all
from bench.dialect import Kind

_LOOK: Final = 0.2  # seconds after which the thread looks whether it may end
_EVENTS: Final = frozenset({Kind.MESSAGE, Kind.DURABLE})
SUBSCRIBES_IN_FLIGHT: Final = 50


class Crowd(threading.Thread):
    """Those who are there."""

    def __init__(self) -> None:
        super().__init__(name="crowd", daemon=True)
        self._connections: dict[int, Connection] = {}
        self._epoll = select.epoll()
        self._ending = threading.Event()
        self._problem: Exception | None = None

    def add(self, connections: Sequence[Connection]) -> None:
        """From here on these are the crowd's."""
        for connection in connections:
            connection.sock.setblocking(False)
            self._connections[connection.fd] = connection
            self._epoll.register(connection.fd, select.EPOLLIN)

    def run(self) -> None:
        """Answer pings until told to end."""
        try:
            while not self._ending.is_set():
                for fd, _ in self._epoll.poll(_LOOK):
                    _take(self._connections[fd])
        except (BenchError, wire.WireError) as error:
            self._problem = error

    def end(self) -> None:
        """Come to an end and close all; raise what went wrong meanwhile."""
        self._ending.set()
        self.join()
        self._epoll.close()
        close_all(list(self._connections.values()))
        if self._problem is not None:
            raise BenchError(f"the crowd: {self._problem}") from self._problem


def _take(connection: Connection) -> None:
    for frame, payload in connection.take_frames():
        if frame.kind not in _EVENTS:
            connection.take_other(frame.kind, payload)


def subscribe_many(connections: Sequence[Connection], rooms: Sequence[Sequence[str]]) -> None:
    """Subscribe each connection to all the rooms beside it.

    All of them are served in turn, some rooms at a time, so that none misses a ping meanwhile.
    """
    longest = max((len(names) for names in rooms), default=0)
    for first in range(0, longest, SUBSCRIBES_IN_FLIGHT):
        for connection, names in zip(connections, rooms, strict=True):
            chunk = names[first : first + SUBSCRIBES_IN_FLIGHT]
            for number, room in enumerate(chunk, 1):
                connection.send(connection.dialect.subscribe(number, room))
            unanswered = set(chunk)
            for _ in chunk:
                room = str(product.parse_frame(connection.wait(Kind.ANSWER))["result"]["room"])
                unanswered.remove(room)


@contextlib.contextmanager
def attending() -> Iterator[Crowd]:
    """A crowd that grows within the block and is gone after it."""
    crowd = Crowd()
    crowd.start()
    try:
        yield crowd
    finally:
        crowd.end()
