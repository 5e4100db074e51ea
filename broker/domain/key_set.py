"""The keys that an identity provider publishes at JWT_JWKS_URL, kept in memory.

Rules:
- Verifying asks nobody: `find` looks into what was fetched. Keys are fetched at the start, every
  JWKS_REFRESH_INTERVAL, and when a token names a key that is not known, then at most every
  JWKS_RETRY_AFTER, once for all who wait.
- A fetched set replaces the one before as a whole, so a key that was taken back is gone. While the
  address is away, or answers nonsense, the last good set stays.
- A key verifies the one algorithm that fits its type, whatever the token or the set says. Secrets
  (`oct`), private, weak and unknown keys and those for encryption are left out.
- The address is the operator's, http or https. No redirect is followed, no proxy of the
  environment used, nothing in a token or in the set is ever an address.
- The fetch blocks a thread of its own, never the event loop, and has a deadline and a size.
"""

from __future__ import annotations

import http.client
import time
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

import jwt
import msgspec
import structlog
import trio

from broker.domain.token_keys import algorithm_of
from config.limits import (
    JWKS_BYTES_MAX,
    JWKS_KEYS_MAX,
    JWKS_REFRESH_INTERVAL,
    JWKS_RETRY_AFTER,
    JWKS_TIMEOUT,
)

ALGORITHMS: Final = ("RS256", "ES256", "EdDSA")
_READ_BYTES: Final = 16 * 1024
_HTTP_OK: Final = 200


class KeysUnavailable(Exception):
    """The provider's keys can not be had now. `reason` is one sentence for operators."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)


class PublishedKey(NamedTuple):
    """A key of the set; `kid` is None for one without a name."""

    kid: str | None
    algorithm: str
    key: Any


class KeySet:
    """The provider's keys; one a process. `run` keeps them fresh."""

    def __init__(self, url: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._url = url
        self._clock = clock
        self._keys: tuple[PublishedKey, ...] = ()
        self._asked_at: float | None = None
        self._failure: str | None = "They have not been fetched yet."
        self._fetching = trio.Lock()
        self._log = structlog.get_logger("jwks")

    @property
    def keys(self) -> Sequence[PublishedKey]:
        """What was fetched last."""
        return self._keys

    def find(self, algorithm: str, kid: object) -> Sequence[Any]:
        """The keys that may verify a token of this header; all that fit if it names none."""
        return [
            found.key
            for found in self._keys
            if found.algorithm == algorithm and (kid is None or found.kid == kid)
        ]

    def knows(self, kid: object) -> bool:
        """Whether asking the provider again could not tell more about this key."""
        if kid is None:
            return self._failure is None
        return any(found.kid == kid for found in self._keys)

    async def refetch(self) -> None:
        """Fetch, unless that was tried within JWKS_RETRY_AFTER; callers at once share a fetch.

        Raises KeysUnavailable if the last try failed. Safe to cancel.
        """
        async with self._fetching:
            asked_at = self._asked_at
            if asked_at is None or self._clock() - asked_at >= JWKS_RETRY_AFTER:
                await self._fetch()
        if self._failure is not None:
            raise KeysUnavailable(self._failure)

    async def run(self) -> None:
        """Fetch now, and again and again, until cancelled; outlives any failure."""
        while True:
            async with self._fetching:
                await self._fetch()
            failed = self._failure is not None
            await trio.sleep(JWKS_RETRY_AFTER if failed else JWKS_REFRESH_INTERVAL)

    async def _fetch(self) -> None:
        self._asked_at = self._clock()
        try:
            self._keys = await fetch_keys(self._url)
        except KeysUnavailable as error:
            if self._failure != error.reason:
                self._log.warning("keys can not be fetched", reason=error.reason)
            self._failure = error.reason
        else:
            if self._failure is not None:
                self._log.info("keys fetched", count=len(self._keys))
            self._failure = None


async def fetch_keys(url: str) -> tuple[PublishedKey, ...]:
    """The usable keys that the address has now; raises KeysUnavailable. Safe to cancel."""
    try:
        with trio.fail_after(JWKS_TIMEOUT):
            data = await trio.to_thread.run_sync(_download, url, abandon_on_cancel=True)
    except trio.TooSlowError:
        raise KeysUnavailable("The address did not answer in time.") from None
    except (OSError, http.client.HTTPException) as error:
        raise KeysUnavailable(f"The address can not be reached: {error}") from None
    keys = parse_key_set(data)
    if not keys:
        raise KeysUnavailable("The answer holds no key that can be used.")
    return keys


def parse_key_set(data: bytes) -> tuple[PublishedKey, ...]:
    """The keys of a JWKS document that can verify tokens; raises KeysUnavailable for no such."""
    try:
        found = msgspec.json.decode(data)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        raise KeysUnavailable("The answer is no JSON.") from None
    entries = found.get("keys") if isinstance(found, dict) else None
    if not isinstance(entries, list) or len(entries) > JWKS_KEYS_MAX:
        raise KeysUnavailable(f"The answer is no key set of at most {JWKS_KEYS_MAX} keys.")
    return tuple(key for entry in entries if (key := _parse_key(entry)) is not None)


def _parse_key(entry: object) -> PublishedKey | None:
    if not isinstance(entry, dict) or "d" in entry or entry.get("kty") == "oct":
        return None
    operations = entry.get("key_ops")
    if entry.get("use", "sig") != "sig" or (
        isinstance(operations, list) and "verify" not in operations
    ):
        return None
    try:
        # Given an algorithm only so that none is guessed; the key's type decides below.
        key = jwt.PyJWK(entry, algorithm=_expected(entry)).key
    except (jwt.PyJWTError, ValueError, TypeError, KeyError, AttributeError):
        return None
    algorithm = algorithm_of(key)
    if algorithm is None or entry.get("alg", algorithm) != algorithm:
        return None
    kid = entry.get("kid")
    return PublishedKey(kid if isinstance(kid, str) else None, algorithm, key)


def _expected(entry: dict[str, Any]) -> str:
    return {"RSA": "RS256", "EC": "ES256"}.get(str(entry.get("kty")), "EdDSA")


def _download(url: str) -> bytes:
    """GET in the calling thread: one answer, bounded in time and size."""
    parts = urlsplit(url)
    is_secure = parts.scheme.lower() == "https"
    connect = http.client.HTTPSConnection if is_secure else http.client.HTTPConnection
    deadline = time.monotonic() + JWKS_TIMEOUT
    connection = connect(parts.hostname or "", parts.port, timeout=JWKS_TIMEOUT)
    try:
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        connection.request("GET", path, headers={"Accept": "application/json"})
        with connection.getresponse() as answer:
            if answer.status != _HTTP_OK:
                raise KeysUnavailable(f"The address answers with status {answer.status}.")
            data = b""
            while chunk := answer.read1(_READ_BYTES):
                data += chunk
                if len(data) > JWKS_BYTES_MAX or time.monotonic() > deadline:
                    raise KeysUnavailable("The answer is too large or too slow.")
            return data
    finally:
        connection.close()
