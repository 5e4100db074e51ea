"""Centrifugo: in memory, and with Redis keeping the history of each channel.

Its JSON protocol: commands and replies with an `id`, pushes without; several may share a message,
one a line. An empty object is a ping, and the answer to it.
"""

import contextlib
import json
from collections.abc import Iterator
from typing import Any, Final

from bench.dialect import Dialect, Frame, Kind, parse_object
from bench.peers.payloads import message_of
from bench.peers.places import GoPackage
from bench.peers.processes import HOST, serving
from bench.peers.server import ServerPeer
from bench.target import Place

HISTORY_SIZE: Final = 1000
HISTORY_TTL: Final = "300s"
_PUSH: Final = b'{"push":'
_REPLY: Final = b'{"id":'
_CONNECT_ID: Final = 2_000_000_000  # no publish has it


class CentrifugoDialect(Dialect):
    """The bidirectional client protocol, JSON."""

    numbers_events = False
    joins = True

    def path(self, token: str, room: str) -> str:
        return "/connection/websocket"

    def opening(self) -> tuple[bytes, ...]:
        return (b'{"id":%d,"connect":{}}' % _CONNECT_ID,)

    def subscribe(self, number: int, room: str) -> bytes:
        # An id of zero is none.
        return f'{{"id":{number + _CONNECT_ID + 1},"subscribe":{{"channel":"{room}"}}}}'.encode()

    def publish(self, number: int, room: str, sender: str, run: str) -> bytes:
        message = message_of(number, room, sender, run)
        head = f'{{"id":{number},"publish":{{"channel":"{room}","data":'.encode()
        return head + message + b"}}"

    def classify(self, data: bytes, start: int, end: int) -> Frame:
        if data.startswith(_PUSH, start, end):
            return Frame(Kind.MESSAGE)
        if data.startswith(_REPLY, start, end):
            return _classify_reply(data[start:end])
        return Frame(Kind.PING if data[start:end].strip() == b"{}" else Kind.PROBLEM)

    def pong(self, payload: bytes) -> bytes:
        return b"{}"

    def split(self, data: bytes) -> tuple[list[bytes], bytes]:
        return data.split(b"\n"), b""  # a message holds whole lines


def _classify_reply(payload: bytes) -> Frame:
    reply = parse_object(payload)
    if "error" in reply:
        return Frame(Kind.PROBLEM)
    if "connect" in reply:
        return Frame(Kind.GREETING)
    return Frame(Kind.ANSWER, int(reply["id"]))


class Centrifugo(ServerPeer):
    """`with_history`: channels keep their newest publications, in Redis."""

    def __init__(self, name: str, *, needs_redis: bool) -> None:
        self._go = GoPackage("centrifugo", "github.com/centrifugal/centrifugo/v6")
        super().__init__(name, self._go)
        self.needs_redis = needs_redis

    def dialect(self) -> Dialect:
        return CentrifugoDialect()

    @contextlib.contextmanager
    def start(self, place: Place, port: int, redis_url: str | None) -> Iterator[int]:
        configuration = place.folder / "centrifugo.json"
        configuration.write_text(json.dumps(settings(port, redis_url), indent=2))
        command = [str(self._go.program), "--config", str(configuration)]
        with serving(self.name, command, port, place, core=place.server_core) as process:
            yield process


def settings(port: int, redis_url: str | None) -> dict[str, Any]:
    """The configuration file."""
    found: dict[str, Any] = {
        "http_server": {"address": HOST, "port": port},
        "log": {"level": "error"},
        "client": {"insecure": True, "allowed_origins": []},
        "channel": {"without_namespace": {}},
    }
    if redis_url is not None:
        found["engine"] = {"type": "redis", "redis": {"address": redis_url}}
        found["channel"]["without_namespace"] = {
            "history_size": HISTORY_SIZE,
            "history_ttl": HISTORY_TTL,
        }
    return found
