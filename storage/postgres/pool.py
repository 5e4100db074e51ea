"""PostgreSQL for trio code: `open_database` gives a Database whose methods are awaited from trio.

asyncpg needs asyncio, so it lives on one asyncio thread (anyio's blocking portal, uvloop) behind
this file; nothing else knows that there is another loop (`bridge` is the way there).

Errors: StorageUnavailable (the server is away or too slow; `outcome` says whether the work may have
been done) and StorageRefused (values or constraints). Opening needs no server: it may be away at
the start and at any time later, and is used again as soon as it answers.

Cancellation of any method is passed on: the statement is cancelled, the connection closed, the
transaction rolled back, and only then the caller goes on. A cancelled write may have happened.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

import outcome
import trio
from anyio.from_thread import start_blocking_portal

from config.limits import COMMAND_TIMEOUT
from storage.postgres.bridge import Bridge
from storage.postgres.connecting import ConnectionOptions
from storage.postgres.connections import ConnectionPool, PoolStatistics, Work, raise_translated
from storage.postgres.gathering import Asked, Found, Gatherer, Statement

if TYPE_CHECKING:
    import asyncpg

T = TypeVar("T")

# A transaction whose owner says nothing for this long holds row locks for nobody: the owner is
# stopped or gone, and PostgreSQL ends it.
IDLE_TRANSACTION_TIMEOUT: Final = 10.0
# How long closing may take in all before what is left is dropped with the thread.
CLOSE_DEADLINE: Final = 5.0


class RowReader(Protocol):
    """Asks for one row: the database, or the connection that a `work` was given."""

    async def fetchrow(self, sql: str, /, *args: object) -> Any: ...


class Database:
    """Queries and transactions on one pool. Every method may be called by many tasks at once."""

    def __init__(self, bridge: Bridge, pool: ConnectionPool) -> None:
        self._bridge = bridge
        self._pool = pool
        self._gatherers: dict[Statement[Any, Any], Gatherer[Any, Any]] = {}
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

    async def gather(self, statement: Statement[Asked, Found], asked: Asked) -> Found:
        """Ask together with all who ask by the same `statement` meanwhile; see `gathering`.

        What comes is as of some instant after the call. `statement` must be a function of a module.
        """
        gatherer = self._gatherers.get(statement)
        if gatherer is None:
            gatherer = self._gatherers[statement] = Gatherer(self._submit, statement)
        found: Found = await gatherer.ask(asked)
        return found

    def _submit(
        self, work: Work[T], on_done: Callable[[outcome.Outcome[T]], None]
    ) -> Callable[[], object]:
        return self._bridge.submit(lambda: self._pool.run(work, None), on_done)

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

    def __init__(self, bridge: Bridge, connection: asyncpg.Connection) -> None:
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
            yield Database(Bridge(loop), pool)
        finally:
            await _call_bounded(lambda: portal.call(pool.close))
    finally:
        await _call_bounded(lambda: portal_manager.__exit__(None, None, None))


async def _call_bounded(blocking: Callable[[], object]) -> None:
    """Run clean-up in a thread, also when cancelled, but never for ever."""
    with trio.move_on_after(CLOSE_DEADLINE, shield=True):
        await trio.to_thread.run_sync(blocking, abandon_on_cancel=True)
