"""Who a token says you are: verifying and minting user tokens (JWT).

Rules: a key is chosen by what is configured, never by what the token asks for. HS256 is verified
with the secrets alone; RS256, ES256 and EdDSA with public keys alone (configured, or published
by the identity provider: `key_set`), and of those only the one that fits the key's type. `exp` and
the user's claim are always required. Any text becomes an `Identity` or raises `TokenInvalid` or
`TokenExpired`, nothing else.

Not here: what claims may hold (`token_claims`), whether the user exists, is banned or was revoked
(that takes PostgreSQL), and what the user may do in a room (`access`). Nothing awaits but
`authenticate`, and that only for a key that is not known; verifying costs some ten microseconds
with a secret, a hundred with a public key.
"""

from __future__ import annotations

import math
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import jwt

from broker.domain.key_set import ALGORITHMS, KeySet
from broker.domain.short_way import ALGORITHM as SHORT_WAY_ALGORITHM
from broker.domain.short_way import ShortWay
from broker.domain.token_claims import CAPABILITIES as CAPABILITIES
from broker.domain.token_claims import DEFAULT_PROJECT as DEFAULT_PROJECT
from broker.domain.token_claims import TokenExpired as TokenExpired
from broker.domain.token_claims import TokenInvalid as TokenInvalid
from broker.domain.token_claims import (
    name_claim,
    number_claim,
    parse_claims,
    project_claim,
    rooms_claim,
    user_claim,
)
from broker.domain.token_keys import configured_keys
from broker.protocol.ids import is_project_id, is_user_id
from config import limits

if TYPE_CHECKING:
    from config.settings import Settings

DEFAULT_TOKEN_TTL: Final = 86_400.0


class _KeyUnknown(TokenInvalid):
    """The token names a key that the provider may have published since its keys were fetched."""


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
    """Verifies user tokens with the keys of one configuration. Safe to share."""

    def __init__(
        self,
        *,
        keys: Mapping[str, Sequence[Any]],
        issuer: str | None = None,
        audience: str | None = None,
        user_claim: str = "sub",
        published: KeySet | None = None,
    ) -> None:
        """`keys` maps an algorithm to the keys that may verify it, `published` adds the
        provider's; others are refused."""
        self._keys = {algorithm: tuple(found) for algorithm, found in keys.items() if found}
        self.published = published
        self._issuer = issuer
        self._audience = audience
        self._user_claim = user_claim
        more = ALGORITHMS if published is not None else ()
        self._signatures = jwt.PyJWS(algorithms=[*self._keys, *more])
        self._short_way = ShortWay()

    @classmethod
    def from_settings(cls, settings: Settings) -> TokenVerifier:
        """Build the verifier of `settings`; ConfigError if a key can not be used."""
        return cls(
            keys=configured_keys(settings),
            issuer=settings.jwt_issuer,
            audience=settings.jwt_audience,
            user_claim=settings.jwt_user_claim,
            published=None if settings.jwt_jwks_url is None else KeySet(settings.jwt_jwks_url),
        )

    async def authenticate(self, token: str) -> Identity:
        """As `verify`; a key that is not known is looked for at the provider first.

        Also raises `KeysUnavailable`: nobody can say now whether the token is good. Safe to
        cancel. Nothing is asked and nothing awaited for keys that are known.
        """
        try:
            return self.verify(token)
        except _KeyUnknown:
            assert self.published is not None
            await self.published.refetch()
            return self.verify(token)

    def verify(self, token: str, *, now: float | None = None) -> Identity:
        """Return who `token` says one is; raises TokenInvalid or TokenExpired.

        `now` (seconds since 1970) defaults to the clock. `exp` is judged last: TokenExpired means
        that everything else about the token was right.
        """
        claims = self._verified_claims(token)
        instant = time.time() if now is None else now
        self._check_audience(claims)
        issued_at = number_claim(claims, "iat")
        for claim, since in (("iat", issued_at), ("nbf", number_claim(claims, "nbf"))):
            if since is not None and since > instant + limits.TOKEN_LEEWAY:
                raise TokenInvalid(f"The token's {claim} lies in the future.")
        expires_at = number_claim(claims, "exp")
        if expires_at is None:
            raise TokenInvalid("The token has no exp.")
        identity = Identity(
            user=user_claim(claims, self._user_claim),
            project=project_claim(claims),
            name=name_claim(claims),
            expires_at=expires_at,
            issued_at=issued_at,
            rooms=rooms_claim(claims),
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
        payload = self._short_way.payload_of(token)
        if payload is not None:
            return parse_claims(payload)
        try:
            header = self._signatures.get_unverified_header(token)
        except (jwt.PyJWTError, ValueError, RecursionError):
            raise TokenInvalid("The token is not a JWT.") from None
        algorithm = header.get("alg")
        if not isinstance(algorithm, str) or not self._may_verify(algorithm):
            raise TokenInvalid("The token's alg does not fit the configured key.")
        if "crit" in header:
            raise TokenInvalid("The token demands extensions (crit) that are not known.")
        kid = header.get("kid")
        for key in self._candidates(algorithm, kid):
            try:
                payload = self._signatures.decode(token, key, algorithms=[str(algorithm)])
            except (jwt.PyJWTError, ValueError, RecursionError):
                continue
            if algorithm == SHORT_WAY_ALGORITHM:
                self._short_way.note_accepted(token, key)
            return parse_claims(payload)
        published = self.published
        if published is not None and algorithm in ALGORITHMS and not published.knows(kid):
            raise _KeyUnknown("The token's key is not among the provider's.")
        raise TokenInvalid("The token's signature is wrong.")

    def _may_verify(self, algorithm: str) -> bool:
        return algorithm in self._keys or (self.published is not None and algorithm in ALGORITHMS)

    def _candidates(self, algorithm: str, kid: object) -> Iterator[Any]:
        yield from self._keys.get(algorithm, ())
        if self.published is not None:
            yield from self.published.find(algorithm, kid)

    def _check_audience(self, claims: dict[str, Any]) -> None:
        if self._issuer is not None and claims.get("iss") != self._issuer:
            raise TokenInvalid("The token's iss is not the configured issuer.")
        if self._audience is not None:
            found = claims.get("aud")
            audiences = found if isinstance(found, list) else [found]
            if self._audience not in audiences:
                raise TokenInvalid("The token's aud is not the configured audience.")


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
        name_claim(claims)
        rooms_claim(claims)
    except TokenInvalid as error:
        raise ValueError(error.reason) from None
    secret = settings.jwt_secret
    assert secret is not None
    token = jwt.encode(claims, secret.get_secret_value(), algorithm="HS256")
    return token, datetime.fromtimestamp(expires_at, UTC)
