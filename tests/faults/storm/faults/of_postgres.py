"""Faults of PostgreSQL: away, cut, locked, full, slow, refusing single rows."""

import contextlib
import random
import threading
from typing import Any, ClassVar

import asyncpg
import trio

from tests.faults.storm.clients import UNSTORABLE
from tests.faults.storm.faults import Fault
from tests.faults.storm.world import World
from tests.support.servers import run_sql

_IS_FULL = "BEGIN RAISE EXCEPTION 'no space left on device' USING ERRCODE = 'disk_full'; END"
_IS_SLOW = "BEGIN PERFORM pg_sleep(4); RETURN NEW; END"
_REFUSES = "BEGIN RAISE EXCEPTION 'not this row' USING ERRCODE = 'check_violation'; END"
_PASSES = "BEGIN RETURN NEW; END"
_TABLES = ("rooms", "members", "messages", "users", "announcements")


class PostgresFault(Fault):
    """A fault of the one PostgreSQL."""

    def __init__(self, rng: random.Random) -> None:
        super().__init__(rng)
        self.takes = frozenset({"postgres"})

    async def execute(self, world: World, statement: str) -> None:
        """Run a statement on the deployment's database."""

        async def work(connection: Any) -> None:
            await connection.execute(statement, timeout=60)

        await trio.to_thread.run_sync(run_sql, world.database_url, work)


class TriggerFault(PostgresFault):
    """What a trigger does that stands from the beginning and else lets everything pass.

    To make or drop one locks every partition, and with archivers at work that comes about after
    minutes in which nobody else gets through; a function is replaced without a lock.
    """

    when: ClassVar[str]
    """Before what, and of which rows."""
    body: ClassVar[str]
    """What the trigger does while the fault lasts."""

    def __init__(self, rng: random.Random) -> None:
        super().__init__(rng)
        self.prepares = (
            self._function(_PASSES),
            self.when.format(trigger=self._name, function=f"{self._name}()"),
        )

    @property
    def _name(self) -> str:
        return self.kind.replace("-", "_")

    def _function(self, body: str) -> str:
        return (
            f"CREATE OR REPLACE FUNCTION {self._name}() RETURNS trigger LANGUAGE plpgsql "
            f"AS $$ {body} $$"
        )

    async def begin(self, world: World) -> None:
        await self.execute(world, self._function(self.body))

    async def heal(self, world: World) -> None:
        await self.execute(world, self._function(_PASSES))


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


class PostgresFull(TriggerFault):
    """The disk is full: every insert of a message fails, by a trigger."""

    kind = "postgres-full"
    lengths = (0.5, 6.0)
    when = (
        "CREATE OR REPLACE TRIGGER {trigger} BEFORE INSERT ON messages "
        "FOR EACH ROW EXECUTE FUNCTION {function}"
    )
    body = _IS_FULL


class PostgresRefuses(TriggerFault):
    """Rows with a certain word are refused for their content: dead letters, and nothing else is."""

    kind = "postgres-refuses"
    lengths = (2.0, 8.0)
    when = (
        "CREATE OR REPLACE TRIGGER {trigger} BEFORE INSERT ON messages FOR EACH ROW "
        f"WHEN (NEW.content LIKE '%{UNSTORABLE}%') EXECUTE FUNCTION {{function}}"
    )
    body = _REFUSES

    async def begin(self, world: World) -> None:
        world.unstorable = UNSTORABLE
        await super().begin(world)


class PostgresSlow(TriggerFault):
    """Changes of members take longer than a statement may (3 s): they time out."""

    kind = "postgres-slow"
    lengths = (2.0, 8.0)
    when = (
        "CREATE OR REPLACE TRIGGER {trigger} BEFORE INSERT OR UPDATE ON members "
        "FOR EACH ROW EXECUTE FUNCTION {function}"
    )
    body = _IS_SLOW
