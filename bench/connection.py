"""One WebSocket of the generator, and opening many of them.

Rules: opening is blocking with a deadline (the server is not being measured then); afterwards the
socket is non-blocking and belongs to a scenario's loop. Whatever arrived behind the subscribe
reply is kept in `rest` and must be looked at first.
"""

import os
import select
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from bench import wire
from bench.dialect import Dialect, Frame, Kind
from bench.target import Target

OPEN_TIMEOUT: Final = 30.0  # seconds for one connection to open, subscribe and be answered
OPEN_AT_ONCE: Final = 100  # under any server's listen backlog
RECEIVE_BYTES: Final = 65536  # above 128 KiB the C library would map and unmap memory at each call


class BenchError(Exception):
    """The measurement could not be made; says why."""


class Connection:
    """An open WebSocket. `rest` holds bytes received and not yet looked at."""

    __slots__ = ("_cut_frame", "_cut_message", "_mask", "dialect", "fd", "rest", "sock", "user")

    def __init__(self, sock: socket.socket, user: str, dialect: Dialect) -> None:
        self.sock = sock
        self.fd = sock.fileno()
        self.user = user
        self.dialect = dialect
        self.rest = b""
        self._mask = os.urandom(4)
        self._cut_message = b""
        self._cut_frame = b""

    def send(self, payload: bytes, opcode: int | None = None) -> None:
        """Send one frame whole; a socket that does not take it is an error of the run."""
        if opcode is None:
            opcode = self.dialect.opcode
        frame = wire.client_frame(payload, self._mask, opcode)
        try:
            sent = self.sock.send(frame)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            raise BenchError(f"{self.user}: the server closed the connection ({error})") from error
        if sent != len(frame):
            raise BenchError(f"{self.user}: the server stopped reading")

    def receive(self) -> bytes:
        """What the socket holds, up to 64 KiB; empty when there is nothing now.

        Where the server joins or cuts frames, they come out as one message each.
        """
        try:
            data = self.sock.recv(RECEIVE_BYTES)
        except BlockingIOError:
            return b""
        except OSError as error:
            raise BenchError(f"{self.user}: connection lost ({error})") from error
        if not data:
            raise BenchError(f"{self.user}: the server closed the connection")
        return self.divide(data) if self.dialect.joins else data

    def divide(self, data: bytes) -> bytes:
        """The same messages with one frame each."""
        data = self._cut_message + data
        places, rest_at = wire.walk_frames(data)
        self._cut_message = data[rest_at:]
        out: list[bytes] = []
        for opcode, start, end in places:
            if opcode & wire.CONTROL:
                out.append(wire.server_frame(data[start:end], opcode))
                continue
            frames, self._cut_frame = self.dialect.split(self._cut_frame + data[start:end])
            out += map(wire.server_frame, frames)
        return b"".join(out)

    def answer_control(self, opcode: int, payload: bytes) -> None:
        """Pong a ping; a close frame ends the run."""
        if opcode == wire.PING:
            self.send(payload, wire.PONG)
        elif opcode == wire.CLOSE:
            code = int.from_bytes(payload[:2], "big")
            raise BenchError(f"{self.user}: closed with {code} {payload[2:].decode()!r}")

    def take_frames(self) -> Iterator[tuple[Frame, bytes]]:
        """Everything that the socket holds but control frames, which are answered.

        For what is not measured by the frame: loops that are walk the bytes themselves.
        """
        data = self.rest + self.receive()
        places, rest_at = wire.walk_frames(data)
        self.rest = data[rest_at:]
        for opcode, start, end in places:
            payload = data[start:end]
            if opcode & wire.CONTROL:
                self.answer_control(opcode, payload)
            else:
                yield self.dialect.classify(data, start, end), payload

    def take_other(self, kind: Kind, payload: bytes) -> None:
        """Pong a ping of the application's, pass over noise; anything else ends the run."""
        if kind == Kind.PING:
            self.send(self.dialect.pong(payload))
        elif kind != Kind.NOISE:
            raise BenchError(f"{self.user}: the server said {payload[:300]!r}")

    def answer_pings(self) -> None:
        """Answer the pings among what the socket holds; everything else stays in `rest`."""
        data = self.rest + self.receive()
        places, rest_at = wire.walk_frames(data)
        others: list[bytes] = []
        begin = 0
        for opcode, start, end in places:
            if opcode & wire.CONTROL:
                self.answer_control(opcode, data[start:end])
            elif self.dialect.classify(data, start, end).kind == Kind.PING:
                self.send(self.dialect.pong(data[start:end]))
            else:
                others.append(data[begin:end])
            begin = end
        self.rest = b"".join(others) + data[rest_at:]

    def wait(self, wanted: Kind) -> bytes:
        """Block until a frame of this kind; events before it are passed over."""
        passed = (Kind.MESSAGE, Kind.DURABLE)
        while True:
            places, rest_at = wire.walk_frames(self.rest)
            for opcode, start, end in places:
                payload = self.rest[start:end]
                if opcode & wire.CONTROL:
                    self.answer_control(opcode, payload)
                    continue
                kind = self.dialect.classify(payload, 0, len(payload)).kind
                if kind == wanted:
                    self.rest = self.rest[end:]
                    return payload
                if kind not in passed:
                    self.take_other(kind, payload)
            self.rest = self.rest[rest_at:]
            try:
                self.rest += self.receive()
            except TimeoutError as error:
                raise BenchError(
                    f"{self.user}: no {wanted.name.lower()} in {OPEN_TIMEOUT:.0f} s"
                ) from error

    def close(self) -> None:
        """Close the socket without ceremony."""
        self.sock.close()


class _Waiting:
    """Connections that wait for others: a server would give up who answers none of its pings."""

    def __init__(self, connections: Sequence[Connection] = ()) -> None:
        self._connections: dict[int, Connection] = {}
        self._epoll = select.epoll()
        self.add(connections)

    def add(self, connections: Sequence[Connection]) -> None:
        """These wait, too."""
        for connection in connections:
            self._connections[connection.fd] = connection
            self._epoll.register(connection.fd, select.EPOLLIN)

    def answer_pings(self) -> None:
        """Answer what has come."""
        for fd, _ in self._epoll.poll(0, len(self._connections) or 1):
            self._connections[fd].answer_pings()

    def close(self) -> None:
        """The connections go on by themselves."""
        self._epoll.close()


def other_frames(connection: Connection) -> Callable[[int, Frame, bytes], None]:
    """A handler for frames that no scenario expects while it measures: fails on all but noise."""

    def handle(opcode: int, frame: Frame, payload: bytes) -> None:
        if opcode & wire.CONTROL:
            connection.answer_control(opcode, payload)
        else:
            connection.take_other(frame.kind, payload)

    return handle


def open_connections(
    target: Target, users: Sequence[str], rooms: Sequence[str]
) -> list[Connection]:
    """One authenticated connection for each of `users`, still blocking, greeted.

    `rooms` are those beside them that they will subscribe: some servers want to know it here.
    """
    opened: list[Connection] = []
    waiting = _Waiting()
    pairs = list(zip(users, rooms, strict=True))
    for first in range(0, len(pairs), OPEN_AT_ONCE):
        waiting.answer_pings()
        chunk = [
            _connect(target, user, room, index)
            for index, (user, room) in enumerate(pairs[first : first + OPEN_AT_ONCE], first)
        ]
        for connection in chunk:
            _finish_handshake(connection)
            for frame in target.dialect.opening():
                connection.send(frame)
        if target.dialect.greets:
            for connection in chunk:
                connection.wait(Kind.GREETING)
        opened += chunk
        waiting.add(chunk)
    waiting.close()
    return opened


def subscribe_all(connections: Sequence[Connection], rooms: Sequence[str]) -> list[int]:
    """Subscribe each connection to the room beside it; the rooms' offsets at that moment.

    Makes the sockets non-blocking: this is the last thing done before a scenario's loop.
    """
    offsets: list[int] = []
    waiting = _Waiting(connections)
    pairs = list(zip(connections, rooms, strict=True))
    for first in range(0, len(pairs), OPEN_AT_ONCE):
        waiting.answer_pings()
        chunk = pairs[first : first + OPEN_AT_ONCE]
        offsets += _subscribe_chunk(chunk)
    waiting.close()
    time.sleep(max((connection.dialect.settling for connection in connections), default=0.0))
    for connection in connections:
        connection.sock.setblocking(False)
    return offsets


def _subscribe_chunk(chunk: Sequence[tuple[Connection, str]]) -> list[int]:
    if not all(connection.dialect.subscribes for connection, _ in chunk):
        return [0] * len(chunk)
    for connection, room in chunk:
        connection.send(connection.dialect.subscribe(0, room))
    return [
        connection.dialect.subscribed(connection.wait(Kind.ANSWER), room)
        for connection, room in chunk
    ]


def close_all(connections: Sequence[Connection]) -> None:
    """Close every socket."""
    for connection in connections:
        connection.close()


def _connect(target: Target, user: str, room: str, index: int) -> Connection:
    port = target.port_of(index)
    try:
        sock = socket.create_connection((target.host, port), timeout=OPEN_TIMEOUT)
    except OSError as error:
        raise BenchError(f"the {target.name} does not accept connections: {error}") from error
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    spoken = target.dialect
    path = spoken.path(target.token(user), room)
    sock.sendall(wire.handshake_request(target.host, port, path, spoken.headers()))
    return Connection(sock, user, spoken)


def _finish_handshake(connection: Connection) -> None:
    head = b""
    while b"\r\n\r\n" not in head:
        try:
            data = connection.sock.recv(RECEIVE_BYTES)
        except OSError as error:
            raise BenchError(f"{connection.user}: the handshake was not answered") from error
        if not data:
            raise BenchError(f"{connection.user}: closed in the handshake: {head[:200]!r}")
        head += data
        if len(head) > 65536:
            raise BenchError(f"{connection.user}: no end of the handshake")
    answer, _, rest = head.partition(b"\r\n\r\n")
    if not answer.startswith(b"HTTP/1.1 101 "):
        raise BenchError(f"{connection.user}: refused: {answer[:200]!r}")
    connection.rest = connection.divide(rest) if connection.dialect.joins else rest
