"""A short way for tokens like earlier ones: HS256, under a header that has been judged before.

Law: it says yes or nothing. Yes only where the long way (PyJWT, as `identity` uses it) says yes
with the same payload: the header is, byte for byte, that of a token which the long way has accepted
with the same secret, the rest is canonical base64url without padding, and it is signed with that
secret. Everything else, whatever is wrong with it, takes the long way and is judged there. So
nothing here decides what is refused, or why.

The long way parses the secret (is it a key in disguise?), the header twice and every character of
the token; nearly all tokens of a deployment share one header, and a secret never changes.
"""

from __future__ import annotations

import base64
import binascii
import hmac
from typing import Final

ALGORITHM: Final = "HS256"
# Headers differ by `kid` at most: a few of them, a hundred bytes each. What is longer, or comes
# when so many are known, goes the long way: that costs time and nothing else.
_HEADERS_MAX: Final = 32
_HEADER_CHARACTERS_MAX: Final = 256


class ShortWay:
    """The headers that have been accepted, and with which secrets."""

    def __init__(self) -> None:
        self._secrets: dict[str, tuple[bytes, ...]] = {}

    def note_accepted(self, token: str, secret: str | bytes) -> None:
        """The long way has accepted this token with this secret."""
        header = token.partition(".")[0]
        key = secret.encode() if isinstance(secret, str) else secret
        known = self._secrets.get(header, ())
        has_room = len(self._secrets) < _HEADERS_MAX and len(header) <= _HEADER_CHARACTERS_MAX
        if key not in known and (known or has_room):
            self._secrets[header] = (*known, key)

    def payload_of(self, token: str) -> bytes | None:
        """The payload of a good token; None if the long way has to tell. `token` is ASCII."""
        signed, _, signature = token.rpartition(".")
        header, _, payload = signed.partition(".")
        for secret in self._secrets.get(header, ()):
            digest = hmac.digest(secret, signed.encode(), "sha256")
            if hmac.compare_digest(_base64url(digest), signature.encode()):
                return _canonical(payload.encode())
        return None


def _base64url(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def _canonical(text: bytes) -> bytes | None:
    try:
        data = base64.urlsafe_b64decode(text + b"==")
    except binascii.Error:
        return None
    return data if _base64url(data) == text else None
