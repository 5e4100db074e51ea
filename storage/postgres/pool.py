"""PostgreSQL for trio code: `open_database` gives a Database whose methods are awaited from trio.

asyncpg needs asyncio, so it lives on one asyncio thread (anyio's blocking portal, uvloop) behind
this file; nothing else knows that there is another loop. A call is put into a queue and the other
thread woken once for all that is in it; its answer comes back the same way. That costs about half
of what one portal call per query costs.

Errors: StorageUnavailable (the server is away or too slow; `outcome` says whether the work may have
been done) and StorageRefused (values or constraints). Opening needs no server: it may be away at
the start and at any time later, and is used again as soon as it answers.

Cancellation of any method is passed on: the statement is cancelled, the connection closed, the
transaction rolled back, and only then the caller goes on. A cancelled write may have happened.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

import outcome
import trio
from anyio.from_thread import start_blocking_portal

from config.limits import COMMAND_TIMEOUT
from storage.errors import StorageUnavailable
from storage.postgres.connecting import ConnectionOptions
from storage.postgres.connections import ConnectionPool, PoolStatistics, Work, raise_translated

if TYPE_CHECKING:
    import asyncpg

T = TypeVar("T")

# A transaction whose owner says nothing for this long holds row locks for nobody: the owner is
# stopped or gone, and PostgreSQL ends it.
IDLE_TRANSACTION_TIMEOUT: Final = 10.0
# How long closing may take in all before what is left is dropped with the thread.
CLOSE_DEADLINE: Final = 5.0


class Database:
    """Queries and transactions on one pool. Every method may be called by many tasks at once."""

    def __init__(self, bridge: _Bridge, pool: ConnectionPool) -> None:
        self._bridge = bridge
        self._pool = pool
        self.times = pool.times

    async def fetch(
        self, sql: str, *args: object, timeout: float | None = None
    ) -> list[asyncpg.Record]:
        """Return all rows. `timeout` in seconds, for less patience than the pool has."""
        return await self.run(lambda connection: connection.fetch(sql, *args), timeout=timeout)

    async def fetchrow(
        self, sql: str, *args: object, timeout: float | None = None
    ) -> asyncpg.Record | None:
        """Return the first row or None."""
        return await self.run(lambda connection: connection.fetchrow(sql, *args), timeout=timeout)

    async def fetchval(self, sql: str, *args: object, timeout: float | None = None) -> Any:
        """Return the first column of the first row, None if there is no row."""
        return await self.run(lambda connection: connection.fetchval(sql, *args), timeout=timeout)

    async def execute(self, sql: str, *args: object, timeout: float | None = None) -> str:
        """Run one statement and return PostgreSQL's status, such as `UPDATE 1`."""
        return await self.run(lambda connection: connection.execute(sql, *args), timeout=timeout)

    async def run(self, work: Work[T], *, timeout: float | None = None) -> T:
        """Run `work` on one connection, each statement being a transaction of its own.

        `work` is a coroutine function that runs on the asyncio thread: it may await the
        connection and nothing else, and must not touch what belongs to trio.
        """
        return await self._bridge.call(lambda: self._pool.run(work, timeout))

    async def transaction(self, work: Work[T], *, retry: bool = True) -> T:
        """Run `work` (see `run`) in one transaction and return its result after the commit.

        An exception from `work` rolls back and comes out. With `retry`, a transaction that
        PostgreSQL rolled back because of another (serialization failure, deadlock) is run again
        from the start, at most four times; so `work` must not have effects elsewhere.
        """
        return await self._bridge.call(lambda: self._pool.run_transaction(work, retry=retry))

    @asynccontextmanager
    async def open_transaction(self) -> AsyncIterator[HeldTransaction]:
        """A transaction that lasts as long as the block, for work that alternates with trio code.

        Commits at the end of the block, rolls back on an exception or cancellation. Keep it short:
        PostgreSQL ends it after IDLE_TRANSACTION_TIMEOUT seconds without a statement.
        """
        connection = await self._bridge.call(self._pool.begin)
        held = HeldTransaction(self._bridge, connection)
        is_ending = False

        async def commit() -> None:
            nonlocal is_ending
            is_ending = True  # from here on the pool takes the connection back, whatever happens
            await self._pool.commit(connection)

        try:
            yield held
            await self._bridge.call(commit)
        except BaseException as error:
            # A call that is cancelled before its start has not asked for the commit.
            if not is_ending:
                reason = held.failure or error
                with trio.CancelScope(shield=True):
                    await self._bridge.call(lambda: self._pool.roll_back(connection, reason))
            raise

    def statistics(self) -> PoolStatistics:
        """A snapshot of the pool; may be a moment old."""
        return self._pool.statistics()


class HeldTransaction:
    """A transaction that its owner has open; see `Database.open_transaction`."""

    def __init__(self, bridge: _Bridge, connection: asyncpg.Connection) -> None:
        self._bridge = bridge
        self._connection = connection
        self.failure: BaseException | None = None

    async def run(self, work: Work[T]) -> T:
        """Run `work` (see `Database.run`) inside the transaction. One call at a time."""
        return await self._bridge.call(self._guard(work))

    def _guard(self, work: Work[T]) -> Callable[[], Awaitable[T]]:
        async def guarded() -> T:
            try:
                return await work(self._connection)
            except BaseException as error:
                self.failure = error
                raise_translated(error, sent=False)

        return guarded


@asynccontextmanager
async def open_database(
    url: str,
    *,
    pool_size: int = 10,
    statement_timeout: float = COMMAND_TIMEOUT,
    idle_transaction_timeout: float = IDLE_TRANSACTION_TIMEOUT,
    name: str = "parley",
) -> AsyncIterator[Database]:
    """Own the asyncio thread and up to `pool_size` connections, opened when they are needed.

    Does not connect by itself. `name` is what PostgreSQL lists as application_name. Every call
    must have ended when the block ends.
    """
    options = ConnectionOptions(
        url=url,
        name=name,
        size=pool_size,
        statement_timeout=statement_timeout,
        idle_transaction_timeout=idle_transaction_timeout,
    )
    portal_manager = start_blocking_portal("asyncio", backend_options={"use_uvloop": True})
    portal = await trio.to_thread.run_sync(portal_manager.__enter__)
    try:
        pool = ConnectionPool(options)
        loop = portal.call(asyncio.get_running_loop)
        try:
            yield Database(_Bridge(loop), pool)
        finally:
            await _call_bounded(lambda: portal.call(pool.close))
    finally:
        await _call_bounded(lambda: portal_manager.__exit__(None, None, None))


async def _call_bounded(blocking: Callable[[], object]) -> None:
    """Run clean-up in a thread, also when cancelled, but never for ever."""
    with trio.move_on_after(CLOSE_DEADLINE, shield=True):
        await trio.to_thread.run_sync(blocking, abandon_on_cancel=True)


class _Call:
    """One awaited call on its way to the asyncio thread and back."""

    __slots__ = ("cancelled", "factory", "raise_cancel", "result", "task", "waiter")

    def __init__(
        self, factory: Callable[[], Awaitable[object]], waiter: trio.lowlevel.Task
    ) -> None:
        self.factory = factory
        self.waiter = waiter
        self.task: asyncio.Task[object] | None = None
        self.cancelled = False
        self.raise_cancel: Callable[[], object] | None = None
        self.result: outcome.Outcome[object] | None = None


class _Bridge:
    """Carries calls from trio tasks to the asyncio thread and their results back.

    `_inbound` and `_outbound` are filled by one thread and emptied by the other (deque operations
    are atomic); the flag beside each says that a wake-up is already under way.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._trio = trio.lowlevel.current_trio_token()
        self._inbound: deque[_Call] = deque()
        self._outbound: deque[_Call] = deque()
        self._inbound_woken = False
        self._outbound_woken = False

    async def call(self, factory: Callable[[], Awaitable[T]]) -> T:
        """Run the coroutine that `factory` makes on the asyncio thread; return what it returns."""
        await trio.lowlevel.checkpoint_if_cancelled()
        call = _Call(factory, trio.lowlevel.current_task())
        self._inbound.append(call)
        if not self._inbound_woken:
            self._inbound_woken = True
            self._loop.call_soon_threadsafe(self._start_calls)

        def abort(raise_cancel: Callable[[], object]) -> trio.lowlevel.Abort:
            # The caller goes on only when the other side has cleaned up.
            call.raise_cancel = raise_cancel
            self._loop.call_soon_threadsafe(self._cancel, call)
            return trio.lowlevel.Abort.FAILED

        return cast("T", await trio.lowlevel.wait_task_rescheduled(abort))

    def _start_calls(self) -> None:
        self._inbound_woken = False
        while self._inbound:
            call = self._inbound.popleft()
            if call.cancelled:
                self._finish(call)
                continue
            call.task = self._loop.create_task(_as_coroutine(call.factory))
            call.task.add_done_callback(partial(self._end_call, call))

    def _cancel(self, call: _Call) -> None:
        call.cancelled = True
        if call.task is not None:
            call.task.cancel()

    def _end_call(self, call: _Call, task: asyncio.Task[object]) -> None:
        if not task.cancelled():
            error = task.exception()
            call.result = outcome.Value(task.result()) if error is None else outcome.Error(error)
        self._finish(call)

    def _finish(self, call: _Call) -> None:
        self._outbound.append(call)
        if not self._outbound_woken:
            self._outbound_woken = True
            self._trio.run_sync_soon(self._deliver)

    def _deliver(self) -> None:
        self._outbound_woken = False
        while self._outbound:
            call = self._outbound.popleft()
            result = call.result
            if result is None:
                result = outcome.capture(call.raise_cancel or _raise_closed)
            trio.lowlevel.reschedule(call.waiter, result)


async def _as_coroutine(factory: Callable[[], Awaitable[object]]) -> object:
    return await factory()


def _raise_closed() -> object:
    raise StorageUnavailable("postgres", "unknown", "the database is being closed")
