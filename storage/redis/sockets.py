"""Sockets to Redis: opening one (TCP, unix, TLS) and moving bytes, nothing else.

Law of this file: no Redis in here. A plain socket is a raw non-blocking one, because trio's own
costs two checkpoints and a conflict check for each call, which is more than the call itself.
One task sends, one receives. After an error or a cancelled `send_some` the socket is useless.
`close` is synchronous and abrupt; there is nothing polite to say to Redis.
"""

from __future__ import annotations

import errno
import os
import socket
import ssl
from typing import Final, Protocol

import trio

from config.limits import (
    REDIS_KEEPALIVE_IDLE,
    REDIS_KEEPALIVE_INTERVAL,
    REDIS_KEEPALIVE_PROBES,
)
from storage.redis.address import RedisAddress, TlsOptions

# What sending and receiving may raise when the connection is gone (ssl.SSLError is an OSError).
CONNECTION_ERRORS: Final = (OSError, trio.BrokenResourceError, trio.ClosedResourceError)


class ByteSocket(Protocol):
    """One open connection, as bytes."""

    # True if `send_some` says truly what has left this process when it fails half-way.
    knows_progress: bool

    async def send_some(self, data: bytes | memoryview) -> int:
        """Send the beginning of `data`; how many bytes. Does not checkpoint if it need not wait."""

    async def receive_into(self, buffer: bytearray) -> int:
        """Wait for bytes; how many came, 0 when the other side has closed. Cancel-safe."""

    def close(self) -> None:
        """Let go of the socket at once. May be called again."""


class PlainSocket:
    """TCP or unix, without TLS."""

    knows_progress = True

    def __init__(self, raw: socket.socket) -> None:
        raw.setblocking(False)
        self._raw = raw

    async def send_some(self, data: bytes | memoryview) -> int:
        while True:
            try:
                return self._raw.send(data)
            except BlockingIOError:
                await trio.lowlevel.wait_writable(self._raw)

    async def receive_into(self, buffer: bytearray) -> int:
        while True:
            # Waiting first saves the recv that would say "nothing yet" almost every time.
            await trio.lowlevel.wait_readable(self._raw)
            try:
                return self._raw.recv_into(buffer)
            except BlockingIOError:
                continue

    def close(self) -> None:
        if self._raw.fileno() >= 0:
            trio.lowlevel.notify_closing(self._raw)
            self._raw.close()


class TlsSocket:
    """TLS over TCP, by trio's SSLStream."""

    knows_progress = False

    def __init__(self, stream: trio.SSLStream[trio.SocketStream]) -> None:
        self._stream = stream

    async def send_some(self, data: bytes | memoryview) -> int:
        await self._stream.send_all(data)
        return len(data)

    async def receive_into(self, buffer: bytearray) -> int:
        data = await self._stream.receive_some(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        self._stream.transport_stream.socket.close()


def describe(error: BaseException) -> str:
    """What to tell about a failed connection: the system's own words rather than a wrapper's."""
    cause = error.__cause__
    if isinstance(cause, BaseExceptionGroup):
        cause = cause.exceptions[0]
    if isinstance(cause, OSError):
        error = cause
    # The TLS library has numbers of its own, so its errors speak for themselves.
    if isinstance(error, OSError) and not isinstance(error, ssl.SSLError) and error.errno:
        return os.strerror(error.errno) if error.errno in errno.errorcode else str(error)
    return str(error) or type(error).__name__


async def dial(address: RedisAddress) -> ByteSocket:
    """Open a connection. Raises OSError or trio.BrokenResourceError; has no deadline of its own."""
    if address.path is not None:
        return _release(await trio.open_unix_socket(address.path))
    stream = await trio.open_tcp_stream(address.host, address.port)
    _keep_alive(stream)
    if address.tls is None:
        return _release(stream)
    try:
        return await _secure(stream, address.host, address.tls)
    except BaseException:
        stream.socket.close()
        raise


async def _secure(stream: trio.SocketStream, host: str, options: TlsOptions) -> ByteSocket:
    context = options.build_context()
    secured = trio.SSLStream(stream, context, server_hostname=host, https_compatible=True)
    try:
        await secured.do_handshake()
    except trio.BrokenResourceError as error:
        # trio hides what the TLS library said; whoever reads the log needs just that.
        if isinstance(error.__cause__, ssl.SSLError):
            raise error.__cause__ from None
        raise
    return TlsSocket(secured)


def _release(stream: trio.SocketStream) -> PlainSocket:
    """Take the socket out of trio's hands."""
    return PlainSocket(socket.socket(fileno=stream.socket.detach()))


def _keep_alive(stream: trio.SocketStream) -> None:
    stream.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (
        ("TCP_KEEPIDLE", REDIS_KEEPALIVE_IDLE),
        ("TCP_KEEPINTVL", REDIS_KEEPALIVE_INTERVAL),
        ("TCP_KEEPCNT", REDIS_KEEPALIVE_PROBES),
    ):
        # Not every system has each of these names; the plain option above is everywhere.
        if hasattr(socket, name):
            stream.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
