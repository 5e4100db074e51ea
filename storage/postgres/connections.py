"""The asyncio half of the pool: keeps a few connections and knows whether PostgreSQL is away.

Everything in this file runs on the one asyncio thread; `pool` brings calls here from trio. Rules:
a connection goes back only after a call that left it idle and outside a transaction, else it is
closed, so no caller ever meets what another left behind; nothing is reset between two calls,
because nothing here changes a session. While the server is known to be away nobody waits for it:
calls fail at once and one task tries to connect again. asyncpg's own pool costs twice the CPU a
query (a reset, a task and a proxy for each), hence this one.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final, NoReturn, TypeVar

import asyncpg

from storage.errors import StorageUnavailable
from storage.postgres.connecting import ConnectionOptions, open_connection
from storage.postgres.errors import is_lost_connection, is_retried, translate
from storage.postgres.pool_times import PoolTimes

T = TypeVar("T")
Work = Callable[[asyncpg.Connection], Awaitable[T]]

# Calls that may wait for a connection. At 1 ms a query, ten connections serve ten thousand a
# second: more than this many waiting would not be answered within anybody's deadline.
WAITING_MAX: Final = 1000
# Pause between two attempts to reach a server that is away; jittered.
PROBE_DELAY: Final = 0.2
# A transaction that PostgreSQL rolled back for another's sake is tried this often in all.
ATTEMPTS_MAX: Final = 5
RETRY_DELAY: Final = 0.01
# How long closing one connection may take before its socket is simply dropped.
CLOSE_TIMEOUT: Final = 1.0


@dataclass(frozen=True, slots=True)
class PoolStatistics:
    """A snapshot for metrics and health."""

    open: int
    idle: int
    waiting: int
    is_away: bool


class ConnectionPool:
    """Connections, newest idle one first. Used from one asyncio loop only."""

    def __init__(self, options: ConnectionOptions) -> None:
        self._options = options
        self._idle: list[asyncpg.Connection] = []
        self.times = PoolTimes()
        self._open = 0
        self._waiters: deque[asyncio.Future[None]] = deque()
        self._away: str | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self, work: Work[T], timeout: float | None) -> T:
        """Run `work` on a connection, without a transaction. Errors are translated."""
        connection = await self._take()
        began = time.perf_counter()
        try:
            if timeout is None:
                result = await work(connection)
            else:
                async with asyncio.timeout(timeout):
                    result = await work(connection)
        except BaseException as error:
            # A caller's own deadline says nothing about the server.
            patient = timeout is None or not isinstance(error, TimeoutError)
            self._take_back_after(connection, error, suspect=patient)
            raise_translated(error, sent=True)
        finally:
            self.times.queries.append(time.perf_counter() - began)
        self._give_back(connection)
        return result

    async def run_transaction(self, work: Work[T], *, retry: bool) -> T:
        """Run `work` in a transaction, again if PostgreSQL rolled it back for another's sake."""
        attempt = 1
        while True:
            try:
                async with self.hold() as connection:
                    return await work(connection)
            except StorageUnavailable as error:
                cause = error.__cause__
                if not retry or cause is None or not is_retried(cause) or attempt >= ATTEMPTS_MAX:
                    raise
            await asyncio.sleep(RETRY_DELAY * attempt * (0.5 + random.random()))
            attempt += 1

    @asynccontextmanager
    async def hold(self) -> AsyncIterator[asyncpg.Connection]:
        """A connection inside a transaction: committed at the end, rolled back by an exception."""
        connection = await self.begin()
        began = time.perf_counter()
        try:
            yield connection
        except BaseException as error:
            await self.roll_back(connection, error)
            raise_translated(error, sent=False)
        await self.commit(connection)
        self.times.queries.append(time.perf_counter() - began)

    async def begin(self) -> asyncpg.Connection:
        """Take a connection and open a transaction on it; its taker must end it."""
        connection = await self._take()
        try:
            await connection.execute("BEGIN")
        except BaseException as error:
            self._take_back_after(connection, error)
            raise_translated(error, sent=False)
        return connection

    async def commit(self, connection: asyncpg.Connection) -> None:
        """Commit and take the connection back. A connection lost meanwhile: outcome unknown."""
        try:
            await connection.execute("COMMIT")
        except BaseException as error:
            self._take_back_after(connection, error)
            raise_translated(error, sent=True)
        self._give_back(connection)

    async def roll_back(
        self, connection: asyncpg.Connection, error: BaseException | None = None
    ) -> None:
        """Undo everything and take the connection back, after `error` if there was one."""
        if error is not None and _spoils(error):
            # What it was doing is unknown, so nothing more is asked of it: PostgreSQL rolls back
            # when the connection closes.
            self._take_back_after(connection, error)
            return
        try:
            await connection.execute("ROLLBACK")
        except Exception as failure:
            self._take_back_after(connection, failure)
        except BaseException:
            self._discard(connection)
            raise
        else:
            self._give_back(connection)

    def statistics(self) -> PoolStatistics:
        """What the pool holds at this moment."""
        return PoolStatistics(
            self._open, len(self._idle), len(self._waiters), self._away is not None
        )

    async def close(self) -> None:
        """Close every connection; nobody may be using one."""
        while self._idle:
            self._discard(self._idle.pop())
        for task in list(self._tasks):
            if task.get_name() == "probe":
                task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=2 * CLOSE_TIMEOUT)

    async def _take(self) -> asyncpg.Connection:
        while True:
            if self._away is not None:
                raise StorageUnavailable("postgres", "not_done", self._away)
            while self._idle:
                connection = self._idle.pop()
                if not connection.is_closed():
                    return connection
                self._open -= 1
            if self._open < self._options.size:
                self._open += 1
                return await self._connect_counted()
            await self._wait_turn()

    async def _wait_turn(self) -> None:
        if len(self._waiters) >= WAITING_MAX:
            raise StorageUnavailable("postgres", "not_done", "too many calls are waiting")
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.append(turn)
        began = time.perf_counter()
        try:
            async with asyncio.timeout(self._options.command_timeout):
                await turn
        except BaseException as error:
            if turn in self._waiters:
                self._waiters.remove(turn)
            elif not turn.cancelled():
                # The turn came in the same instant and will not be used.
                self._wake_one()
            if isinstance(error, TimeoutError):
                raise StorageUnavailable(
                    "postgres", "not_done", "all connections are busy"
                ) from error
            raise
        finally:
            self.times.waits.append(time.perf_counter() - began)

    def _wake_one(self) -> None:
        while self._waiters:
            turn = self._waiters.popleft()
            if not turn.done():
                turn.set_result(None)
                return

    async def _connect_counted(self) -> asyncpg.Connection:
        try:
            return await open_connection(self._options)
        except BaseException as error:
            self._open -= 1
            self._wake_one()
            found = translate(error, sent=False)
            full = isinstance(error, asyncpg.TooManyConnectionsError)
            if isinstance(found, StorageUnavailable) and not full:
                self._set_away(found.reason)
            raise_translated(error, sent=False)

    def _give_back(self, connection: asyncpg.Connection) -> None:
        if connection.is_closed() or connection.is_in_transaction():
            self._discard(connection)
            return
        self._idle.append(connection)
        self._wake_one()

    def _take_back_after(
        self, connection: asyncpg.Connection, error: BaseException, *, suspect: bool = True
    ) -> None:
        """Keep or close the connection, by what `error` says about its state."""
        if not _spoils(error):
            self._give_back(connection)
            return
        self._discard(connection)
        if suspect and is_lost_connection(error):
            # The other connections are likely to be as dead; a fresh one will tell.
            while self._idle:
                self._discard(self._idle.pop())
            if isinstance(error, TimeoutError):
                # Not even the server's own limit came in time: it hangs, and so would the next.
                self._set_away("no answer within the deadline")

    def _discard(self, connection: asyncpg.Connection) -> None:
        self._open -= 1
        self._wake_one()
        if not connection.is_closed():
            self._start(self._close_connection(connection), "close")

    async def _close_connection(self, connection: asyncpg.Connection) -> None:
        try:
            await connection.close(timeout=CLOSE_TIMEOUT)
        except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError):
            connection.terminate()

    def _set_away(self, reason: str) -> None:
        if self._away is None:
            self._start(self._probe(), "probe")
        self._away = reason
        # Whoever waits for a connection shall hear of it now.
        while self._waiters:
            self._wake_one()

    async def _probe(self) -> None:
        while True:
            try:
                connection = await open_connection(self._options)
                break
            except Exception as error:
                found = translate(error, sent=False)
                self._away = found.reason if isinstance(found, StorageUnavailable) else str(error)
            await asyncio.sleep(PROBE_DELAY * (0.5 + random.random()))
        self._away = None
        self._open += 1
        if self._open > self._options.size:
            self._discard(connection)
        else:
            self._give_back(connection)

    def _start(self, work: Coroutine[object, object, None], name: str) -> None:
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _spoils(error: BaseException) -> bool:
    """Whether a connection may be in the middle of something, or gone, after `error`."""
    return not isinstance(error, Exception) or is_lost_connection(error)


def raise_translated(error: BaseException, *, sent: bool) -> NoReturn:
    """Raise what callers of storage shall see of `error`, or `error` itself."""
    found = translate(error, sent=sent)
    if found is None:
        raise error
    raise found from error
