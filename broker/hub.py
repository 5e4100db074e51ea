"""The node-local registry: rooms and user channels against the connections of this node.

The rules: synchronous, no Redis, no sockets. The hub knows what is wanted; what Redis must be told
(leaves, presence that fell) is collected as dirty marks, which the node's upkeep sends until they
are acknowledged. Every mark is absolute and carries a `gen` that rises over the whole node, so that
repeats and reorderings change nothing. An event for a room that nobody here holds marks a leave.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol

from broker.hold import Hold
from broker.hub_room import HubRoom, Subscriber
from broker.protocol.events import TimeTexts
from broker.spreading import Spreading
from storage.redis.keys import Keys


class UserConnection(Subscriber, Protocol):
    """A connection as a user's own channel sees it."""

    @property
    def identity(self) -> object | None:
        """Whom the token names; None until it has been judged, and nothing is sent before."""

    def recheck(self) -> None:
        """Something about the user has changed: look at PostgreSQL again."""
        ...


class Hub:
    """Rooms and user channels of one node."""

    def __init__(
        self,
        keys: Keys,
        spreading: Spreading,
        *,
        wake_upkeep: Callable[[], None],
        quiet_users: int = 200,
    ) -> None:
        self.spreading = spreading
        self._keys = keys
        self._gen = 0
        self._wake_upkeep = wake_upkeep
        self._quiet_users = quiet_users
        self._times = TimeTexts()
        self.on_seen: Callable[[str, bool], None] = self._leave_channel
        """Called with a user's channel when its first connection comes and when the last one has
        ended (True); whoever takes the call over marks the leave then."""
        self.rooms: dict[str, HubRoom] = {}
        self.channels: dict[str, list[UserConnection]] = {}
        """Lists, since most users have one connection: half the memory of a set."""
        self.quiet: dict[HubRoom, int] = {}
        """Rooms with too many users to name them, and the count that was told last."""
        self.dirty_presence: set[tuple[str, str]] = set()
        """(R, user) whose count Redis must be told."""
        self.gone_at_once: set[tuple[str, str]] = set()
        """Those of them whose leaving has no grace: they were made to leave."""
        self.dirty_leaves: set[str] = set()
        """R that this node holds no longer, rooms and channels alike."""

    def next_gen(self) -> int:
        """A number above every one given before on this node."""
        self._gen += 1
        return self._gen

    def connection_count(self, key: str, user: str) -> int:
        """Connections of the user in the room, those on their way included."""
        room = self.rooms.get(key)
        return room.users.get(user, 0) if room is not None else 0

    # --- rooms --------------------------------------------------------------------------------

    def begin(
        self, key: str, subscriber: Subscriber, *, needs_member: bool
    ) -> tuple[HubRoom, Hold]:
        """A subscribe is queued in this very section: hold the room's events for it."""
        room = self.rooms.get(key)
        if room is None:
            room = self.rooms[key] = HubRoom(key, self._keys.room(key), self._times)
        return room, room.hold(subscriber, needs_member=needs_member)

    def abandon(self, room: HubRoom, subscriber: Subscriber, hold: Hold) -> None:
        """The subscribe failed or was given up; one that was live before goes on, or is told."""
        if room.abandon_hold(subscriber, hold):
            return
        if self.remove(room.key, subscriber) and hold.was_live:
            subscriber.end_subscription(
                room.key, "resync", "Events may have been missed: subscribe again."
            )

    def remove(self, key: str, subscriber: Subscriber, *, at_once: bool = False) -> bool:
        """End a subscription; True if there was one. What follows in Redis is upkeep.

        `at_once`: the user was made to leave and is not awaited back.
        """
        room = self.rooms.get(key)
        if room is None or not room.remove(subscriber):
            return False
        self.dirty_presence.add((key, subscriber.user))
        if at_once:
            self.gone_at_once.add((key, subscriber.user))
        if room.is_empty:
            self._forget(room)
        self._wake_upkeep()
        return True

    def repeat_leave(self, key: str, user: str) -> None:
        """A subscribe took effect after its subscription had ended: say again what holds now."""
        self.dirty_presence.add((key, user))
        if not self.holds(key):
            self.dirty_leaves.add(key)
        self._wake_upkeep()

    def end(
        self,
        room: HubRoom,
        subscriber: Subscriber,
        code: str,
        message: str,
        *,
        at_once: bool = False,
    ) -> None:
        """End a subscription and say why.

        Nothing of a room comes before its subscribe reply: while the first one is under way the
        client is told nothing, since the command finds its hold gone and tries again.
        """
        hold = room.held.get(subscriber)
        is_known = hold is None or hold.was_live
        if self.remove(room.key, subscriber, at_once=at_once) and is_known:
            subscriber.end_subscription(room.key, code, message)

    def end_all(self, room: HubRoom, code: str, message: str) -> None:
        """End every subscription of the room and say why."""
        for subscriber in room.subscribers():
            self.end(room, subscriber, code, message)

    def _forget(self, room: HubRoom) -> None:
        if self.rooms.get(room.key) is room:
            del self.rooms[room.key]
            self.quiet.pop(room, None)
            self.mark_leave(room.key)

    def is_quiet(self, online: int) -> bool:
        """Whether a room with so many users online is too large to name who comes and types."""
        return online > self._quiet_users

    def note_online(self, room: HubRoom, online: int) -> None:
        """So many were online when somebody subscribed, who was told so."""
        if self.is_quiet(online):
            self.quiet.setdefault(room, online)
        else:
            self.quiet.pop(room, None)

    def mark_leave(self, key: str) -> None:
        """Redis must be told that this node is not in the room (any more)."""
        self.dirty_leaves.add(key)
        self._wake_upkeep()

    def holds(self, key: str) -> bool:
        """Whether the node wants events of this room or channel."""
        return key in self.rooms or key in self.channels

    def rooms_of_partition(self, partition: int) -> Iterator[HubRoom]:
        """A snapshot of the rooms of one partition."""
        return iter([room for room in self.rooms.values() if room.keys.partition == partition])

    # --- users' own channels ------------------------------------------------------------------

    def add_connection(self, channel: str, connection: UserConnection) -> None:
        """Put a connection on its user's channel (before the user's row is read)."""
        connections = self.channels.setdefault(channel, [])
        if not connections:
            self.on_seen(channel, False)
        connections.append(connection)

    def remove_connection(self, channel: str, connection: UserConnection) -> None:
        """Take it off again; the last one leaves the channel."""
        connections = self.channels.get(channel)
        if connections is None or connection not in connections:
            return
        connections.remove(connection)
        if not connections:
            del self.channels[channel]
            self.on_seen(channel, True)

    def _leave_channel(self, channel: str, has_ended: bool) -> None:
        if has_ended:
            self.mark_leave(channel)
