"""Pages over the WebSocket in a closed loop: each connection has a few `history` on their way.

At random over all of the book, or always the same one. Each page is held to the seqs asked for and
to what was written; one that is asked for again must be the same bytes as when it first came.
"""

import select
import time
from collections.abc import Callable
from typing import Final

from bench import accounting, checks, product, wire
from bench.book import PAGE, Book, Place
from bench.connection import OPEN_TIMEOUT, Connection, close_all, open_connections
from bench.dialect import Kind
from bench.target import Target

IN_FLIGHT: Final = 2  # of one connection
_RESULT: Final = b',"result":'  # what stands before it differs from answer to answer


class Judge:
    """What a page must be, by where it is from."""

    def __init__(self, book: Book) -> None:
        self._book = book

    def check(self, place: Place, payload: bytes) -> None:
        """Whether the payload of this frame answers with that page."""
        self._book.check(place, payload)


class SameJudge(Judge):
    """The same for who asks for one page only: the first is read, the others compared with it."""

    def __init__(self, book: Book) -> None:
        super().__init__(book)
        self._first: bytes | None = None

    def check(self, place: Place, payload: bytes) -> None:
        result = payload[payload.find(_RESULT) :]
        if self._first is None:
            super().check(place, payload)
            self._first = result
        elif result != self._first:
            raise checks.CheckFailed("the same page is another one now")


class _Reader:
    """One connection and the places it asked for."""

    __slots__ = ("asked", "connection", "number")

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.asked: dict[int, Place] = {}
        self.number = 0

    def ask(self, place: Place) -> None:
        """Ask for one more page."""
        self.number += 1
        self.asked[self.number] = place
        frame = product.history_frame(self.number, place.room, place.before, PAGE)
        self.connection.send(frame)

    def take(self, judge: Judge) -> int:
        """Read and check; how many pages came."""
        connection = self.connection
        data = connection.rest + connection.receive()
        places, rest_at = wire.walk_frames(data)
        connection.rest = data[rest_at:]
        count = 0
        for opcode, start, end in places:
            payload = data[start:end]
            if opcode & wire.CONTROL:
                connection.answer_control(opcode, payload)
                continue
            frame = connection.dialect.classify(payload, 0, len(payload))
            if frame.kind != Kind.ANSWER:
                connection.take_other(frame.kind, payload)
                continue
            place = self.asked.pop(frame.number, None)
            if place is None:
                raise checks.CheckFailed(f"{connection.user}: a page that was not asked for")
            judge.check(place, payload)
            count += 1
        return count


def run_socket_pages(
    target: Target,
    book: Book,
    connections: int,
    warm_up: float,
    seconds: float,
    *,
    is_hot: bool = False,
) -> tuple[int, accounting.Usage]:
    """One turn: the pages that came, and what they cost. `is_hot`: always the newest page."""
    draw = book.newest if is_hot else book.draws(time.time_ns())
    judge = SameJudge(book) if is_hot else Judge(book)
    opened = open_connections(target, [book.reader] * connections, book.rooms[:1] * connections)
    try:
        for connection in opened:
            connection.sock.setblocking(False)
        readers = {one.fd: _Reader(one) for one in opened}
        _read_until(readers, draw, judge, time.perf_counter() + warm_up)
        meter = target.meter()
        before = meter.read()
        count = _read_until(readers, draw, judge, time.perf_counter() + seconds)
        usage = accounting.between(before, meter.read())
    finally:
        close_all(opened)
    return count, usage


def _read_until(
    readers: dict[int, _Reader], draw: Callable[[], Place], judge: Judge, end: float
) -> int:
    epoll = select.epoll()
    for fd, reader in readers.items():
        epoll.register(fd, select.EPOLLIN)
        for _ in range(IN_FLIGHT):
            reader.ask(draw())
    count = 0
    while any(reader.asked for reader in readers.values()):
        if time.perf_counter() > end + OPEN_TIMEOUT:
            raise checks.CheckFailed("a page was not answered")
        for fd, _ in epoll.poll(1.0):
            reader = readers[fd]
            count += reader.take(judge)
            while time.perf_counter() < end and len(reader.asked) < IN_FLIGHT:
                reader.ask(draw())
    epoll.close()
    return count
