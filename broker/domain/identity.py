"""Who a token says you are: verifying and minting user tokens (JWT).

Rules: a key is chosen by what is configured, never by what the token asks for. HS256 is verified
with the secrets alone; RS256, ES256 and EdDSA with the public key alone, and of those only the
one that fits the key's type. `exp` and the user's claim are always required. Any text becomes an
`Identity` or raises `TokenInvalid` or `TokenExpired`, nothing else.

Not here: whether the user exists, is banned or was revoked (that takes PostgreSQL), and what the
user may do in a room (`access`). Nothing here awaits; verifying costs some ten microseconds with
a secret, a hundred with a public key.
"""

from __future__ import annotations

import math
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

import jwt
import msgspec

from broker.domain.token_keys import configured_keys
from broker.protocol.ids import is_project_id, is_room_id, is_user_id
from broker.protocol.text import cut_utf8, has_control
from config import limits

if TYPE_CHECKING:
    from config.settings import Settings

DEFAULT_PROJECT: Final = "default"
DEFAULT_TOKEN_TTL: Final = 86_400.0
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


@dataclass(frozen=True, slots=True)
class Identity:
    """What a verified token says. Times are seconds since 1970 (UTC).

    `issued_at` keeps its fraction (revocation compares it) and is None if the token has no `iat`.
    `rooms` are capabilities that add to the stored role; the values are subsets of CAPABILITIES.
    `name` is used only when the user is created by this token.
    """

    user: str
    project: str
    name: str | None
    expires_at: float
    issued_at: float | None
    rooms: Mapping[str, frozenset[str]]


class TokenVerifier:
    """Verifies user tokens with the keys of one configuration. Immutable, safe to share."""

    def __init__(
        self,
        *,
        keys: Mapping[str, Sequence[Any]],
        issuer: str | None = None,
        audience: str | None = None,
        user_claim: str = "sub",
    ) -> None:
        """`keys` maps an algorithm to the keys that may verify it; others are refused."""
        self._keys = {algorithm: tuple(found) for algorithm, found in keys.items() if found}
        self._issuer = issuer
        self._audience = audience
        self._user_claim = user_claim
        self._signatures = jwt.PyJWS(algorithms=list(self._keys))

    @classmethod
    def from_settings(cls, settings: Settings) -> TokenVerifier:
        """Build the verifier of `settings`; ConfigError if a key can not be used."""
        return cls(
            keys=configured_keys(settings),
            issuer=settings.jwt_issuer,
            audience=settings.jwt_audience,
            user_claim=settings.jwt_user_claim,
        )

    def verify(self, token: str, *, now: float | None = None) -> Identity:
        """Return who `token` says one is; raises TokenInvalid or TokenExpired.

        `now` (seconds since 1970) defaults to the clock. `exp` is judged last: TokenExpired means
        that everything else about the token was right.
        """
        claims = self._verified_claims(token)
        instant = time.time() if now is None else now
        self._check_audience(claims)
        issued_at = _number(claims, "iat")
        for claim, since in (("iat", issued_at), ("nbf", _number(claims, "nbf"))):
            if since is not None and since > instant + limits.TOKEN_LEEWAY:
                raise TokenInvalid(f"The token's {claim} lies in the future.")
        expires_at = _number(claims, "exp")
        if expires_at is None:
            raise TokenInvalid("The token has no exp.")
        identity = Identity(
            user=self._user(claims),
            project=_project(claims),
            name=_name(claims),
            expires_at=expires_at,
            issued_at=issued_at,
            rooms=_rooms(claims),
        )
        if instant >= expires_at + limits.TOKEN_LEEWAY:
            raise TokenExpired
        return identity

    def _verified_claims(self, token: str) -> dict[str, Any]:
        """Return the claims after the signature was verified with a key of the right type."""
        if len(token) > limits.TOKEN_BYTES_MAX:
            raise TokenInvalid("The token is too long.")
        if not token.isascii():
            raise TokenInvalid("The token is not a JWT.")
        try:
            header = self._signatures.get_unverified_header(token)
        except (jwt.PyJWTError, ValueError, RecursionError):
            raise TokenInvalid("The token is not a JWT.") from None
        algorithm = header.get("alg")
        keys = self._keys.get(algorithm, ()) if isinstance(algorithm, str) else ()
        if not keys:
            raise TokenInvalid("The token's alg does not fit the configured key.")
        if "crit" in header:
            raise TokenInvalid("The token demands extensions (crit) that are not known.")
        for key in keys:
            try:
                payload = self._signatures.decode(token, key, algorithms=[str(algorithm)])
            except (jwt.PyJWTError, ValueError, RecursionError):
                continue
            return _parse_claims(payload)
        raise TokenInvalid("The token's signature is wrong.")

    def _check_audience(self, claims: dict[str, Any]) -> None:
        if self._issuer is not None and claims.get("iss") != self._issuer:
            raise TokenInvalid("The token's iss is not the configured issuer.")
        if self._audience is not None:
            found = claims.get("aud")
            audiences = found if isinstance(found, list) else [found]
            if self._audience not in audiences:
                raise TokenInvalid("The token's aud is not the configured audience.")

    def _user(self, claims: dict[str, Any]) -> str:
        user = claims.get(self._user_claim)
        if user is None:
            raise TokenInvalid(f"The token has no {_shown(self._user_claim)}.")
        if not isinstance(user, str) or not is_user_id(user):
            raise TokenInvalid(f"The token's {_shown(self._user_claim)} is not a user id.")
        return user


def mint_token(
    settings: Settings,
    *,
    user: str,
    project: str = DEFAULT_PROJECT,
    ttl: float = DEFAULT_TOKEN_TTL,
    rooms: Mapping[str, Sequence[str] | frozenset[str]] | None = None,
    name: str | None = None,
    now: float | None = None,
) -> tuple[str, datetime]:
    """Return a token signed with JWT_SECRET (HS256) and the time of its `exp`.

    It always has `exp`, a fractional `iat` and a `jti`, and `iss` and `aud` if those are
    configured. Raises ConfigError without JWT_SECRET, ValueError (one sentence) for what no
    verifier would accept.
    """
    settings.require_for("token")
    if not is_user_id(user):
        raise ValueError(f"{user!r} is not a user id")
    if not is_project_id(project):
        raise ValueError(f"{project!r} is not a project id")
    if not 0 < ttl <= limits.TOKEN_TTL_MAX:
        raise ValueError("the ttl must be above 0 and at most 3650d")
    instant = time.time() if now is None else now
    # Whole milliseconds: what the client is shown (`expires_at`) is exactly what the token says.
    expires_at = math.floor((instant + ttl) * 1000) / 1000
    claims: dict[str, Any] = {
        settings.jwt_user_claim: user,
        "project": project,
        "iat": instant,
        "exp": expires_at,
        "jti": str(uuid.uuid4()),
    }
    for claim, value in (
        ("name", name),
        ("iss", settings.jwt_issuer),
        ("aud", settings.jwt_audience),
    ):
        if value is not None:
            claims[claim] = value
    if rooms:
        claims["rooms"] = {room: sorted(capabilities) for room, capabilities in rooms.items()}
    try:
        _name(claims)
        _rooms(claims)
    except TokenInvalid as error:
        raise ValueError(error.reason) from None
    secret = settings.jwt_secret
    assert secret is not None
    token = jwt.encode(claims, secret.get_secret_value(), algorithm="HS256")
    return token, datetime.fromtimestamp(expires_at, UTC)


def _parse_claims(payload: bytes) -> dict[str, Any]:
    try:
        claims = msgspec.json.decode(payload)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        raise TokenInvalid("The token's claims are not JSON.") from None
    if not isinstance(claims, dict):
        raise TokenInvalid("The token's claims are not an object.")
    return claims


def _number(claims: dict[str, Any], claim: str) -> float | None:
    """Return a claim's seconds since 1970, None if it is absent."""
    value = claims.get(claim)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TokenInvalid(f"The token's {claim} is not a number.")
    if not 0 <= value <= _TIMESTAMP_MAX:
        raise TokenInvalid(f"The token's {claim} is not a time.")
    return float(value)


def _project(claims: dict[str, Any]) -> str:
    project = claims.get("project", DEFAULT_PROJECT)
    if not isinstance(project, str) or not is_project_id(project):
        raise TokenInvalid("The token's project is not a project id.")
    return project


def _name(claims: dict[str, Any]) -> str | None:
    """Return the display name, cut to its limit; identity providers are not asked to know it."""
    name = claims.get("name")
    if name is None or name == "":
        return None
    if not isinstance(name, str) or has_control(name):
        raise TokenInvalid("The token's name is not a line of text.")
    return cut_utf8(name, _NAME_BYTES_MAX)


def _rooms(claims: dict[str, Any]) -> Mapping[str, frozenset[str]]:
    found = claims.get("rooms")
    if found is None:
        return MappingProxyType({})
    if not isinstance(found, dict) or len(found) > limits.TOKEN_ROOMS_MAX:
        raise TokenInvalid("The token's rooms are not an object of at most 1000 rooms.")
    rooms: dict[str, frozenset[str]] = {}
    for room, capabilities in found.items():
        if not is_room_id(room):
            raise TokenInvalid(f"The token's rooms hold {_shown(room)}, which is not a room id.")
        if not isinstance(capabilities, list) or not all(
            isinstance(item, str) and item in CAPABILITIES for item in capabilities
        ):
            raise TokenInvalid("The token's rooms allow only join, publish and moderate.")
        rooms[room] = frozenset(capabilities)
    return MappingProxyType(rooms)


def _shown(text: str) -> str:
    """Return foreign text in a form that is short and harmless within a sentence."""
    plain = text if text.isascii() and text.isprintable() else ascii(text)[1:-1]
    return plain if len(plain) <= _SHOWN_CHARACTERS_MAX else plain[:_SHOWN_CHARACTERS_MAX] + "..."
