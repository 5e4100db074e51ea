"""What PostgreSQL must hold of a room, replayed from the events that a subscriber has seen.

Written from the contract and not from the archiver: a dictionary of messages, a set of reactions, a
dictionary of roles. `differences` compares row by row and says in words what is wrong; an empty
list is the proof. Events are `Event`s of a client that was subscribed from the room's first one.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from tests.support.seen import Event
from tests.support.servers import fetch

_MESSAGES: Final = """
SELECT m.seq, m.id::text AS id, m.sender, m.kind, m.content, m.reply_to, m.reply_count, m.client_id,
       m.created_at, m.edited_at, m.deleted_at, m.deleted_by, m.event_offset, m.last_offset
FROM messages m JOIN rooms r ON r.pk = m.room_pk WHERE r.id = $1 ORDER BY m.seq
"""
_REACTIONS: Final = """
SELECT x.seq, x.user_id, x.reaction FROM reactions x JOIN rooms r ON r.pk = x.room_pk
WHERE r.id = $1
"""
_MEMBERS: Final = """
SELECT m.user_id, m.role, m.read_seq, m.delivered_seq
FROM members m JOIN rooms r ON r.pk = m.room_pk WHERE r.id = $1
"""
_ROOM: Final = "SELECT archived_offset, seq, last_message_at FROM rooms WHERE id = $1"
# Before: what the archiver has counted. After: the same counted again from the rows.
_COUNTS: Final = """
SELECT c.block, c.sender, c.kind, c.messages
FROM message_counts c JOIN rooms r ON r.pk = c.room_pk WHERE r.id = $1 ORDER BY 1, 2, 3
"""
_RECOUNT: Final = """
SELECT count_messages(pk, 0, counted_seq / 2048 - 1) FROM rooms WHERE id = $1 AND counted_seq > 0
"""
_AUDIT: Final = """
SELECT action, entity, actor FROM audit WHERE entity LIKE 'message:%' AND detail ->> 'room' = $1
"""


@dataclass
class RoomModel:
    """A room as its events describe it."""

    room: str
    messages: dict[int, dict[str, Any]] = field(default_factory=dict)
    reactions: set[tuple[int, str, str]] = field(default_factory=set)
    roles: dict[str, str] = field(default_factory=dict)
    read: dict[str, int] = field(default_factory=dict)
    """Of users who were members all the time; own messages and `note_read`."""
    delivered: dict[str, int] = field(default_factory=dict)
    audit: list[tuple[str, str, str | None]] = field(default_factory=list)
    offset: int = 0
    faults: list[str] = field(default_factory=list)

    def note_read(self, user: str, seq: int) -> None:
        """An answered `read`."""
        self.read[user] = max(self.read.get(user, 0), seq)
        self.note_delivered(user, seq)

    def note_delivered(self, user: str, seq: int) -> None:
        """An answered `delivered`."""
        self.delivered[user] = max(self.delivered.get(user, 0), seq)

    def replay(self, events: Iterable[Event]) -> None:
        """Apply durable events in the order they were seen."""
        for event in events:
            if event.offset is None:
                continue
            if event.offset != self.offset + 1:
                self.faults.append(f"offset {event.offset} after {self.offset}")
            self.offset = event.offset
            self._apply(event, event.data)

    def _apply(self, event: Event, data: dict[str, Any]) -> None:
        match event.event:
            case "message.created":
                self._create(event, data)
            case "message.edited" | "message.deleted":
                if data["by"] != data["sender"]:
                    self.audit.append((event.event, f"message:{data['id']}", data["by"]))
                message = self.messages[data["seq"]]
                if message["deleted_at"] is None:
                    self._change(event, data, message)
            case "reaction.added" | "reaction.removed":
                if self.messages[data["seq"]]["deleted_at"] is None:
                    one = (data["seq"], data["user"], data["reaction"])
                    (set.add if event.event == "reaction.added" else set.discard)(
                        self.reactions, one
                    )
            case "member.added" | "member.updated":
                self.roles[data["user"]] = data["role"]
            case "member.removed":
                self.roles.pop(data["user"], None)

    def _create(self, event: Event, data: dict[str, Any]) -> None:
        seq = data["seq"]
        if seq != len(self.messages) + 1:
            self.faults.append(f"seq {seq} after {len(self.messages)}")
        self.messages[seq] = {
            "seq": seq, "id": data["id"], "sender": data["sender"], "kind": data["kind"],
            "content": data["content"], "reply_to": data["reply_to"], "reply_count": 0,
            "client_id": data["client_id"], "created_at": _time(data["created_at"]),
            "edited_at": None, "deleted_at": None, "deleted_by": None,
            "event_offset": event.offset, "last_offset": event.offset,
        }  # fmt: skip
        if data["reply_to"] is not None:
            self.messages[data["reply_to"]]["reply_count"] += 1
        if data["sender"] is not None:
            self.note_read(data["sender"], seq)

    def _change(self, event: Event, data: dict[str, Any], message: dict[str, Any]) -> None:
        message["last_offset"] = event.offset
        if event.event == "message.edited":
            message["content"] = data.get("content", message["content"])
            message["edited_at"] = _time(data["edited_at"])
        else:
            message["deleted_at"], message["deleted_by"] = _time(data["deleted_at"]), data["by"]


def differences(model: RoomModel, database_url: str, *, marked: Iterable[str]) -> list[str]:
    """In which rows PostgreSQL is not the model; `marked`: whose marks are known exactly."""
    room = model.room
    found = list(model.faults)
    rows = {row["seq"]: row for row in fetch(database_url, _MESSAGES, room)}
    for seq in sorted(rows.keys() | model.messages.keys()):
        if rows.get(seq) != model.messages.get(seq):
            found.append(f"message {seq}: {rows.get(seq)} instead of {model.messages.get(seq)}")
    reactions = {tuple(row.values()) for row in fetch(database_url, _REACTIONS, room)}
    found += _sets("reaction", reactions, model.reactions)
    members = {row["user_id"]: row for row in fetch(database_url, _MEMBERS, room)}
    roles = {(user, row["role"]) for user, row in members.items()}
    found += _sets("role", roles, set(model.roles.items()))
    for user in marked:
        marks = (members[user]["read_seq"], members[user]["delivered_seq"])
        wanted = (model.read.get(user, 0), model.delivered.get(user, 0))
        if marks != wanted:
            found.append(f"{user} has read and got {marks} instead of {wanted}")
    newest = model.messages[max(model.messages)]["created_at"] if model.messages else None
    place = tuple(fetch(database_url, _ROOM, room)[0].values())
    if place != (model.offset, len(model.messages), newest):
        found.append(f"room at {place} instead of {(model.offset, len(model.messages), newest)}")
    audit = sorted(tuple(row.values()) for row in fetch(database_url, _AUDIT, room))
    if audit != sorted(model.audit):
        found.append(f"audit trail of {len(audit)} rows instead of {len(model.audit)}")
    counted = fetch(database_url, _COUNTS, room)
    fetch(database_url, _RECOUNT, room)
    if counted != fetch(database_url, _COUNTS, room):
        found.append("message_counts are not what counting gives")
    return [f"{room}: {one}" for one in found]


def _sets(what: str, rows: set[Any], wanted: set[Any]) -> list[str]:
    return [f"{what} {one} too much" for one in sorted(rows - wanted)] + [
        f"{what} {one} is missing" for one in sorted(wanted - rows)
    ]


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)
