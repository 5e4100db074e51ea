"""Making rooms with members over REST, before anything is measured."""

import http.client
import json
from collections.abc import Mapping, Sequence
from typing import Any, Final
from urllib.parse import urlsplit

from bench.connection import BenchError

MEMBERS_A_CALL: Final = 100  # the API's limit
_TIMEOUT: Final = 30.0


class Api:
    """A few calls with an API key over one connection."""

    def __init__(self, url: str, key: str) -> None:
        parts = urlsplit(url)
        self._connection = http.client.HTTPConnection(
            parts.hostname or "127.0.0.1", parts.port or 80, timeout=_TIMEOUT
        )
        self._prefix = parts.path.rstrip("/").removesuffix("/v1")
        self._key = key
        self._rooms: set[str] = set()

    def prepare_rooms(self, rooms: Mapping[str, Sequence[str]]) -> None:
        """Create each room once, with all of its members (the API makes users that are new)."""
        for room, members in rooms.items():
            if room in self._rooms:
                continue
            self._post("/v1/rooms", {"id": room, "members": list(members[:MEMBERS_A_CALL])})
            for first in range(MEMBERS_A_CALL, len(members), MEMBERS_A_CALL):
                users = list(members[first : first + MEMBERS_A_CALL])
                self._post(f"/v1/rooms/{room}/members", {"users": users})
            self._rooms.add(room)

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def _post(self, path: str, body: Mapping[str, Any]) -> None:
        headers = {"X-API-Key": self._key, "Content-Type": "application/json"}
        try:
            self._connection.request("POST", self._prefix + path, json.dumps(body), headers)
            answer = self._connection.getresponse()
            text = answer.read()
        except (OSError, http.client.HTTPException) as error:
            raise BenchError(f"POST {path}: {error!r}") from error
        if answer.status not in (200, 201):
            raise BenchError(f"POST {path}: {answer.status} {text[:300]!r}")
