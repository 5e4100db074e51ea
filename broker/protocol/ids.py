"""Ids that outsiders give: their alphabets and lengths (protocol, Identity).

An id never holds `/`, so `project/room` is unambiguous wherever parts are joined. Ids are
case-sensitive, compared bytewise and never normalised. All are ASCII: bytes equal characters.
"""

from __future__ import annotations

import re
from typing import Annotated, Final

from broker.protocol.forms import text_form

ID_BYTES_MAX: Final = 128
USER_CHANNEL_PREFIX: Final = "user:"
"""Room ids may not begin so: other systems address a user's own channel by it."""

_ROOM_LIKE: Final = re.compile(r"[A-Za-z0-9_.:\-]{1,128}").fullmatch
_USER: Final = re.compile(r"[A-Za-z0-9_.:\-@|]{1,128}").fullmatch
_MESSAGE: Final = re.compile(
    r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"
).fullmatch

RoomId = Annotated[
    str,
    text_form(
        "A room's id.",
        bytes_min=1,
        bytes_max=ID_BYTES_MAX,
        pattern=r"^(?!\.{1,2}$|user:)[A-Za-z0-9_.:\-]+$",
    ),
]
UserId = Annotated[
    str,
    text_form(
        "A user's id.",
        bytes_min=1,
        bytes_max=ID_BYTES_MAX,
        pattern=r"^(?!\.{1,2}$)[A-Za-z0-9_.:\-@|]+$",
    ),
]


def is_room_id(text: str) -> bool:
    """Whether `text` may name a room that clients can reach."""
    return (
        _ROOM_LIKE(text) is not None
        and text != "."
        and text != ".."
        and not text.startswith(USER_CHANNEL_PREFIX)
    )


def is_user_id(text: str) -> bool:
    """Whether `text` may name a user (rooms' alphabet and `@` and `|`)."""
    return _USER(text) is not None and text not in (".", "..")


def is_project_id(text: str) -> bool:
    """Whether `text` may name a project."""
    return _ROOM_LIKE(text) is not None and text not in (".", "..")


def is_message_id(text: str) -> bool:
    """Whether `text` has the form of a message id: a lower-case UUID of version 7."""
    return _MESSAGE(text) is not None
