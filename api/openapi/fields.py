"""What the OpenAPI document says about a field wherever it stands: meaning, limits, an example.

One term has one meaning in all of Parley, so a field's name is enough. `Struct.field` beats
`field`. Lengths are bytes of UTF-8; the document can only say characters, of which no text has more
than bytes, so what is over them is refused for certain. A test fails for a field without an entry.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import MappingProxyType
from typing import Any, Final

from broker.protocol.ids import ID_BYTES_MAX
from broker.protocol.message_draft import (
    ATTACHMENTS_MAX,
    CLIENT_ID_BYTES_MAX,
    CONTENT_BYTES_MAX,
    MENTIONS_MAX,
    NAME_BYTES_MAX,
)

_TIME: Final = "2026-01-02T03:04:05.678Z"
_MESSAGE_ID: Final = "01946e2f-7c1a-7b3c-9d4e-5f6071829304"
_USER_PATTERN: Final = r"^[A-Za-z0-9_.:\-@|]{1,128}$"
_ROOM_PATTERN: Final = r"^[A-Za-z0-9_.:\-]{1,128}$"
_MESSAGE_PATTERN: Final = "^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$"
_TIME_PATTERN: Final = r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$"


def _says(description: str, example: Any, **more: Any) -> dict[str, Any]:
    return {"description": description, "examples": [example], **more}


def _user(description: str, example: str | None = "alice") -> dict[str, Any]:
    return _says(description, example, pattern=_USER_PATTERN, maxLength=ID_BYTES_MAX)


def _room(description: str, example: str = "lobby") -> dict[str, Any]:
    return _says(description, example, pattern=_ROOM_PATTERN, maxLength=ID_BYTES_MAX)


def _time(description: str, example: str | None = _TIME) -> dict[str, Any]:
    return _says(description, example, format="date-time", pattern=_TIME_PATTERN)


def _line(description: str, example: str) -> dict[str, Any]:
    return _says(description, example, maxLength=NAME_BYTES_MAX)


def _number(description: str, example: int, low: int = 0, **more: Any) -> dict[str, Any]:
    return _says(description, example, minimum=low, **more)


_QUERY_TIME: Final = {"format": "date-time"}
_METADATA: Final = "The application's own JSON, at most 8192 bytes."

FIELDS: Final[MappingProxyType[str, dict[str, Any]]] = MappingProxyType(
    {
        # --- ids and people ---
        "id": _says("The id; given at the creation or else a UUIDv7.", "alice"),
        "UserDocument.id": _user("The user's id."),
        "UserBody.id": _user("The user's id, for good; without it a UUIDv7."),
        "RoomDocument.id": _room("The room's id."),
        "RoomBody.id": _room("The room's id, for good; without it a UUIDv7."),
        "MessageDocument.id": _says("The message's id, a UUIDv7.", _MESSAGE_ID),
        "ProjectDocument.id": _says("The project.", "default"),
        "AuditRowDocument.id": _number("Rises with every row.", 17),
        "user": _user("A user's id."),
        "VerifiedDocument.user": _says("Whom the token names.", {"userId": "alice"}),
        "userId": _user("The user's id."),
        "user_id": _user(
            "With a key: the user to act for. With a token: at most the token's own user."
        ),
        "users": _says("Users, by id.", ["bob"]),
        "NamesByUser.users": _says("Names of the senders on the page, by user id.", {}),
        "HistoryDocument.users": _says("Names of the senders on the page, by user id.", {}),
        "ReactionDocument.users": _says("The first ten who reacted so.", ["bob"], maxItems=10),
        "MembersBody.user": _user("One user to add; or else `users`.", "bob"),
        "MembersBody.users": _says("Several users to add.", None, minItems=1, maxItems=100),
        "room": _room("A room's id."),
        "sender": _user("Who wrote it; null for the project itself."),
        "by": _user("Who did it; null for the project itself."),
        "actor": _user("Who did it; null for the project itself."),
        "created_by": _user("Who made the room and owned it first; null for the project."),
        "RoomBody.created_by": _user("The owner. With a token: oneself."),
        "deleted_by": _user("Who deleted it; null for the project, or if it is not deleted.", None),
        "ids": _says("User ids, separated by commas, at most 100.", "alice,bob"),
        "username": _line("A unique name in the project.", "alice.smith"),
        "external_user_id": _line("The id in your own system; unique in the project.", "crm-4711"),
        "external_id": _line("The room's id in your own system; unique in the project.", "order-7"),
        "display_name": _line("What people see.", "Alice"),
        "email": _line("An e-mail address.", "alice@example.com"),
        "avatar_url": _says(
            "An absolute URL of a picture.", "https://example.com/alice.png", maxLength=2048
        ),
        # --- states ---
        "status": _says("Whether the user may act.", "active", enum=["active", "banned"]),
        "Problem.status": _number("The HTTP status.", 404, 400, maximum=599),
        "role": _says("The member's role.", "member"),
        "default_role": _says("The role of new members.", "member"),
        "frozen": _says("Whether only admins may publish.", False),
        "muted_until": _says(
            "Until when the member may not publish; null: it may.", None, format="date-time"
        ),
        "retention_days": _says(
            "Days until messages are removed; null: never.", 365, minimum=1, maximum=36_500
        ),
        "metadata": _says(_METADATA, {"colour": "blue"}),
        "detail": _says("What was changed, or one sentence about it.", {"name": "Lobby"}),
        "Problem.detail": _says("One sentence for people.", "There is no such room."),
        "action": _says("What was done.", "room.updated"),
        "entity": _says("`room:ID` or `user:ID`.", "room:lobby", maxLength=300),
        "project": _says("The project.", "default"),
        # --- rooms ---
        "kind": _says("What kind it is.", "group"),
        "MessageDocument.kind": _says(
            "`text`, `image`, `file`, `location`, `custom`, `system` or the application's own.",
            "text",
            pattern=r"^[a-z0-9_.\-]{1,32}$",
        ),
        "MessageDraft.kind": _says(
            "`text`, `image`, `file`, `location`, `custom` or the application's own; `system` by "
            "key only.",
            "text",
            pattern=r"^[a-z0-9_.\-]{1,32}$",
        ),
        "HistoryQuery.kind": _says(
            "Only messages of this kind.", "text", pattern=r"^[a-z0-9_.\-]{1,32}$"
        ),
        "HistoryQuery.sender": _user("Only messages of this sender."),
        "name": _line("A name.", "Lobby"),
        "Attachment.name": _line("The file's name.", "a.pdf"),
        "AttachmentDocument.name": _line("The file's name.", "a.pdf"),
        "UserRoomDocument.members": _says("The first five members, with their names.", []),
        "unread": _number("Messages above `read_seq`, at most 1000.", 3, maximum=1000),
        "unread_total": _number("Of the 200 most recently active rooms, at most 1000.", 3),
        "read_seq": _number("Number of the newest message that was read.", 39),
        "read_at": _time("When the member's read mark moved last; null: never."),
        "delivered_seq": _number("Number of the newest message that was delivered.", 41),
        "delivered_at": _time("When the member's delivered mark moved last; null: never."),
        "MarkDocument.seq": _number("How far the mark stands now.", 39),
        "ReadBody.seq": _number("Up to which message; without it all of the room.", 39),
        "delivered": _says("Whether the member has got the message.", True),
        "read": _says("Whether the member has read the message.", True),
        "favorite": _says("Whether the member has marked it as a favourite.", False),
        "last_message": _says("The newest message.", None),
        "PresenceQuery.limit": _number("How many users at most.", 100, 1, maximum=1000),
        "RoomPresenceDocument.users": _says("Users who are online, at most `limit`.", []),
        "UserPresenceDocument.rooms": _says("Rooms where the user is online.", ["lobby"]),
        "since": _time("Since when the user is online there."),
        "connections": _number("How many connections the user has there.", 1),
        "online": _says("Whether the user is online.", True),
        "topic": _line("What the room is about.", "All and sundry"),
        "members": _says(
            "Members from the beginning, by id or with a role.", ["alice", "bob"], maxItems=100
        ),
        "member_count": _number("How many members there are.", 2),
        # --- messages ---
        "seq": _number("Number of the message in its room, from 1.", 42),
        "RoomDocument.seq": _number("Number of the newest message, as of now.", 42),
        "message_id": _says("The message's id, a UUIDv7.", _MESSAGE_ID, pattern=_MESSAGE_PATTERN),
        "offset": _number("Number of the durable event in its room.", 57),
        "duplicate": _says("Whether it had been published before.", False),
        "content": _says(
            "The text, at most 32768 bytes of UTF-8.", "Hello!", maxLength=CONTENT_BYTES_MAX
        ),
        "attachments": _says(
            "Files and links, each at most 4096 bytes.", [], maxItems=ATTACHMENTS_MAX
        ),
        "url": _says("An absolute address; no script.", "https://example.com/a.pdf"),
        "mime": _line("The media type.", "application/pdf"),
        "size": _number("Bytes.", 12_345),
        "mentions": _says("Users that are mentioned.", ["bob"], maxItems=MENTIONS_MAX),
        "reply_to": _number("Number of the message that it answers.", 41, 1),
        "reply_count": _number("How many direct replies there are.", 0),
        "forwarded_from": _says(
            "Who wrote it first and when, if it is a copy.",
            None,
        ),
        "client_id": _says(
            "The sender's own id of the message: the idempotency key.",
            "c1f0",
            minLength=1,
            maxLength=CLIENT_ID_BYTES_MAX,
        ),
        "reactions": _says("Who reacted how.", {}),
        "reaction": _says(
            "Usually an emoji, 1 to 64 bytes without `/`.", "👍", minLength=1, maxLength=64
        ),
        "count": _number("How many.", 2),
        "mine": _says("Whether the acting user is one of them.", True),
        "messages": _says(
            "What becomes of the user's messages: they stay, become tombstones, or lose their "
            "content too.",
            "keep",
        ),
        # --- times ---
        "created_at": _time("When it was made."),
        "updated_at": _time("When it was changed last."),
        "edited_at": _time("When it was edited last.", None),
        "deleted_at": _time("When it was deleted.", None),
        "RoomDocument.deleted_at": _time("When it was deleted."),
        "joined_at": _time("When the membership began."),
        "last_seen_at": _time("When the user was online last."),
        "last_message_at": _time("When the newest message was written, as of now."),
        "expires_at": _time("When the token expires."),
        "ForwardedFromDocument.created_at": _time("When it was written first."),
        # --- lists and pages ---
        "items": _says("What was found.", []),
        "page": _number("Which page, from 1.", 1, 1),
        "limit": _number("How many at most, 1 to 100.", 50, 1, maximum=100),
        "total": _number("How many there are in all.", 1),
        "totalPages": _number("How many pages there are.", 1),
        "before": _number("Messages older than this seq.", 42),
        "after": _number("Messages newer than this seq.", 42),
        "around": _number("This seq, half of the rest older, half newer.", 42),
        "skip": _number("All but the newest so many; with totals.", 50),
        "from": _says("Not before this time.", "2026-01-02T03:04:05Z", **_QUERY_TIME),
        "to": _says("Not after this time.", "2026-02-02T03:04:05Z", **_QUERY_TIME),
        "deleted": _says("Whether to show what deleted messages held (keys only).", False),
        "has_more_before": _says("Whether there are older ones.", False),
        "has_more_after": _says("Whether there are newer ones.", False),
        "next": _says("Path of the newer page.", "/v1/rooms/lobby/messages?after=42&limit=50"),
        "SearchDocument.next": _says(
            "Path where the search goes on.", "/v1/rooms/lobby/search?q=hello&before=7&limit=50"
        ),
        "SearchDocument.users": _says("Names of the senders, by user id.", {}),
        "q": _says("Words that must all be there.", "hello world", minLength=1),
        "has_more": _says("Whether there may be more.", False),
        "previous": _says("Path of the older page.", None),
        # --- tokens ---
        "ttl": _says("Seconds, or a duration such as `24h`.", "24h"),
        "token": _says("The signed token.", "eyJhbGciOiJIUzI1NiJ9.e30.c2lnbmF0dXJl"),
        "rooms": _says(
            "Capabilities by room: `join`, `publish`, `moderate`.", {"lobby": ["join", "publish"]}
        ),
        # --- the export of a user ---
        "UserExportDocument.user": _says(
            "The profile, with `tokens_revoked_at`, `deleted_at`.", {}
        ),
        "memberships": _says("Rooms it is in, with role and read marks.", []),
        "blocks": _says("Whose direct messages it does not want.", []),
        "favorites": _says("Messages it has marked for itself.", []),
        "audit": _says("What was done to it, and what it did.", []),
        "UserExportDocument.messages": _says("What it wrote, deleted ones too.", []),
        "UserExportDocument.reactions": _says("Its reactions, an object a message.", []),
        "bans": _says("Rooms that it is kept out of.", []),
        "departures": _says("Rooms that it has left.", []),
        # --- problems, health ---
        "type": _says("Always about:blank.", "about:blank"),
        "title": _says("The status's phrase.", "Not Found"),
        "code": _says("What programs go by.", "room_not_found"),
        "field": _says("The field at fault, if it is one.", "content"),
        "retry_after": _says("Seconds until asking again makes sense.", None),
        "request_id": _says("The X-Request-Id, for the operator's logs.", "01946e2f7c1a7b3c"),
        "error": _says("Why this one was refused.", {}),
        "ready": _says("Whether the process can do its work.", True),
        "redis": _says("Whether Redis answers.", True),
        "postgres": _says("Whether PostgreSQL answers.", True),
        "draining": _says("Whether the process was told to stop.", False),
        "HealthDocument.status": _says("Always `ok`.", "ok"),
    }
)
"""By field name, or `Struct.field`."""

PATH_PARAMETERS: Final[MappingProxyType[str, dict[str, Any]]] = MappingProxyType(
    {
        "user": _user("The user's id, percent-encoded."),
        "room": _room("The room's id, percent-encoded."),
        "message": _says("The message's seq, or its id.", "42"),
        "reaction": FIELDS["reaction"],
    }
)


def described(structs: Sequence[str], field: str, schema: dict[str, Any]) -> dict[str, Any]:
    """A field's schema with what is said about it; LookupError if nothing is.

    `structs` are the struct and those that it extends, nearest first.
    """
    names = [*(f"{struct}.{field}" for struct in structs), field]
    says = next((FIELDS[name] for name in names if name in FIELDS), None)
    if says is None:
        raise LookupError(f"{names[0]} is not described: see api/openapi/fields.py")
    return _plain(schema) | says


def _plain(schema: dict[str, Any]) -> dict[str, Any]:
    """Without the bounds of 64 bits, which say nothing to readers."""
    if schema.get("type") == "integer":
        return {key: value for key, value in schema.items() if key not in ("minimum", "maximum")}
    return schema
