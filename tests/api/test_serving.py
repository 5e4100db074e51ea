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
async def serving(application: Any = say_hello) -> AsyncIterator[int]:
    """A server with the product's settings; its port."""
    settings = load_settings(
        None, redis_url="redis://127.0.0.1:1", database_url="postgresql://127.0.0.1:1/none",
        jwt_secret=JWT_SECRET, port=0, drain_seconds=0,
    )  # fmt: skip
    stop = trio.Event()
    async with trio.open_nursery() as nursery:
        serve = partial(
            serve_http, application, server_config(settings),
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


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """An ASGI application: the method and what came as the body."""
    if scope["type"] == "lifespan":
        await say_hello(scope, receive, send)
    body = scope["method"].encode() + b" "
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        body += message["body"]
        if not message["more_body"]:
            break
    length = b"%d" % len(body)
    headers = [(b"content-length", length)]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": True})
    await send({"type": "http.response.body", "body": b"", "more_body": False})


HOST = b" HTTP/1.1\r\nHost: localhost\r\n"
POST = b"POST /" + HOST
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"
SIZED = POST + b"Content-Length: 5\r\n\r\n"


async def talk(port: int, sent: bytes, *, ends: bytes, size: int = 65536) -> bytes:
    """What is answered up to `ends`, to what is sent in pieces of `size`."""
    stream = await trio.open_tcp_stream("127.0.0.1", port)
    data = b""
    async with stream:
        for at in range(0, len(sent), size):
            await stream.send_all(sent[at : at + size])
        with trio.fail_after(10):
            while not data.endswith(ends):
                received = await stream.receive_some()
                if not received:
                    break
                data += received
    return data


@pytest.mark.parametrize("size", [3, 65536])
async def test_requests_are_answered_one_by_one_however_they_come(size):
    sent = GET + CHUNKED + b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n" + SIZED + b"fghij"
    async with serving(echo) as port:
        last = b"GET /last" + HOST + b"Connection: close\r\n\r\n"
        data = await talk(port, sent + last, ends=b"never", size=size)
    bodies = [answer.partition(b"\r\n\r\n")[2] for answer in data.split(b"HTTP/1.1 200")[1:]]
    assert bodies == [b"GET ", b"POST abcde", b"POST fghij", b"GET "]


@pytest.mark.parametrize(
    ("sent", "expected", "body"),
    [
        (b"HEAD /" + HOST + b"Connection: close\r\n\r\n", b"HTTP/1.1 200", b""),
        (b"GET / HTTP/1.0\r\n\r\n", b"HTTP/1.1 200", b"GET "),
        (b"GET / HTTP/1.2\r\nHost: x\r\n\r\n", b"HTTP/1.1 505", b""),
        (SIZED.replace(b"\r\n\r\n", b"\r\nTransfer-Encoding: chunked\r\n\r\n"),
         b"HTTP/1.1 400", b""),
        (b"no request\r\n\r\n", b"HTTP/1.1 400", b""),
        (CHUNKED + b"no chunk\r\n", b"HTTP/1.1 400", b""),
    ],
)  # fmt: skip
async def test_what_ends_a_connection_is_answered_before(sent, expected, body):
    async with serving(echo) as port:
        data = await talk(port, sent, ends=b"never")
    head, _, rest = data.partition(b"\r\n\r\n")
    assert head.startswith(expected)
    assert rest == body
    assert head.lower().count(b"\r\ndate: ") == 1


async def test_who_waits_to_be_told_to_go_on_is_told():
    async with serving(echo) as port:
        stream = await trio.open_tcp_stream("127.0.0.1", port)
        async with stream:
            await stream.send_all(SIZED.replace(b"\r\n\r\n", b"\r\nExpect: 100-continue\r\n\r\n"))
            with trio.fail_after(10):
                assert (await stream.receive_some()).startswith(b"HTTP/1.1 100 ")
                await stream.send_all(b"abcde")
                data = b""
                while not data.endswith(b"POST abcde"):
                    data += await stream.receive_some()


async def test_an_application_hears_of_a_client_that_has_gone():
    heard = trio.Event()

    async def wait(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await say_hello(scope, receive, send)
        while (await receive())["type"] != "http.disconnect":
            pass
        heard.set()

    async with serving(wait) as port:
        stream = await trio.open_tcp_stream("127.0.0.1", port)
        await stream.send_all(GET)
        await stream.aclose()
        with trio.fail_after(10):
            await heard.wait()


async def test_a_request_whose_client_has_gone_ends_though_nobody_waits_for_it():
    ended = trio.Event()

    async def work(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await say_hello(scope, receive, send)
        try:
            await trio.sleep_forever()
        finally:
            ended.set()

    async with serving(work) as port:
        stream = await trio.open_tcp_stream("127.0.0.1", port)
        await stream.send_all(GET)
        await stream.aclose()
        with trio.fail_after(10):
            await ended.wait()


async def test_what_fails_without_an_answer_gets_one():
    async def fail(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await say_hello(scope, receive, send)
        raise ValueError("a bug")

    async with serving(fail) as port:
        assert (await talk(port, GET, ends=b"never")).startswith(b"HTTP/1.1 500")
