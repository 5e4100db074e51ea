"""A connection of its own for commands that wait in Redis (XREAD BLOCK), with one owner.

Law of this file: no tasks; the owner's task sends and receives, so a wake-up costs one task
switch. Used by one task at a time and never shared. After any error or cancellation in the middle
of a call the connection is closed, because a late reply would answer the wrong call; the owner
opens another, from the position it holds. Nothing is sent twice.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import trio
from redis.exceptions import RedisError

from config.limits import CONNECT_TIMEOUT, REDIS_RECEIVE_BYTES
from storage.errors import StorageUnavailable
from storage.redis.address import RedisAddress, parse_redis_url
from storage.redis.handshake import check_handshake, explain_failure, handshake_commands
from storage.redis.replies import (
    INCOMPLETE,
    PROTOCOL_ERRORS,
    LifeInDoubt,
    Reply,
    build_reader,
    feed,
    pack,
)
from storage.redis.sockets import CONNECTION_ERRORS, ByteSocket, describe, dial


class BlockingConnection:
    """One command or pipeline at a time, raw replies. Made by `open_blocking`."""

    def __init__(self, socket: ByteSocket) -> None:
        self._socket = socket
        self._reader = build_reader()
        self._buffer = bytearray(REDIS_RECEIVE_BYTES)
        self._is_closed = False
        self._is_busy = False

    @property
    def is_closed(self) -> bool:
        """True once a call has failed half-way (or `close`): open another."""
        return self._is_closed

    def close(self) -> None:
        """Let go of the connection at once; a call in another task then fails."""
        self._is_closed = True
        self._socket.close()

    async def execute(
        self, *args: bytes | str | int | float, timeout: float | None = None
    ) -> Reply:
        """One command and its raw reply; `timeout` in seconds, None waits for ever.

        Raises StorageUnavailable and redis.exceptions.ResponseError. Cancelling closes the
        connection: the command may have run.
        """
        return await self.execute_packed(pack(*args), timeout)

    async def execute_packed(self, packed: bytes, timeout: float | None = None) -> Reply:
        """The same for a command that is packed already."""
        reply = (await self.pipeline_packed([packed], timeout))[0]
        if isinstance(reply, Exception):
            raise reply
        return reply

    async def pipeline(
        self,
        commands: Sequence[Sequence[bytes | str | int | float]],
        timeout: float | None = None,
    ) -> list[Reply | Exception]:
        """Several commands in one send; the replies in order, error replies as values."""
        return await self.pipeline_packed([pack(*command) for command in commands], timeout)

    async def pipeline_packed(
        self, packed: Sequence[bytes], timeout: float | None = None
    ) -> list[Reply | Exception]:
        """The same for commands that are packed already."""
        if self._is_busy:
            raise RuntimeError("a blocking connection has one owner and one call at a time")
        await trio.lowlevel.checkpoint_if_cancelled()
        if self._is_closed:
            raise StorageUnavailable("redis", "not_done", "the connection was closed")
        replies: list[Reply | Exception] = []
        self._is_busy = True
        try:
            with trio.fail_after(math.inf if timeout is None else timeout):
                await self._send_all(b"".join(packed))
                await self._receive_all(replies, len(packed))
        except trio.TooSlowError:
            reason = "no answer within the deadline"
            raise StorageUnavailable("redis", "unknown", reason) from None
        except CONNECTION_ERRORS as error:
            reason = f"the connection broke ({describe(error)})"
            raise StorageUnavailable("redis", "unknown", reason) from error
        except PROTOCOL_ERRORS as error:
            reason = f"the server does not speak Redis ({error})"
            raise StorageUnavailable("redis", "unknown", reason) from error
        finally:
            self._is_busy = False
            if len(replies) < len(packed) or any(type(r) is LifeInDoubt for r in replies):
                self.close()
        return replies

    async def _send_all(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            rest = rest[await self._socket.send_some(rest) :]

    async def _receive_all(self, replies: list[Reply | Exception], count: int) -> None:
        while True:
            while len(replies) < count and (reply := self._reader.gets()) is not INCOMPLETE:
                replies.append(reply)
            if len(replies) == count:
                return
            size = await self._socket.receive_into(self._buffer)
            if size == 0:
                raise trio.BrokenResourceError("the server closed it")
            feed(self._reader, self._buffer, size)


@asynccontextmanager
async def open_blocking(
    server: str | RedisAddress,
    *,
    name: str = "parley-blocking",
    connect_timeout: float = CONNECT_TIMEOUT,
) -> AsyncIterator[BlockingConnection]:
    """Open a connection, greeted and ready, and close it after the block.

    `server` is the URL of one, or the address that a client is connected to (`RedisClient.server`):
    asked again, sentinels might lead to another. Raises StorageUnavailable if Redis is away,
    StorageRefused if REDIS_URL is wrong, ValueError if it is malformed. Opens no task, so errors of
    the block leave as they are.
    """
    address = parse_redis_url(server) if isinstance(server, str) else server
    try:
        with trio.fail_after(connect_timeout):
            socket = await dial(address)
    except (*CONNECTION_ERRORS, trio.TooSlowError) as error:
        raise explain_failure(address, error) from error
    connection = BlockingConnection(socket)
    try:
        commands = handshake_commands(address, name)
        replies = await connection.pipeline_packed(commands, connect_timeout)
        try:
            check_handshake(address, replies)
        except RedisError as error:
            raise explain_failure(address, error) from error
        yield connection
    finally:
        connection.close()
