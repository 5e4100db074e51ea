"""Text as clients send it: lengths in bytes of UTF-8 and code points that are refused.

Lengths are bytes of UTF-8 everywhere; text is never normalised or trimmed. NUL and lone
surrogates are refused because PostgreSQL and UTF-8 can not store them: an answered message would
be lost later.
"""

from __future__ import annotations

import re
from typing import Final

_FORBIDDEN: Final = re.compile("[\x00\ud800-\udfff]").search
_CONTROL: Final = re.compile("[\x00-\x1f\x7f-\x9f]").search
UTF8_BYTES_PER_CHARACTER_MAX: Final = 4


def utf8_length(text: str) -> int:
    """Bytes of `text` in UTF-8 (a lone surrogate counts three)."""
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


def fits_utf8(text: str, bytes_max: int) -> bool:
    """Whether `text` has at most `bytes_max` bytes of UTF-8."""
    characters = len(text)
    if characters > bytes_max:
        return False
    if characters * UTF8_BYTES_PER_CHARACTER_MAX <= bytes_max:
        return True
    return utf8_length(text) <= bytes_max


def cut_utf8(text: str, bytes_max: int) -> str:
    """The longest beginning of `text` of at most `bytes_max` bytes, never half a character."""
    if fits_utf8(text, bytes_max):
        return text
    return text.encode("utf-8", "replace")[:bytes_max].decode("utf-8", "ignore")


def has_forbidden(text: str) -> bool:
    """Whether `text` holds NUL or a lone surrogate."""
    return _FORBIDDEN(text) is not None


def has_control(text: str) -> bool:
    """Whether `text` holds a control character (C0, DEL, C1)."""
    return _CONTROL(text) is not None
