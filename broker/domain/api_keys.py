"""API keys: how one looks, what of it is stored, and whose project a given one speaks for.

A key is `parley_` and 43 characters of 256 random bits, so a plain SHA-256 of it can be stored
and looked up: there is nothing to guess that a slow hash would protect. It is shown once. A key
that is known to be good is believed for API_KEY_CACHE_TTL; a refused one is asked for each time.
"""

from __future__ import annotations

import hashlib
import secrets
import time
from typing import Final

from uuid_utils import uuid7

from config.api_limits import API_KEY_BYTES_MAX, API_KEY_CACHE_TTL, API_KEYS_CACHED_MAX
from storage.postgres import api_keys as rows
from storage.postgres.api_keys import ApiKeyRow
from storage.postgres.pool import Database

KEY_PREFIX: Final = "parley_"
_RANDOM_BYTES: Final = 32
SHOWN_CHARACTERS: Final = 12


class ApiKeys:
    """Finds the project of a key; one per process."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._known: dict[bytes, tuple[str, float]] = {}

    async def find_project(self, key: str) -> str | None:
        """The project that the key speaks for, None if it is unknown or revoked.

        A revoked key is believed for at most API_KEY_CACHE_TTL more. Raises StorageUnavailable.
        """
        if len(key) > API_KEY_BYTES_MAX:
            return None
        digest = key_digest(key)
        known = self._known.get(digest)
        now = time.monotonic()
        if known is not None and now < known[1]:
            return known[0]
        self._known.pop(digest, None)
        project = await rows.find_project(self._db, digest)
        if project is not None:
            if len(self._known) >= API_KEYS_CACHED_MAX:
                self._known.clear()
            self._known[digest] = (project, now + API_KEY_CACHE_TTL)
        return project


def key_digest(key: str) -> bytes:
    """What is stored of a key."""
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()


async def create_api_key(db: Database, project: str) -> tuple[str, str]:
    """Make a key for a project (and the project, if there is none): its id and the key itself."""
    key_id = str(uuid7())
    key = KEY_PREFIX + secrets.token_urlsafe(_RANDOM_BYTES)
    await rows.insert_key(db, key_id, project, key[:SHOWN_CHARACTERS], key_digest(key))
    return key_id, key


async def list_api_keys(db: Database, project: str | None = None) -> list[ApiKeyRow]:
    """All keys of a project (None: of every one), the revoked too, oldest first."""
    return await rows.list_keys(db, project)


async def revoke_api_key(db: Database, key: str) -> list[str]:
    """Revoke by id or by the characters shown in the list; the ids revoked, empty if none."""
    return await rows.revoke_key(db, key)
