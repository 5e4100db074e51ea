"""Server frames: their JSON text, and WebSocket frames as bytes.

The builders return JSON text as bytes; `encode_text_frame` makes it a WebSocket frame. Server
frames are unmasked and never compressed, so one frame serves every receiver. Nothing here decides
whether a frame may be sent. No text frame may exceed `SERVER_FRAME_BYTES_MAX`: pages and resumes
are cut before they get here.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import msgspec

from broker.protocol.errors import CLOSE_REASON_BYTES_MAX, ProtocolError
from broker.protocol.events import TimeTexts, iso_time
from broker.protocol.text import cut_utf8

SERVER_FRAME_BYTES_MAX: Final = 768 * 1024

_SHORT_MAX: Final = 125
_MEDIUM_MAX: Final = 65535
_LENGTH_2_BYTES: Final = 126
_LENGTH_8_BYTES: Final = 127
_SHORT_HEADERS: Final = tuple(bytes((0x81, length)) for length in range(_SHORT_MAX + 1))
_encode: Final = msgspec.json.Encoder().encode

FrameId = int | str | None


def encode_json(value: Any) -> bytes:
    """Compact JSON of plain values and structs."""
    return _encode(value)


def encode_text_frame(payload: bytes) -> bytes:
    """One whole unmasked text frame."""
    length = len(payload)
    if length <= _SHORT_MAX:
        return _SHORT_HEADERS[length] + payload
    if length <= _MEDIUM_MAX:
        return b"\x81\x7e%b%b" % (length.to_bytes(2, "big"), payload)
    return b"\x81\x7f%b%b" % (length.to_bytes(8, "big"), payload)


def encode_close_frame(code: int, reason: str) -> bytes:
    """One close frame; the reason is cut to what fits."""
    text = cut_utf8(reason, CLOSE_REASON_BYTES_MAX).encode("utf-8", "replace")
    return b"%b%b%b" % (bytes((0x88, 2 + len(text))), code.to_bytes(2, "big"), text)


def encode_ping_frame(payload: bytes = b"") -> bytes:
    """One ping frame with at most 125 bytes of payload."""
    return b"%b%b" % (bytes((0x89, len(payload))), payload)


def hello(
    *,
    connection: str,
    node: str,
    user: str,
    expires_at: int,
    ping_interval: float,
    max_frame_bytes: int,
    server_time: int,
) -> bytes:
    """The first frame after authentication. Times in ms since 1970, `ping_interval` in seconds."""
    return _encode(
        {
            "type": "hello",
            "connection": connection,
            "node": node,
            "user": user,
            "expires_at": iso_time(expires_at),
            "ping_interval": _seconds(ping_interval),
            "max_frame_bytes": max_frame_bytes,
            "server_time": iso_time(server_time),
        }
    )


def reply(frame_id: FrameId, result: bytes) -> bytes:
    """The answer to a command; `result` is JSON text."""
    return b'{"type":"reply","id":%b,"result":%b}' % (_encode(frame_id), result)


def encode_reply_frame(frame_id: FrameId, result: bytes) -> bytes:
    """`reply` as one whole text frame, with the result copied once."""
    head = b'{"type":"reply","id":%b,"result":' % _id_text(frame_id).encode()
    length = len(head) + len(result) + 1
    if length <= _SHORT_MAX:
        return b"".join((_SHORT_HEADERS[length], head, result, b"}"))
    if length <= _MEDIUM_MAX:
        return b"".join((b"\x81\x7e", length.to_bytes(2, "big"), head, result, b"}"))
    return b"".join((b"\x81\x7f", length.to_bytes(8, "big"), head, result, b"}"))


def publish_reply(
    frame_id: FrameId,
    message_id: str,
    seq: int,
    offset: int,
    ms: int,
    duplicate: bool,
    times: TimeTexts | None = None,
) -> bytes:
    """The answer to `publish`; `ms` is the message's `created_at`, `times` makes it cheap."""
    created_at = iso_time(ms) if times is None else times.iso_time(ms)
    return (
        f'{{"type":"reply","id":{_id_text(frame_id)},"result":{{"message_id":"{message_id}",'
        f'"seq":{seq},"offset":{offset},"created_at":"{created_at}",'
        f'"duplicate":{"true" if duplicate else "false"}}}}}'
    ).encode()


def error(
    frame_id: FrameId,
    code: str,
    message: str,
    retry_after: float | None = None,
    field: str | None = None,
) -> bytes:
    """A refusal. `retry_after` in seconds."""
    return _encode(
        {
            "type": "error",
            "id": frame_id,
            "code": code,
            "message": message,
            "retry_after": None if retry_after is None else _seconds(retry_after),
            "field": field,
        }
    )


def error_of(refusal: ProtocolError) -> bytes:
    """The error frame of a ProtocolError, with the id that it carries."""
    return error(
        refusal.frame_id, refusal.code, refusal.message, refusal.retry_after, refusal.field
    )


def unsubscribed(room: str, code: str, message: str) -> bytes:
    """A subscription has ended for a reason of `UNSUBSCRIBED_CODES`."""
    return _encode({"type": "unsubscribed", "room": room, "code": code, "message": message})


def drain(reconnect_within: float) -> bytes:
    """A planned close is near: reconnect in a random part of so many seconds."""
    return _encode({"type": "drain", "reconnect_within": _seconds(reconnect_within)})


def json_array(parts: Iterable[bytes]) -> bytes:
    """A JSON array out of JSON texts."""
    return b"[%b]" % b",".join(parts)


def _id_text(frame_id: FrameId) -> str:
    return str(frame_id) if isinstance(frame_id, int) else _encode(frame_id).decode()


def _seconds(value: float) -> int | float:
    # 25 rather than 25.0: what people expect to read.
    return int(value) if value == int(value) else value


def end_of_frame(data: bytes, inside: int) -> int:
    """Where the server frame that holds byte `inside` ends; `data` begins with a whole frame.

    `inside` itself if a frame ends just there.
    """
    at = 0
    while at < inside:
        length = data[at + 1]
        at += 2
        if length == _LENGTH_2_BYTES:
            length = int.from_bytes(data[at : at + 2], "big")
            at += 2
        elif length == _LENGTH_8_BYTES:
            length = int.from_bytes(data[at : at + 8], "big")
            at += 8
        at += length
    return at
