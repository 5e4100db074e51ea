"""Who makes a request: `X-API-Key` (all of a project) or a Bearer token (one user).

The key wins if both are there. With a key, `user_id` (in the query or the body, the same if in
both) names the user it acts for, else the project itself acts; with a token it may only repeat the
token's user. A handler first asks for the credential (before it looks at the body), then for the
actor. Users of tokens are looked up at every request, keys at most once a second.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from quart import Request, g, request

from api.bodies import check_query, query_text
from api.rates import RequestRates
from broker.domain.access import Actor
from broker.domain.api_keys import ApiKeys
from broker.domain.identity import Identity, TokenExpired, TokenInvalid, TokenVerifier
from broker.domain.key_set import KeysUnavailable
from broker.domain.users import admit_user, ensure_user
from broker.protocol.errors import ProtocolError
from broker.protocol.ids import is_user_id
from config.limits import UNAVAILABLE_RETRY_AFTER
from config.metrics import Metrics
from storage.postgres.pool import Database


@dataclass(frozen=True, slots=True)
class Credential:
    """A good key (`identity` None) or a good token."""

    project: str
    identity: Identity | None

    @property
    def is_key(self) -> bool:
        """Whether it is the project's key."""
        return self.identity is None


class Authenticator:
    """Judges credentials for one process."""

    def __init__(
        self,
        db: Database,
        *,
        verifier: TokenVerifier,
        keys: ApiKeys,
        rates: RequestRates,
        create_users: bool,
        metrics: Metrics,
    ) -> None:
        self._db = db
        self._metrics = metrics
        self._verifier = verifier
        self._keys = keys
        self._rates = rates
        self._create_users = create_users

    async def credential(self) -> Credential:
        """The credential of the present request, counted against its user's rate.

        Raises ProtocolError: `unauthenticated`, `token_expired`, `forbidden` (banned or deleted),
        `rate_limited`; and StorageUnavailable.
        """
        try:
            credential = await self._judge()
        except ProtocolError as error:
            self._count(error)
            raise
        check_query()
        return credential

    async def _judge(self) -> Credential:
        key = request.headers.get("X-API-Key")
        if key is not None:
            project = await self._keys.find_project(key)
            if project is None:
                raise ProtocolError("unauthenticated", "The API key is not valid.")
            return Credential(project, None)
        token = _bearer_token(request)
        identity = await self._identity(token)
        # Before the database is asked: a flood of requests must not become one of queries.
        state = self._rates.take(hashlib.blake2b(token.encode(), digest_size=16).digest())
        g.rate = state
        if state.retry_after is not None:
            raise ProtocolError("rate_limited", retry_after=state.retry_after)
        await admit_user(self._db, identity, create=self._create_users)
        return Credential(identity.project, identity)

    def _count(self, refusal: ProtocolError) -> None:
        if refusal.code == "rate_limited":
            self._metrics.rate_limited.inc()
            return
        reason = refusal.code
        if reason == "unauthenticated":
            has_token = "Authorization" in request.headers
            reason = "bad_token" if has_token else "missing"
            if "X-API-Key" in request.headers:
                reason = "bad_key"
        self._metrics.authentication_failures.labels(reason).inc()

    async def key(self) -> Credential:
        """The credential, if it is a key; `forbidden` for a token."""
        credential = await self.credential()
        if not credential.is_key:
            raise ProtocolError("forbidden", "This takes an API key.")
        return credential

    async def token(self) -> Identity:
        """The identity, if the credential is a token; `unauthenticated` for a key."""
        credential = await self.credential()
        if credential.identity is None:
            raise ProtocolError("unauthenticated", "This takes a user's token.")
        return credential.identity

    async def actor(self, credential: Credential, user_id: object = None) -> Actor:
        """Who acts: `user_id` is what the body says, beside the query's.

        Raises ProtocolError naming the field `user_id`.
        """
        user = _named_user(user_id)
        identity = credential.identity
        if identity is not None:
            if user not in (None, identity.user):
                raise ProtocolError("forbidden", "A token acts for its user only.", "user_id")
            capabilities = tuple(identity.rooms.items())
            return Actor(identity.project, identity.user, "user", capabilities)
        if user is None:
            return Actor(credential.project, None, "project")
        state = await ensure_user(
            self._db, credential.project, user, None, create=self._create_users
        )
        if state is None or state.deleted:
            raise ProtocolError("not_found", "There is no such user.", "user_id")
        if state.status != "active":
            raise ProtocolError("forbidden", "The user is banned.", "user_id")
        return Actor(credential.project, user, "key_user")

    async def _identity(self, token: str) -> Identity:
        try:
            return await self._verifier.authenticate(token)
        except TokenExpired as error:
            raise ProtocolError("token_expired", error.reason) from None
        except TokenInvalid as error:
            raise ProtocolError("unauthenticated", error.reason) from None
        except KeysUnavailable:
            raise ProtocolError("unavailable", retry_after=UNAVAILABLE_RETRY_AFTER) from None


def _bearer_token(current: Request) -> str:
    scheme, _, rest = current.headers.get("Authorization", "").partition(" ")
    token: str = rest.strip()
    if scheme.lower() != "bearer" or not token:
        raise ProtocolError("unauthenticated", "Send X-API-Key or a Bearer token.")
    return token


def _named_user(in_body: object) -> str | None:
    in_query = query_text("user_id")
    user = in_query if in_body is None else in_body
    if user is None:
        return None
    if not isinstance(user, str) or not is_user_id(user):
        raise ProtocolError("bad_request", "This is no user id.", "user_id")
    if in_query is not None and in_query != user:
        raise ProtocolError("bad_request", "Query and body name different users.", "user_id")
    return user
