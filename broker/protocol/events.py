"""Events on the wire: the stored part of an event, stamped and framed.

An entry of a room's log holds only what its author knew. What its place gives (`seq`,
`created_at`, `edited_at`, `deleted_at`) and what a new message never has (reactions, replies) is
added here, in one place, for live events, resumes and history alike. `room` is the room's id as
clients know it, without the project. Nothing is parsed: bytes of JSON are joined.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

_EPOCH: Final = datetime(1970, 1, 1)  # naive on purpose: every time here is UTC
_NEVER_IN_A_NEW_MESSAGE: Final = (
    ',"reply_count":0,"edited_at":null,"deleted_at":null,"deleted_by":null,"reactions":{}}'
)
_STAMPS: Final = {
    "message.edited": "edited_at",
    "message.deleted": "deleted_at",
    "presence.joined": "since",
    "presence.left": "last_seen_at",
    "receipt.read": "at",
    "receipt.delivered": "at",
}


def iso_time(ms: int) -> str:
    """Milliseconds since 1970 as `2026-01-02T03:04:05.678Z` (UTC, always milliseconds)."""
    text = (_EPOCH + timedelta(milliseconds=ms)).isoformat(timespec="milliseconds")
    return f"{text}Z"


class TimeTexts:
    """`iso_time` for many times that are close together: remembers the last second.

    One per owner of a hot path (a node's inbox reader); not thread-safe, holds one string.
    """

    __slots__ = ("_second", "_text")

    def __init__(self) -> None:
        self._second = -1
        self._text = ""

    def iso_time(self, ms: int) -> str:
        """The same as the function `iso_time`."""
        second, rest = divmod(ms, 1000)
        if second != self._second:
            self._text = iso_time(second * 1000)[:20]
            self._second = second
        return f"{self._text}{rest:03d}Z"


def message_json(seq: int, ms: int, data: bytes, times: TimeTexts | None = None) -> bytes:
    """A new message as clients see it, out of the stored `data` of `message.created`."""
    return _message(seq, _time_text(ms, times), data)


def event_frame(
    event: str,
    room: str,
    offset: int,
    seq: int,
    ms: int,
    data: bytes,
    times: TimeTexts | None = None,
) -> bytes:
    """The JSON text of an event frame. `offset` 0: an ephemeral event, which has none.

    `seq` is used by `message.created` only; `ms` is the event's time;
    `times` (optional, everywhere here) makes it cheap.
    """
    time = _time_text(ms, times)
    place = f'"offset":{offset},' if offset else ""
    head = f'{{"type":"event","event":"{event}","room":"{room}",{place}"time":"{time}","data":'
    return b"%b%b}" % (head.encode(), _stamped(event, seq, time, data))


def event_body(
    event: str, offset: int, seq: int, ms: int, data: bytes, times: TimeTexts | None = None
) -> bytes:
    """The `{event, offset, time, data}` object of a resume."""
    time = _time_text(ms, times)
    head = f'{{"event":"{event}","offset":{offset},"time":"{time}","data":'
    return b"%b%b}" % (head.encode(), _stamped(event, seq, time, data))


def _time_text(ms: int, times: TimeTexts | None) -> str:
    return iso_time(ms) if times is None else times.iso_time(ms)


def _stamped(event: str, seq: int, time: str, data: bytes) -> bytes:
    if event == "message.created":
        return _message(seq, time, data)
    stamp = _STAMPS.get(event)
    return data if stamp is None else b'%b,"%b":"%b"}' % (data[:-1], stamp.encode(), time.encode())


def _message(seq: int, time: str, data: bytes) -> bytes:
    stamps = f',"seq":{seq},"created_at":"{time}"{_NEVER_IN_A_NEW_MESSAGE}'
    return data[:-1] + stamps.encode()
