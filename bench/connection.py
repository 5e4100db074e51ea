"""One WebSocket of the generator, and opening many of them.

Rules: opening is blocking with a deadline (the server is not being measured then); afterwards the
socket is non-blocking and belongs to a scenario's loop. Whatever arrived behind the subscribe
reply is kept in `rest` and must be looked at first.
"""

import os
import socket
from collections.abc import Callable, Sequence
from typing import Any, Final

from bench import dialect, wire
from bench.target import Target

OPEN_TIMEOUT: Final = 30.0  # seconds for one connection to open, subscribe and be answered
OPEN_AT_ONCE: Final = 100  # under any server's listen backlog
RECEIVE_BYTES: Final = 65536  # above 128 KiB the C library would map and unmap memory at each call


class BenchError(Exception):
    """The measurement could not be made; says why."""


class Connection:
    """An open WebSocket. `rest` holds bytes received and not yet looked at."""

    __slots__ = ("_mask", "fd", "rest", "sock", "user")

    def __init__(self, sock: socket.socket, user: str) -> None:
        self.sock = sock
        self.fd = sock.fileno()
        self.user = user
        self.rest = b""
        self._mask = os.urandom(4)

    def send(self, payload: bytes, opcode: int = wire.TEXT) -> None:
        """Send one frame whole; a socket that does not take it is an error of the run."""
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
        """What the socket holds, up to 64 KiB; empty when there is nothing now."""
        try:
            data = self.sock.recv(RECEIVE_BYTES)
        except BlockingIOError:
            return b""
        except OSError as error:
            raise BenchError(f"{self.user}: connection lost ({error})") from error
        if not data:
            raise BenchError(f"{self.user}: the server closed the connection")
        return data

    def answer_control(self, opcode: int, payload: bytes) -> None:
        """Pong a ping; a close frame ends the run."""
        if opcode == wire.PING:
            self.send(payload, wire.PONG)
        elif opcode == wire.CLOSE:
            code = int.from_bytes(payload[:2], "big")
            raise BenchError(f"{self.user}: closed with {code} {payload[2:].decode()!r}")

    def wait_frame(self, wanted: str) -> dict[str, Any]:
        """Block until a frame of this type; events before it are passed over."""
        while True:
            places, rest_at = wire.walk_frames(self.rest)
            for opcode, start, end in places:
                payload = self.rest[start:end]
                if opcode != wire.TEXT:
                    self.answer_control(opcode, payload)
                    continue
                frame = dialect.parse_frame(payload)
                if frame["type"] == wanted:
                    self.rest = self.rest[end:]
                    return frame
                if frame["type"] != "event":
                    raise BenchError(f"{self.user}: expected {wanted}, got {payload[:300]!r}")
            self.rest = self.rest[rest_at:]
            try:
                self.rest += self.receive()
            except TimeoutError as error:
                raise BenchError(f"{self.user}: no {wanted} in {OPEN_TIMEOUT:.0f} s") from error

    def close(self) -> None:
        """Close the socket without ceremony."""
        self.sock.close()


def unexpected(label: str) -> Callable[[int, bytes], None]:
    """A handler for frames that no scenario expects while it measures: fails on all but noise."""

    def handle(opcode: int, payload: bytes) -> None:
        if opcode in (wire.PING, wire.PONG):
            return
        if opcode == wire.CLOSE:
            code = int.from_bytes(payload[:2], "big")
            raise BenchError(f"{label}: closed with {code} {payload[2:].decode()!r}")
        if dialect.parse_frame(payload)["type"] != "event":
            raise BenchError(f"{label}: the server said {payload[:300]!r}")

    return handle


def open_connections(target: Target, users: Sequence[str]) -> list[Connection]:
    """One authenticated connection for each of `users`, still blocking, greeted by `hello`."""
    opened: list[Connection] = []
    for first in range(0, len(users), OPEN_AT_ONCE):
        chunk = [_connect(target, user) for user in users[first : first + OPEN_AT_ONCE]]
        for connection in chunk:
            _finish_handshake(connection)
            connection.wait_frame("hello")
        opened += chunk
    return opened


def subscribe_all(connections: Sequence[Connection], rooms: Sequence[str]) -> list[int]:
    """Subscribe each connection to the room beside it; the rooms' offsets at that moment.

    Makes the sockets non-blocking: this is the last thing done before a scenario's loop.
    """
    offsets: list[int] = []
    pairs = list(zip(connections, rooms, strict=True))
    for first in range(0, len(pairs), OPEN_AT_ONCE):
        chunk = pairs[first : first + OPEN_AT_ONCE]
        for connection, room in chunk:
            connection.send(dialect.subscribe_frame(0, room))
        for connection, room in chunk:
            result = connection.wait_frame("reply")["result"]
            if result["room"] != room:
                raise BenchError(f"{connection.user}: subscribed to {result['room']!r}")
            offsets.append(int(result["offset"]))
    for connection in connections:
        connection.sock.setblocking(False)
    return offsets


def close_all(connections: Sequence[Connection]) -> None:
    """Close every socket."""
    for connection in connections:
        connection.close()


def _connect(target: Target, user: str) -> Connection:
    try:
        sock = socket.create_connection((target.host, target.port), timeout=OPEN_TIMEOUT)
    except OSError as error:
        raise BenchError(f"the {target.name} does not accept connections: {error}") from error
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    path = dialect.connect_target(target.token(user))
    sock.sendall(wire.handshake_request(target.host, target.port, path))
    return Connection(sock, user)


def _finish_handshake(connection: Connection) -> None:
    head = b""
    while b"\r\n\r\n" not in head:
        try:
            head += connection.receive()
        except TimeoutError as error:
            raise BenchError(f"{connection.user}: the handshake was not answered") from error
        if len(head) > 65536:
            raise BenchError(f"{connection.user}: no end of the handshake")
    answer, _, connection.rest = head.partition(b"\r\n\r\n")
    if not answer.startswith(b"HTTP/1.1 101 "):
        raise BenchError(f"{connection.user}: refused: {answer[:200]!r}")
