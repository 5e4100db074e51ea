"""What a batch of events does to the tables, worked out before anything is written.

Pure: events in, rows out, no I/O. Events of one message are folded in their order, so that each
table sees one statement a batch. The rules are those of the contract: a deleted message is changed
by nothing any more, an edit counts only above the message's last offset, reactions are a set. How
far members have read is `archive_marks`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple
from uuid import NAMESPACE_OID, uuid5

import msgspec

from storage.redis.entries import Entry

# What an event may hold beyond its own kind is nobody's business here: unknown fields are ignored.
_EMPTY_JSON: Final = frozenset({b"null", b"{}", b"[]"})
PLACEHOLDER_KIND: Final = "custom"
# Makes a named tuple past its class's own __new__, which is written in Python: several for each
# event, and half of the time.
_new: Final = tuple.__new__


class Incoming(NamedTuple):
    """An event of the archive stream with its stored form, which dead letters keep."""

    raw: bytes
    entry: Entry


class Accepted(NamedTuple):
    """An event that belongs to a room.

    `is_late`: it is of an earlier life and not above what is archived, so it may have been applied
    before; then only the tables can tell.
    """

    room_pk: int
    incoming: Incoming
    is_late: bool = False


class DeadLetter(NamedTuple):
    """An event that is kept aside instead of being applied, and why."""

    incoming: Incoming
    reason: str


class MessageRow(NamedTuple):
    """A row of `messages` in the order of COLUMNS; JSON as text, None where it is empty."""

    room_pk: int
    seq: int
    id: str
    sender: str | None
    kind: str
    content: str | None
    metadata: str | None
    attachments: str | None
    mentions: list[str] | None
    reply_to: int | None
    forwarded_from: str | None
    client_id: str | None
    created_at: datetime
    deleted_at: datetime | None
    event_offset: int
    last_offset: int


COLUMNS: Final = MessageRow._fields


class NewMessage(NamedTuple):
    """A row to insert and where it comes from."""

    row: MessageRow
    incoming: Incoming


@dataclass(slots=True)
class Change:
    """All edits and the deletion of one message within a batch, folded. None: left as it is."""

    room_pk: int
    seq: int
    last_offset: int = 0
    content: tuple[str | None] | None = None
    metadata: tuple[str | None] | None = None
    attachments: tuple[str | None] | None = None
    edited_at: datetime | None = None
    deleted_at: datetime | None = None
    deleted_by: str | None = None
    incoming: list[Incoming] = field(default_factory=list)


@dataclass(slots=True)
class ReactionChange:
    """What became of one user's reaction to one message; `added_at` None: it is gone."""

    room_pk: int
    seq: int
    reaction: str
    user: str
    added_at: datetime | None = None
    was_removed: bool = False
    incoming: list[Incoming] = field(default_factory=list)


Changes = dict[tuple[int, int], Change]


@dataclass(slots=True)
class Plan:
    """Everything a batch does, in the order in which it has to be applied, but for `dead`."""

    messages: list[NewMessage] = field(default_factory=list)
    late_changes: Changes = field(default_factory=dict)
    reactions: dict[tuple[int, int, str, str], ReactionChange] = field(default_factory=dict)
    """Before the deletions among `changes`: those behind one in the batch are not in here."""
    changes: Changes = field(default_factory=dict)
    dead: list[DeadLetter] = field(default_factory=list)
    last_message_at: dict[int, datetime] = field(default_factory=dict)


class _MessageData(msgspec.Struct, gc=False):
    id: str
    kind: str = "text"
    content: str | None = None
    metadata: msgspec.Raw = msgspec.Raw(b"null")
    attachments: msgspec.Raw = msgspec.Raw(b"null")
    mentions: list[str] | None = None
    reply_to: int | None = None
    forwarded_from: msgspec.Raw = msgspec.Raw(b"null")
    client_id: str | None = None


class _EditData(msgspec.Struct, gc=False):
    seq: int
    content: str | msgspec.UnsetType | None = msgspec.UNSET
    metadata: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    attachments: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


class _DeleteData(msgspec.Struct, gc=False):
    seq: int
    by: str | None = None


class _ReactionData(msgspec.Struct, gc=False):
    seq: int
    user: str
    reaction: str


_decode_message: Final = msgspec.json.Decoder(_MessageData).decode
_decode_edit: Final = msgspec.json.Decoder(_EditData).decode
_decode_delete: Final = msgspec.json.Decoder(_DeleteData).decode
_decode_reaction: Final = msgspec.json.Decoder(_ReactionData).decode


def plan_batch(accepted: Iterable[Accepted]) -> Plan:
    """Fold events, in stream order, into what has to be written.

    An event that cannot be read becomes a dead letter, a message also a placeholder. Late edits are
    kept apart: folded with newer ones they would pass for newer than what is stored. Late reactions
    are left out, since a set does not tell whether one was removed after it.
    """
    plan = Plan()
    for room_pk, incoming, is_late in accepted:
        fold = _FOLDS.get(incoming.entry.event)
        if fold is None or (is_late and fold is _fold_reaction):
            # Of members and rooms only the offset counts: they are in their tables already.
            continue
        try:
            fold(plan, room_pk, incoming, plan.late_changes if is_late else plan.changes)
        except (msgspec.DecodeError, ValueError, OverflowError, OSError, RecursionError) as error:
            plan.dead.append(DeadLetter(incoming, f"unreadable: {error}"))
            if incoming.entry.event == "message.created":
                plan.messages.append(NewMessage(placeholder(room_pk, incoming), incoming))
    return plan


def placeholder(room_pk: int, incoming: Incoming) -> MessageRow:
    """A deleted message without content, so that seq has no hole where a row was refused."""
    entry = incoming.entry
    created_at = _time(entry.ms) if 0 <= entry.ms < 10**14 else datetime.now(UTC)
    return MessageRow(
        room_pk, entry.seq, str(uuid5(NAMESPACE_OID, f"{entry.room}/{entry.seq}")),
        None,
        PLACEHOLDER_KIND, None, None, None, None, None, None, None, created_at, created_at,
        entry.offset, entry.offset,
    )  # fmt: skip


def _fold_created(plan: Plan, room_pk: int, incoming: Incoming, changes: Changes) -> None:
    _epoch, offset, seq, ms, _event, _room, sender, _ver, raw = incoming.entry
    data = _decode_message(raw)
    created_at = _time(ms)
    row = _new(MessageRow, (
        room_pk, seq, data.id, sender, data.kind, data.content, _json(data.metadata),
        _json(data.attachments), data.mentions or None, data.reply_to,
        _json(data.forwarded_from), data.client_id, created_at, None, offset, offset,
    ))  # fmt: skip
    plan.messages.append(_new(NewMessage, (row, incoming)))
    plan.last_message_at[room_pk] = created_at


def _fold_edited(plan: Plan, room_pk: int, incoming: Incoming, changes: Changes) -> None:
    data = _decode_edit(incoming.entry.data)
    change = _change(changes, room_pk, data.seq)
    if change.deleted_at is not None:
        return
    if data.content is not msgspec.UNSET:
        change.content = (data.content,)
    if data.metadata is not msgspec.UNSET:
        change.metadata = (_json(data.metadata),)
    if data.attachments is not msgspec.UNSET:
        change.attachments = (_json(data.attachments),)
    change.edited_at = _time(incoming.entry.ms)
    change.last_offset = incoming.entry.offset
    change.incoming.append(incoming)


def _fold_deleted(plan: Plan, room_pk: int, incoming: Incoming, changes: Changes) -> None:
    data = _decode_delete(incoming.entry.data)
    change = _change(changes, room_pk, data.seq)
    if change.deleted_at is not None:
        return
    change.deleted_at = _time(incoming.entry.ms)
    change.deleted_by = data.by
    change.last_offset = incoming.entry.offset
    change.incoming.append(incoming)


def _fold_reaction(plan: Plan, room_pk: int, incoming: Incoming, changes: Changes) -> None:
    data = _decode_reaction(incoming.entry.data)
    change = changes.get((room_pk, data.seq))
    if change is not None and change.deleted_at is not None:
        return
    key = (room_pk, data.seq, data.reaction, data.user)
    found = plan.reactions.get(key)
    if found is None:
        found = plan.reactions[key] = ReactionChange(*key)
    found.incoming.append(incoming)
    if incoming.entry.event == "reaction.removed":
        found.added_at, found.was_removed = None, True
    elif found.added_at is None:
        found.added_at = _time(incoming.entry.ms)


_FOLDS: Final[dict[str, Any]] = {
    "message.created": _fold_created,
    "message.edited": _fold_edited,
    "message.deleted": _fold_deleted,
    "reaction.added": _fold_reaction,
    "reaction.removed": _fold_reaction,
}


def _change(changes: Changes, room_pk: int, seq: int) -> Change:
    change = changes.get((room_pk, seq))
    if change is None:
        change = changes[room_pk, seq] = Change(room_pk, seq)
    return change


def _json(raw: msgspec.Raw) -> str | None:
    text = bytes(raw)
    return None if text in _EMPTY_JSON else text.decode()


def _time(ms: int) -> datetime:
    return datetime.fromtimestamp(ms / 1000, UTC)
