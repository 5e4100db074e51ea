"""User tokens for the generator's connections, as a customer's own server would sign them."""

import time
from collections.abc import Mapping
from typing import Any, Final

import jwt

LIFETIME: Final = 6 * 3600.0  # longer than any run


class TokenMaker:
    """Signs HS256 tokens that differ from the system's sample token in their user only."""

    def __init__(self, system: Mapping[str, str]) -> None:
        self._secret = system["JWT_SECRET"]
        sample: dict[str, Any] = jwt.decode(
            system["ALICE_TOKEN"], options={"verify_signature": False}
        )
        self._claims: dict[str, Any] = {
            key: sample[key] for key in ("iss", "aud", "project") if key in sample
        }

    def token(self, user: str) -> str:
        """A token for one user of the system's demo project."""
        now = time.time()
        claims: dict[str, Any] = {
            **self._claims,
            "sub": user,
            "iat": now,
            "exp": int(now + LIFETIME),
        }
        return jwt.encode(claims, self._secret, algorithm="HS256")
