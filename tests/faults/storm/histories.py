"""Good histories at random: a small pure Parley, its clients and its faults, as a record.

The model does the right thing always: numbering, membership, resuming, receipts, archiving, fences
with and without loss. Around it happens what makes judging hard: answers that are lost after the
write, before it, repeats, refusals, connections that vanish with frames on their way, frames that
come late, holes that are announced, logs that are trimmed, events that nobody sees.
`spoil` in the tests of this package breaks such a record in one way and asks for exactly that.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tests.faults.storm.record import (
    Archive,
    Circumstances,
    Connection,
    DeadLetterRow,
    Ephemeral,
    Event,
    KeyOfRedis,
    LogEntry,
    MemberRow,
    MessageRow,
    Operation,
    Outcome,
    Position,
    Presence,
    ReactionRow,
    Record,
    RoomLog,
    RoomRow,
    Subscribed,
    Unsubscribed,
    Window,
)

_STAMPS = ("seq", "created_at", "edited_at", "deleted_at", "deleted_by", "reply_count", "reactions")
_UNSTORABLE = "unstorable"
_USERS = ("ann", "bob", "cid", "dan", "eve")
_REACTIONS = ("+1", "heart")
Data = dict[str, Any]


@dataclass
class _Stored:
    """An event in a room's log."""

    epoch: str
    offset: int
    seq: int
    event: str
    sender: str | None
    data: Data
    at: float


@dataclass
class _Room:
    name: str
    is_open: bool
    members: set[str]
    epoch: str = "e1"
    offset: int = 0
    seq: int = 0
    archived: int = 0
    events: list[_Stored] = field(default_factory=list)
    messages: dict[int, Data] = field(default_factory=dict)
    """Seq → message as it is now; `last_offset` and `event_offset` beside the contract's fields."""
    reads: dict[str, int] = field(default_factory=dict)
    sent: dict[tuple[str, str], Data] = field(default_factory=dict)

    def may_read(self, user: str) -> bool:
        return self.is_open or user in self.members


@dataclass
class _Client:
    """A user's device: its connection, what is on its way to it, where it is in each room."""

    user: str
    connection: Connection | None = None
    live: set[str] = field(default_factory=set)
    on_its_way: list[tuple[str, str, _Stored]] = field(default_factory=list)
    positions: dict[str, Position] = field(default_factory=dict)


class History:
    """A run in the making; `run` gives its record.

    `may_lose`: fences may lose what was not archived. `is_whole`: nothing is lost, fenced or
    trimmed, so that every event is known and every rule can be held to the letter.
    """

    def __init__(
        self, rng: random.Random, *, may_lose: bool = True, is_whole: bool = False
    ) -> None:
        self._rng = rng
        self._now = 100.0
        self._count = 0
        self._may_lose = may_lose
        self._is_whole = is_whole
        self.rooms = {
            "club": _Room("club", False, set(_USERS[:4])),
            "duo": _Room("duo", False, set(_USERS[:2])),
            "hall": _Room("hall", True, set(_USERS[:3])),
        }
        self._clients = [_Client(user) for user in (*_USERS, _USERS[0], _USERS[1])]
        self._lost: list[Window] = []
        self._record = Record()
        members = {n: dict.fromkeys(sorted(r.members), "member") for n, r in self.rooms.items()}
        self._members = members

    def run(self, steps: int) -> Record:
        ways: list[tuple[int, Callable[[], None]]] = [
            (12, self._connect), (14, self._subscribe), (3, self._unsubscribe),
            (3, self._disconnect),
            (30, self._publish), (9, self._edit), (5, self._delete), (9, self._react),
            (6, self._read), (5, self._page), (3, self._ask_presence), (2, self._add),
            (2, self._remove), (6, self._archive), (10, self._deliver), (1, self._fence),
            (1, self._wait), (1, self._refuse),
        ]  # fmt: skip
        weights = [weight for weight, _ in ways]
        for _ in range(steps):
            self._rng.choices(ways, weights)[0][1]()
        return self._finish()

    # --- time and numbers -------------------------------------------------------------------------

    def _tick(self, longest: float = 0.2) -> float:
        self._now += self._rng.uniform(0.001, longest)
        return self._now

    def _next(self) -> int:
        self._count += 1
        return self._count

    def _note(
        self, kind: str, user: str, room: str, outcome: Outcome, asked: Data, answer: Data,
        begun: float, connection: str = "", code: str = "",
    ) -> None:  # fmt: skip
        ended = None if outcome == "unknown" and self._rng.random() < 0.7 else self._tick()
        told = answer if outcome == "ok" else {}
        self._record.operations.append(
            Operation(kind, user, room, begun, ended, outcome, connection, code, asked, told)
        )

    def _outcome(self) -> tuple[bool, Outcome]:
        """Whether it happens, and what the client knows of it."""
        draw = self._rng.random()
        if draw < 0.85:
            return True, "ok"
        return draw < 0.93, "unknown"

    # --- the room ---------------------------------------------------------------------------------

    def _append(self, room: _Room, event: str, sender: str | None, data: Data) -> _Stored:
        room.offset += 1
        room.seq += event == "message.created"
        seq = room.seq if event == "message.created" else data.get("seq", 0)
        stored = _Stored(room.epoch, room.offset, seq, event, sender, data, self._now)
        room.events.append(stored)
        for client in self._clients:
            if room.name in client.live and client.connection is not None:
                client.on_its_way.append((room.name, room.epoch, stored))
        return stored

    def _frame(self, room: str, stored: _Stored) -> Event:
        data = dict(stored.data)
        if stored.event == "message.created":
            data |= {"seq": stored.seq, "created_at": "t", "edited_at": None, "deleted_at": None}
            data |= {"deleted_by": None, "reply_count": 0, "reactions": {}}
        elif stored.event in ("message.edited", "message.deleted"):
            data[stored.event.replace("message.", "") + "_at"] = "t"
        return Event(self._now, room, stored.offset, stored.event, data)

    def _flush(self, client: _Client, room: str | None = None, most: int | None = None) -> None:
        """Hand over what is on its way, at most so many frames."""
        left: list[tuple[str, str, _Stored]] = []
        for place, (name, epoch, stored) in enumerate(client.on_its_way):
            if (most is not None and place >= most) or (room is not None and name != room):
                left.append((name, epoch, stored))
            elif client.connection is not None:
                self._tick(0.01)
                client.connection.frames.append(self._frame(name, stored))
                client.positions[name] = Position(epoch, stored.offset)
        client.on_its_way = left

    # --- clients ----------------------------------------------------------------------------------

    def _connect(self) -> None:
        client = self._rng.choice(self._clients)
        if client.connection is None:
            name = f"c{self._next()}"
            node = self._rng.choice(("n1", "n2"))
            client.connection = Connection(name, client.user, node, self._tick())
            self._record.connections.append(client.connection)
        for _ in range(self._rng.randint(0, 3)):
            self._subscribe_as(client, self._rng.choice(list(self.rooms.values())))

    def _connected(self) -> _Client | None:
        found = [client for client in self._clients if client.connection is not None]
        return self._rng.choice(found) if found else None

    def _disconnect(self) -> None:
        client = self._connected()
        if client is not None:
            self._flush(client, most=self._rng.choice((0, 2, None)))
            self._lose(client)

    def _lose(self, client: _Client) -> None:
        assert client.connection is not None
        client.connection.closed = self._tick()
        client.connection.close_code = self._rng.choice((1000, 4508, None))
        client.connection = None
        client.live.clear()
        client.on_its_way.clear()

    def _subscribe(self) -> None:
        client = self._connected()
        if client is not None:
            self._subscribe_as(client, self._rng.choice(list(self.rooms.values())))

    def _subscribe_as(self, client: _Client, room: _Room) -> None:
        if client.connection is None:
            return
        begun = self._tick()
        name = client.connection.name
        if not room.may_read(client.user):
            self._note(
                "subscribe", client.user, room.name, "failed", {}, {}, begun, name, "room_not_found"
            )
            return
        # What was told before it stays before the reply.
        self._flush(client, room.name)
        since = client.positions.get(room.name) if self._rng.random() < 0.8 else None
        reply = self._reply(client, room, since)
        asked = {} if since is None else {"since": since._asdict()}
        if self._rng.random() < 0.05:
            # The answer is lost, and the connection with it.
            self._note("subscribe", client.user, room.name, "unknown", asked, {}, begun, name)
            self._lose(client)
            return
        client.connection.frames.append(reply)
        client.live.add(room.name)
        client.positions[room.name] = Position(room.epoch, room.offset)
        answer = {name: getattr(reply, name) for name in ("epoch", "offset", "read_seq", "unread")}
        self._note("subscribe", client.user, room.name, "ok", asked, answer, begun, name)

    def _reply(self, client: _Client, room: _Room, since: Position | None) -> Subscribed:
        missed: list[_Stored] = []
        recovered, reason = False, ""
        if since is not None and since.epoch != room.epoch:
            reason = "epoch"
        elif since is not None:
            missed = [e for e in room.events if e.epoch == room.epoch and e.offset > since.offset]
            recovered = len(missed) < 12
            reason = "" if recovered else "trimmed"
        self._tick()
        events = tuple(self._frame(room.name, e) for e in missed) if recovered else ()
        is_member = client.user in room.members
        read_seq = room.reads.get(client.user, 0)
        return Subscribed(
            self._now, room.name, room.epoch, room.offset, room.seq, recovered, since, reason,
            events, self._unread(room, client.user) if is_member else None,
            read_seq if is_member else None, "member" if is_member else None,
        )  # fmt: skip

    def _unread(self, room: _Room, user: str) -> int:
        read_seq = room.reads.get(user, 0)
        return sum(
            seq > read_seq and message["deleted_at"] is None and message["sender"] != user
            for seq, message in room.messages.items()
        )

    def _unsubscribe(self) -> None:
        client = self._connected()
        if client is None or client.connection is None or not client.live:
            return
        room = self._rng.choice(sorted(client.live))
        begun = self._tick()
        self._flush(client, room)
        client.live.discard(room)
        client.connection.frames.append(Unsubscribed(self._tick(), room))
        name = client.connection.name
        self._note("unsubscribe", client.user, room, "ok", {}, {}, begun, name)

    def _deliver(self) -> None:
        for client in self._clients:
            if self._rng.random() < 0.5:
                self._flush(client, most=self._rng.choice((1, 3, None)))

    # --- what clients ask for ---------------------------------------------------------------------

    def _member(self) -> tuple[str, _Room]:
        room = self._rng.choice(list(self.rooms.values()))
        return self._rng.choice(sorted(room.members)), room

    def _publish(self) -> None:
        user, room = self._member()
        word = _UNSTORABLE if self._rng.random() < 0.05 else "text"
        asked: Data = {"content": f"{word} {self._next()}"}
        if self._rng.random() < 0.7:
            asked["client_id"] = f"id {self._count}"
        if room.seq and self._rng.random() < 0.2:
            asked["reply_to"] = self._rng.randint(1, room.seq)
        self._send(user, room, asked)

    def _send(self, user: str, room: _Room, asked: Data) -> None:
        begun = self._tick()
        happens, outcome = self._outcome()
        answer: Data = {}
        if happens:
            answer = self._store(user, room, asked)
        self._note("publish", user, room.name, outcome, asked, answer, begun)
        is_repeated = self._rng.random() < (0.8 if outcome == "unknown" else 0.05)
        if "client_id" in asked and is_repeated:
            self._send(user, room, asked)

    def _store(self, user: str, room: _Room, asked: Data) -> Data:
        key = (user, asked.get("client_id", ""))
        if key[1] and key in room.sent:
            return room.sent[key] | {"duplicate": True}
        data: Data = {
            "id": f"m{self._next()}", "room": room.name, "sender": user, "kind": "text",
            "content": asked["content"], "metadata": {}, "attachments": [], "mentions": [],
            "reply_to": asked.get("reply_to"), "client_id": asked.get("client_id"),
        }  # fmt: skip
        stored = self._append(room, "message.created", user, data)
        room.messages[room.seq] = data | {
            "seq": room.seq, "edited_at": None, "deleted_at": None, "deleted_by": None,
            "reactions": set(), "event_offset": stored.offset, "last_offset": stored.offset,
            "said": data["content"],
        }  # fmt: skip
        room.reads[user] = room.seq
        answer = {"message_id": data["id"], "seq": room.seq, "offset": stored.offset}
        if key[1]:
            room.sent[key] = answer
        return answer | {"duplicate": False}

    def _refuse(self) -> None:
        user, room = self._member()
        asked = {"content": f"text {self._next()}", "client_id": f"id {self._count}"}
        begun = self._tick()
        self._note("publish", user, room.name, "failed", asked, {}, begun, code="rate_limited")
        if self._rng.random() < 0.5:
            self._send(user, room, asked)

    def _message(self) -> tuple[_Room, Data] | None:
        room = self._rng.choice(list(self.rooms.values()))
        if not room.messages:
            return None
        return room, room.messages[self._rng.choice(sorted(room.messages)[-8:])]

    def _edit(self) -> None:
        found = self._message()
        if found is None or found[1]["sender"] not in found[0].members:
            return
        room, message = found
        asked = {"seq": message["seq"], "content": f"edited {self._next()}"}
        self._change("edit", room, message, message["sender"], asked)

    def _delete(self) -> None:
        found = self._message()
        if found is not None and found[1]["sender"] in found[0].members:
            self._change("delete", *found, found[1]["sender"], {"seq": found[1]["seq"]})

    def _react(self) -> None:
        found = self._message()
        if found is not None and found[0].members:
            asked = {"seq": found[1]["seq"], "reaction": self._rng.choice(_REACTIONS)}
            user = self._rng.choice(sorted(found[0].members))
            kind = self._rng.choice(("react", "react", "unreact"))
            self._change(kind, *found, user, asked)

    def _change(self, kind: str, room: _Room, message: Data, user: str, asked: Data) -> None:
        begun = self._tick()
        happens, outcome = self._outcome()
        if kind == "edit" and message["deleted_at"] is not None:
            self._note(kind, user, room.name, "failed", asked, {}, begun, code="conflict")
            return
        offset = self._apply(kind, room, message, user, asked) if happens else None
        self._note(kind, user, room.name, outcome, asked, {"offset": offset}, begun)

    def _apply(self, kind: str, room: _Room, message: Data, user: str, asked: Data) -> int | None:
        seq = message["seq"]
        mark = (user, asked.get("reaction"))
        if message["deleted_at"] is not None or (
            kind in ("react", "unreact") and (mark in message["reactions"]) == (kind == "react")
        ):
            return None
        about: Data = {"id": message["id"], "seq": seq, "sender": message["sender"], "by": user}
        if kind == "edit":
            stored = self._append(
                room, "message.edited", user, about | {"content": asked["content"]}
            )
            message |= {"content": asked["content"], "edited_at": "t", "last_offset": stored.offset}
        elif kind == "delete":
            stored = self._append(room, "message.deleted", user, about)
            message |= {"deleted_at": "t", "deleted_by": user, "last_offset": stored.offset}
        else:
            event = "reaction.added" if kind == "react" else "reaction.removed"
            data = {"message_id": message["id"], "seq": seq, "user": user, "reaction": mark[1]}
            stored = self._append(room, event, user, data)
            message["reactions"] = message["reactions"] ^ {mark}
        return stored.offset

    def _read(self) -> None:
        user, room = self._member()
        if not room.seq:
            return
        begun = self._tick()
        asked = {"seq": self._rng.randint(1, room.seq)}
        happens, outcome = self._outcome()
        if happens:
            room.reads[user] = max(room.reads.get(user, 0), asked["seq"])
        answer = {"seq": room.reads.get(user, 0), "unread": self._unread(room, user)}
        self._note("read", user, room.name, outcome, asked, answer, begun)
        for client in self._clients:
            if happens and client.connection is not None and room.name in client.live:
                data = {"user": user, "seq": room.reads[user], "at": "t"}
                client.connection.frames.append(
                    Ephemeral(self._now, room.name, "receipt.read", data)
                )

    def _page(self) -> None:
        user, room = self._member()
        begun = self._tick()
        seqs = sorted(room.messages)
        asked: Data = {"limit": self._rng.choice((3, 10))}
        if room.seq and self._rng.random() < 0.6:
            way, bound = self._rng.choice(("before", "after")), self._rng.randint(1, room.seq)
            asked[way] = bound
            seqs = [seq for seq in seqs if (seq < bound if way == "before" else seq > bound)]
        has_more = len(seqs) > asked["limit"]
        chosen = seqs[: asked["limit"]] if "after" in asked else seqs[-asked["limit"] :]
        messages = [self._shown(room.messages[seq]) for seq in chosen]
        answer = {"messages": messages, "has_more": has_more}
        self._note("history", user, room.name, "ok", asked, answer, begun)

    def _shown(self, message: Data) -> Data:
        reactions: dict[str, Data] = {}
        is_deleted = message["deleted_at"] is not None
        for user, reaction in sorted(() if is_deleted else message["reactions"]):
            of_one = reactions.setdefault(reaction, {"count": 0, "users": []})
            of_one["count"] += 1
            of_one["users"].append(user)
        shown = {**message, "reactions": reactions}
        return shown | {"content": None} if is_deleted else shown

    def _online(self, room: _Room) -> list[str]:
        return sorted({client.user for client in self._clients if room.name in client.live})

    def _ask_presence(self) -> None:
        user, room = self._member()
        begun = self._tick()
        users = [{"user": one} for one in self._online(room)]
        answer = {"users": users, "count": len(users)}
        self._note("presence", user, room.name, "ok", {}, answer, begun)

    # --- members ----------------------------------------------------------------------------------

    def _add(self) -> None:
        room = self._rng.choice(list(self.rooms.values()))
        user = self._rng.choice(_USERS)
        begun = self._tick()
        if user not in room.members:
            room.members.add(user)
            room.reads[user] = max(room.seq, room.reads.get(user, 0))
            self._append(room, "member.added", None, {"user": user, "role": "member", "by": None})
        kind = "join" if room.is_open else "add"
        self._note(kind, user, room.name, "ok", {"user": user}, {}, begun)

    def _remove(self) -> None:
        user, room = self._member()
        if len(room.members) < 3 and room.name != "duo":
            return
        if len(room.members) < 2:
            return
        begun = self._tick()
        room.members.discard(user)
        self._append(room, "member.removed", None, {"user": user, "by": None, "reason": "removed"})
        for client in self._clients:
            if client.user == user and room.name in client.live and not room.is_open:
                assert client.connection is not None
                self._flush(client, room.name)
                client.live.discard(room.name)
                client.connection.frames.append(
                    Unsubscribed(self._tick(), room.name, "not_a_member")
                )
        kind = self._rng.choice(("remove", "leave"))
        self._note(kind, user, room.name, "ok", {"user": user}, {}, begun)

    # --- storages and faults ----------------------------------------------------------------------

    def _archive(self) -> None:
        for room in self.rooms.values():
            room.archived = room.offset
            # The log is trimmed to a few events, and perhaps nobody has seen what is gone.
            if self._rng.random() < 0.3 and not self._is_whole:
                del room.events[: max(0, len(room.events) - 12)]

    def _wait(self) -> None:
        self._now += 30.0
        for room in self.rooms.values():
            self._record.presence.append(
                Presence(room.name, self._now, self._tick(), frozenset(self._online(room)))
            )

    def _fence(self) -> None:
        """A room begins another life; what was not archived may be gone."""
        room = self._rng.choice(list(self.rooms.values()))
        if self._is_whole:
            return
        if self._may_lose and self._rng.random() < 0.5:
            self._lose_tail(room)
        room.epoch = f"e{self._next()}"
        room.offset += self._rng.choice((0, 5))
        room.events = [event for event in room.events if event.offset <= room.archived]
        room.archived = room.offset
        room.sent = {key: a for key, a in room.sent.items() if a["seq"] in room.messages}
        for client in self._clients:
            if room.name in client.live:
                assert client.connection is not None
                client.live.discard(room.name)
                client.on_its_way = [w for w in client.on_its_way if w[0] != room.name]
                frame = Unsubscribed(self._tick(), room.name, "resync")
                client.connection.frames.append(frame)

    def _lose_tail(self, room: _Room) -> None:
        """Messages and their changes since the last flush are lost; members are in PostgreSQL."""
        tail = [event for event in room.events if event.offset > room.archived]
        if any(not event.event.startswith("message.created") for event in tail) or not tail:
            return
        for event in tail:
            room.messages.pop(event.seq, None)
        self._lost.append(Window(tail[0].at, self._tick()))

    def _finish(self) -> Record:
        self._now += 5.0
        for client in self._clients:
            self._flush(client)
        archive = Archive()
        for room in self.rooms.values():
            room.archived = room.offset
            self._store_room(room, archive)
        self._record.archive = archive
        self._record.circumstances = Circumstances(
            members=self._members,
            open_rooms=frozenset(r.name for r in self.rooms.values() if r.is_open),
            may_have_lost=tuple(self._lost),
            unstorable="" if self._is_whole else _UNSTORABLE,
            settled_at=self._tick(),
        )
        return self._record

    def _bury(self, room: _Room, seq: int, message: Data, archive: Archive) -> None:
        """PostgreSQL refused the row: a dead letter, and a placeholder with the seq."""
        offset = message["event_offset"]
        data = {"id": message["id"], "content": message["said"]}
        archive.dead_letters.append(
            DeadLetterRow(room.name, room.epoch, offset, seq, "message.created", "no", data)
        )
        archive.messages.append(
            MessageRow(
                room.name, seq, f"placeholder {seq}", None, "lost", None, None, offset, offset,
                is_deleted=True,
            )
        )  # fmt: skip

    def _store_room(self, room: _Room, archive: Archive) -> None:
        entries = tuple(
            LogEntry(e.epoch, e.offset, e.seq, e.event, e.sender, dict(e.data))
            for e in room.events
            if e.epoch == room.epoch
        )
        log = RoomLog(room.name, room.epoch, room.offset, room.seq, room.archived, entries)
        self._record.logs.append(log)
        archive.rooms.append(RoomRow(room.name, room.epoch, 0, 0, room.archived, room.seq))
        size = min(len(entries), 1000)
        self._record.keys += [
            KeyOfRedis("room", room.name, 5, 60.0), KeyOfRedis("log", room.name, size, 60.0),
            KeyOfRedis("sent", f"17:{room.name}", len(room.sent), 600.0),
        ]  # fmt: skip
        for seq, message in sorted(room.messages.items()):
            is_refused = message["said"].startswith(_UNSTORABLE) and self._rng.random() < 0.5
            if is_refused and not self._is_whole:
                self._bury(room, seq, message, archive)
                continue
            archive.messages.append(
                MessageRow(
                    room.name, seq, message["id"], message["sender"], message["kind"],
                    message["content"], message["client_id"], message["event_offset"],
                    message["last_offset"], reply_to=message["reply_to"],
                    is_edited=message["edited_at"] is not None,
                    is_deleted=message["deleted_at"] is not None,
                    deleted_by=message["deleted_by"],
                )
            )  # fmt: skip
            for user, reaction in message["reactions"]:
                archive.reactions.append(ReactionRow(room.name, seq, reaction, user))
        for user in room.members:
            read = room.reads.get(user, 0)
            archive.members.append(MemberRow(room.name, user, "member", read, read))
