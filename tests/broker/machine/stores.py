"""How the node under test reaches its servers: calls that can be held, answered late, or cut off.

A `Line` is one connection: what is asked runs in the order asked, and is answered in that order.
While it is prompt a call is done at once. Else it waits until a step runs it, and a further one
answers it; a cut fails everything that is not answered, whether it has run or not. Cancelling a
caller takes nothing back.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection
from types import SimpleNamespace
from typing import Any, Literal, TypeVar, cast

import trio

from broker.domain.access import Access, AccessReader
from broker.protocol.errors import ProtocolError
from storage.errors import StorageUnavailable
from storage.redis.answered import AnsweredNumbers
from storage.redis.lives import Lives
from storage.redis.nodes import RoomState
from storage.redis.outcomes import Refusal, Registration, Resume, Snapshot
from tests.broker.machine.servers import KEYS, PROJECT, Servers

T = TypeVar("T")


class _Call:
    """One call on its way."""

    def __init__(self, run: Callable[[], Any]) -> None:
        self.run = run
        self.result: Any = None
        self.error: StorageUnavailable | None = None
        self.done = trio.Event()


class Line:
    """One connection to a server."""

    def __init__(self, backend: Literal["redis", "postgres"]) -> None:
        self._backend = backend
        self.is_prompt = True
        self.is_away = False
        self.sent: deque[_Call] = deque()
        self.ran: deque[_Call] = deque()

    async def ask(self, run: Callable[[], T]) -> T:
        if self.is_away:
            await trio.lowlevel.checkpoint()
            raise StorageUnavailable(self._backend)
        if self.is_prompt:
            result = run()
            await trio.lowlevel.checkpoint()
            return result
        call = _Call(run)
        self.sent.append(call)
        await call.done.wait()
        if call.error is not None:
            raise call.error
        return cast("T", call.result)

    def run(self, count: int) -> None:
        """The server runs the next calls."""
        for _ in range(min(count, len(self.sent))):
            call = self.sent.popleft()
            call.result = call.run()
            self.ran.append(call)

    def answer(self, count: int) -> None:
        """The next answers arrive."""
        for _ in range(min(count, len(self.ran))):
            self.ran.popleft().done.set()

    def cut(self) -> None:
        """Every answer is lost; what has not run never does."""
        for calls in (self.ran, self.sent):
            while calls:
                call = calls.popleft()
                call.error = StorageUnavailable(self._backend, "unknown")
                call.done.set()

    def release(self) -> None:
        """Everything runs and is answered, and so is all that is asked from now on."""
        self.is_prompt, self.is_away = True, False
        self.run(len(self.sent))
        self.answer(len(self.ran))


class ModelLives(Lives):
    """The lives that the node has verified."""

    def __init__(self, servers: Servers, line: Line) -> None:
        super().__init__(KEYS, cast("Any", None))
        self._servers, self._line = servers, line
        self.ids[:] = servers.lives

    async def verify(self, connection: Any, partitions: Any) -> None:
        lives = await self._line.ask(lambda: list(self._servers.lives))
        for partition in partitions:
            self.learn(partition, lives[partition])


class ModelRooms:
    """What a node uses of `RoomStore`."""

    def __init__(self, servers: Servers, line: Line, lives: ModelLives) -> None:
        self.keys = KEYS
        self.lives = lives
        self.answered = AnsweredNumbers(KEYS, lives.ids)
        self._servers, self._line = servers, line

    async def subscribe(
        self, key: str, registration: Registration, resume: Resume | None
    ) -> Snapshot | Refusal:
        life = self.lives.ids[KEYS.partition(key)]
        return await self._line.ask(
            lambda: self._servers.subscribe(key, life, registration, resume)
        )

    async def refence(self, partition: int) -> None:
        await self.lives.verify(None, [partition])


class ModelNodes:
    """What a node uses of `NodeStore`."""

    def __init__(self, servers: Servers, line: Line, lives: ModelLives) -> None:
        self._servers, self._line, self._lives = servers, line, lives

    async def open_node(self, node: str, lease_ms: int) -> bool:
        return await self._line.ask(lambda: self._servers.open_node(node))

    async def heartbeat(self, node: str, lease_ms: int) -> list[int] | None:
        lives = list(self._lives.ids)
        return await self._line.ask(lambda: self._servers.heartbeat(node, lives))

    async def watch(self, key: str, node: str, gen: int) -> bool:
        return await self._line.ask(lambda: self._servers.watch(key, node, gen))

    async def leave(self, key: str, node: str, gen: int, *, forget: bool) -> None:
        await self._line.ask(lambda: self._servers.leave(key, node, gen, forget=forget))

    async def presence(self, key: str, node: str, user: str, connections: int, gen: int) -> None:
        await self._line.ask(lambda: self._servers.presence(key, node, user, connections, gen))

    async def leave_due(self, key: str, node: str, user: str, grace_ms: int) -> int:
        return await self._line.ask(lambda: self._servers.leave_due(key, node, user))

    async def reap(self, node: str, *, force: bool = False) -> int:
        assert force
        return await self._line.ask(lambda: self._servers.reap(node))

    async def dead_nodes(self) -> list[str]:
        await trio.lowlevel.checkpoint()
        return []

    async def audit(self, node: str, rooms: list[tuple[str, str, int]]) -> list[RoomState]:
        return await self._line.ask(lambda: list(self._servers.audit(node, rooms)))


class ModelSeeder:
    """Warms rooms in one call."""

    def __init__(self, servers: Servers, line: Line) -> None:
        self._servers, self._line = servers, line

    async def warm(self, key: str) -> None:
        # Redis refuses a seed below the reported floors; they are brought along here.
        await self._line.ask(lambda: self._servers.warm(key))


class ModelFloors:
    """Reports how far the node had got."""

    def __init__(self, servers: Servers, line: Line, rooms: ModelRooms) -> None:
        self._servers, self._line, self._rooms = servers, line, rooms

    async def report(self, partitions: Collection[int]) -> None:
        floors = list(self._rooms.answered.floors(partitions))

        def note() -> None:
            for floor in floors:
                key, offset = floor[0], floor[1]
                self._servers.floors[key] = max(offset, self._servers.floors.get(key, 0))

        await self._line.ask(note)


class ModelAccess(AccessReader):
    """Standings, read when asked; the answer may be late."""

    def __init__(self, servers: Servers, line: Line) -> None:
        super().__init__(cast("Any", None))
        self._servers, self._line = servers, line

    async def read(
        self, project: str, room: str, user: str | None, *, deleted_too: bool = False
    ) -> Access:
        row = self._servers.rows[f"{project}/{room}"]
        access = Access(
            room_pk=1, kind=row.kind, version=row.version,
            role="member" if user in row.members else None, frozen=False, default_role="member",
            muted_until=None, read_seq=-1, archived_offset=0, banned=user in row.banned,
        )  # fmt: skip
        is_deleted = row.is_deleted
        await self._line.ask(lambda: None)
        if is_deleted:
            raise ProtocolError("room_not_found")
        return access

    async def read_and_count(self, project: str, room: str, user: str) -> tuple[Access, None]:
        """Nobody's unread messages are counted."""
        return await self.read(project, room, user), None


def model_store(servers: Servers, line: Line) -> Any:
    """What stands for a `RedisStore`."""
    lives = ModelLives(servers, line)
    return SimpleNamespace(
        client=None, keys=KEYS, lives=lives, live=None,
        rooms=ModelRooms(servers, line, lives), nodes=ModelNodes(servers, line, lives),
    )  # fmt: skip


def standing_among_of(servers: Servers, line: Line) -> Callable[..., Any]:
    """In place of the statement of that name."""

    async def standing_among(_db: Any, project: str, room: str, users: list[str]) -> Any:
        assert project == PROJECT
        standing = servers.standing_among(f"{project}/{room}", users)
        await line.ask(lambda: None)
        return standing

    return standing_among
