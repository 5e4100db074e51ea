"""Parley's own protocol as far as the generator speaks it. The floors speak it too.

Rules: the usual frames are recognised by how they begin and by a search for `"offset":`; anything
written in another order or with spaces goes through `json` and means the same, so that the
generator is not tied to one server's spelling.
"""

import json
from collections.abc import Mapping
from typing import Any, Final

from bench import wire
from bench.dialect import Dialect, Frame, Kind, Message, content_of, parse_object

MESSAGE_EVENT: Final = b'{"type":"event","event":"message.created",'
REPLY: Final = b'{"type":"reply","id":'
_OFFSET: Final = b'"offset":'


class ParleyDialect(Dialect):
    """What docs/protocol.md says."""

    def path(self, token: str, room: str) -> str:
        return f"/v1/connect?token={token}"

    def subscribe(self, number: int, room: str) -> bytes:
        return f'{{"type":"subscribe","id":{number},"room":"{room}"}}'.encode()

    def subscribed(self, payload: bytes, room: str) -> int:
        result = parse_frame(payload)["result"]
        if result["room"] != room:
            raise wire.WireError(f"subscribed to {result['room']!r} instead of {room!r}")
        return int(result["offset"])

    def publish(self, number: int, room: str, sender: str, run: str) -> bytes:
        return (
            f'{{"type":"publish","id":{number},"room":"{room}",'
            f'"content":"{content_of(sender, number)}","client_id":"{run}-{sender}-{number}"}}'
        ).encode()

    def classify(self, data: bytes, start: int, end: int) -> Frame:
        if data.startswith(MESSAGE_EVENT, start, end):
            offset = offset_in(data, start, end)
            if offset >= 0:
                return Frame(Kind.MESSAGE, offset)
        elif data.startswith(REPLY, start, end):
            comma = data.find(b",", start + 21, end)
            number = data[start + 21 : comma]
            if number.isdigit():
                return Frame(Kind.ANSWER, int(number), offset_in(data, comma, end))
        return _classify_parsed(parse_frame(data[start:end]))

    def message(self, payload: bytes) -> Message:
        event = parse_frame(payload)
        data = event["data"]
        return Message(str(data["content"]), int(event["offset"]), int(data["seq"]))

    def result(self, payload: bytes) -> Mapping[str, Any]:
        return dict(parse_frame(payload)["result"])

    def is_same(self, one: bytes, other: bytes) -> bool:
        return bool(json.loads(one) == json.loads(other))


def resume_frame(number: int, room: str, epoch: str, offset: int) -> bytes:
    """A subscription that asks for every event after a position."""
    return (
        f'{{"type":"subscribe","id":{number},"room":"{room}",'
        f'"since":{{"epoch":"{epoch}","offset":{offset}}}}}'
    ).encode()


def history_frame(number: int, room: str, before: int, limit: int) -> bytes:
    """A page of the messages below `before`."""
    return (
        f'{{"type":"history","id":{number},"room":"{room}","before":{before},"limit":{limit}}}'
    ).encode()


def _classify_parsed(frame: dict[str, Any]) -> Frame:
    kind = frame["type"]
    if kind == "event":
        if frame.get("offset") is None:
            return Frame(Kind.NOISE)
        is_message = frame.get("event") == "message.created"
        return Frame(Kind.MESSAGE if is_message else Kind.DURABLE, int(frame["offset"]))
    if kind == "reply" and isinstance(frame.get("id"), int):
        result = frame.get("result")
        offset = result.get("offset") if isinstance(result, dict) else None
        return Frame(Kind.ANSWER, frame["id"], -1 if offset is None else int(offset))
    return Frame(Kind.GREETING if kind == "hello" else Kind.PROBLEM)


def offset_in(data: bytes, start: int, end: int) -> int:
    """The number after the first `"offset":` of `data[start:end]`, or -1."""
    found = data.find(_OFFSET, start, end)
    if found < 0:
        return -1
    first = found + 9
    last = data.find(b",", first, end)
    if last < 0:
        last = data.find(b"}", first, end)
    try:
        return int(data[first:last])
    except ValueError:
        return -1


def parse_frame(payload: bytes) -> dict[str, Any]:
    """A server frame as an object; WireError if it is none."""
    frame = parse_object(payload)
    if not isinstance(frame.get("type"), str):
        raise wire.WireError(f"not a frame: {payload[:200]!r}")
    return frame
