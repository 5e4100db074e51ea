"""Whether a peer does what its dialect says: a hundred messages in a room of five, all arriving.

Every member gets every publish once, those of one sender in order, and the publisher its answers
where the dialect promises them. The frames must have the size of Parley's, within a tenth, or the
comparison would be one of bytes.
"""

import select
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from bench import floor, wire
from bench.connection import (
    BenchError,
    Connection,
    close_all,
    open_connections,
    subscribe_all,
)
from bench.dialect import Kind, written_in
from bench.peers.pages import check_pages
from bench.peers.server import ServerPeer
from bench.target import Place, Target

MEMBERS: Final = 5
MESSAGES: Final = 100
SIZE_TOLERANCE: Final = 0.1
_PATIENCE: Final = 20.0


def check_peer(peer: ServerPeer, system: Mapping[str, str]) -> str:
    """Start `peer`, use it, end it; what was seen, as a line. BenchError when it failed."""
    with place_for(system) as place, peer.open(place) as target:
        if target.page is not None:
            return check_pages(target, system)
        return check_room(target)


@contextmanager
def place_for(system: Mapping[str, str]) -> Iterator[Place]:
    """An unpinned place beside a running system, or beside none."""
    with tempfile.TemporaryDirectory(prefix="parley-peer-") as folder:
        yield Place(
            folder=Path(folder),
            server_core=None,
            generator_core=None,
            redis_url=system.get("REDIS_URL"),
            database_url=system.get("DATABASE_URL"),
        )


def check_room(target: Target) -> str:
    """All messages to all members, with their answers."""
    room = f"check-{time.time_ns():x}"
    users = [f"member-{number}" for number in range(MEMBERS)]
    target.prepare_rooms({room: users})
    connections = open_connections(target, users, [room] * MEMBERS)
    try:
        subscribe_all(connections, [room] * MEMBERS)
        seen = _exchange(target, connections, room)
    finally:
        close_all(connections)
    answered = MESSAGES if target.dialect.answers_publishes else 0
    if seen.answers != answered:
        raise BenchError(f"{target.name}: {seen.answers} answers to {answered} publishes")
    parley = len(floor.FloorRoom(room).event % (0, 0))
    if abs(seen.frame_bytes / parley - 1) > SIZE_TOLERANCE:
        raise BenchError(f"{target.name}: frames of {seen.frame_bytes} bytes, Parley's {parley}")
    return (
        f"{MESSAGES} messages at {MEMBERS} members, {seen.answers} answers, "
        f"{seen.frame_bytes} bytes a frame (Parley: {parley})"
    )


class _Seen:
    """What has arrived so far."""

    def __init__(self, connections: Sequence[Connection]) -> None:
        self.numbers = {one.user: Counter[str]() for one in connections}
        self.answers = 0
        self.frame_bytes = 0

    def events(self) -> int:
        return sum(counter.total() for counter in self.numbers.values())

    def take(self, connection: Connection) -> None:
        """Everything that the socket holds."""
        for frame, payload in connection.take_frames():
            if frame.kind == Kind.MESSAGE:
                self._take_event(connection.user, payload)
            elif frame.kind == Kind.ANSWER:
                self.answers += 1
            else:
                connection.take_other(frame.kind, payload)

    def _take_event(self, user: str, payload: bytes) -> None:
        sender, number = written_in(payload, 0, len(payload))
        counter = self.numbers[user]
        counter[sender] += 1
        if number != counter[sender]:
            raise BenchError(f"{user}: publish {number} of {sender} came as {counter[sender]}")
        self.frame_bytes = len(wire.server_frame(payload))


def _exchange(target: Target, connections: Sequence[Connection], room: str) -> _Seen:
    """Publish by turns, five at a time, until every member has everything."""
    seen = _Seen(connections)
    expected = 0
    with select.epoll() as epoll:
        by_fd = {one.fd: one for one in connections}
        for fd in by_fd:
            epoll.register(fd, select.EPOLLIN)
        for number in range(1, MESSAGES // MEMBERS + 1):
            for one in connections:
                one.send(target.dialect.publish(number, room, one.user, room))
            expected += MEMBERS * MEMBERS
            deadline = time.monotonic() + _PATIENCE
            answers = number * MEMBERS if target.dialect.answers_publishes else 0
            while seen.events() < expected or seen.answers < answers:
                if time.monotonic() > deadline:
                    raise BenchError(f"{target.name}: {seen.events()} of {expected} events came")
                for fd, _ in epoll.poll(1.0):
                    seen.take(by_fd[fd])
    return seen
