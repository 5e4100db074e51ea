"""One room on this node: who receives its events, and how far they have been posted.

The rules: everything here is synchronous and nothing here knows Redis or sockets. A room has one
position (epoch, offset), the last event that its live subscriptions have or are about to get: in a
large room it goes round in portions. Whatever changes who receives posts the rest first. A
subscription is

- *held* from the synchronous section in which its script was queued until the reply: its events are
  kept; after the reply it gets those above its snapshot, so it sees each offset once and in order;
- *late* while the room's position is below its snapshot: it must not see what the snapshot covers;
- *live* otherwise: in the group that gets one joined send per batch (`live_group`).

An event that is not the next one (gap) stops the room: events wait in `pending` until the node has
filled the gap from the log, or ends the subscriptions with `resync`. Never silence.
"""

from __future__ import annotations

from typing import Protocol

from broker.hold import Hold
from broker.live_group import LiveGroup
from broker.protocol.events import TimeTexts, event_frame
from broker.protocol.frames import encode_text_frame
from config import limits
from storage.redis.entries import NOBODY, Entry
from storage.redis.keys import RoomKeys, split_room_key


class Subscriber(Protocol):
    """What a room needs of a connection."""

    user: str

    @property
    def id(self) -> str: ...

    def post(self, frame: bytes) -> None:
        """Send whole WebSocket frames, in order; never raises, never blocks."""
        ...

    def end_subscription(self, key: str, code: str, message: str) -> None:
        """Tell the client that its subscription has ended and forget it."""
        ...


class HubRoom:
    """The subscriptions of one room on this node."""

    __slots__ = (
        "_late",
        "_times",
        "behind_at",
        "epoch",
        "held",
        "is_repairing",
        "key",
        "keys",
        "live",
        "name",
        "needs_member",
        "offset",
        "pending",
        "seq",
        "users",
    )

    def __init__(self, key: str, keys: RoomKeys, times: TimeTexts) -> None:
        self.key = key
        self.keys = keys
        self.name = split_room_key(key)[1]
        self.epoch: str | None = None
        self.offset = 0
        self.seq = 0
        self.behind_at = 0
        """Offset that an audit found ahead of ours; still behind it at the next one is a gap."""
        self.is_repairing = False
        self.pending: list[Entry] = []
        self.held: dict[Subscriber, Hold] = {}
        self.users: dict[str, int] = {}
        self.needs_member: dict[Subscriber, bool] = {}
        self.live = LiveGroup()
        self._late: dict[Subscriber, int] = {}
        self._times = times

    @property
    def is_empty(self) -> bool:
        """No subscription, and none on its way."""
        return not self.users

    def __contains__(self, subscriber: Subscriber) -> bool:
        return subscriber in self.needs_member

    def subscribers(self) -> list[Subscriber]:
        """All with a subscription, held ones included."""
        return list(self.needs_member)

    def spoil_holds(self) -> None:
        """Events may have been lost on the way: subscriptions that are held will resync."""
        for hold in self.held.values():
            hold.spoil()

    # --- subscriptions ------------------------------------------------------------------------

    def hold(self, subscriber: Subscriber, *, needs_member: bool) -> Hold:
        """Begin (or repeat) a subscription: from now on its events are kept."""
        self.flush()
        if subscriber not in self.needs_member:
            self.users[subscriber.user] = self.users.get(subscriber.user, 0) + 1
        self.needs_member[subscriber] = needs_member
        is_live = subscriber in self.live or subscriber in self._late
        hold = Hold(was_live=is_live, reached=self._late.get(subscriber, self.offset))
        previous = self.held.get(subscriber)
        if previous is not None:
            hold.was_live = previous.was_live
            hold.reached = previous.reached
            hold.events = previous.events
            hold.last, hold.epoch = previous.last, previous.epoch
            hold.size_bytes = previous.size_bytes
            hold.has_overflowed = previous.has_overflowed
        self._remove_from_groups(subscriber)
        self.held[subscriber] = hold
        return hold

    def go_live(
        self, subscriber: Subscriber, hold: Hold, *, epoch: str, offset: int, seq: int
    ) -> bool:
        """End the hold: post what is above the snapshot. False if only a resync can help."""
        self.flush()
        if self.held.get(subscriber) is not hold:
            return True
        del self.held[subscriber]
        # A life may end between a snapshot and its reply: what came may be of the next one.
        if hold.has_overflowed or not {self.epoch, hold.epoch} <= {None, epoch}:
            return False
        kept = [(at, frame) for at, frame in hold.events if at == 0 or at > offset]
        offsets = [at for at, _frame in kept if at]
        reached = offset + len(offsets)
        if offsets and (offsets[0] != offset + 1 or offsets[-1] != reached):
            return False
        if self.epoch is None:
            self.epoch, self.offset = epoch, reached
        self.seq = max(self.seq, seq)
        if kept:
            subscriber.post(b"".join(frame for _at, frame in kept))
        self._join(subscriber, reached)
        return True

    def abandon_hold(self, subscriber: Subscriber, hold: Hold) -> bool:
        """The subscribe failed. A subscription that was live before goes on; True if it does."""
        self.flush()
        if self.held.get(subscriber) is not hold:
            return subscriber in self.needs_member
        del self.held[subscriber]
        if not hold.was_live or hold.has_overflowed:
            return False
        kept = [frame for at, frame in hold.events if at == 0 or at > hold.reached]
        if kept:
            subscriber.post(b"".join(kept))
        self._join(subscriber, max(hold.reached, hold.last))
        return True

    def _join(self, subscriber: Subscriber, reached: int) -> None:
        """Go on with events above `reached`."""
        if reached > self.offset:
            self._late[subscriber] = reached
            return
        if reached < self.offset:
            # The position came from a younger snapshot whose reply was first; what lies between
            # is still in the inbox. The room waits for it, and the others do not get it again.
            self._late.update(dict.fromkeys(self.live, self.offset))
            for other in list(self.live):
                self.live.leave(other)
            self.offset = reached
        self.live.join(subscriber)

    def remove(self, subscriber: Subscriber) -> bool:
        """Forget the subscriber; True if it was one."""
        if self.needs_member.pop(subscriber, None) is None:
            return False
        self.flush()
        self.held.pop(subscriber, None)
        self._remove_from_groups(subscriber)
        count = self.users[subscriber.user] - 1
        if count:
            self.users[subscriber.user] = count
        else:
            del self.users[subscriber.user]
        return True

    def _remove_from_groups(self, subscriber: Subscriber) -> None:
        self._late.pop(subscriber, None)
        self.live.leave(subscriber)

    # --- events -------------------------------------------------------------------------------

    def take(self, entry: Entry) -> bool:
        """Take one event of this room's epoch; False if a gap lies before it (it is kept then)."""
        if entry.offset == 0:
            self._take_ephemeral(entry)
            return True
        if self.epoch is None:
            # Nobody is live yet: every hold filters by its own snapshot.
            self._append(entry.offset, entry)
            return True
        if self.is_repairing:
            self.pending.append(entry)
            return True
        if entry.offset <= self.offset:
            # A repeat for those who are live. Replies may come in another order than their
            # scripts ran, so somebody held may have a snapshot that is older.
            if self.held:
                frame = self._frame(entry)
                for hold in self.held.values():
                    hold.keep(entry.offset, frame, entry.epoch)
            return True
        if entry.offset != self.offset + 1:
            self.pending.append(entry)
            return False
        self._append(entry.offset, entry)
        return True

    def _take_ephemeral(self, entry: Entry) -> None:
        # In place of an epoch it names the connection that it is not sent back to.
        origin = entry.epoch
        if origin == NOBODY or all(subscriber.id != origin for subscriber in self.needs_member):
            self._append(0, entry)
            return
        self.flush()
        frame = self._frame(entry)
        for subscriber in self.needs_member:
            if subscriber.id != origin and subscriber in self.held:
                self.held[subscriber].keep(0, frame, origin)
            elif subscriber.id != origin:
                subscriber.post(frame)
                self.live.delivered += 1

    def _append(self, offset: int, entry: Entry) -> None:
        frame = self._frame(entry)
        self.live.add(frame)
        for hold in self.held.values():
            hold.keep(offset, frame, entry.epoch)
        if self._late:
            self._post_late(offset, frame)
        if offset:
            self.seq = max(self.seq, entry.seq)
            if self.epoch is not None:
                self.offset = offset
        if self.live.waiting_bytes > limits.JOINED_BYTES_MAX:
            self.flush()

    def _frame(self, entry: Entry) -> bytes:
        event, offset, data = entry.event, entry.offset, entry.data
        return encode_text_frame(
            event_frame(event, self.name, offset, entry.seq, entry.ms, data, self._times)
        )

    def _post_late(self, offset: int, frame: bytes) -> None:
        for subscriber, reached in list(self._late.items()):
            if offset == 0 or offset > reached:
                subscriber.post(frame)
            if offset >= reached:
                # From the next event on it is like everybody else; this one must not reach it
                # with the group, so the group is flushed before it joins.
                self.flush()
                del self._late[subscriber]
                self.live.join(subscriber)

    def flush(self) -> None:
        """Post what has been taken to the live group: one joined send for each of them."""
        self.live.flush()

    def end_repair(self) -> list[Entry]:
        """The gap is being filled: take events again; those that have waited, in order."""
        self.is_repairing = False
        waiting, self.pending = self.pending, []
        return waiting
