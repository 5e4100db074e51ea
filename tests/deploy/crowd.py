"""Many users as good clients behave: they come back with jitter, resume, and repeat what was lost.

What each sees is judged at once and forgotten, so that thousands fit into one process: offsets
must rise by one over all of a user's connections, everything answered must be seen, once, under the
id of the answer, and nobody may be announced as gone. Breaches are sentences in `faults`.

Frames are handled synchronously, in the order in which they came; nothing is kept of them.
"""

import random
import re
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import msgspec
import trio

from tests.support.lean_client import cut_frames, encode_client_frame, shake_hands
from tests.support.tokens import make_token
from tests.support.waiting import pass_time

BACKOFF = 1.0
BACKOFF_MAX = 30.0
OPEN_DEADLINE = 20.0
_RECEIVE_BYTES = 64 * 1024
_TRY_AGAIN = frozenset({"unavailable", "overloaded", "rate_limited"})

_decode = msgspec.json.decode
_encode = msgspec.json.encode


class _Data(msgspec.Struct):
    id: str = ""
    content: str | None = None
    user: str = ""


class _Frame(msgspec.Struct):
    """A server frame, or an event within a subscribe reply, which has no type."""

    type: str = ""
    id: int | None = None
    event: str = ""
    offset: int | None = None
    data: _Data = msgspec.field(default_factory=_Data)
    result: msgspec.Raw = msgspec.Raw(b"{}")
    code: str = ""
    reconnect_within: float = 0.0


_decode_frame = msgspec.json.Decoder(_Frame).decode


class ConnectionOver(OSError):
    """The connection has ended, and why."""


@dataclass
class Ledger:
    """What the members of one room were told, held against each other."""

    answers: dict[str, tuple[str, int]] = field(default_factory=dict)
    """client_id → id and offset, as answered."""
    seen: dict[int, str] = field(default_factory=dict)
    """offset → id, as whoever saw it first saw it; empty for what is no message."""
    places: dict[str, int] = field(default_factory=dict)
    """client_id → offset, as seen."""
    newest_answer: int = 0


class _Subscribed(msgspec.Struct):
    epoch: str
    offset: int
    recovered: bool
    events: list[_Frame] = msgspec.field(default_factory=list)


class _Published(msgspec.Struct):
    message_id: str
    offset: int


class Crowd:
    """The users and what they felt; get it from `open_crowd`. Times in seconds, on trio's clock.

    `url` says where to connect, each time somebody does.
    """

    def __init__(self, url: Callable[[], str], nursery: trio.Nursery) -> None:
        self.url = url
        self.nursery = nursery
        self.members: list[Member] = []
        self.faults: list[str] = []
        self.rooms: dict[str, Ledger] = defaultdict(Ledger)
        self.pauses: list[tuple[float, float]] = []
        """When a user was subscribed again, and how long it had not been."""
        self.leaving: list[tuple[float, float]] = []
        """For each `drain` that was followed: seconds until its user left, and reconnect_within."""
        self.latencies: list[tuple[float, float]] = []
        """When an event came, and how long after its publish, for members but the sender."""
        self.refusals: dict[str, int] = defaultdict(int)
        """Why connecting failed or a connection ended, and how often."""
        self.gone: list[str] = []
        """Who was announced as gone, as members of the room heard it."""
        self.reloads = 0
        self.published = 0
        self.repeated = 0
        self.sent_at: dict[str, float] = {}

    def add(self, user: str, room: str) -> "Member":
        """A user who connects from now on."""
        member = Member(self, user, room)
        self.members.append(member)
        self.nursery.start_soon(member.run)
        return member

    def online(self) -> list["Member"]:
        """Who is subscribed now."""
        return [member for member in self.members if member.is_online]

    def is_settled(self) -> bool:
        """Everybody is there, everything has its answer, and what was answered has been seen."""
        return all(
            member.is_online
            and not member.unanswered
            and member.offset >= member.ledger.newest_answer
            for member in self.members
        )

    def unsettled(self) -> str:
        """Who is not, and why connections ended, for a failing test."""
        return f"{dict(self.refusals)}: " + ", ".join(
            f"{m.user}: {'online' if m.is_online else 'away'}, {len(m.unanswered)} unanswered, "
            f"at {m.offset} of {m.ledger.newest_answer}"
            for m in self.members
            if not m.is_online or m.unanswered or m.offset < m.ledger.newest_answer
        )

    def judge(self) -> list[str]:
        """A sentence for every breach, somebody announced as gone included."""
        return self.breaches() + [f"{user} was announced as gone" for user in self.gone]

    def breaches(self) -> list[str]:
        """A sentence for every breach where users may be announced as gone: their node died."""
        faults = list(self.faults)
        for room, ledger in self.rooms.items():
            faults += [
                f"{room}: {client_id} was answered with {message} at {offset}, "
                f"seen was {ledger.seen.get(offset)}"
                for client_id, (message, offset) in ledger.answers.items()
                if ledger.seen.get(offset) != message
            ]
        return faults

    def answered(self) -> int:
        """How many publishes have an answer."""
        return sum(len(ledger.answers) for ledger in self.rooms.values())

    async def publish_at(self, rate: float, stop: trio.Event) -> None:
        """Let members who are there publish, `rate` messages a second in all, until `stop`."""
        began, sent = trio.current_time(), 0
        while not stop.is_set():
            due = int((trio.current_time() - began) * rate) - sent
            for _ in range(due):
                member = random.choice(self.members)
                if member.is_online:
                    self.published += 1
                    self.nursery.start_soon(member.publish)
            sent += due
            await pass_time(0.01)


@asynccontextmanager
async def open_crowd(url: Callable[[], str]) -> AsyncIterator[Crowd]:
    """Nobody yet; at the end of the block everybody leaves."""
    async with trio.open_nursery() as nursery:
        yield Crowd(url, nursery)
        nursery.cancel_scope.cancel()


class Member:
    """One user in one room; `run` is the user's whole life."""

    def __init__(self, crowd: Crowd, user: str, room: str) -> None:
        self.crowd = crowd
        self.user = user
        self.room = room
        self.ledger = crowd.rooms[room]
        self.offset = 0
        self.epoch = ""
        self.is_online = False
        self.unanswered: list[str] = []
        self.connections = 0
        self.url = crowd.url
        self.follows_drain = True
        """Whether it leaves when told to, or stays until it is closed."""
        self._token = make_token(user, ttl=86_400)
        self._stream: trio.SocketStream | None = None
        self._sending = trio.Lock()
        self._said = 0
        self._lost_at: float | None = None
        self._attempts = 0
        self._outgoing: list[bytes] = []
        self._asked: dict[int, str] = {}
        self._last_id = 0
        self._since = 0
        self._leaving = trio.CancelScope()
        self._told: tuple[float, float] | None = None

    # --- the life of a user -------------------------------------------------------------------

    async def run(self) -> None:
        """Connect, and again with jitter whenever that ends, until cancelled."""
        while True:
            try:
                await self._connect()
            except (OSError, AssertionError, trio.TooSlowError) as error:
                self.crowd.refusals[_reason(error)] += 1
                longest = min(BACKOFF_MAX, BACKOFF * 2.0**self._attempts)
                self._attempts += 1
                await pass_time(random.random() * longest)

    async def _connect(self) -> None:
        """One connection to its end: returns when it was left in time, else raises OSError."""
        self._begin()
        try:
            with trio.CancelScope() as self._leaving:
                await self._serve()
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise ConnectionOver("cut") from error
        finally:
            self._stream = None
            if self.is_online:
                self.is_online = False
                self._lost_at = trio.current_time()
        if self._told is not None:
            came, within = self._told
            self.crowd.leaving.append((trio.current_time() - came, within))

    def _begin(self) -> None:
        self._told = None
        self._asked.clear()
        self._outgoing.clear()

    async def _serve(self) -> None:
        url = self.url()
        target = urlsplit(url)
        async with AsyncExitStack() as stack:
            # Whoever is subscribed when the time is over has made it, and leaves this block first.
            with trio.fail_after(OPEN_DEADLINE):
                stream = await stack.enter_async_context(_new_stream())
                # By address: looking up a name and trying its addresses costs as much as all else.
                await stream.socket.connect((target.hostname, target.port))
                buffer = bytearray(await shake_hands(stream, url, self._token))
                self._stream = stream
                self._take_all(buffer)
                while not self.is_online:
                    await self._read_more(stream, buffer)
            while True:
                await self._read_more(stream, buffer)

    async def _read_more(self, stream: trio.SocketStream, buffer: bytearray) -> None:
        while self._outgoing:
            await self._send(self._outgoing.pop(0))
        data = await stream.receive_some(_RECEIVE_BYTES)
        if not data:
            raise ConnectionOver("ended")
        buffer += data
        self._take_all(buffer)

    def leave(self) -> None:
        """Close the connection without a word, as a phone in a tunnel does, and come back."""
        self._leaving.cancel()

    async def publish(self) -> None:
        """Say something; what has no answer is repeated at the next connection."""
        self._said += 1
        client_id = f"{self.user}-{self._said}"
        self.unanswered.append(client_id)
        self.crowd.sent_at[client_id] = trio.current_time()
        await self._say(client_id)

    async def _say(self, client_id: str) -> None:
        if self.is_online and self._told is None:
            await self._send(self._publish_frame(client_id))

    async def _send(self, data: bytes) -> None:
        stream = self._stream
        if stream is None:
            return
        try:
            async with self._sending:
                await stream.send_all(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return  # whoever reads finds out

    async def _later(self, seconds: float, act: Callable[[], None]) -> None:
        """Do something on this connection, if it is still this one then."""
        stream = self._stream
        await pass_time(seconds * random.uniform(0.5, 1.0))
        if stream is not None and stream is self._stream:
            act()
            while self._outgoing:
                await self._send(self._outgoing.pop(0))

    # --- what goes ----------------------------------------------------------------------------

    def _publish_frame(self, client_id: str) -> bytes:
        fields = {"room": self.room, "content": client_id, "client_id": client_id}
        return self._frame("publish", client_id, fields)

    def _frame(self, type_: str, asked: str, fields: dict[str, Any]) -> bytes:
        self._last_id += 1
        self._asked[self._last_id] = asked
        return encode_client_frame(_encode({"type": type_, "id": self._last_id, **fields}))

    def _subscribe(self) -> None:
        fields: dict[str, Any] = {"room": self.room}
        if self.epoch:
            fields["since"] = {"epoch": self.epoch, "offset": self.offset}
        self._outgoing.append(self._frame("subscribe", "", fields))

    # --- what comes, in order -----------------------------------------------------------------

    def _take_all(self, buffer: bytearray) -> None:
        for opcode, payload in cut_frames(buffer):
            if opcode == 1:
                self._take(_decode_frame(payload))
            elif opcode == 9:
                self._outgoing.append(encode_client_frame(payload, opcode=10))
            elif opcode == 8:
                raise ConnectionOver(f"closed with {int.from_bytes(payload[:2], 'big')}")

    def _take(self, frame: _Frame) -> None:
        if frame.type == "event":
            self._take_event(frame)
        elif frame.type == "reply" and frame.id is not None:
            asked = self._asked.pop(frame.id)
            if asked:
                self._take_answer(asked, _decode(frame.result, type=_Published))
            else:
                self._take_subscription(_decode(frame.result, type=_Subscribed))
        elif frame.type == "error" and frame.id is not None:
            self._take_error(self._asked.pop(frame.id), frame.code)
        elif frame.type == "hello":
            self._subscribe()
        elif frame.type == "unsubscribed":
            self.crowd.reloads += 1
            self._subscribe()
        elif frame.type == "drain":
            self._told = (trio.current_time(), frame.reconnect_within)
            if self.follows_drain:
                wait = random.random() * frame.reconnect_within
                self._leaving.deadline = trio.current_time() + wait

    def _take_error(self, asked: str, code: str) -> None:
        if self._told is not None:
            return  # it drains: everything is repeated at the next one
        if code not in _TRY_AGAIN:
            self.crowd.faults.append(f"{self.user}: {asked or 'subscribe'} was refused: {code}")
        elif asked:
            self.crowd.repeated += 1
            again = partial(self.crowd.nursery.start_soon, self._say, asked)
            self.crowd.nursery.start_soon(self._later, 1.0, again)
        else:
            self.crowd.refusals[f"subscribe: {code}"] += 1
            self.crowd.nursery.start_soon(self._later, 1.0, self._subscribe)

    def _take_subscription(self, result: _Subscribed) -> None:
        if result.recovered:
            for body in result.events:
                self._see(body)
            if self.offset != result.offset:
                self.crowd.faults.append(
                    f"{self.user}: recovered to {self.offset}, not to {result.offset}"
                )
        elif self.epoch:
            self.crowd.reloads += 1
        self.epoch, self.offset = result.epoch, result.offset
        self.is_online = True
        self.connections += 1
        self._attempts = 0
        now = trio.current_time()
        if self._lost_at is not None:
            self.crowd.pauses.append((now, now - self._lost_at))
            self._lost_at = None
        for client_id in self.unanswered:
            self.crowd.repeated += 1
            self._outgoing.append(self._publish_frame(client_id))

    def _take_answer(self, client_id: str, answer: _Published) -> None:
        place = (answer.message_id, answer.offset)
        ledger = self.ledger
        if ledger.answers.setdefault(client_id, place) != place:
            self.crowd.faults.append(f"{client_id} was answered with two places")
        ledger.newest_answer = max(ledger.newest_answer, answer.offset)
        if client_id in self.unanswered:
            self.unanswered.remove(client_id)

    def _take_event(self, frame: _Frame) -> None:
        if frame.offset is not None:
            self._see(frame)
        elif frame.event == "presence.left":
            self.crowd.gone.append(frame.data.user)

    def _see(self, frame: _Frame) -> None:
        assert frame.offset is not None
        if frame.offset != self.offset + 1:
            self.crowd.faults.append(f"{self.user}: offset {frame.offset} after {self.offset}")
        self.offset = frame.offset
        ledger, message = self.ledger, frame.data.id
        if ledger.seen.setdefault(frame.offset, message) != message:
            self.crowd.faults.append(f"{self.room}: two events at {frame.offset}")
        client_id = frame.data.content
        if client_id is None:
            return
        if ledger.places.setdefault(client_id, frame.offset) != frame.offset:
            self.crowd.faults.append(f"{client_id} was seen twice")
        sent_at = self.crowd.sent_at.get(client_id)
        if sent_at is not None and not client_id.startswith(f"{self.user}-"):
            now = trio.current_time()
            self.crowd.latencies.append((now, now - sent_at))


def _new_stream() -> trio.SocketStream:
    return trio.SocketStream(trio.socket.socket())


def _reason(error: BaseException) -> str:
    if isinstance(error, trio.TooSlowError):
        return "too slow"
    text = str(error) or type(error).__name__
    status = re.search(r"HTTP/1.1 (\d+)", text)
    return status[1] if status else text[:60]


def percentile(values: list[float], part: float) -> float:
    """The value below which `part` of them lie; 0 of nothing."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(part * len(ordered)))] if ordered else 0.0
