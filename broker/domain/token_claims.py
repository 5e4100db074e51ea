"""What the claims of a user token may be: JSON in, checked values out, or `TokenInvalid`.

Pure. Nothing here knows signatures or times; `identity` judges those.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

import msgspec

from broker.protocol.ids import is_project_id, is_room_id, is_user_id
from broker.protocol.text import cut_utf8, has_control
from config import limits

DEFAULT_PROJECT: Final = "default"
CAPABILITIES: Final = frozenset({"join", "publish", "moderate"})

_SHOWN_CHARACTERS_MAX: Final = 40
_NAME_BYTES_MAX: Final = 256
# The last second that a datetime can hold; later ones could not be shown to the client.
_TIMESTAMP_MAX: Final = 253_402_300_799.0


class TokenInvalid(Exception):
    """The token proves nothing. `reason` is one short sentence, fit for the client."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)


class TokenExpired(Exception):
    """The token was valid and has expired. `reason` as in TokenInvalid."""

    def __init__(self, reason: str = "The token has expired.") -> None:
        self.reason = reason
        super().__init__(reason)


def parse_claims(payload: bytes) -> dict[str, Any]:
    """The claims of a verified payload."""
    try:
        claims = msgspec.json.decode(payload)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        raise TokenInvalid("The token's claims are not JSON.") from None
    if not isinstance(claims, dict):
        raise TokenInvalid("The token's claims are not an object.")
    return claims


def number_claim(claims: dict[str, Any], claim: str) -> float | None:
    """Return a claim's seconds since 1970, None if it is absent."""
    value = claims.get(claim)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TokenInvalid(f"The token's {claim} is not a number.")
    if not 0 <= value <= _TIMESTAMP_MAX:
        raise TokenInvalid(f"The token's {claim} is not a time.")
    return float(value)


def project_claim(claims: dict[str, Any]) -> str:
    """The project, `default` if the token names none."""
    project = claims.get("project", DEFAULT_PROJECT)
    if not isinstance(project, str) or not is_project_id(project):
        raise TokenInvalid("The token's project is not a project id.")
    return project


def user_claim(claims: dict[str, Any], name: str) -> str:
    """The user's id, from the claim that is configured to hold it."""
    user = claims.get(name)
    if user is None:
        raise TokenInvalid(f"The token has no {shown(name)}.")
    if not isinstance(user, str) or not is_user_id(user):
        raise TokenInvalid(f"The token's {shown(name)} is not a user id.")
    return user


def name_claim(claims: dict[str, Any]) -> str | None:
    """Return the display name, cut to its limit; identity providers are not asked to know it."""
    name = claims.get("name")
    if name is None or name == "":
        return None
    if not isinstance(name, str) or has_control(name):
        raise TokenInvalid("The token's name is not a line of text.")
    return cut_utf8(name, _NAME_BYTES_MAX)


def rooms_claim(claims: dict[str, Any]) -> Mapping[str, frozenset[str]]:
    """Capabilities by room."""
    found = claims.get("rooms")
    if found is None:
        return MappingProxyType({})
    if not isinstance(found, dict) or len(found) > limits.TOKEN_ROOMS_MAX:
        raise TokenInvalid("The token's rooms are not an object of at most 1000 rooms.")
    rooms: dict[str, frozenset[str]] = {}
    for room, capabilities in found.items():
        if not is_room_id(room):
            raise TokenInvalid(f"The token's rooms hold {shown(room)}, which is not a room id.")
        if not isinstance(capabilities, list) or not all(
            isinstance(item, str) and item in CAPABILITIES for item in capabilities
        ):
            raise TokenInvalid("The token's rooms allow only join, publish and moderate.")
        rooms[room] = frozenset(capabilities)
    return MappingProxyType(rooms)


def shown(text: str) -> str:
    """Return foreign text in a form that is short and harmless within a sentence."""
    plain = text if text.isascii() and text.isprintable() else ascii(text)[1:-1]
    return plain if len(plain) <= _SHOWN_CHARACTERS_MAX else plain[:_SHOWN_CHARACTERS_MAX] + "..."
