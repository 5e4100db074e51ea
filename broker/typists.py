"""Who types on this node, and for how long: what stands between the clients and the typing script.

The rules: a user types in a room on this node while one of its connections does; a connection does
until it says so, publishes there, unsubscribes, ends, or is silent for TYPING_EXPIRES. So several
connections, here or on other nodes, do not undo each other: Redis keeps one word a node, and
`typing.stopped` passes when the last one is withdrawn. Words that come faster than one may pass are
kept and repeated when the next one may, so that a client sees `typing.started` in time as long as
somebody types. Endings are told in the background and may be lost: clients drop typing themselves.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from broker.domain.access import Actor
from broker.domain.live import Live
from broker.protocol.errors import ProtocolError
from config import limits
from storage.errors import StorageUnavailable
from storage.redis.entries import NOBODY
from storage.redis.keys import room_key, split_room_key
from storage.redis.live import LiveStore

if TYPE_CHECKING:
    from broker.connection import Connection

_Mark = tuple[str, str]
"""R and user."""


class _Typist:
    """One user who types in one room on this node. Times are on the trio clock."""

    __slots__ = ("actor", "is_due", "is_told", "key", "next_at", "origin", "until")

    def __init__(self, actor: Actor, key: str) -> None:
        self.actor = actor
        self.key = key
        self.until: dict[Connection, float] = {}
        self.origin = NOBODY
        """The connection that said it last."""
        self.next_at = 0.0
        """When the next word may pass."""
        self.is_due = False
        """Somebody has said it since the last one passed."""
        self.is_told = False
        """Redis may know of it."""


class Typists:
    """The typists of one node."""

    def __init__(self, node: str, live: LiveStore, rules: Live) -> None:
        self._node = node
        self._live = live
        self._rules = rules
        self._typists: dict[_Mark, _Typist] = {}
        self._ended: list[tuple[_Mark, str]] = []
        self._wake = trio.Event()

    def __len__(self) -> int:
        return len(self._typists)

    async def begin(self, connection: Connection, room: str) -> None:
        """The connection says that its user types. Raises ProtocolError, StorageUnavailable."""
        actor = connection.actor
        key = room_key(actor.project, room)
        now = trio.current_time()
        typist = self._typists.setdefault((key, connection.user), _Typist(actor, key))
        typist.origin = connection.id
        typist.until[connection] = now + limits.TYPING_EXPIRES
        connection.typing |= {key}
        try:
            if now < typist.next_at:
                typist.is_due = True
                await self._rules.require_typing(actor, room)
            else:
                await self._pass(typist, now)
        except BaseException:
            self.end(connection, key)
            raise
        self._wake.set()

    async def _pass(self, typist: _Typist, now: float) -> None:
        """Hand it on; until that is answered, nobody else does."""
        typist.next_at = now + limits.TYPING_PAUSE
        typist.is_due = False
        typist.is_told = True
        try:
            wait_ms = await self._rules.begin_typing(
                typist.actor, split_room_key(typist.key)[1], node=self._node, origin=typist.origin
            )
        finally:
            if not typist.until and typist.actor.user is not None:
                # It has ended meanwhile, and this word may have come behind the end of it.
                self._ended.append(((typist.key, typist.actor.user), typist.origin))
                self._wake.set()
        typist.next_at = trio.current_time() + wait_ms / 1000
        # Another node's word has passed a moment ago, so this one did not: it will be repeated.
        typist.is_due = typist.is_due or wait_ms < limits.TYPING_PAUSE * 1000

    def end(self, connection: Connection, key: str) -> None:
        """The connection types in the room R no longer; costs nothing if it did not."""
        if key not in connection.typing:
            return
        connection.typing -= {key}
        mark = (key, connection.user)
        typist = self._typists.get(mark)
        if typist is None or typist.until.pop(connection, None) is None or typist.until:
            return
        del self._typists[mark]
        if typist.is_told:
            self._ended.append((mark, connection.id))
            self._wake.set()

    def end_all(self, connection: Connection) -> None:
        """The connection has ended."""
        for key in connection.typing:
            self.end(connection, key)

    async def run(self) -> None:
        """Let typing expire, repeat it, and tell the endings, until cancelled."""
        while True:
            with trio.move_on_after(limits.TYPING_TICK if self._typists else 3600.0):
                await self._wake.wait()
            self._wake = trio.Event()
            await self._tell()

    async def _tell(self) -> None:
        now = trio.current_time()
        due = []
        for typist in list(self._typists.values()):
            for connection, until in list(typist.until.items()):
                if until <= now:
                    self.end(connection, typist.key)
            if typist.is_due and typist.until and typist.next_at <= now:
                due.append(typist)
        ended, self._ended = self._ended, []
        limiter = trio.CapacityLimiter(limits.MARKS_AT_ONCE)
        async with trio.open_nursery() as nursery:
            for mark, origin in ended:
                nursery.start_soon(self._tell_end, limiter, mark, origin)
            for typist in due:
                nursery.start_soon(self._go_on, limiter, typist)

    async def _tell_end(self, limiter: trio.CapacityLimiter, mark: _Mark, origin: str) -> None:
        key, user = mark
        async with limiter:
            if mark in self._typists:
                return  # it types again
            try:
                await self._live.typing(
                    key, node=self._node, user=user, version=0, is_active=False, origin=origin
                )
            except StorageUnavailable:
                return  # clients drop it by themselves

    async def _go_on(self, limiter: trio.CapacityLimiter, typist: _Typist) -> None:
        async with limiter:
            try:
                await self._pass(typist, trio.current_time())
            except (ProtocolError, StorageUnavailable):
                # It may not type any more, or Redis is away: it ends like any other.
                for connection in list(typist.until):
                    self.end(connection, typist.key)
