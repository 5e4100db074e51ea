"""Faults of PostgreSQL: away, cut, locked, full, slow, refusing single rows."""

import contextlib
import random
import threading
from typing import Any

import asyncpg
import trio

from tests.faults.storm.clients import UNSTORABLE
from tests.faults.storm.faults import Fault
from tests.faults.storm.world import World
from tests.support.servers import run_sql

_IS_FULL = """
    CREATE OR REPLACE FUNCTION storm_full() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN RAISE EXCEPTION 'no space left on device' USING ERRCODE = 'disk_full'; END $$
"""
_IS_SLOW = """
    CREATE OR REPLACE FUNCTION storm_slow() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN PERFORM pg_sleep(4); RETURN NEW; END $$
"""
_REFUSES = """
    CREATE OR REPLACE FUNCTION storm_refuses() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN RAISE EXCEPTION 'not this row' USING ERRCODE = 'check_violation'; END $$
"""
_PASSES = """
    CREATE OR REPLACE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN RETURN NEW; END $$
"""
_TABLES = ("rooms", "members", "messages", "users", "announcements")


class PostgresFault(Fault):
    """A fault of the one PostgreSQL."""

    def __init__(self, rng: random.Random) -> None:
        super().__init__(rng)
        self.takes = frozenset({"postgres"})

    async def execute(self, world: World, *statements: str) -> None:
        """Run statements, each by itself, on the deployment's database."""

        async def work(connection: Any) -> None:
            # Who waits for a table's lock holds up everybody behind: no part of these faults.
            await connection.execute("SET lock_timeout = '1s'")
            for statement in statements:
                while True:
                    # A trigger locks partition after partition, as archivers do: either may lose.
                    with contextlib.suppress(
                        asyncpg.DeadlockDetectedError, asyncpg.LockNotAvailableError
                    ):
                        await connection.execute(statement, timeout=60)
                        break

        await trio.to_thread.run_sync(run_sql, world.database_url, work)

    async def remove_trigger(self, world: World, function: str, table: str) -> None:
        """Let it pass everything first, without a lock: who is slowed down holds the table."""
        await self.execute(
            world, _PASSES.format(name=function), f"DROP TRIGGER IF EXISTS storm ON {table}"
        )


class PostgresRestart(PostgresFault):
    """Fast shutdown, and started again."""

    kind = "postgres-restart"
    lengths = (0.1, 6.0)

    async def begin(self, world: World) -> None:
        await trio.to_thread.run_sync(world.postgres.stop)

    async def heal(self, world: World) -> None:
        await trio.to_thread.run_sync(world.postgres.start)


class PostgresKill(PostgresRestart):
    """SIGKILL of the postmaster; the next one recovers what was committed."""

    kind = "postgres-kill"
    weight = 3

    async def begin(self, world: World) -> None:
        await trio.to_thread.run_sync(world.postgres.kill)


class PostgresStop(PostgresFault):
    """SIGSTOP of all of its processes, then SIGCONT."""

    kind = "postgres-stop"
    lengths = (0.5, 8.0)

    async def begin(self, world: World) -> None:
        world.postgres.pause()

    async def heal(self, world: World) -> None:
        world.postgres.resume()


class PostgresCut(PostgresFault):
    """Every connection is terminated."""

    kind = "postgres-cut"
    lengths = (0.0, 0.1)

    async def begin(self, world: World) -> None:
        await self.execute(
            world,
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()",
        )


class PostgresLock(PostgresFault):
    """A table is locked; at most half a minute."""

    kind = "postgres-lock"
    lengths = (0.5, 8.0)

    def __init__(self, rng: random.Random) -> None:
        super().__init__(rng)
        self._table = rng.choice(_TABLES)
        if rng.random() < 0.1:
            self.length = rng.uniform(8.0, 30.0)
        self._release = threading.Event()
        self._released = trio.Event()

    def __str__(self) -> str:
        return f"{super().__str__()} ({self._table})"

    async def begin(self, world: World) -> None:
        world.background.start_soon(self._hold, world)

    async def _hold(self, world: World) -> None:
        statement = f"LOCK TABLE {self._table} IN ACCESS EXCLUSIVE MODE"

        async def work(connection: Any) -> None:
            with contextlib.suppress(asyncpg.PostgresError):
                async with connection.transaction():
                    await connection.execute(statement, timeout=60)
                    self._release.wait()

        # A run that fails meanwhile is cancelled and heals nothing: it must not wait for this.
        try:
            await trio.to_thread.run_sync(run_sql, world.database_url, work, abandon_on_cancel=True)
        finally:
            self._release.set()
            self._released.set()

    async def heal(self, world: World) -> None:
        self._release.set()
        await self._released.wait()


class PostgresFull(PostgresFault):
    """The disk is full: every insert of a message fails, by a trigger."""

    kind = "postgres-full"
    lengths = (0.5, 6.0)

    async def begin(self, world: World) -> None:
        await self.execute(
            world,
            _IS_FULL,
            "CREATE TRIGGER storm BEFORE INSERT ON messages "
            "FOR EACH ROW EXECUTE FUNCTION storm_full()",
        )

    async def heal(self, world: World) -> None:
        await self.remove_trigger(world, "storm_full", "messages")


class PostgresRefuses(PostgresFault):
    """Rows with a certain word are refused for their content: dead letters, and nothing else is."""

    kind = "postgres-refuses"
    lengths = (2.0, 8.0)

    async def begin(self, world: World) -> None:
        world.unstorable = UNSTORABLE
        await self.execute(
            world,
            _REFUSES,
            "CREATE TRIGGER storm BEFORE INSERT ON messages FOR EACH ROW "
            f"WHEN (NEW.content LIKE '%{UNSTORABLE}%') EXECUTE FUNCTION storm_refuses()",
        )

    async def heal(self, world: World) -> None:
        await self.remove_trigger(world, "storm_refuses", "messages")


class PostgresSlow(PostgresFault):
    """Changes of members take longer than a statement may (3 s): they time out."""

    kind = "postgres-slow"
    lengths = (2.0, 8.0)

    async def begin(self, world: World) -> None:
        await self.execute(
            world,
            _IS_SLOW,
            "CREATE TRIGGER storm BEFORE INSERT OR UPDATE ON members "
            "FOR EACH ROW EXECUTE FUNCTION storm_slow()",
        )

    async def heal(self, world: World) -> None:
        await self.remove_trigger(world, "storm_slow", "members")
