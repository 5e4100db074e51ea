"""One example of every frame. A test holds each against its schema."""

from __future__ import annotations

from types import MappingProxyType
from typing import Any, Final

Fields = MappingProxyType[str, Any]

_TIME: Final = "2026-01-02T03:04:05.678Z"
_ID: Final = "019b7d2b-3c4e-7a1f-8b2c-0d9e8f7a6b5c"
_EPOCH: Final = "01a1fc535dde74599392494b7618ea40"
_TOKEN: Final = "eyJhbGciOiJIUzI1NiJ9.e30.signature"

_MESSAGE: Final[Fields] = MappingProxyType(
    {
        "id": _ID,
        "room": "lunch",
        "seq": 7,
        "sender": "alice",
        "kind": "text",
        "content": "Lunch?",
        "metadata": {},
        "attachments": [],
        "mentions": ["bob"],
        "reply_to": None,
        "reply_count": 0,
        "forwarded_from": None,
        "client_id": "7f3c9a",
        "created_at": _TIME,
        "edited_at": None,
        "deleted_at": None,
        "deleted_by": None,
        "reactions": {},
    }
)
_REACTIONS: Final[Fields] = MappingProxyType(
    {"👍": {"count": 2, "users": ["alice", "bob"], "mine": True}},
)
_MEMBER: Final[Fields] = MappingProxyType(
    {
        "user": "bob",
        "role": "member",
        "joined_at": _TIME,
        "muted_until": None,
        "display_name": "Bob",
        "avatar_url": None,
        "by": "alice",
    }
)
_ROOM: Final[Fields] = MappingProxyType(
    {
        "id": "lunch",
        "kind": "group",
        "name": "Lunch",
        "topic": None,
        "avatar_url": None,
        "external_id": None,
        "default_role": "member",
        "frozen": False,
        "retention_days": None,
        "metadata": {},
        "created_by": "alice",
        "created_at": _TIME,
        "updated_at": _TIME,
        "last_message_at": None,
        "member_count": 2,
        "seq": 0,
    }
)

COMMANDS: Final[MappingProxyType[str, dict[str, Any]]] = MappingProxyType(
    {
        "auth": {"token": _TOKEN},
        "refresh": {"token": _TOKEN},
        "subscribe": {"room": "lunch", "since": {"epoch": _EPOCH, "offset": 11}, "history": 50},
        "unsubscribe": {"room": "lunch"},
        "publish": {
            "room": "lunch",
            "content": "Lunch?",
            "mentions": ["bob"],
            "client_id": "7f3c9a",
        },
        "edit": {"room": "lunch", "seq": 7, "content": "Lunch at one?"},
        "delete": {"room": "lunch", "seq": 7},
        "react": {"room": "lunch", "seq": 7, "reaction": "👍"},
        "unreact": {"room": "lunch", "seq": 7, "reaction": "👍"},
        "read": {"room": "lunch", "seq": 7},
        "delivered": {"room": "lunch", "seq": 7},
        "typing": {"room": "lunch", "active": True},
        "signal": {"room": "lunch", "name": "cursor", "data": {"x": 3, "y": 4}},
        "presence": {"room": "lunch", "limit": 100},
        "history": {"room": "lunch", "before": 8, "limit": 50},
        "ping": {},
    }
)
"""The fields of every client frame beside `type` and `id`."""

_AUTHENTICATED: Final[Fields] = MappingProxyType({"user": "alice", "expires_at": _TIME})
_CHANGED: Final[Fields] = MappingProxyType({"offset": 13})
_MARKED: Final[Fields] = MappingProxyType({"seq": 7, "unread": 0})
_DONE: Final[Fields] = MappingProxyType({})

RESULTS: Final[Fields] = MappingProxyType(
    {
        "auth": _AUTHENTICATED,
        "refresh": _AUTHENTICATED,
        "subscribe": {
            "room": "lunch",
            "epoch": _EPOCH,
            "offset": 12,
            "seq": 7,
            "role": "owner",
            "members_online": 2,
            "unread": 1,
            "read_seq": 6,
            "recovered": True,
            "reason": None,
            "events": [
                {
                    "event": "message.created",
                    "offset": 12,
                    "time": _TIME,
                    "data": _MESSAGE,
                }
            ],
            "messages": [],
        },
        "unsubscribe": _DONE,
        "publish": {
            "message_id": _ID,
            "seq": 7,
            "offset": 12,
            "created_at": _TIME,
            "duplicate": False,
        },
        "edit": _CHANGED,
        "delete": _CHANGED,
        "react": _CHANGED,
        "unreact": {"offset": None},
        "read": _MARKED,
        "delivered": _MARKED,
        "typing": _DONE,
        "signal": _DONE,
        "presence": {"users": [{"user": "bob", "since": _TIME, "connections": 2}], "count": 1},
        "history": {"messages": [_MESSAGE | {"reactions": _REACTIONS}], "has_more": True},
        "ping": {"time": _TIME},
    }
)
"""The result of every reply."""

_PLACE: Final[Fields] = MappingProxyType({"id": _ID, "seq": 7, "sender": "alice", "by": "alice"})
_REACTED: Final[Fields] = MappingProxyType(
    {"message_id": _ID, "seq": 7, "user": "bob", "reaction": "👍"}
)
_RECEIPT: Final[Fields] = MappingProxyType({"user": "bob", "seq": 7, "at": _TIME})

EVENTS: Final[Fields] = MappingProxyType(
    {
        "message.created": _MESSAGE,
        "message.edited": {**_PLACE, "content": "Lunch at one?", "edited_at": _TIME},
        "message.deleted": {**_PLACE, "deleted_at": _TIME},
        "reaction.added": _REACTED,
        "reaction.removed": _REACTED,
        "member.added": _MEMBER,
        "member.updated": _MEMBER | {"role": "admin"},
        "member.removed": {"user": "bob", "by": None, "reason": "removed"},
        "room.updated": {"topic": "Where to eat", "updated_at": _TIME, "by": "alice"},
        "room.deleted": {"by": "alice", "deleted_at": _TIME},
        "typing.started": {"user": "bob", "expires_in": 6},
        "typing.stopped": {"user": "bob"},
        "presence.joined": {"user": "bob", "since": _TIME, "online": 2},
        "presence.left": {"user": "bob", "last_seen_at": _TIME, "online": 1},
        "presence.count": {"online": 340},
        "receipt.read": _RECEIPT,
        "receipt.delivered": _RECEIPT,
        "signal": {"user": "bob", "name": "cursor", "data": {"x": 3, "y": 4}},
        "notification.added": {"room": _ROOM},
        "notification.removed": {"reason": "removed"},
        "notification.message": {
            "seq": 7,
            "sender": "alice",
            "kind": "text",
            "content": "Lunch?",
            "mentioned": True,
            "unread": 1,
        },
        "notification.read": {"read_seq": 7, "unread": 0},
    }
)
"""The `data` of every event."""

SERVER_FRAMES: Final[MappingProxyType[str, dict[str, Any]]] = MappingProxyType(
    {
        "hello": {
            "connection": "e322a1c5bf0511e1",
            "node": "d60e7e01bc70",
            "user": "alice",
            "expires_at": _TIME,
            "ping_interval": 25,
            "max_frame_bytes": 65536,
            "server_time": _TIME,
        },
        "error": {
            "id": 5,
            "code": "rate_limited",
            "message": "Too many requests; wait before the next.",
            "retry_after": 0.4,
            "field": None,
        },
        "unsubscribed": {
            "room": "lunch",
            "code": "not_a_member",
            "message": "The user is no longer a member of the room.",
        },
        "drain": {"reconnect_within": 10},
    }
)
"""The fields of every other server frame beside `type`."""


def command_frame(name: str) -> dict[str, Any]:
    """A client frame."""
    return {"type": name, "id": 5, **COMMANDS[name]}


def reply_frame(name: str) -> dict[str, Any]:
    """The answer to a client frame."""
    return {"type": "reply", "id": 5, "result": plain(RESULTS[name])}


def event_frame(name: str, *, is_durable: bool) -> dict[str, Any]:
    """An event."""
    place = {"offset": 12} if is_durable else {}
    head = {"type": "event", "event": name, "room": "lunch", **place}
    return {**head, "time": _TIME, "data": plain(EVENTS[name])}


def server_frame(name: str) -> dict[str, Any]:
    """A server frame of another kind."""
    return {"type": name, **SERVER_FRAMES[name]}


def plain(value: Any) -> Any:
    """The same with dictionaries for every mapping."""
    if isinstance(value, dict | MappingProxyType):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [plain(item) for item in value]
    return value
