"""Messages of one page while unarchived events are applied to them.

The same rules as the archiver's and a client's: created adds the message (and counts as a reply of
another), edited replaces the fields it carries, deleted leaves a tombstone that nothing changes any
more, reactions are sets of (reaction, user). A message stays bytes until an event touches it.

Pure and synchronous; used by `history` alone.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from broker.protocol.events import iso_time, message_json
from storage.postgres.message_filters import NO_FILTER, MessageFilter
from storage.postgres.messages import REACTION_USERS, ReactionsAsked
from storage.redis.entries import Entry

CREATED: Final = "message.created"
_EDITABLE: Final = ("content", "metadata", "attachments")
_NOTHING_ASKED: Final = ReactionsAsked()
_REACTIONS: Final = ("reaction.added", "reaction.removed")


class _Target(msgspec.Struct, gc=False):
    """The part of an event's data that says which message it is about."""

    id: str | None = None
    seq: int | None = None
    kind: str = ""
    reply_to: int | None = None


class Reaction(msgspec.Struct, gc=False):
    """Data of `reaction.added` and `reaction.removed`."""

    seq: int
    user: str
    reaction: str


_decode_target: Final = msgspec.json.Decoder(_Target).decode
_decode_reaction: Final = msgspec.json.Decoder(Reaction).decode
_decode: Final = msgspec.json.Decoder(dict[str, Any]).decode
_encode: Final = msgspec.json.Encoder().encode


def reactions_in(entries: Sequence[Entry]) -> ReactionsAsked:
    """Every (seq, reaction, user) that the entries add or remove, each once."""
    if not entries:
        return _NOTHING_ASKED
    found: dict[tuple[int, str, str], None] = {}
    for entry in entries:
        if entry.event in _REACTIONS:
            data = _decode_reaction(entry.data)
            found[data.seq, data.reaction, data.user] = None
    return ReactionsAsked(
        [seq for seq, _, _ in found], [name for _, name, _ in found], [user for *_, user in found]
    )


def reactions_of(entries: Sequence[Entry], seq: int) -> list[tuple[Entry, Reaction]]:
    """The entries that add or remove a reaction of the message `seq`, in order."""
    pairs = ((e, _decode_reaction(e.data)) for e in entries if e.event in _REACTIONS)
    return [(entry, data) for entry, data in pairs if data.seq == seq]


def is_chosen(entry: Entry, chosen: MessageFilter) -> bool:
    """Whether the entry is a new message that the filter admits."""
    if entry.event != CREATED:
        return False
    if chosen == NO_FILTER:
        return True
    data = _decode_target(entry.data)
    at = datetime.fromtimestamp(entry.ms / 1000, UTC)
    return chosen.admits(entry.sender, data.kind, at, data.reply_to)


def message_id_of(entry: Entry) -> str | None:
    """Id of the message that a `message.created` carries."""
    return _decode_target(entry.data).id


class MessageRows:
    """The page's messages by seq, in the order they were added (rising)."""

    def __init__(self, *, viewer: str | None, reveal: bool) -> None:
        self._viewer = viewer
        self._reveal = reveal
        self._bodies: dict[int, bytes] = {}
        self._opened: dict[int, dict[str, Any]] = {}
        self._members: dict[tuple[int, str, str], bool] = {}

    def __contains__(self, seq: int) -> bool:
        return seq in self._bodies

    def add_archived(
        self,
        seqs: Sequence[int],
        bodies: Sequence[bytes],
        touched: Collection[int],
        *,
        only: Collection[int] | None = None,
    ) -> None:
        """Take over archived messages; the lists of those in `touched` may be longer than shown."""
        for seq, body in zip(seqs, bodies, strict=True):
            if only is None or seq in only:
                self._bodies[seq] = body
                if seq in touched:
                    self._open(seq)

    def add_created(self, entry: Entry) -> None:
        """Take over a message that is only in the log."""
        self._bodies[entry.seq] = message_json(entry.seq, entry.ms, entry.data)

    def apply(self, live: Sequence[Entry], asked: ReactionsAsked, present: Sequence[bool]) -> None:
        """Apply the unarchived events in order; `present` says which of `asked` are archived."""
        self._members = dict(
            zip(zip(asked.seqs, asked.reactions, asked.users, strict=True), present, strict=False)
        )
        for entry in live:
            if entry.event == CREATED:
                self._count_reply(entry)
            elif entry.event == "message.edited":
                self._edit(entry)
            elif entry.event == "message.deleted":
                self._delete(entry)
            elif entry.event in _REACTIONS:
                self._react(entry)

    def bodies(self) -> list[bytes]:
        """The messages as JSON, in order."""
        for seq, message in self._opened.items():
            for reaction in message["reactions"].values():
                del reaction["users"][REACTION_USERS:]
            self._bodies[seq] = _encode(message)
        self._opened.clear()
        return list(self._bodies.values())

    def _open(self, seq: int | None) -> dict[str, Any] | None:
        if seq is None or seq not in self._bodies:
            return None
        message = self._opened.get(seq)
        if message is None:
            message = self._opened[seq] = _decode(self._bodies[seq])
        return message

    def _count_reply(self, entry: Entry) -> None:
        target = _decode_target(entry.data).reply_to
        message = self._open(target)
        if message is not None:
            message["reply_count"] += 1

    def _edit(self, entry: Entry) -> None:
        message = self._open(_decode_target(entry.data).seq)
        if message is None or message["deleted_at"] is not None:
            return
        data = _decode(entry.data)
        for name in _EDITABLE:
            if name in data:
                message[name] = data[name]
        message["edited_at"] = iso_time(entry.ms)

    def _delete(self, entry: Entry) -> None:
        message = self._open(_decode_target(entry.data).seq)
        if message is None or message["deleted_at"] is not None:
            return
        message["deleted_at"] = iso_time(entry.ms)
        message["deleted_by"] = _decode(entry.data).get("by")
        message["reactions"] = {}
        if not self._reveal:
            message.update(content=None, metadata={}, attachments=[], mentions=[])

    def _react(self, entry: Entry) -> None:
        data = _decode_reaction(entry.data)
        message = self._open(data.seq)
        if message is None or message["deleted_at"] is not None:
            return
        is_added = entry.event == "reaction.added"
        known = self._members.get((data.seq, data.reaction, data.user), False)
        if known == is_added:
            return
        self._members[data.seq, data.reaction, data.user] = is_added
        reactions = message["reactions"]
        reaction = reactions.setdefault(data.reaction, {"count": 0, "users": []})
        if self._viewer is not None:
            reaction.setdefault("mine", False)
            if data.user == self._viewer:
                reaction["mine"] = is_added
        if is_added:
            reaction["count"] += 1
            reaction["users"].append(data.user)
        else:
            reaction["count"] -= 1
            if data.user in reaction["users"]:
                reaction["users"].remove(data.user)
            if reaction["count"] <= 0:
                del reactions[data.reaction]
