"""Why a piece of JSON was refused: the slow way, walked only when the fast decoder said no.

The fast decoder reads only JSON that is whole, finite and well-formed. JSON that other parsers
would take (NaN, lone surrogates, numbers without end) is an object all the same, so it is
answered with the frame's id; only what is no object at all is `NotAnObject`.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Collection
from typing import Any, Final

import msgspec

from broker.protocol.errors import NotAnObject, ProtocolError
from broker.protocol.text import fits_utf8, has_forbidden

FRAME_ID_BYTES_MAX: Final = 64
INTEGER_MAX: Final = 2**63 - 1
DEPTH_MAX: Final = 32
"""Nesting of free JSON (metadata). More helps nobody and costs recursion everywhere below."""

READABLE_DEPTH_MAX: Final = 100_000

_TOO_DEEP: Final = f"JSON is nested deeper than {DEPTH_MAX}."
_INTEGER_DIGITS_MAX: Final = 30
_BEYOND: Final = 2**100
_FIELD: Final = re.compile(r" at `\$\.(\w+)").search
_MISSING: Final = re.compile(r"missing required field `(\w+)`").search
_ABSENT: Final = object()


def is_frame_id(value: object) -> bool:
    """Whether `value` may be a frame's `id`: an integer of 64 bits or a short string."""
    if type(value) is int:
        return -INTEGER_MAX <= value <= INTEGER_MAX
    if type(value) is str:
        return fits_utf8(value, FRAME_ID_BYTES_MAX) and not has_forbidden(value)
    return False


def free_json_fault(value: object, depth_max: int = DEPTH_MAX) -> str | None:
    """What forbids this decoded JSON: text, numbers or depth that can not be stored; else None."""
    waiting: list[tuple[object, int]] = [(value, 1)]
    while waiting:
        item, depth = waiting.pop()
        if isinstance(item, str):
            if has_forbidden(item):
                return "NUL and lone surrogates are not allowed."
        elif isinstance(item, int):
            if not -INTEGER_MAX <= item <= INTEGER_MAX:
                return "An integer has more than 64 bits."
        elif isinstance(item, float):
            if not math.isfinite(item):
                return "A number is not finite."
        elif isinstance(item, dict | list):
            if depth > depth_max:
                return f"JSON is nested deeper than {depth_max}."
            parts = item
            if isinstance(item, dict):
                waiting.extend((key, depth) for key in item)
                parts = list(item.values())
            waiting.extend((part, depth + 1) for part in parts)
    return None


def body_fault(text: str | bytes, fault: Exception | None) -> ProtocolError | None:
    """Why a JSON body (no `type`, no `id`) is refused; see `frame_fault`."""
    data, refusal = _read_object(text)
    return refusal if data is None else _fields_fault(data, fault)


def frame_fault(
    text: str | bytes, fault: Exception | None, types: Collection[str]
) -> ProtocolError | None:
    """Why a client frame is refused, with its id and type where they can be read.

    `fault` is what the decoder raised. With None (it took the frame, a cheap scan made somebody
    look again) the result is None if there is nothing to refuse.
    """
    data, refusal = _read_object(text)
    if data is None:
        return refusal
    frame_id = data.get("id", _ABSENT)
    frame_type = data.get("type", _ABSENT)
    error: ProtocolError | None
    if not isinstance(frame_type, str):
        sentence = "missing" if frame_type is _ABSENT else "no string"
        error = ProtocolError("bad_request", f"The field `type` is {sentence}.", "type")
    elif frame_type not in types:
        error = ProtocolError("unknown_type", field="type")
    elif frame_id is not _ABSENT and not is_frame_id(frame_id):
        error = ProtocolError(
            "bad_request", "An `id` is an integer or a string of at most 64 bytes.", "id"
        )
    else:
        error = _fields_fault(data, fault)
    if error is not None:
        error.frame_id = frame_id if is_frame_id(frame_id) else None
        if isinstance(frame_type, str) and frame_type in types:
            error.frame_type = frame_type
    return error


def _read_object(text: str | bytes) -> tuple[dict[str, Any] | None, ProtocolError]:
    """The object as the most lenient parser sees it, or None and why it is none."""
    try:
        # As text: of bytes json would guess the encoding, and read UTF-16 that nobody else takes.
        plain = text if isinstance(text, str) else text.decode()
        data = json.loads(plain, parse_int=_bounded_integer)
    except RecursionError:
        return None, ProtocolError("bad_request", _TOO_DEEP)
    except ValueError:
        return None, NotAnObject("The frame is not JSON.")
    if not isinstance(data, dict):
        return None, NotAnObject()
    return data, ProtocolError("bad_request")


def _bounded_integer(digits: str) -> int:
    return int(digits) if len(digits) <= _INTEGER_DIGITS_MAX else _BEYOND


def _fields_fault(data: dict[str, Any], fault: Exception | None) -> ProtocolError | None:
    for name, value in data.items():
        if has_forbidden(name):
            return ProtocolError("bad_request", "NUL and lone surrogates are not allowed.")
        # How deep unknown fields are is nobody's business as long as they can be read.
        sentence = free_json_fault(value, depth_max=READABLE_DEPTH_MAX)
        if sentence is not None:
            return ProtocolError("bad_request", sentence, name)
    if fault is None:
        return None
    if isinstance(fault, msgspec.ValidationError):
        return _validation_error(fault)
    if isinstance(fault, RecursionError):
        return ProtocolError("bad_request", _TOO_DEEP)
    return NotAnObject("The frame is not JSON.")


def _validation_error(fault: msgspec.ValidationError) -> ProtocolError:
    sentence = str(fault)
    missing = _MISSING(sentence)
    place = _FIELD(sentence)
    if place is not None:
        field = place[1]
        what = sentence.partition(" - at ")[0].replace("`", "")
        return ProtocolError("bad_request", f"The field `{field}` is not valid: {what}.", field)
    if missing is not None:
        return ProtocolError("bad_request", f"The field `{missing[1]}` is missing.", missing[1])
    return ProtocolError("bad_request")
