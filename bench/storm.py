"""A storm: everybody is dropped, misses events, and comes back at once. Resumes per CPU second.

Rules: all connections subscribe, then all are cut; while nobody is there, each room gets its
publishes, and the server comes to rest. Then all come back, `at_once` on their way at a time, each
with a token that was signed before and the position that it had. A connection is back when the
answer to its subscription says `recovered` and holds exactly the missed events, in order, as they
were published; nothing of them may come again afterwards. CPU and time are those from the first
connect to the last answer.
"""

import errno
import select
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Final

from bench import accounting, checks, figures, product, wire
from bench.connection import BenchError, Connection, close_all, open_connections
from bench.dialect import Kind
from bench.publishing import publish_many
from bench.scenarios import Scenario
from bench.stage import Stage
from bench.target import Target

ROOM_OF_STORM: Final = 50
REST_SHARE: Final = 0.05  # of a core: a server that uses less has come to rest
REST_STEP: Final = 1.0
REST_TIMEOUT: Final = 60.0
QUIET_AFTER: Final = 0.5  # seconds in which nothing may come a second time


@dataclass(frozen=True, kw_only=True)
class StormOptions:
    """Sizes of the scenario."""

    connections: int = 5000
    missed: int = 20
    at_once: int = 400  # fewer than a node lets wait before its door
    patience: float = 120.0


@dataclass(kw_only=True)
class Room:
    """Where a room's members stood when they were cut, and what they missed."""

    name: str
    epoch: str = ""
    offset: int = -1
    written: list[str] = field(default_factory=list)
    events: bytes = b""  # as the first member to be back got them, checked

    def check(self, label: str, payload: bytes) -> None:
        """Judge the answer to a resuming subscription."""
        if self.events and self.events in payload and b'"recovered":true' in payload:
            return
        frame = product.parse_frame(payload)
        result = frame.get("result")
        if result is None or not result.get("recovered"):
            raise checks.CheckFailed(f"{label}: not recovered: {payload[:300]!r}")
        offsets = [event["offset"] for event in result["events"]]
        expected = list(range(self.offset + 1, self.offset + 1 + len(self.written)))
        if offsets != expected:
            raise checks.CheckFailed(f"{label}: got the offsets {offsets} instead of {expected}")
        contents = [event["data"]["content"] for event in result["events"]]
        if contents != self.written:
            raise checks.CheckFailed(f"{label}: what it missed is not what was published")
        start = payload.find(b'"events":[')
        end = payload.find(b'],"messages":', start)
        if 0 <= start < end:
            self.events = payload[start : end + 1]


class _Comer:
    """One connection on its way back."""

    __slots__ = ("connection", "head", "request", "room", "user")

    def __init__(self, user: str, room: Room, request: bytes) -> None:
        self.user = user
        self.room = room
        self.request = request
        self.head: bytes | None = b""  # None once the handshake is complete
        self.connection: Connection | None = None

    def start(self, target: Target, port: int) -> Connection:
        """Begin to connect."""
        sock = socket.socket()
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        problem = sock.connect_ex((target.host, port))
        self.connection = Connection(sock, self.user, target.dialect)
        if problem not in (0, errno.EINPROGRESS):
            raise BenchError(f"the {target.name} does not accept connections: {problem}")
        return self.connection

    def take(self, connection: Connection) -> bool:
        """Look at what came; whether this one is back."""
        data = connection.receive()
        if self.head is not None:
            self.head += data
            answer, found, data = self.head.partition(b"\r\n\r\n")
            if not found:
                return False
            if not answer.startswith(b"HTTP/1.1 101 "):
                raise BenchError(f"{self.user}: refused: {answer[:200]!r}")
            self.head = None
        data = connection.rest + data
        places, rest_at = wire.walk_frames(data)
        connection.rest = data[rest_at:]
        is_back = False
        for opcode, start, end in places:
            is_back |= self._take_frame(connection, opcode, data[start:end])
        return is_back

    def _take_frame(self, connection: Connection, opcode: int, payload: bytes) -> bool:
        if opcode & wire.CONTROL:
            connection.answer_control(opcode, payload)
            return False
        kind = connection.dialect.classify(payload, 0, len(payload)).kind
        if kind == Kind.GREETING:
            room = self.room
            connection.send(product.resume_frame(1, room.name, room.epoch, room.offset))
            return False
        if kind == Kind.ANSWER:
            self.room.check(self.user, payload)
            return True
        if kind in (Kind.MESSAGE, Kind.DURABLE):
            raise checks.CheckFailed(f"{self.user}: an event came again: {payload[:300]!r}")
        connection.take_other(kind, payload)
        return False


class _Storm:
    """All of them coming back."""

    def __init__(self, target: Target, comers: Sequence[_Comer], options: StormOptions) -> None:
        self._target = target
        self._comers = comers
        self._options = options
        self._epoll = select.epoll()
        self._by_fd: dict[int, tuple[_Comer, Connection]] = {}
        self._back = 0

    def run(self) -> None:
        """Until the last one is back."""
        deadline = time.perf_counter() + self._options.patience
        waiting: Iterator[tuple[int, _Comer]] = iter(enumerate(self._comers))
        started = 0
        while self._back < len(self._comers):
            while started < len(self._comers) and started - self._back < self._options.at_once:
                index, comer = next(waiting)
                connection = comer.start(self._target, self._target.port_of(index))
                self._by_fd[connection.fd] = (comer, connection)
                self._epoll.register(connection.fd, select.EPOLLOUT)
                started += 1
            if time.perf_counter() > deadline:
                missing = len(self._comers) - self._back
                raise checks.CheckFailed(f"{missing} of {len(self._comers)} did not come back")
            self._look(1.0)

    def watch(self, seconds: float) -> None:
        """Nothing of what was missed may come a second time."""
        end = time.perf_counter() + seconds
        while (now := time.perf_counter()) < end:
            self._look(end - now)

    def _look(self, timeout: float) -> None:
        for fd, event in self._epoll.poll(timeout, 1024):
            comer, connection = self._by_fd[fd]
            if event & select.EPOLLOUT:
                problem = connection.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                if problem or connection.sock.send(comer.request) != len(comer.request):
                    raise BenchError(f"{comer.user}: could not connect ({problem})")
                self._epoll.modify(fd, select.EPOLLIN)
            elif comer.take(connection):
                self._back += 1

    def close(self) -> None:
        """Cut them all."""
        close_all([connection for _, connection in self._by_fd.values()])


def _subscribe(connections: Sequence[Connection], rooms: Sequence[Room]) -> None:
    for connection, room in zip(connections, rooms, strict=True):
        connection.send(connection.dialect.subscribe(0, room.name))
    for connection, room in zip(connections, rooms, strict=True):
        result = product.parse_frame(connection.wait(Kind.ANSWER))["result"]
        room.epoch, room.offset = result["epoch"], int(result["offset"])


def rest(processes: Sequence[int]) -> None:
    """Wait until these have nothing to do any more."""
    deadline = time.perf_counter() + REST_TIMEOUT
    before = sum(map(accounting.tree_cpu, processes))
    while time.perf_counter() < deadline:
        time.sleep(REST_STEP)
        now = sum(map(accounting.tree_cpu, processes))
        if now - before < REST_SHARE * REST_STEP:
            return
        before = now
    raise BenchError(f"the server did not come to rest in {REST_TIMEOUT:.0f} s")


def run_storm(
    target: Target, members: Mapping[str, Sequence[str]], writer: str, options: StormOptions
) -> figures.Round:
    """One turn of `target`. `members` holds those who are dropped; `writer` writes meanwhile."""
    rooms = {name: Room(name=name) for name in members}
    places = [(user, rooms[name]) for name, users in members.items() for user in users]
    users, names = [user for user, _ in places], [room.name for _, room in places]
    connections = open_connections(target, users, names)
    try:
        _subscribe(connections, [room for _, room in places])
    finally:
        close_all(connections)
    requests = []
    for index, (user, room) in enumerate(places):
        path = target.dialect.path(target.token(user), room.name)
        requests.append(wire.handshake_request(target.host, target.port_of(index), path))
    processes = (target.process, *target.more_processes)
    rest(processes)
    for name, contents in publish_many(target, writer, list(rooms), options.missed).items():
        rooms[name].written = contents
    rest(processes)
    comers = [_Comer(user, room, one) for (user, room), one in zip(places, requests, strict=True)]
    storm = _Storm(target, comers, options)
    meter = target.meter()
    try:
        before = meter.read()
        storm.run()
        usage = accounting.between(before, meter.read())
        storm.watch(QUIET_AFTER)
    finally:
        storm.close()
    count = len(comers)
    return figures.Round(
        target=target.name,
        figure=figures.per_cpu_second(count, usage.server_cpu),
        usage=usage,
        details={
            "resumes": float(count),
            "seconds_until_all_are_back": usage.wall,
            "resumes_per_second": count / usage.wall,
            **figures.redis_details(count, count, usage),
        },
        refused=figures.saturation(usage),
    )


def scenario(stage: Stage, options: StormOptions) -> Scenario:
    """Its rooms and bars."""
    run, writer = stage.run, f"{stage.run}-writer"
    members: dict[str, list[str]] = {}
    for number in range(options.connections):
        room = f"{run}-storm-{number // ROOM_OF_STORM}"
        members.setdefault(room, []).append(f"{run}-{number}")

    def bars(rounds: Sequence[figures.Round]) -> list[figures.Bar]:
        value = figures.median(figures.figures_of(rounds, "broker"))
        return [figures.Bar(name="resumes", value=value, limit=1500, unit="/ s", at_least=True)]

    return Scenario(
        name="storm",
        unit="resumes / server CPU s",
        parameters=asdict(options),
        contenders=stage.contenders("storm", floors=False),
        rooms={name: [*users, writer] for name, users in members.items()},
        turn=lambda target: run_storm(target, members, writer, options),
        bars=bars,
    )
