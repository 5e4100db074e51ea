"""What the OpenAPI document says once for all operations: prose, tags, credentials, headers."""

from __future__ import annotations

from types import MappingProxyType
from typing import Any, Final

DESCRIPTION: Final = """\
REST API of the realtime chat broker Parley: history, users, rooms, members and messages, beside
the WebSocket.

**Credentials.** `X-API-Key` is a backend: all of its project. `Authorization: Bearer` is one
user's token. If both are sent the key counts. With a key, `user_id` names the user that it acts
for; without it the project itself acts, unlimited.

**Errors** are `application/problem+json` (RFC 9457) with `code`, `field` and `retry_after`. When
several apply, the first one in the order of the protocol's table is answered. A room that one may
not know of is `room_not_found`, just as one that is not there.

**Bodies** are JSON (UTF-8, at most 2 MiB). Unknown fields and query parameters are ignored; a query
parameter given twice, NUL, lone surrogates and numbers without end are `bad_request`. Lengths are
bytes of UTF-8. Times are `2026-01-02T03:04:05.678Z`.

**Ids** are percent-encoded in paths. **Lists** take `page` and `limit` (at most 100).
Every path that takes GET takes HEAD, and every path takes OPTIONS.
"""

TAGS: Final[MappingProxyType[str, str]] = MappingProxyType(
    {
        "project": "What a credential says about itself.",
        "users": "Users and their tokens, for a backend.",
        "me": "The token's own user.",
        "rooms": "Rooms: direct, group and public.",
        "members": "Who belongs to a room: joining, adding, ranking, muting.",
        "bans": "Who is kept out of a room; whom a user has blocked.",
        "messages": "Messages: publishing, history, changes, replies, reactions.",
        "receipts": "How far members have read and got messages.",
        "presence": "Who is online.",
        "audit": "Who changed what when.",
        "health": "Whether the process lives and can do its work.",
    }
)

SECURITY_SCHEMES: Final[MappingProxyType[str, dict[str, Any]]] = MappingProxyType(
    {
        "key": {
            "type": "apiKey",
            "in": "header",
            "name": "X-API-Key",
            "description": "A project's key, for backends: `parley apikey create`.",
        },
        "token": {
            "type": "http",
            "scheme": "bearer",
            "bearerFormat": "JWT",
            "description": "One user's token: `POST /v1/users/{user}/token`, or your own issuer's.",
        },
    }
)


def _header(description: str, example: Any, kind: str = "string") -> dict[str, Any]:
    return {"description": description, "schema": {"type": kind}, "example": example}


HEADERS: Final[MappingProxyType[str, dict[str, Any]]] = MappingProxyType(
    {
        "Cache-Control": _header("Whether the answer may be kept.", "private, no-cache"),
        "ETag": _header("Differs whenever the page does (strong).", '"9f86d081884c7d65"'),
        "Location": _header("Path of what was made or found.", "/v1/rooms/lobby"),
        "RateLimit-Limit": _header("Tokens only: requests in a burst.", 100, "integer"),
        "RateLimit-Remaining": _header("Tokens only: requests left now.", 99, "integer"),
        "RateLimit-Reset": _header("Tokens only: seconds until all are left.", 1, "integer"),
        "Retry-After": _header("Whole seconds to wait.", 1, "integer"),
        "WWW-Authenticate": _header("Which credential is wanted.", "Bearer"),
        "X-Request-Id": _header(
            "The id of the request: the one that was sent, or a new one. In the logs too.",
            "01946e2f7c1a7b3c9d4e5f6071829304",
        ),
    }
)
