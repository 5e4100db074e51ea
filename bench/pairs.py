"""Many small rooms: messages per server CPU second, every publish answered.

Rules: a closed loop a room. One member publishes; when its answer and the event at every member
(itself, too) have arrived, the next one publishes. So the number of messages on their way is
the number of rooms, and each message is checked at every member. With a pause each room rests
between two messages, so that nobody's core is full. One in sixteen events is parsed
whole and compared with what was published; of a server that numbers nothing, each.
"""

import select
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from bench import accounting, checks, figures, wire
from bench.connection import (
    BenchError,
    Connection,
    close_all,
    open_connections,
    subscribe_all,
)
from bench.dialect import Dialect, Frame, Kind, content_of, written_in
from bench.target import Target

GATHER_INTERVAL: Final = 0.0005  # seconds; the rooms that wait meanwhile keep the server busy
SAMPLE_MASK: Final = 15  # an event whose offset has none of these bits is parsed whole


@dataclass(frozen=True, kw_only=True)
class PairsOptions:
    """Sizes of the scenario."""

    rooms: int = 500
    seconds: float = 5.0
    warm_up: float = 1.0
    patience: float = 20.0  # seconds that the last deliveries may take
    pause: float = 0.0  # seconds that a room rests after each message


class _Room:
    """Its members (two, mostly) and the one message on its way."""

    __slots__ = ("members", "name", "number", "offset", "outstanding")

    def __init__(self, name: str, offset: int) -> None:
        self.name = name
        self.members: list[_Member] = []
        self.number = 0
        self.offset = offset
        self.outstanding = 0

    @property
    def writer(self) -> "_Member":
        """Whose the newest message is."""
        return self.members[self.number % len(self.members)]


class _Member:
    """One connection of a room. `unanswered`: the publish whose answer it waits for, or 0."""

    __slots__ = ("check", "connection", "room", "unanswered")

    def __init__(self, connection: Connection, room: _Room) -> None:
        self.connection = connection
        self.room = room
        self.check = checks.OffsetCheck(f"{connection.user} in {room.name}", room.offset + 1)
        self.unanswered = 0


class _Pairs:
    """The loop over all rooms."""

    def __init__(
        self,
        rooms: Sequence[_Room],
        options: PairsOptions,
        dialect: Dialect,
        *,
        checks_content: bool,
    ) -> None:
        self._rooms = rooms
        self._dialect = dialect
        self._patience = options.patience
        self._pause = options.pause
        self._resting: deque[tuple[float, _Room]] = deque()  # and when each goes on
        self._checks_content = checks_content
        self._run = f"{time.time_ns():x}"
        self._epoll = select.epoll()
        self._members = {one.connection.fd: one for room in rooms for one in room.members}
        self._running = False
        self._busy = 0
        self.completed = 0
        for fd in self._members:
            self._epoll.register(fd, select.EPOLLIN)

    def run_until(self, end: float) -> None:
        """Exchange messages until `end` on the performance counter, then let each loop finish."""
        self._running = True
        self._begin()
        while self._busy or self._resting:
            now = time.perf_counter()
            self._running = now < end
            if now > end + self._patience:
                raise checks.CheckFailed(self._describe_missing())
            self._go_on(now)
            for fd, _ in self._epoll.poll(self._until_next(now), 1024):
                member = self._members[fd]
                self._take(member, member.connection.receive())
            if now < end:
                time.sleep(GATHER_INTERVAL)

    def _begin(self) -> None:
        """All at once, or spread over the pause."""
        now = time.perf_counter()
        for place, room in enumerate(self._rooms):
            if self._pause:
                self._resting.append((now + self._pause * place / len(self._rooms), room))
            else:
                self._publish(room)

    def _go_on(self, now: float) -> None:
        if not self._running:
            self._resting.clear()
        while self._resting and self._resting[0][0] <= now:
            self._publish(self._resting.popleft()[1])

    def _until_next(self, now: float) -> float:
        if self._resting:
            return min(1.0, max(0.0, self._resting[0][0] - now))
        return 1.0 if self._busy else 0.0

    def _publish(self, room: _Room) -> None:
        room.number += 1
        member = room.writer
        room.outstanding = len(room.members)
        self._busy += 1
        number = room.number
        dialect = self._dialect
        if dialect.answers_publishes:
            room.outstanding += 1
            member.unanswered = number
        user = member.connection.user
        member.connection.send(dialect.publish(number, room.name, user, self._run))

    def _take(self, member: _Member, data: bytes) -> None:
        connection = member.connection
        if connection.rest:
            data = connection.rest + data
        places, rest_at = wire.walk_frames(data)
        connection.rest = data[rest_at:]
        classify = self._dialect.classify
        for opcode, start, end in places:
            if opcode & wire.CONTROL:
                connection.answer_control(opcode, data[start:end])
                continue
            frame = classify(data, start, end)
            if frame.kind == Kind.MESSAGE:
                self._take_event(member, frame.number, data, start, end)
            elif frame.kind == Kind.ANSWER and frame.number == member.unanswered:
                self._take_reply(member, frame)
            else:
                connection.take_other(frame.kind, data[start:end])

    def _take_event(self, member: _Member, offset: int, data: bytes, start: int, end: int) -> None:
        room = member.room
        if not self._dialect.numbers_events:
            offset = self._place_written(room, data, start, end)
        member.check.take(offset)
        if offset > room.offset + 1 or not room.outstanding:
            raise checks.CheckFailed(f"{room.name}: offset {offset} was never published")
        if not offset & SAMPLE_MASK and self._checks_content and self._dialect.numbers_events:
            content = self._dialect.message(data[start:end]).content
            writer = room.writer.connection.user
            if content != content_of(writer, room.number):
                raise checks.CheckFailed(f"{room.name}: offset {offset} holds {content!r}")
        room.outstanding -= 1
        if not room.outstanding:
            self._complete(room)

    @staticmethod
    def _place_written(room: _Room, data: bytes, start: int, end: int) -> int:
        """The offset that an event without one has, by what is written in it."""
        writer = room.writer.connection.user
        sender, number = written_in(data, start, end)
        if sender != writer and number == room.number:
            raise checks.CheckFailed(f"{room.name}: publish {number} comes from {sender!r}")
        return room.offset + 1 + number - room.number

    def _take_reply(self, member: _Member, frame: Frame) -> None:
        room = member.room
        if frame.offset != room.offset + 1 and self._dialect.numbers_events:
            expected = room.offset + 1
            raise checks.CheckFailed(checks.describe_offset(room.name, expected, frame.offset))
        member.unanswered = 0
        room.outstanding -= 1
        if not room.outstanding:
            self._complete(room)

    def _complete(self, room: _Room) -> None:
        room.offset += 1
        self.completed += 1
        self._busy -= 1
        if not self._running:
            return
        if self._pause:
            self._resting.append((time.perf_counter() + self._pause, room))
        else:
            self._publish(room)

    def _describe_missing(self) -> str:
        room = next(one for one in self._rooms if one.outstanding)
        writer = room.writer
        missing = [
            f"the event at {one.connection.user}"
            for one in room.members
            if one.check.next_offset == room.offset + 1
        ]
        missing += ["the answer"] if writer.unanswered else []
        return f"{room.name}: message {room.number} lacks {', '.join(missing)}"


def run_pairs(
    target: Target,
    members: Mapping[str, Sequence[str]],
    options: PairsOptions,
    prepare: Callable[[Sequence[Connection]], None] = lambda _: None,
) -> figures.Round:
    """One turn of `target`. `members` holds the users of each room.

    `prepare` gets the open connections before they subscribe.
    """
    names = [name for name, users in members.items() for _ in users]
    users = [user for pair in members.values() for user in pair]
    connections = open_connections(target, users, names)
    try:
        prepare(connections)
        offsets = subscribe_all(connections, names)
        rooms: dict[str, _Room] = {}
        for connection, name, offset in zip(connections, names, offsets, strict=True):
            room = rooms.setdefault(name, _Room(name, offset))
            if room.offset != offset:
                raise BenchError(f"{name}: the room was not quiet while its members subscribed")
            room.members.append(_Member(connection, room))
        state = _Pairs(
            list(rooms.values()), options, target.dialect, checks_content=target.checks_content
        )
        state.run_until(time.perf_counter() + options.warm_up)
        meter = target.meter()
        completed = state.completed
        before = meter.read()
        state.run_until(time.perf_counter() + options.seconds)
        usage = accounting.between(before, meter.read())
    finally:
        close_all(connections)
    count = state.completed - completed
    details = {
        "messages": float(count),
        "messages_per_second": count / usage.wall,
        **figures.redis_details(count, count, usage),
    }
    return figures.Round(
        target=target.name,
        figure=figures.per_cpu_second(count, usage.server_cpu),
        usage=usage,
        details=details,
        refused=figures.saturation(usage),
    )
