"""The process's Redis: one pipelined connection, opened again for ever.

Law of this file:
- A connection is offered only after the handshake and `prepare` (scripts loaded, lives verified)
  succeeded; until then, and while Redis is away, every command is refused at once with
  StorageUnavailable("not_done"). Nothing waits in hope and nothing is sent twice; whoever wants
  to try again does so, with an idempotency key.
- A lost connection is replaced after a jittered pause that grows while attempts fail.
- Where the address names sentinels, every connection is to the master that they name then, and it
  is given up when they name another.
- What only the operator can mend (a wrong password, a certificate) is logged once as an error and
  tried on nevertheless, since servers are also mended; `wait_connected` raises it at once.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import NoReturn

import structlog
import trio
from redis.backoff import EqualJitterBackoff
from redis.exceptions import RedisError

from config.limits import (
    COMMAND_TIMEOUT,
    CONNECT_TIMEOUT,
    RECONNECT_DELAY_MAX,
    RECONNECT_DELAY_MIN,
    REDIS_PREPARE_TIMEOUT,
    REDIS_STABLE_AFTER,
)
from storage.errors import StorageRefused, StorageUnavailable
from storage.redis.address import Address, RedisAddress, parse_address
from storage.redis.calls import Caller, OpenCall
from storage.redis.connection import RedisConnection, Traffic
from storage.redis.handshake import check_handshake, explain_failure, handshake_commands
from storage.redis.replies import OnReply, Reply, pack
from storage.redis.sentinel import ServerFinder
from storage.redis.sockets import CONNECTION_ERRORS, dial

__all__ = ["ClientStatistics", "OnReply", "Prepare", "RedisClient", "Reply", "open_redis", "pack"]

Prepare = Callable[[RedisConnection], Awaitable[None]]
# Beyond this many failures the pause is at its maximum anyway; keeps the power small.
_FAILURES_COUNTED = 16
ROUND_TRIPS_KEPT = 100
"""Between two looks, a second apart: enough for percentiles, whatever the load."""


@dataclass(frozen=True, slots=True)
class ClientStatistics:
    """A snapshot of one client; totals are since it was opened."""

    is_connected: bool
    connection_number: int
    """Connections offered so far."""
    commands: int
    bytes_sent: int
    bytes_received: int
    in_flight: int
    """Commands without an answer just now."""
    failures: int
    """Attempts that failed, and connections that did not last, since the last good one."""
    last_round_trip: float | None
    """Seconds from sending to the answer, lately; None before the first answer."""
    callback_errors: int
    """Callbacks that raised: bugs."""

    @property
    def reconnects(self) -> int:
        """Connections offered after the first."""
        return max(0, self.connection_number - 1)


class RedisClient(Caller):
    """Commands to one Redis, whatever happens to the connection. Made by `open_redis`."""

    def __init__(
        self,
        address: Address,
        *,
        prepare: Prepare | None = None,
        name: str,
        command_timeout: float,
        connect_timeout: float,
    ) -> None:
        self.finder = ServerFinder(address)
        self._prepare = prepare
        self._name = name
        self._command_timeout = command_timeout
        self._connect_timeout = connect_timeout
        self._connection: RedisConnection | None = None
        self._server: RedisAddress | None = None
        self._number = 0
        self._failures = 0
        self._offered_at = math.inf
        self._error: StorageUnavailable | StorageRefused | None = None
        self._changed = trio.Event()
        self._totals = Traffic()
        self.round_trips: deque[float] = deque(maxlen=ROUND_TRIPS_KEPT)
        """Seconds, the newest last; whoever watches the client empties it."""
        self._backoff = EqualJitterBackoff(cap=RECONNECT_DELAY_MAX, base=2 * RECONNECT_DELAY_MIN)
        self._log = structlog.get_logger("storage.redis.client").bind(
            redis=str(address), client=name
        )

    @property
    def is_connected(self) -> bool:
        """Is there a connection, prepared and not known to be lost?"""
        return self._connection is not None and self._connection.lost is None

    @property
    def connection_number(self) -> int:
        """How many connections have been offered; another number is another connection."""
        return self._number

    @property
    def server(self) -> RedisAddress:
        """The server that commands go to now; further connections of the process go there too.

        Raises StorageUnavailable while there is no connection.
        """
        if not self.is_connected or self._server is None:
            raise self._unavailable()
        return self._server

    def submit(
        self, packed: bytes | OpenCall, on_reply: OnReply, timeout: float | None = None
    ) -> None:
        connection = self._connection
        if connection is not None:
            connection.submit(packed, on_reply, timeout)
            return
        try:
            on_reply(self._unavailable())
        except Exception:
            self._totals.callback_errors += 1
            self._log.exception("a reply's callback raised", callback=repr(on_reply))

    def disconnect_now(self, reason: str = "given up") -> None:
        """Throw the connection away; a new one is opened and prepared. Does nothing without one."""
        if self._connection is not None:
            self._connection.lose(reason)

    async def wait_connected(self, deadline: float) -> None:
        """Wait until commands can be sent; `deadline` is on the trio clock.

        Raises StorageUnavailable at the deadline, and StorageRefused as soon as an attempt shows
        that REDIS_URL itself is wrong. Cancel-safe.
        """
        await trio.lowlevel.checkpoint()
        with trio.move_on_at(deadline):
            while not self.is_connected:
                if isinstance(self._error, StorageRefused):
                    raise StorageRefused("redis", self._error.reason)
                await self._changed.wait()
        if not self.is_connected:
            raise self._unavailable()

    def statistics(self) -> ClientStatistics:
        """How the client is doing; cheap."""
        traffic = Traffic()
        traffic.add(self._totals)
        in_flight = 0
        if self._connection is not None:
            traffic.add(self._connection.traffic())
            in_flight = self._connection.in_flight
        return ClientStatistics(
            is_connected=self.is_connected,
            connection_number=self._number,
            commands=traffic.commands,
            bytes_sent=traffic.bytes_sent,
            bytes_received=traffic.bytes_received,
            in_flight=in_flight,
            failures=self._failures,
            last_round_trip=traffic.last_round_trip,
            callback_errors=traffic.callback_errors,
        )

    async def run(self) -> NoReturn:
        """Keep a connection open until cancelled. Once per client."""
        while True:
            self._offered_at = math.inf
            await self._serve_one()
            self._signal_change()
            if trio.current_time() - self._offered_at >= REDIS_STABLE_AFTER:
                self._failures = 0
            pause = self._backoff.compute(min(self._failures, _FAILURES_COUNTED))
            self._failures += 1
            await trio.sleep(pause)

    async def _serve_one(self) -> None:
        """One connection from dialling to its loss. Leaves the reason of a failure in `_error`."""
        address = self.finder.address
        try:
            found = await self.finder.find()
            address = found.server
            with trio.fail_after(self._connect_timeout):
                socket = await dial(found.server)
        except (
            *CONNECTION_ERRORS, trio.TooSlowError, StorageUnavailable, StorageRefused,
        ) as error:  # fmt: skip
            self._note_failure(address, error)
            return
        connection = RedisConnection(
            socket, command_timeout=self._command_timeout, round_trips=self.round_trips
        )
        watching = trio.CancelScope()

        async def run_connection() -> None:
            await connection.run()
            watching.cancel()

        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(run_connection)
                await self._offer(connection, found.server)
                with watching:
                    now = await self.finder.wait_replaced(found)
                    connection.lose(f"the sentinels name another master, {now.server}")
        finally:
            self._connection = None
            self._totals.add(connection.traffic())
        if self._error is None:
            self._log.warning("redis connection lost", reason=connection.lost)

    async def _offer(self, connection: RedisConnection, server: RedisAddress) -> None:
        """Make the connection ready and offer it, or give it up."""
        try:
            with trio.fail_after(self._connect_timeout):
                replies = await connection.pipeline_packed(handshake_commands(server, self._name))
            check_handshake(server, replies)
            if self._prepare is not None:
                with trio.fail_after(REDIS_PREPARE_TIMEOUT):
                    await self._prepare(connection)
        except Exception as error:
            # `prepare` is the caller's: whatever it raises, this connection is not offered.
            self._note_failure(server, error)
            connection.lose("it could not be prepared")
            return
        if connection.lost is None:
            self._connection, self._server = connection, server
            self._number += 1
            self._offered_at = trio.current_time()
            self._error = None
            self._signal_change()
            self._log.info("redis connected", number=self._number, server=str(server))

    def _note_failure(self, address: Address, error: Exception) -> None:
        explained = explain_failure(address, error)
        is_news = self._error is None or self._error.reason != explained.reason
        self._error = explained
        if is_news:
            expected = isinstance(error, (*CONNECTION_ERRORS, trio.TooSlowError, RedisError))
            known = expected or isinstance(error, (StorageUnavailable, StorageRefused))
            self._log.error(
                "redis not usable", reason=explained.reason, exc_info=None if known else error
            )

    def _signal_change(self) -> None:
        self._changed.set()
        self._changed = trio.Event()

    def _unavailable(self) -> StorageUnavailable:
        reason = self._error.reason if self._error is not None else "not connected"
        return StorageUnavailable("redis", "not_done", reason)


@asynccontextmanager
async def open_redis(
    url: str,
    *,
    prepare: Prepare | None = None,
    name: str = "parley",
    command_timeout: float = COMMAND_TIMEOUT,
    connect_timeout: float = CONNECT_TIMEOUT,
) -> AsyncIterator[RedisClient]:
    """Own a client for the length of the block; it begins to connect at once, in the background.

    Whether Redis is there at the start makes no difference: use `wait_connected` where it must be.
    Raises ValueError for a malformed URL. Errors of the block itself leave in an ExceptionGroup.
    """
    client = RedisClient(
        parse_address(url),
        prepare=prepare,
        name=name,
        command_timeout=command_timeout,
        connect_timeout=connect_timeout,
    )
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.run)
        try:
            yield client
        finally:
            nursery.cancel_scope.cancel()
