"""Checks of the fields that users and rooms have in common; messages have `message_draft`.

Each raises ProtocolError naming the field. Text is taken as it is: never trimmed, never
normalised. An absent field (None) passes. Form (`bad_request`) is judged before size.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from broker.protocol.errors import ProtocolError
from broker.protocol.message_draft import (
    METADATA_BYTES_MAX,
    NAME_BYTES_MAX,
    is_attachment_url,
)
from broker.protocol.refusal import free_json_fault
from broker.protocol.text import fits_utf8, has_control, has_forbidden

URL_BYTES_MAX: Final = 2048
_encode: Final = msgspec.json.Encoder().encode


def check_name(text: str | None, field: str, *, may_be_empty: bool = True) -> None:
    """A line of at most NAME_BYTES_MAX bytes."""
    if text is None:
        return
    if has_forbidden(text) or has_control(text) or not (text or may_be_empty):
        raise ProtocolError("bad_request", f"`{field}` is a line of text.", field)
    if not fits_utf8(text, NAME_BYTES_MAX):
        raise ProtocolError("too_large", f"`{field}` has at most {NAME_BYTES_MAX} bytes.", field)


def check_email(text: str | None) -> None:
    """Something with an @ in it; whether mail arrives there is not ours to know."""
    check_name(text, "email", may_be_empty=False)
    if text is not None and "@" not in text:
        raise ProtocolError("bad_request", "`email` is no address.", "email")


def check_url(text: str | None, field: str) -> None:
    """An absolute address that no client would run as a script."""
    if text is None:
        return
    if has_forbidden(text) or not is_attachment_url(text):
        raise ProtocolError("bad_request", f"`{field}` is an absolute address.", field)
    if not fits_utf8(text, URL_BYTES_MAX):
        raise ProtocolError("too_large", f"`{field}` has at most {URL_BYTES_MAX} bytes.", field)


def metadata_text(metadata: dict[str, Any] | None) -> str:
    """The metadata as JSON text, `{}` for none, after checking that it can be stored."""
    if metadata is None:
        return "{}"
    fault = free_json_fault(metadata)
    if fault is not None:
        raise ProtocolError("bad_request", fault, "metadata")
    text = _encode(metadata)
    if len(text) > METADATA_BYTES_MAX:
        raise ProtocolError(
            "too_large", f"`metadata` has at most {METADATA_BYTES_MAX} bytes.", "metadata"
        )
    return text.decode()
