"""`ws` for Node with a plain loop: the least that anybody would call a chat server.

Its protocol is ours, and so small that it can be: frames `subscribe` and `publish` as Parley's,
each answered, events without order numbers.
"""

from contextlib import AbstractContextManager
from typing import Final
from urllib.parse import quote

from bench import wire
from bench.dialect import Dialect, Frame, Kind, parse_object
from bench.peers.places import NodePackage
from bench.peers.processes import serving
from bench.peers.server import ServerPeer
from bench.product import ParleyDialect
from bench.target import Place

_EVENT: Final = b'{"type":"event",'
_REPLY: Final = b'{"type":"reply","id":'


class PlainDialect(Dialect):
    """Parley's frames; answers that hold nothing."""

    numbers_events = False
    greets = False

    def __init__(self) -> None:
        self._parley = ParleyDialect()

    def path(self, token: str, room: str) -> str:
        return f"/?user={quote(token)}"

    def subscribe(self, number: int, room: str) -> bytes:
        return self._parley.subscribe(number, room)

    def subscribed(self, payload: bytes, room: str) -> int:
        if parse_object(payload).get("result") != {"room": room}:
            raise wire.WireError(f"not subscribed to {room!r}: {payload[:200]!r}")
        return 0

    def publish(self, number: int, room: str, sender: str, run: str) -> bytes:
        return self._parley.publish(number, room, sender, run)

    def classify(self, data: bytes, start: int, end: int) -> Frame:
        if data.startswith(_EVENT, start, end):
            return Frame(Kind.MESSAGE)
        if data.startswith(_REPLY, start, end):
            first = start + len(_REPLY)
            number = data[first : data.find(b",", first, end)]
            if number.isdigit():
                return Frame(Kind.ANSWER, int(number))
        return Frame(Kind.PROBLEM)


class PlainWs(ServerPeer):
    """The loop."""

    def __init__(self) -> None:
        self._node = NodePackage("ws")
        super().__init__("ws", self._node)

    def dialect(self) -> Dialect:
        return PlainDialect()

    def start(self, place: Place, port: int, redis_url: str | None) -> AbstractContextManager[int]:
        command, variables = self._node.command(str(port)), self._node.environment()
        core = place.server_core
        return serving(self.name, command, port, place, core=core, variables=variables)
