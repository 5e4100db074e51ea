"""Redis and PostgreSQL as a node sees them: each script a plain, synchronous function.

Only what the hub depends on is here: numbering, logs, registrations, presence, inboxes, lives,
members and announcements. Every event that was ever given a place is remembered with who might see
it, whether or not "Redis" still has it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from storage.redis.entries import NOBODY, Entry, pack_entry
from storage.redis.keys import Keys, split_room_key
from storage.redis.nodes import RoomState
from storage.redis.outcomes import Refusal, Registration, Resume, Snapshot

PROJECT = "p"
KEYS = Keys(2)
GROUP, PUBLIC = "p/group", "p/public"
ROOMS = (GROUP, PUBLIC)
USERS = ("alice", "bob", "carol")
MEMBERS = {GROUP: {"alice", "bob"}, PUBLIC: {"alice"}}
TAIL_MAX = 12
LOG_LENGTH = 20
MS = 1_700_000_000_000


class Event(NamedTuple):
    """One event that was given a place."""

    raw: bytes
    name: str
    may_see: frozenset[str]
    """Who might see it when it came: a removal is the last that its user may."""


class Change(NamedTuple):
    """A committed change of who may see a room."""

    version: int
    event: str
    user: str
    reason: str
    may_see: frozenset[str]
    """After it."""


@dataclass
class RoomRow:
    """PostgreSQL's side of a room."""

    kind: str
    members: set[str]
    banned: set[str] = field(default_factory=set)
    version: int = 0
    is_deleted: bool = False
    unannounced: list[Change] = field(default_factory=list)

    def may_see(self) -> frozenset[str]:
        if self.is_deleted:
            return frozenset()
        return frozenset(self.members if self.kind == "group" else set(USERS) - self.banned)


@dataclass
class RoomLog:
    """Redis' side: the room hash, its log, who is registered, who is present."""

    may_see: frozenset[str]
    epoch: str = ""
    offset: int = 0
    ver: int = 0
    is_deleted: bool = False
    log: dict[int, bytes] = field(default_factory=dict)
    nodes: dict[str, int] = field(default_factory=dict)
    presence: dict[str, dict[str, tuple[int, int]]] = field(default_factory=dict)
    """user → node → (connections, gen)"""


class Servers:
    """Both servers, as one piece of state."""

    def __init__(self) -> None:
        self.rows = {key: RoomRow(key.partition("/")[2], set(MEMBERS[key])) for key in ROOMS}
        self.rooms = {key: RoomLog(row.may_see()) for key, row in self.rows.items()}
        self.channels: dict[str, dict[str, int]] = {}
        self.lives = [f"life{partition}.1" for partition in range(KEYS.partitions)]
        self.lives_begun = 1
        self.inboxes: dict[str, list[bytes]] = {}
        self.rooms_of: dict[str, set[str]] = {}
        self.events: dict[tuple[str, str, int], Event] = {}
        self.floors: dict[str, int] = {}
        self.sent_ephemeral = 0

    # --- what others do -------------------------------------------------------------------------

    def publish(self, key: str, size: int) -> None:
        """Somebody on another node publishes; nobody does into a cold or deleted room."""
        self.warm(key)
        if not self.rooms[key].is_deleted:
            self._append(key, "message.created", {"content": "x" * size}, 0)

    def send_ephemeral(self, key: str, origin: str = NOBODY) -> None:
        self.sent_ephemeral += 1
        data = json.dumps({"user": "zoe", "name": str(self.sent_ephemeral), "data": None}).encode()
        entry = Entry(origin, 0, 0, MS, "signal", key, "zoe", 0, data)
        self._deliver(self.rooms[key].nodes, pack_entry(entry))

    def commit(self, key: str, user: str, what: str) -> None:
        """A change of the room is committed, and not announced yet."""
        row = self.rows[key]
        if row.is_deleted:
            return
        row.version += 1
        event = "member.removed"
        if what == "add":
            event = "member.added"
            row.members.add(user)
            row.banned.discard(user)
        elif what == "delete":
            event = "room.deleted"
            row.is_deleted = True
        else:
            row.members.discard(user)
            if what == "banned":
                row.banned.add(user)
        row.unannounced.append(Change(row.version, event, user, what, row.may_see()))

    def announce(self, key: str) -> None:
        """Announce the oldest committed change, in the script that also raises the version."""
        waiting = self.rows[key].unannounced
        if not waiting:
            return
        self.warm(key)
        change, room = waiting[0], self.rooms[key]
        data = {"user": change.user, "by": None, "reason": change.reason}
        if change.version > room.ver:
            self._append(key, change.event, data, change.version)
        del waiting[0]
        room.ver, room.may_see = change.version, change.may_see
        room.is_deleted = change.event == "room.deleted"

    def begin_life(self, partition: int, lost: int) -> None:
        """Redis has lost the newest events of each room, and numbers in a new life from now on."""
        self.lives_begun += 1
        self.lives[partition] = f"life{partition}.{self.lives_begun}"
        for key, room in self.rooms.items():
            if KEYS.partition(key) == partition:
                for offset in range(room.offset - lost + 1, room.offset + 1):
                    room.log.pop(offset, None)
                room.offset = max(0, room.offset - lost)

    def _append(self, key: str, event: str, data: Mapping[str, object], ver: int) -> None:
        room = self.rooms[key]
        room.offset += 1
        name = f"{room.epoch}:{room.offset}"
        payload = json.dumps({"id": name, **data}).encode()
        at = room.offset
        raw = pack_entry(Entry(room.epoch, at, at, MS + at, event, key, "zoe", ver, payload))
        # Who was added and is not announced yet may subscribe already; who was removed, still.
        may_see = room.may_see.union(*(change.may_see for change in self.rows[key].unannounced))
        self.events[key, room.epoch, at] = Event(raw, name, may_see)
        room.log[at] = raw
        for old in [offset for offset in room.log if offset <= at - LOG_LENGTH]:
            del room.log[old]
        self._deliver(room.nodes, raw)

    def _deliver(self, nodes: dict[str, int], raw: bytes) -> None:
        for node in list(nodes):
            if node in self.inboxes:
                self.inboxes[node].append(raw)
            else:
                del nodes[node]

    # --- scripts --------------------------------------------------------------------------------

    def warm(self, key: str) -> None:
        """Seed: a cold room goes on above everything that was ever told."""
        room, life = self.rooms[key], self.lives[KEYS.partition(key)]
        if room.epoch != life:
            room.epoch = life
            room.offset = max(room.offset, self.floors.pop(key, 0))
            row = self.rows[key]
            # What is committed and not announced is announced above the version of the seed.
            announced = row.unannounced[0].version - 1 if row.unannounced else row.version
            room.ver = max(room.ver, announced)

    def subscribe(
        self, key: str, life: str, wanted: Registration, resume: Resume | None
    ) -> Snapshot | Refusal:
        room = self.rooms[key]
        if life != self.lives[KEYS.partition(key)]:
            return Refusal("fenced")
        if room.epoch != life:
            return Refusal("cold")
        if room.is_deleted:
            return Refusal("gone")
        if wanted.version < room.ver:
            return Refusal("stale", str(room.ver).encode())
        if wanted.node not in self.inboxes:
            return Refusal("lost")
        self.rooms_of.setdefault(wanted.node, set()).add(key)
        room.nodes[wanted.node] = max(wanted.gen, room.nodes.get(wanted.node, 0))
        if wanted.user != NOBODY:
            self._set_presence(room, wanted.user, wanted.node, wanted.connections, wanted.gen)
        reason, tail = self._resume(room, resume) if resume else ("", [])
        online = len(room.presence)
        return Snapshot(
            room.epoch,
            room.offset,
            room.offset,
            room.offset,
            online,
            reason,
            tail,
            [],
            -1,
            room.ver,
        )

    def _resume(self, room: RoomLog, resume: Resume) -> tuple[str, list[bytes]]:
        if resume.epoch != room.epoch:
            return "epoch", []
        if resume.offset > room.offset:
            return "ahead", []
        missed = range(resume.offset + 1, room.offset + 1)
        if len(missed) > TAIL_MAX:
            return "too_large", []
        if any(offset not in room.log for offset in missed):
            return "trimmed", []
        return "", [room.log[offset] for offset in missed]

    def _set_presence(
        self, room: RoomLog, user: str, node: str, connections: int, gen: int
    ) -> None:
        nodes = room.presence.setdefault(user, {})
        known = nodes.get(node)
        if (known is None or known[1] <= gen) and (known is not None or connections):
            nodes[node] = (connections, gen)
        if not nodes:
            del room.presence[user]

    def presence(self, key: str, node: str, user: str, connections: int, gen: int) -> None:
        if connections and node not in self.inboxes:
            return
        if connections:
            self.rooms_of.setdefault(node, set()).add(key)
        self._set_presence(self.rooms[key], user, node, connections, gen)

    def leave_due(self, key: str, node: str, user: str) -> int:
        nodes = self.rooms[key].presence.get(user, {})
        if node in nodes and nodes[node][0] == 0:
            del nodes[node]
            if not nodes:
                del self.rooms[key].presence[user]
        return 0

    def leave(self, key: str, node: str, gen: int, *, forget: bool) -> None:
        nodes = self._nodes_of(key)
        if nodes.get(node, 0) <= gen:
            nodes.pop(node, None)
            if forget:
                self.rooms_of.get(node, set()).discard(key)

    def watch(self, key: str, node: str, gen: int) -> bool:
        if node not in self.inboxes:
            return False
        self.rooms_of.setdefault(node, set()).add(key)
        nodes = self._nodes_of(key)
        nodes[node] = max(gen, nodes.get(node, 0))
        return True

    def _nodes_of(self, key: str) -> dict[str, int]:
        return self.rooms[key].nodes if key in self.rooms else self.channels.setdefault(key, {})

    def open_node(self, node: str) -> bool:
        if node in self.inboxes:
            return False
        self.inboxes[node] = []
        self.rooms_of[node] = set()
        return True

    def heartbeat(self, node: str, lives: list[str]) -> list[int] | None:
        if node not in self.inboxes:
            return None
        return [partition for partition, life in enumerate(lives) if life != self.lives[partition]]

    def reap(self, node: str) -> int:
        self.inboxes.pop(node, None)
        for key in self.rooms_of.pop(node, set()):
            self._nodes_of(key).pop(node, None)
            if key in self.rooms:
                for user, nodes in list(self.rooms[key].presence.items()):
                    nodes.pop(node, None)
                    if not nodes:
                        del self.rooms[key].presence[user]
        return 0

    def audit(self, node: str, asked: list[tuple[str, str, int]]) -> Iterator[RoomState]:
        for place, (key, epoch, offset) in enumerate(asked):
            room = self.rooms[key]
            is_registered = node in room.nodes
            if not is_registered or room.epoch != epoch or room.offset > offset:
                yield RoomState(place, is_registered, room.epoch, room.offset)

    # --- statements -----------------------------------------------------------------------------

    def standing_among(self, key: str, users: list[str]) -> tuple[set[str], set[str]]:
        """Members and banned users of a room that exists."""
        row = self.rows[key]
        if row.is_deleted:
            return set(), set()
        return row.members & set(users), row.banned & set(users)


def name_of(key: str) -> str:
    """The room of an R, as clients name it."""
    return split_room_key(key)[1]
