"""Signals: what an application may send of its own, and how it lies in an event.

A signal is never stored, so all that matters is that it is small and that every client can read it.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Final

import msgspec

from broker.protocol.errors import ProtocolError
from broker.protocol.forms import json_form, text_form
from broker.protocol.refusal import free_json_fault

SIGNAL_BYTES_MAX: Final = 4096
SIGNAL_NAME_BYTES_MAX: Final = 64
PRESENCE_USERS_MAX: Final = 1000
PRESENCE_USERS_DEFAULT: Final = 100

SignalName = Annotated[
    str,
    text_form(
        "Its name.", bytes_min=1, bytes_max=SIGNAL_NAME_BYTES_MAX, pattern="^[A-Za-z0-9_.:-]+$"
    ),
]
SignalData = Annotated[Any, json_form("Any JSON.", bytes_max=SIGNAL_BYTES_MAX)]

_NAME: Final = re.compile(r"[A-Za-z0-9_.:\-]{1,64}").fullmatch
_encode: Final = msgspec.json.Encoder().encode


def check_signal(name: str, data: Any) -> None:
    """Raise ProtocolError unless this may be sent as a signal."""
    if _NAME(name) is None:
        raise ProtocolError("bad_request", "A name is 1 to 64 of `A-Z a-z 0-9 _ . : -`.", "name")
    sentence = free_json_fault(data)
    if sentence is not None:
        raise ProtocolError("bad_request", sentence, "data")
    if len(_encode(data)) > SIGNAL_BYTES_MAX:
        raise ProtocolError("too_large", f"Data has at most {SIGNAL_BYTES_MAX} bytes.", "data")


def signal_data(user: str, name: str, data: Any) -> bytes:
    """The event's data."""
    return _encode({"user": user, "name": name, "data": data})
