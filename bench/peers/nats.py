"""NATS over WebSocket, in memory: its own text protocol in binary messages.

The server puts as many protocol lines into one WebSocket message as it has, so they are cut here:
`MSG subject id bytes`, the payload, and lines of one word. Clients that want speed leave `verbose`
off, and then nothing answers a publish. A subscription is answered by the PONG to a PING sent
right behind it, as the client libraries' `flush` does.
"""

import contextlib
from collections.abc import Iterator
from typing import Final

from bench import wire
from bench.dialect import Dialect, Frame, Kind
from bench.peers.payloads import event_of
from bench.peers.places import SERVERS, GoPackage
from bench.peers.processes import serving
from bench.peers.server import ServerPeer
from bench.target import Place

BINARY: Final = 2
_END: Final = b"\r\n"


class NatsDialect(Dialect):
    """The protocol of NATS clients."""

    numbers_events = False
    answers_publishes = False
    joins = True
    opcode = BINARY

    def path(self, token: str, room: str) -> str:
        return "/"

    def opening(self) -> tuple[bytes, ...]:
        return (b'CONNECT {"verbose":false,"pedantic":false,"echo":true}\r\n',)

    def subscribe(self, number: int, room: str) -> bytes:
        return f"SUB {room} 1\r\nPING\r\n".encode()

    def publish(self, number: int, room: str, sender: str, run: str) -> bytes:
        event = event_of(number, room, sender, run)
        return b"PUB %b %d\r\n%b\r\n" % (room.encode(), len(event), event)

    def classify(self, data: bytes, start: int, end: int) -> Frame:
        if data.startswith(b"MSG ", start, end):
            return Frame(Kind.MESSAGE)
        if data.startswith(b"PING", start, end):
            return Frame(Kind.PING)
        if data.startswith(b"PONG", start, end):
            return Frame(Kind.ANSWER, 0)
        return Frame(Kind.GREETING if data.startswith(b"INFO ", start, end) else Kind.PROBLEM)

    def pong(self, payload: bytes) -> bytes:
        return b"PONG\r\n"

    def split(self, data: bytes) -> tuple[list[bytes], bytes]:
        frames: list[bytes] = []
        position = 0
        while (line_end := data.find(_END, position)) >= 0:
            end = line_end + 2
            if data.startswith(b"MSG ", position):
                size = data[data.rfind(b" ", position, line_end) + 1 : line_end]
                if not size.isdigit():
                    raise wire.WireError(f"not a MSG: {data[position:end][:200]!r}")
                end += int(size) + 2
                if end > len(data):
                    break
            frames.append(data[position:end])
            position = end
        return frames, data[position:]


class Nats(ServerPeer):
    """nats-server."""

    def __init__(self) -> None:
        self._go = GoPackage("nats", "github.com/nats-io/nats-server/v2")
        super().__init__("nats", self._go)

    def dialect(self) -> Dialect:
        return NatsDialect()

    @contextlib.contextmanager
    def start(self, place: Place, port: int, redis_url: str | None) -> Iterator[int]:
        template = (SERVERS / "nats" / "nats.conf").read_text()
        configuration = place.folder / "nats.conf"
        configuration.write_text(template.format(port=port))
        command = [str(self._go.program), "--config", str(configuration)]
        with serving(self.name, command, port, place, core=place.server_core) as process:
            yield process
