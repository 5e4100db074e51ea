"""The storm's users: each a loop of random sessions, and in each random operations.

A client does what docs/protocol.md tells it to do: it holds a position for each room and resumes
from it, repeats a publish whose outcome it does not know with the same `client_id` and ahead of
newer ones (and never one without), subscribes again when it is told to, goes elsewhere when a node
drains. Beyond that it is as unreliable as people are: it vanishes, falls silent, reads slowly,
forgets its position.
"""

import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import trio

from tests.faults.storm.notes import Line, Note, Notes
from tests.faults.storm.record import Absence
from tests.faults.storm.wire import Answer, Frame, Gone, Rest, Wire, open_wire
from tests.support.tokens import make_token
from tests.support.waiting import pass_time

_TOKEN_TTL = 4 * 3600.0
_HELLO_DEADLINE = 5.0
_PATIENCE = (3.0, 6.0, 20.0)
"""Seconds until a client gives up waiting for an answer and goes elsewhere."""
UNSTORABLE = "unstorable"
"""What some messages say, which a fault makes PostgreSQL refuse."""


@dataclass
class Stage:
    """What all clients of a run share."""

    urls: Callable[[int], str]
    nodes: int
    api_port: Callable[[], int]
    notes: Notes
    rooms: list[str]
    users: list[str]
    is_ending: trio.Event = field(default_factory=trio.Event)
    """Operations are over: repeat what has no answer, subscribe everywhere, stay."""
    may_leave: trio.Event = field(default_factory=trio.Event)


@dataclass
class View:
    """What a client knows of a room."""

    epoch: str | None = None
    offset: int = 0
    seq: int = 0
    is_live: bool = False
    own: list[int] = field(default_factory=list)
    unanswered: list[Frame] = field(default_factory=list)
    """Publishes with a client_id to be repeated, oldest first."""
    is_refused: bool = False
    """The last subscribe was refused for good: not a member, or no such room."""
    is_silenced: bool = False
    """The last publish was refused for good; a role that is told ends it."""


class Client:
    """One user on one device."""

    def __init__(self, name: str, user: str, rng: random.Random, stage: Stage) -> None:
        self.name = name
        self.user = user
        self.rng = rng
        self.stage = stage
        self.notes = stage.notes
        self.views: dict[str, View] = {}
        self.rest = Rest(stage.api_port, Authorization=f"Bearer {make_token(user, ttl=_TOKEN_TTL)}")
        self._said = 0
        self._sessions = 0
        self._line: Line | None = None
        self._wire: Wire | None = None
        self._is_draining = False
        self._restless: set[str] = set()
        """Rooms to subscribe again, as `resync` told."""
        self._node = 0
        self._must_hop = False
        self._left: dict[str, float] = {}
        """Rooms that were live when it hopped, and when that was."""
        self.absences: list[Absence] = []

    # --- life ---------------------------------------------------------------------------------

    async def run(self) -> None:
        """Connect, live, leave, again, until the stage says to leave."""
        while not self.stage.may_leave.is_set():
            if not self._left:
                self._node = self.rng.randrange(self.stage.nodes)
            try:
                await self._session(self._node)
            except Gone:
                pass
            finally:
                self._lose()
            if not self._left:
                await pass_time(self.rng.uniform(0.02, 0.5))
        await self.rest.close()

    def hop(self) -> None:
        """Leave for the next node and subscribe again there, as quickly as can be; for the end of
        the run. `absences` tells how long each room was without it."""
        self._must_hop = True

    @property
    def is_hopping(self) -> bool:
        return self._must_hop or bool(self._left)

    @property
    def is_settled(self) -> bool:
        """Nothing to repeat, and subscribed wherever it may be."""
        return self._wire is not None and all(
            not view.unanswered and (view.is_live or view.is_refused)
            for view in (self.view(room) for room in self.stage.rooms)
        )

    def view(self, room: str) -> View:
        return self.views.setdefault(room, View())

    def _lose(self) -> None:
        self._line = self._wire = None
        for view in self.views.values():
            view.is_live = False

    async def _session(self, node: int) -> None:
        token = make_token(self.user, ttl=_TOKEN_TTL)
        self._sessions += 1
        line = Line(
            f"{self.name}/{self._sessions}", self.user, f"broker{node}", trio.current_time()
        )
        hello = trio.Event()

        def take(frame: Frame) -> None:
            line.take(frame)
            if frame["type"] == "hello":
                hello.set()
            self._follow(frame)

        self.notes.lines.append(line)
        self._line = line
        self._is_draining = False
        try:
            url, patience = self.stage.urls(node), self.rng.choice(_PATIENCE)
            async with open_wire(url, token, take, patience=patience) as wire:
                with trio.move_on_after(_HELLO_DEADLINE):
                    await hello.wait()
                if not hello.is_set():
                    raise Gone("no hello")
                self._wire = wire
                await self._greet()
                await self._live(wire)
        finally:
            line.closed = trio.current_time()
            line.close_code = None if self._wire is None else self._wire.close_code

    async def _live(self, wire: Wire) -> None:
        operations = self.rng.randint(3, 60)
        while not wire.ended.is_set() and not self._is_draining:
            if self.stage.is_ending.is_set():
                await self._finish(wire)
                return
            if operations == 0:
                break
            operations -= 1
            await self._resubscribe()
            await self._operate()
            await pass_time(self.rng.uniform(0.0, 0.05))
        await self._leave(wire)

    async def _leave(self, wire: Wire) -> None:
        way = self.rng.choice(("close", "vanish", "vanish", "silent", "slow"))
        if way == "vanish":
            await wire.vanish()
        elif way == "silent":
            assert self._line is not None
            self._line.is_reading = False
            wire.stop_reading()
            await pass_time(self.rng.uniform(0.5, 6.0))
            await wire.vanish()
        elif way == "slow":
            wire.stop_reading()
            await pass_time(self.rng.uniform(0.5, 4.0))
            wire.go_on_reading()
            await self._resubscribe()
            await wire.close()
        else:
            await wire.close()

    async def _finish(self, wire: Wire) -> None:
        """The end of the run: everything answered, subscribed everywhere, until all may leave."""
        while not self.stage.may_leave.is_set():
            if wire.ended.is_set() or self._is_draining:
                raise Gone("at the end")
            if self._must_hop:
                await self._leave_at_once(wire)
            for room in self.stage.rooms:
                if not self.view(room).is_live and not self.view(room).is_refused:
                    await self._subscribe(room)
            await self._repeat_unanswered()
            await pass_time(0.05)
        await wire.close()

    async def _leave_at_once(self, wire: Wire) -> None:
        self._must_hop = False
        self._node = (self._node + 1) % self.stage.nodes
        now = trio.current_time()
        self._left = {room: now for room, view in self.views.items() if view.is_live}
        if self.rng.random() < 0.5:
            await wire.close()
        else:
            await wire.vanish()
        raise Gone("elsewhere")

    # --- what the server says -----------------------------------------------------------------

    def _follow(self, frame: Frame) -> None:
        """Keep the positions, as the protocol's page tells clients to."""
        if frame["type"] == "event" and frame.get("offset") is not None:
            view = self.view(frame["room"])
            view.offset = frame["offset"]
            self._learn(view, frame)
        elif frame["type"] == "unsubscribed":
            view = self.view(frame["room"])
            view.is_live = False
            if frame["code"] == "resync":
                self._restless.add(frame["room"])
            else:
                view.epoch = None
                view.is_refused = False
        elif frame["type"] == "drain":
            self._is_draining = True
        elif frame["type"] == "reply" and "recovered" in frame["result"]:
            self._take_subscription(frame["result"])

    def _take_subscription(self, result: dict[str, Any]) -> None:
        view = self.view(result["room"])
        view.epoch, view.offset = result["epoch"], result["offset"]
        view.seq = max(view.seq, result["seq"])
        view.is_live = True
        view.is_refused = False
        view.is_silenced = result["role"] is None
        if result["room"] in self._left:
            begun = self._left[result["room"]]
            self.absences.append(Absence(self.user, result["room"], begun, trio.current_time()))
        for event in result["events"]:
            self._learn(view, event)

    def _learn(self, view: View, event: Frame) -> None:
        if event["event"] == "message.created":
            view.seq = max(view.seq, event["data"]["seq"])
            if event["data"]["sender"] == self.user:
                view.own.append(event["data"]["seq"])

    # --- subscribing --------------------------------------------------------------------------

    async def _greet(self) -> None:
        """Subscribe to most rooms, then repeat what has no answer."""
        for room in self.stage.rooms:
            if room in self._left or self.rng.random() < 0.8:
                await self._subscribe(room)
        self._left.clear()
        await self._repeat_unanswered()

    async def _resubscribe(self) -> None:
        while self._restless:
            await self._subscribe(self._restless.pop())

    async def _subscribe(self, room: str) -> None:
        view = self.view(room)
        fields: dict[str, Any] = {}
        if view.epoch is not None and self.rng.random() < 0.85:
            fields["since"] = {"epoch": view.epoch, "offset": view.offset}
        if self.rng.random() < 0.3:
            fields["history"] = self.rng.choice((0, 1, 20, 100))
        note = await self._call("subscribe", room, **fields)
        view.is_refused = note.outcome == "refused" and not note.is_to_repeat

    # --- operations ---------------------------------------------------------------------------

    async def _operate(self) -> None:
        operations: list[tuple[int, Callable[[], Awaitable[Any]]]] = [
            (30, self._talk),
            (8, self._edit),
            (5, self._delete),
            (8, self._react),
            (6, self._read),
            (2, self._deliver),
            (3, self._type),
            (3, self._page),
            (3, self._page_by_rest),
            (4, self._talk_by_rest),
            (2, self._read_by_rest),
            (2, self._join_or_leave),
            (2, self._leave_or_enter),
            (1, self._look_who_is_there),
            (1, self._list_rooms),
            (1, self._make_direct),
        ]
        weights = [weight for weight, _ in operations]
        operation = self.rng.choices([one for _, one in operations], weights)[0]
        await operation()

    def _room(self, *, to_write: bool = False) -> str:
        """Mostly one that lets the client in: what is refused costs as much and shows less."""
        fit = [
            room
            for room, view in self.views.items()
            if not (view.is_refused or (to_write and view.is_silenced))
        ]
        return self.rng.choice(fit if fit and self.rng.random() < 0.9 else self.stage.rooms)

    def _content(self) -> str:
        self._said += 1
        length = self.rng.choice((0, 0, 0, 100, 1000)) if self.rng.random() < 0.97 else 20_000
        word = f"{UNSTORABLE} " if self.rng.random() < 0.03 else ""
        return f"{self.name} {self._said} {word}" + "x" * length

    async def _talk(self) -> None:
        """Publish a burst into one room, all at once."""
        room = self._room(to_write=True)
        view = self.view(room)
        commands = []
        for _ in range(self.rng.choice((1, 2, 5, 20, 50))):
            command: Frame = {"type": "publish", "room": room, "content": self._content()}
            if self.rng.random() < 0.8:
                command["client_id"] = f"{self.name}-{self._said}"
            if view.seq and self.rng.random() < 0.1:
                command["reply_to"] = self.rng.randint(1, view.seq)
            commands.append(command)
        await self._repeat_unanswered(room)
        if not view.unanswered:
            view.unanswered += [command for command in commands if "client_id" in command]
            await self._publish(room, commands)

    async def _repeat_unanswered(self, only: str | None = None) -> None:
        for room, view in list(self.views.items()):
            if view.unanswered and only in (None, room):
                await self._publish(room, list(view.unanswered))

    async def _publish(self, room: str, commands: list[Frame]) -> None:
        view = self.view(room)
        notes = await self._call_all(commands)
        for command, note in zip(commands, notes, strict=True):
            if command in view.unanswered and not note.is_to_repeat:
                view.unanswered.remove(command)
            view.is_silenced = note.outcome == "refused" and not note.is_to_repeat
            if note.outcome == "ok":
                view.own.append(note.result["seq"])
                view.seq = max(view.seq, note.result["seq"])

    def _own_seq(self, view: View) -> int | None:
        return self.rng.choice(view.own[-30:]) if view.own else None

    async def _edit(self) -> None:
        room = self._room()
        seq = self._own_seq(self.view(room))
        if seq is not None:
            self._said += 1
            fields: dict[str, Any] = {"content": f"{self.name} {self._said} edited"}
            if self.rng.random() < 0.2:
                fields["metadata"] = {"n": self._said}
            await self._call("edit", room, seq=seq, **fields)

    async def _delete(self) -> None:
        room = self._room()
        seq = self._own_seq(self.view(room))
        if seq is not None:
            await self._call("delete", room, seq=seq)

    async def _react(self) -> None:
        room = self._room()
        view = self.view(room)
        if view.seq:
            kind = self.rng.choice(("react", "react", "unreact"))
            seq = self.rng.randint(max(1, view.seq - 20), view.seq)
            await self._call(kind, room, seq=seq, reaction=self.rng.choice("👍👎🎉❤"))

    async def _read(self) -> None:
        room = self._room()
        view = self.view(room)
        if view.seq:
            await self._call("read", room, seq=self.rng.randint(max(1, view.seq - 30), view.seq))

    async def _deliver(self) -> None:
        room = self._room()
        if self.view(room).seq:
            await self._call("delivered", room, seq=self.view(room).seq)

    async def _type(self) -> None:
        if self.rng.random() < 0.5:
            await self._call("typing", self._room(), active=True)
        else:
            await self._call("signal", self._room(), name="wave", data={"from": self.name})

    async def _look_who_is_there(self) -> None:
        await self._call("presence", self._room())

    async def _page(self) -> None:
        room = self._room()
        view = self.view(room)
        fields = {"limit": self.rng.choice((5, 50, 100))}
        if view.seq and self.rng.random() < 0.7:
            fields[self.rng.choice(("before", "after"))] = self.rng.randint(1, view.seq + 1)
        await self._call("history", room, **fields)

    async def _leave_or_enter(self) -> None:
        """Unsubscribe, and perhaps subscribe again at once."""
        room = self._room()
        note = await self._call("unsubscribe", room)
        if note.outcome == "ok":
            self.view(room).is_live = False
        if self.rng.random() < 0.6:
            await self._subscribe(room)

    # --- over REST ----------------------------------------------------------------------------

    async def _page_by_rest(self) -> None:
        room = self._room()
        view = self.view(room)
        query = f"limit={self.rng.choice((10, 100))}"
        if view.seq and self.rng.random() < 0.7:
            way = self.rng.choice(("before", "after", "around"))
            query += f"&{way}={self.rng.randint(1, view.seq + 1)}"
        await self._request("history", room, "GET", f"/messages?{query}", query=query)

    async def _talk_by_rest(self) -> None:
        room = self._room()
        body: dict[str, Any] = {"content": self._content()}
        if self.rng.random() < 0.8:
            body["client_id"] = f"{self.name}-{self._said}"
        for _ in range(3):
            note = await self._request("publish", room, "POST", "/messages", body)
            if "client_id" not in body or not note.is_to_repeat:
                return
            await pass_time(0.5)

    async def _read_by_rest(self) -> None:
        room = self._room()
        body = {"seq": self.view(room).seq} if self.view(room).seq else {}
        await self._request("read", room, "POST", "/read", body)

    async def _join_or_leave(self) -> None:
        kind = self.rng.choice(("join", "leave"))
        await self._request(kind, "hall", "POST", f"/{kind}")

    async def _list_rooms(self) -> None:
        await self._request("rooms", "", "GET", "/v1/me/rooms")

    async def _make_direct(self) -> None:
        """Both sides may do this at once; there is one room of the two."""
        other = self.rng.choice([user for user in self.stage.users if user != self.user])
        body = {"kind": "direct", "members": [self.user, other]}
        await self._request("create", "", "POST", "/v1/rooms", body)

    async def _request(
        self, kind: str, room: str, method: str, path: str, body: Any = None, **asked: Any
    ) -> Note:
        whole = f"/v1/rooms/{quote(room, safe='')}{path}" if room else path
        note = self.notes.begin(kind, self.user, room, asked if body is None else body)
        answer: Answer | None = None
        try:
            answer = await self.rest.send(method, whole, body)
        except Gone:
            answer = None
        self.notes.end_rest(note, answer)
        return note

    # --- commands -----------------------------------------------------------------------------

    async def _call(self, kind: str, room: str, **fields: Any) -> Note:
        (note,) = await self._call_all([{"type": kind, "room": room, **fields}])
        return note

    async def _call_all(self, commands: list[Frame]) -> list[Note]:
        """Send commands in one go; Gone if any of them stays without an answer."""
        assert self._wire is not None
        assert self._line is not None
        notes = []
        for identity, command in enumerate(commands, self._wire.next_id):
            fields = {key: value for key, value in command.items() if key not in ("type", "room")}
            kind, room = command["type"], command["room"]
            self._line.commands[identity] = command
            notes.append(
                self.notes.begin(kind, self.user, room, fields, connection=self._line.name)
            )
        answers = await self._wire.call_all(commands)
        for note, answer in zip(notes, answers, strict=True):
            self.notes.end_frame(note, answer)
        if None in answers:
            raise Gone(f"{commands[0]['type']} has no answer")
        return notes
