"""User tokens for tests, signed with the secret that test processes get in JWT_SECRET."""

import time
from typing import Any

import jwt

JWT_SECRET = "a secret of the tests, long enough for HS256 to be happy"


def make_token(
    user: str,
    *,
    secret: str = JWT_SECRET,
    project: str | None = None,
    rooms: dict[str, list[str]] | None = None,
    ttl: float = 3600.0,
    algorithm: str = "HS256",
    **claims: Any,
) -> str:
    """A signed token of `user`, valid for `ttl` seconds; a claim given as None is left out."""
    now = time.time()
    given = {"sub": user, "iat": now, "exp": now + ttl, "project": project, "rooms": rooms}
    present = {name: value for name, value in (given | claims).items() if value is not None}
    return jwt.encode(present, secret, algorithm=algorithm)
