"""From the inbox to the hub: each entry to its room, batched, cut where the receivers change.

The rules: synchronous. A batch is joined per room, so that each socket gets one send; large rooms
get theirs in portions, after the batch (`spreading`). It is cut at every event that changes who
receives, so that nobody gets an event after its own removal. Only (epoch, offset) is compared,
never the offset alone. What cannot be taken (a gap, another epoch) is reported to the node, which
repairs or ends the room's subscriptions; nothing is dropped in silence.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

import msgspec

from broker.counts import Counts
from broker.domain.access import AccessReader
from broker.domain.users import USER_CHANGED
from broker.hub import Hub, UserConnection
from broker.hub_room import HubRoom
from broker.protocol.events import event_frame
from broker.protocol.frames import encode_text_frame
from config import limits
from storage.redis.entries import Entry, parse_entry


class _Subject(msgspec.Struct):
    user: str
    reason: str | None = None


class _Count(msgspec.Struct):
    online: int


class Repairs(Protocol):
    """What the node does about what delivery finds."""

    def request_repair(self, room: HubRoom) -> None:
        """Fill the room's gap from the log, or end its subscriptions with `resync`."""
        ...

    def request_verify(self, partition: int) -> None:
        """Another epoch was seen: find out whether the partition has a new life."""
        ...


class Delivery:
    """Hands the entries of one node's inbox to its rooms and channels."""

    def __init__(self, hub: Hub, access: AccessReader, repairs: Repairs, counts: Counts) -> None:
        self._hub = hub
        self._access = access
        self._repairs = repairs
        self._counts = counts
        self._decode_count = msgspec.json.Decoder(_Count).decode
        self._decode_subject = msgspec.json.Decoder(_Subject).decode

    def deliver(self, raw_entries: Sequence[bytes]) -> None:
        """Deliver one inbox read, oldest first."""
        if not raw_entries:
            return
        read_at = self._counts.start_batch()
        rooms = self._hub.rooms
        touched: dict[HubRoom, None] = {}
        for raw in raw_entries:
            entry = parse_entry(raw)
            room = rooms.get(entry.room)
            if room is None:
                self._deliver_elsewhere(entry)
                continue
            touched[room] = None
            if not entry.offset:
                self._note_presence(room, entry)
            elif room.epoch is not None and entry.epoch != room.epoch:
                self._repairs.request_verify(room.keys.partition)
                continue
            if not room.take(entry) or len(room.pending) > limits.PENDING_EVENTS_MAX:
                self._repairs.request_repair(room)
            if entry.ver:
                self.apply_change(room, entry)
        self._counts.events_received += len(raw_entries)
        self._hub.spreading.send(touched)
        if read_at:
            self._counts.end_batch(read_at, entry.ms)

    def _note_presence(self, room: HubRoom, entry: Entry) -> None:
        """Names mean that the room is not quiet (any more), a count that it is."""
        if entry.event == "presence.count":
            self._hub.quiet[room] = self._decode_count(entry.data).online
        elif entry.event in ("presence.joined", "presence.left"):
            self._hub.quiet.pop(room, None)

    def fill(self, room: HubRoom, missed: Iterable[Entry]) -> bool:
        """After a gap: deliver the missed tail, then what has waited. False if a gap remains."""
        is_whole = True
        for entry in (*missed, *room.end_repair()):
            if entry.offset and entry.epoch != room.epoch:
                continue
            is_whole = room.take(entry) and is_whole
            if entry.ver:
                self.apply_change(room, entry)
        room.flush()
        return is_whole

    def apply_change(self, room: HubRoom, entry: Entry) -> None:
        """A room or membership has changed: nothing may follow in the same send."""
        room.flush()
        if entry.event in ("member.removed", "member.updated", "member.added"):
            subject = self._decode_subject(entry.data)
            self._access.forget(room.key, subject.user)
            if entry.event == "member.removed":
                end_subscriptions_of(
                    self._hub, room, subject.user, is_banned=subject.reason == "banned"
                )
        elif entry.event == "room.deleted":
            self._hub.end_all(room, "room_not_found", "The room has been deleted.")

    def _deliver_elsewhere(self, entry: Entry) -> None:
        connections = self._hub.channels.get(entry.room)
        if connections is None:
            # Registered, yet nobody here wants it: a leave that was lost or overtaken.
            self._hub.mark_leave(entry.room)
        elif entry.event == USER_CHANGED:
            for connection in list(connections):
                connection.recheck()
        elif entry.event.startswith("notification."):
            self._notify(connections, entry)

    def _notify(self, connections: Iterable[UserConnection], entry: Entry) -> None:
        """To whoever has had its `hello`; the place of the sender names the room."""
        frame = encode_text_frame(
            event_frame(entry.event, entry.sender or "", 0, 0, entry.ms, entry.data)
        )
        for connection in list(connections):
            if connection.identity is not None:
                connection.post(frame)


def end_subscriptions_of(hub: Hub, room: HubRoom, user: str, *, is_banned: bool) -> None:
    """The user is no member any more: end what needed the membership; a ban ends all."""
    for subscriber in room.subscribers():
        if subscriber.user != user:
            continue
        if is_banned:
            sentence = "The user is banned from the room."
            hub.end(room, subscriber, "forbidden", sentence, at_once=True)
        elif room.needs_member[subscriber]:
            sentence = "The user is no longer a member of the room."
            hub.end(room, subscriber, "not_a_member", sentence, at_once=True)
