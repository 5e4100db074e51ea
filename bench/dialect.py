"""The broker's protocol as far as the generator speaks it: frames out, meanings in.

Rules: pure functions on bytes. The usual frames are recognised by how they begin and by a search
for `"offset":`; anything written in another order or with spaces goes through `json` and means the
same, so that the generator is not tied to one server's spelling.

Deliberately not here: framing (`bench.wire`) and judging (`bench.checks`).
"""

import json
from typing import Any, Final

from bench.wire import WireError

MESSAGE_EVENT: Final = b'{"type":"event","event":"message.created",'
ANY_REPLY: Final = b'{"type":"reply",'
OFFSET: Final = b'"offset":'
CONTENT_BYTES: Final = 64
_FILLER: Final = "a line of chat as people write it, neither long nor very short, " * 2


def connect_target(token: str) -> str:
    """Path and query of the WebSocket for one user."""
    return f"/v1/connect?token={token}"


def subscribe_frame(number: int, room: str) -> bytes:
    """The text of a subscribe command."""
    return f'{{"type":"subscribe","id":{number},"room":"{room}"}}'.encode()


def content_of(sender: str, number: int) -> str:
    """What `sender` writes in its publish `number`: 64 bytes, different for every publish."""
    return f"{sender} {number} {_FILLER}"[:CONTENT_BYTES]


def publish_frame(number: int, room: str, sender: str, run: str) -> bytes:
    """The text of a publish command with the idempotency key that a careful client sends."""
    return (
        f'{{"type":"publish","id":{number},"room":"{room}",'
        f'"content":"{content_of(sender, number)}","client_id":"{run}-{sender}-{number}"}}'
    ).encode()


def offset_in(data: bytes, start: int, end: int) -> int:
    """The number after the first `"offset":` of `data[start:end]`, or -1."""
    found = data.find(OFFSET, start, end)
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
    try:
        frame = json.loads(payload)
    except ValueError as error:
        raise WireError(f"not JSON: {payload[:200]!r}") from error
    if not isinstance(frame, dict) or not isinstance(frame.get("type"), str):
        raise WireError(f"not a frame: {payload[:200]!r}")
    return frame
