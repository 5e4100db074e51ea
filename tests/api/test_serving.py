"""The HTTP server under the API: connections end when their peer ends them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import psutil
import pytest
import trio

from api.main import server_config
from api.serving import serve_http
from config.settings import load_settings
from tests.support.tokens import JWT_SECRET
from tests.support.waiting import wait_until

CONNECTIONS = 20
GET = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"


async def say_hello(scope: Any, receive: Any, send: Any) -> None:
    """An ASGI application: `hello`, whatever is asked."""
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": f"{message['type']}.complete"})
            if message["type"] == "lifespan.shutdown":
                return
    await send(
        {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"5")]}
    )
    await send({"type": "http.response.body", "body": b"hello"})


@asynccontextmanager
async def serving() -> AsyncIterator[int]:
    """A server with the product's settings; its port."""
    settings = load_settings(
        None, redis_url="redis://127.0.0.1:1", database_url="postgresql://127.0.0.1:1/none",
        jwt_secret=JWT_SECRET, port=0, drain_seconds=0,
    )  # fmt: skip
    stop = trio.Event()
    async with trio.open_nursery() as nursery:
        serve = partial(
            serve_http, say_hello, server_config(settings),
            connections_max=100, wait_shutdown=stop.wait,
        )  # fmt: skip
        (address,) = await nursery.start(serve)
        yield int(address.rpartition(":")[2])
        stop.set()


async def read_hello(stream: trio.SocketStream) -> None:
    """One whole answer."""
    data = b""
    while not data.endswith(b"hello"):
        data += await stream.receive_some()


@pytest.mark.parametrize("sent", [b"", GET, GET[:10], GET + GET[:10]])
async def test_a_connection_that_its_peer_closes_is_closed_at_once(sent):
    process = psutil.Process()
    async with serving() as port:
        before = process.num_fds()
        for _ in range(CONNECTIONS):
            stream = await trio.open_tcp_stream("127.0.0.1", port)
            if sent:
                await stream.send_all(sent)
            if sent.startswith(GET):
                await read_hello(stream)
            await stream.aclose()
        # Far below the time for which an idle connection is kept.
        await wait_until(lambda: process.num_fds() <= before, deadline=5)


async def test_who_has_nothing_more_to_send_gets_the_answer():
    async with serving() as port:
        stream = await trio.open_tcp_stream("127.0.0.1", port)
        async with stream:
            await stream.send_all(GET)
            await stream.send_eof()
            await read_hello(stream)
            assert await stream.receive_some() == b""
