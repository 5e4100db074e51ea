"""Socket.IO: the original with its Redis streams adapter, and python-socketio with Redis.

Both speak the same protocol, of which the generator needs: packets of Engine.IO 4 (`2` ping,
`3` pong, `4` message), within them those of Socket.IO 5 (`0` connected, `2` event, `3`
acknowledgement), events with an acknowledgement id behind the type.
"""

from contextlib import AbstractContextManager
from typing import Final
from urllib.parse import quote

from bench import wire
from bench.dialect import Dialect, Frame, Kind, content_of
from bench.peers.places import NodePackage, PythonPackage
from bench.peers.processes import serving
from bench.peers.server import ServerPeer
from bench.target import Place

_EVENT: Final = b'42["message.created",'
_ANSWER: Final = b"43"
_CONNECTED: Final = b"40"
_OPENED: Final = b"0"
_PING: Final = b"2"
_PONG: Final = b"3"


class SocketIoDialect(Dialect):
    """Events `subscribe` and `publish`, both acknowledged, and `message.created`."""

    numbers_events = False

    def path(self, token: str, room: str) -> str:
        return f"/socket.io/?EIO=4&transport=websocket&user={quote(token)}"

    def opening(self) -> tuple[bytes, ...]:
        return (_CONNECTED,)

    def subscribe(self, number: int, room: str) -> bytes:
        return f'42{number}["subscribe","{room}"]'.encode()

    def subscribed(self, payload: bytes, room: str) -> int:
        if not payload.endswith(f'["{room}"]'.encode()):
            raise wire.WireError(f"not subscribed to {room!r}: {payload[:200]!r}")
        return 0

    def publish(self, number: int, room: str, sender: str, run: str) -> bytes:
        content = content_of(sender, number)
        return (f'42{number}["publish","{room}","{content}","{run}-{sender}-{number}"]').encode()

    def classify(self, data: bytes, start: int, end: int) -> Frame:
        if data.startswith(_EVENT, start, end):
            return Frame(Kind.MESSAGE)
        if data.startswith(_ANSWER, start, end):
            number = data[start + 2 : data.find(b"[", start, end)]
            if number.isdigit():
                return Frame(Kind.ANSWER, int(number))
        if data[start:end] == _PING:
            return Frame(Kind.PING)
        if data.startswith(_CONNECTED, start, end):
            return Frame(Kind.GREETING)
        return Frame(Kind.NOISE if data.startswith(_OPENED, start, end) else Kind.PROBLEM)

    def pong(self, payload: bytes) -> bytes:
        return _PONG


class SocketIo(ServerPeer):
    """Socket.IO for Node."""

    needs_redis = True

    def __init__(self) -> None:
        self._node = NodePackage("socketio-streams")
        super().__init__("socketio-streams", self._node)

    def dialect(self) -> Dialect:
        return SocketIoDialect()

    def start(self, place: Place, port: int, redis_url: str | None) -> AbstractContextManager[int]:
        command = self._node.command(str(port), redis_url or "")
        variables = self._node.environment()
        core = place.server_core
        return serving(self.name, command, port, place, core=core, variables=variables)


class PythonSocketIo(ServerPeer):
    """python-socketio under uvicorn."""

    needs_redis = True

    def __init__(self) -> None:
        self._python = PythonPackage("python-socketio")
        super().__init__("python-socketio", self._python)

    def dialect(self) -> Dialect:
        return SocketIoDialect()

    def start(self, place: Place, port: int, redis_url: str | None) -> AbstractContextManager[int]:
        command = self._python.command(port)
        variables = {"REDIS_URL": redis_url or ""}
        core = place.server_core
        return serving(self.name, command, port, place, core=core, variables=variables)
