"""One node whose loop runs only while a step is made, and whose time only jumps.

The loop is trio's own; `Loop.step` runs a function in it and comes back when every task waits for
something. So nothing ever happens between two steps, and a sequence of steps always ends the same.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import socket
import struct
import termios
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, cast

import outcome
import pytest_trio.plugin  # type: ignore[import-untyped] # noqa: F401
import trio
import trio.testing

from broker import admission, repairs
from broker.connection import Connection
from broker.counts import Counts
from broker.domain.identity import Identity
from broker.fairness import Fairness
from broker.held_back import Holding
from broker.keepalive import Closing
from broker.node import Node
from broker.outbox import Outbox
from broker.protocol import errors
from broker.protocol.events import TimeTexts
from broker.protocol.states import State
from broker.rates import paces_of
from broker.services import Services
from broker.spreading import Spreading
from config.metrics import Metrics
from config.settings import load_settings
from storage.redis.keys import user_channel
from tests.broker.machine.judge import Judge
from tests.broker.machine.servers import PROJECT, Servers
from tests.broker.machine.stores import (
    Line,
    ModelAccess,
    ModelFloors,
    ModelSeeder,
    model_store,
    standing_among_of,
)
from tests.support.local_broker import replaced
from tests.support.time_limit import OverTime, stacks
from tests.support.tokens import JWT_SECRET

T = TypeVar("T")

# Once pytest-trio's plugin is imported Hypothesis seeds the order of trio's tasks, in commands too.

SEND_QUEUE_BYTES = 6000
SOCKET_BYTES = 4096
TURNS_MAX = 2000
"""Of the loop, in one step; 23 are the most that a hundred sequences needed."""
METRICS = Metrics()
SETTINGS = load_settings(
    None, redis_url="redis://127.0.0.1:1", database_url="postgresql://127.0.0.1:1/none",
    jwt_secret=JWT_SECRET, rate_messages_per_second=100_000,
    presence_grace=0.5,
)  # fmt: skip


class Loop:
    """A trio loop that is turned by hand, in the thread of whoever makes the steps.

    It is trio's guest mode with a host that does nothing but turn. The driver is always ready to go
    on, so that trio never waits for anything in a thread: a step costs no change of threads (of
    which a busy machine makes milliseconds), and what does not come to rest is seen by counting.
    """

    def __init__(self, run: Callable[[trio.Nursery], Awaitable[None]]) -> None:
        self.clock = trio.testing.MockClock()
        self._run = run
        self._turns: deque[Callable[[], object]] = deque()
        self._next: Callable[[], Awaitable[None]] | None = None
        self._has_ended = False
        self._failure: BaseException | None = None
        self._nursery: trio.Nursery | None = None
        trio.lowlevel.start_guest_run(
            self._main, clock=self.clock, run_sync_soon_threadsafe=self._turns.append,
            done_callback=self._note_end,
        )  # fmt: skip
        self.step(lambda: None)

    def step(self, work: Callable[[], T]) -> T:
        """Run `work` in the loop, and then everything that can go on because of it."""
        answers: list[outcome.Outcome[T]] = []

        async def take_step() -> None:
            answer = outcome.capture(work)
            await trio.testing.wait_all_tasks_blocked()
            answers.append(answer)

        self._next = take_step
        self._turn_until(lambda: bool(answers))
        if not answers:
            raise self._failure or AssertionError("the loop has ended")
        return answers[0].unwrap()

    def close(self) -> None:
        """End the loop; raises what ended it before."""
        if not self._has_ended:
            assert self._nursery is not None
            self._nursery.cancel_scope.cancel()
            self._turn_until(lambda: False)
        if self._failure is not None:
            raise self._failure

    def _turn_until(self, is_over: Callable[[], bool]) -> None:
        """Turn until it is over or the loop has ended."""
        for _ in range(TURNS_MAX):
            if self._has_ended or is_over():
                return
            self._turns.popleft()()
        raise OverTime(f"not at rest after {TURNS_MAX} turns of the loop\n{stacks()}")

    def _note_end(self, end: outcome.Outcome[None]) -> None:
        self._has_ended = True
        self._failure = end.error if isinstance(end, outcome.Error) else None

    async def _main(self) -> None:
        trio.lowlevel.spawn_system_task(self._drive)
        async with trio.open_nursery() as self._nursery:
            await self._run(self._nursery)

    async def _drive(self) -> None:
        while True:
            if self._next is not None:
                take_step, self._next = self._next, None
                await take_step()
            await trio.lowlevel.checkpoint()


class SteppedNode(Node):
    """A node that reads its inbox when told to."""

    reading = ""
    """The name whose inbox is read."""

    async def _read_inbox(self, name: str) -> None:
        self.reading = name
        try:
            await trio.sleep_forever()
        finally:
            self.reading = ""


class SteppedSpreading(Spreading):
    """Portions of one; they go out at the end of a step, unless they are held."""

    is_prompt = True

    def __init__(self, counts: Counts) -> None:
        super().__init__(counts, sends_per_turn=1, clock=lambda: 0.0)
        self.run = trio.sleep_forever  # type: ignore[method-assign]

    @property
    def has_work(self) -> bool:
        return bool(self._line)

    def settle(self) -> None:
        while self.is_prompt and self._line:
            self.turn()


class Client:
    """One connection: the product's connection and outbox, and the client at the other end."""

    def __init__(self, world: World, number: int, user: str) -> None:
        self.id = f"c{number}"
        self.handshake = cast("Any", None)
        self.user = user
        self.send_queue_bytes = SEND_QUEUE_BYTES
        self.is_reading = True
        self.is_ended = False
        self.closing_code: int | None = None
        self.posted = bytearray()
        self.read = bytearray()
        self.slow = 0
        self._world = world
        self._sent_ids = 0
        self._ours, self._theirs = socket.socketpair()
        for one in (self._ours, self._theirs):
            one.setblocking(False)
            one.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SOCKET_BYTES)
        self.outbox = Outbox(self._ours, self)
        self.judge = Judge(self, world.servers)
        self.connection = Connection(self, world.services)
        self._authenticate()

    def _authenticate(self) -> None:
        """What `admission` would have done."""
        connection, hub = self.connection, self._world.node.hub
        connection.set_identity(Identity(self.user, PROJECT, None, 4e9, None, {}))
        connection.user = self.user
        connection.state = State.OPEN
        connection.channel = user_channel(PROJECT, self.user)
        hub.add_connection(connection.channel, connection)

    # --- what the connection needs of its peer, and the outbox of its listener ------------------

    def post(self, frame: bytes) -> None:
        if not self.outbox.is_closing:
            self.posted += frame
            self.judge.take(frame)
            self.outbox.post(frame)

    def post_soon(self, frame: bytes) -> None:
        if not self.outbox.is_closing:
            self.posted += frame
            self.judge.take(frame)
            self.outbox.post_soon(frame)

    def disconnect(self, code: int, reason: str = "") -> None:
        self.outbox.disconnect(code, reason)

    def pause(self) -> None:
        """Clients here never have so much under way."""

    def resume(self) -> None:
        """See `pause`."""

    def start_task(self, run: Callable[[], Awaitable[None]]) -> None:
        self._world.nursery.start_soon(run)

    def watch_closing(self, outbox: Closing, *, is_slow: bool = False) -> None:
        """The machine ends what closes."""

    def count_slow_consumer(self) -> None:
        self.slow += 1

    def send_soon(self, outbox: Holding) -> None:
        async def send() -> None:
            outbox.send_held()

        self._world.nursery.start_soon(send)

    # --- what the client does -------------------------------------------------------------------

    def send(self, kind: str, **fields: Any) -> None:
        self._sent_ids += 1
        frame = {"type": kind, "id": self._sent_ids, **fields}
        self.judge.note_sent(frame)
        self.connection.handle_text(json.dumps(frame))

    def take_bytes(self, count: int) -> None:
        """Read from the socket, at most so much."""
        with contextlib.suppress(BlockingIOError):
            self.read += self._theirs.recv(count)

    def unread(self) -> int:
        """Bytes that lie in the socket."""
        (count,) = struct.unpack("i", fcntl.ioctl(self._theirs, termios.FIONREAD, b"\0" * 4))
        return int(count)

    def close_sockets(self) -> None:
        self._ours.close()
        self._theirs.close()

    def end(self, code: int) -> None:
        """The connection is gone."""
        if not self.is_ended:
            while self.unread():
                self.take_bytes(1 << 20)
            self.is_ended = True
            self.outbox.end(code)
            self._theirs.close()
            self.connection.handle_closed(code)


class World:
    """Servers, node and clients; every method is for `Loop.step`."""

    def __init__(self) -> None:
        self.servers = Servers()
        self.redis = Line("redis")
        self.postgres = Line("postgres")
        self.clients: list[Client] = []
        self.judges: list[Judge] = []
        """Of all clients there ever were."""
        self.loop = Loop(self._run)

    async def _run(self, nursery: trio.Nursery) -> None:
        self.nursery = nursery
        store = model_store(self.servers, self.redis)
        access = ModelAccess(self.servers, self.postgres)
        seeder = cast("Any", ModelSeeder(self.servers, self.redis))
        counts = Counts(METRICS)
        self.node = SteppedNode(
            SETTINGS, store=store, db=cast("Any", None), access=access, seeder=seeder,
            counts=counts, metrics=METRICS,
        )  # fmt: skip
        self.spreading = self.node.hub.spreading = SteppedSpreading(counts)
        self._leave_out()
        nobody = cast("Any", None)
        self.services = Services(
            settings=SETTINGS, node=self.node, store=store, db=nobody, verifier=nobody,
            access=access, pages=nobody, seeder=seeder, publisher=nobody, changer=nobody,
            marker=nobody,
            metrics=METRICS, counts=counts, times=TimeTexts(), start=nursery.start_soon,
            paces=paces_of(SETTINGS.rate_messages_per_second),
            fairness=Fairness(nursery.start_soon),
        )  # fmt: skip
        with (
            replaced(
                repairs, "standing_among",
                lambda _: standing_among_of(self.servers, self.postgres),
            ),
            replaced(admission, "admit_user", lambda _: no_admission),
        ):  # fmt: skip
            await self.node.run()

    def _leave_out(self) -> None:
        """Parts of a node that are not under test: typing, quiet rooms, `last_seen_at`."""
        node = self.node
        node.live = cast("Any", NoLiveState(node))
        node.hub.on_seen = node.hub._leave_channel
        node.upkeep.before_reap = no_admission
        node.on_lease_lost = self._end_all
        node.repairer._floors = cast(
            "Any", ModelFloors(self.servers, self.redis, cast("Any", node.store.rooms))
        )

    def _end_all(self) -> None:
        for client in self.clients:
            client.disconnect(errors.BACKEND_UNAVAILABLE)

    def connect(self, user: str) -> None:
        client = Client(self, len(self.judges) + 1, user)
        self.clients.append(client)
        self.judges.append(client.judge)

    def settle(self) -> None:
        """Portions go out, clients that read, read; connections that close, end."""
        self.spreading.settle()
        for client in self.clients:
            if client.is_reading and not client.is_ended:
                client.take_bytes(1 << 20)
        for client in self.clients:
            if client.outbox.is_closing and not client.is_ended:
                client.end(client.outbox.close_code or 1006)
        self.clients = [client for client in self.clients if not client.is_ended]

    def close(self) -> None:
        """The end of the world, and of its loop."""
        try:
            self.loop.close()
        finally:
            for client in self.clients:
                client.close_sockets()

    def deliver(self, raw_entries: list[bytes]) -> None:
        self.node.delivery.deliver(raw_entries)


class NoLiveState:
    """In place of `LiveState`: nobody types."""

    def __init__(self, node: Node) -> None:
        self.typists = self
        self.run = trio.sleep_forever

    def end(self, connection: Connection, key: str) -> None:
        """Nobody types."""

    def end_all(self, connection: Connection) -> None:
        """Nobody types."""


async def no_admission(*_args: Any, **_given: Any) -> None:
    """In place of what PostgreSQL says of a user: nothing has changed."""
    await trio.lowlevel.checkpoint()
