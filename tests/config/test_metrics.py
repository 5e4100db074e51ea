"""Metrics: what the page says, and that its clients can do no harm."""

import pytest
import trio

from config.errors import ConfigError
from config.limits import METRICS_CONNECTIONS_MAX, METRICS_REQUEST_BYTES_MAX
from config.metrics import Metrics, serve_metrics

HOST = "127.0.0.1"


async def ask(port: int, request: bytes) -> bytes:
    answer = b""
    async with await trio.open_tcp_stream(HOST, port) as stream:
        await stream.send_all(request)
        async for chunk in stream:
            answer += chunk
    return answer


async def start(nursery: trio.Nursery, metrics: Metrics) -> int:
    port = await nursery.start(serve_metrics, metrics, HOST, 0)
    assert isinstance(port, int)
    return port


async def test_the_page_shows_what_was_counted() -> None:
    metrics = Metrics()
    metrics.connections.set(3)
    metrics.commands.labels("publish", "ok").inc()
    async with trio.open_nursery() as nursery:
        port = await start(nursery, metrics)
        head, _, body = (await ask(port, b"GET /metrics HTTP/1.1\r\n\r\n")).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 OK\r\n")
        assert f"Content-Length: {len(body)}".encode() in head
        assert b"parley_connections 3.0\n" in body
        assert b'parley_commands_total{code="ok",type="publish"} 1.0\n' in body
        assert b"process_cpu_seconds_total" in body
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("request_head", "status"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", b"404"),
        (b"POST /metrics HTTP/1.1\r\n\r\n", b"405"),
        (b"HEAD /metrics?x HTTP/1.1\r\n\r\n", b"200"),
        (b"\r\n\r\n", b"404"),
        (b"x" * METRICS_REQUEST_BYTES_MAX, b"404"),
    ],
)
async def test_odd_requests_get_an_answer(request_head: bytes, status: bytes) -> None:
    async with trio.open_nursery() as nursery:
        port = await start(nursery, Metrics())
        assert (await ask(port, request_head)).startswith(b"HTTP/1.1 " + status)
        nursery.cancel_scope.cancel()


async def test_clients_that_say_nothing_lose_their_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("config.limits.METRICS_REQUEST_TIMEOUT", 0.2)
    async with trio.open_nursery() as nursery:
        port = await start(nursery, Metrics())
        silent = [await trio.open_tcp_stream(HOST, port) for _ in range(METRICS_CONNECTIONS_MAX)]
        with trio.fail_after(10):
            for stream in silent:
                assert await stream.receive_some() == b""
                await stream.aclose()
            assert b"200 OK" in await ask(port, b"GET /metrics HTTP/1.1\r\n\r\n")
        nursery.cancel_scope.cancel()


async def test_a_client_that_vanishes_hurts_nobody() -> None:
    async with trio.open_nursery() as nursery:
        port = await start(nursery, Metrics())
        for _ in range(5):
            stream = await trio.open_tcp_stream(HOST, port)
            await stream.send_all(b"GET /metrics HTTP/1.1\r\n\r\n")
            await trio.aclose_forcefully(stream)
        assert b"200 OK" in await ask(port, b"GET /metrics HTTP/1.1\r\n\r\n")
        nursery.cancel_scope.cancel()


async def test_a_port_in_use_is_one_line() -> None:
    async with trio.open_nursery() as nursery:
        port = await start(nursery, Metrics())
        with pytest.raises(ConfigError, match="METRICS_PORT: can not listen"):
            await serve_metrics(Metrics(), HOST, port)
        nursery.cancel_scope.cancel()


def test_two_processes_share_no_counter() -> None:
    first, second = Metrics(), Metrics()
    first.deliveries.inc(5)
    assert b"parley_deliveries_total 0.0" in second.render()
