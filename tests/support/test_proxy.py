"""The proxy does what its faults are named after."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing

from tests.support.proxy import TcpProxy, open_proxy
from workers.embedded.ports import LOOPBACK


@asynccontextmanager
async def open_echo() -> AsyncIterator[TcpProxy]:
    """A proxy in front of a server that sends everything back."""

    async def echo(stream: trio.SocketStream) -> None:
        async for data in stream:
            await stream.send_all(data)

    async with trio.open_nursery() as nursery:
        listeners = await trio.open_tcp_listeners(0, host=LOOPBACK)
        nursery.start_soon(trio.serve_listeners, echo, listeners)
        async with open_proxy(listeners[0].socket.getsockname()[1]) as proxy:
            yield proxy
        nursery.cancel_scope.cancel()


async def read_all(stream: trio.SocketStream) -> bytes:
    data = b""
    try:
        async for piece in stream:
            data += piece
    except trio.BrokenResourceError:
        return data
    return data


async def test_passes_bytes_both_ways() -> None:
    async with open_echo() as proxy, await trio.open_tcp_stream(LOOPBACK, proxy.port) as stream:
        await stream.send_all(b"hello")
        assert await stream.receive_some() == b"hello"
        assert proxy.bytes_passed == {"to_server": 5, "to_client": 5}
        assert proxy.open_connections == 1


async def test_cuts_now_and_in_the_middle() -> None:
    async with open_echo() as proxy:
        async with await trio.open_tcp_stream(LOOPBACK, proxy.port) as stream:
            await stream.send_all(b"x")
            assert await stream.receive_some() == b"x"
            proxy.cut()
            assert await read_all(stream) == b""
        async with await trio.open_tcp_stream(LOOPBACK, proxy.port) as stream:
            proxy.cut_after(3, "to_client")
            await stream.send_all(b"hello")
            assert await read_all(stream) == b"hel"
        async with await trio.open_tcp_stream(LOOPBACK, proxy.port) as stream:
            await stream.send_all(b"whole")
            assert await stream.receive_some() == b"whole"


async def test_refuses_and_accepts_again() -> None:
    async with open_echo() as proxy:
        proxy.refuse()
        async with await trio.open_tcp_stream(LOOPBACK, proxy.port) as stream:
            assert await read_all(stream) == b""
        proxy.accept()
        async with await trio.open_tcp_stream(LOOPBACK, proxy.port) as stream:
            await stream.send_all(b"x")
            assert await stream.receive_some() == b"x"


async def test_pauses_without_loss_and_swallows_with() -> None:
    async with open_echo() as proxy, await trio.open_tcp_stream(LOOPBACK, proxy.port) as stream:
        proxy.pause()
        await stream.send_all(b"hello")
        with pytest.raises(trio.TooSlowError), trio.fail_after(0.1):
            await stream.receive_some()
        proxy.resume()
        assert await stream.receive_some() == b"hello"
        proxy.swallow()
        await stream.send_all(b"lost")
        with pytest.raises(trio.TooSlowError), trio.fail_after(0.1):
            await stream.receive_some()
        proxy.stop_swallowing()
        assert await read_all(stream) == b""


async def test_delays() -> None:
    async with open_echo() as proxy, await trio.open_tcp_stream(LOOPBACK, proxy.port) as stream:
        proxy.delay = 0.05
        started = trio.current_time()
        await stream.send_all(b"x")
        assert await stream.receive_some() == b"x"
        assert trio.current_time() - started >= 0.1


async def test_a_server_that_is_down_ends_the_connection(free_port: int) -> None:
    async with (
        open_proxy(free_port) as proxy,
        await trio.open_tcp_stream(LOOPBACK, proxy.port) as stream,
    ):
        assert await read_all(stream) == b""


async def test_trickles_byte_by_byte() -> None:
    async with open_echo() as proxy, await trio.open_tcp_stream(LOOPBACK, proxy.port) as stream:
        proxy.trickle()
        await stream.send_all(b"slow")
        pieces = [await stream.receive_some() for _ in range(4)]
        assert pieces == [b"s", b"l", b"o", b"w"]
        proxy.stop_trickling()
        await stream.send_all(b"fast")
        assert await stream.receive_some() == b"fast"


async def test_hangs_without_an_answer() -> None:
    async with open_echo() as proxy:
        proxy.hang()
        async with await trio.open_tcp_stream(LOOPBACK, proxy.port) as stream:
            await stream.send_all(b"anybody?")
            await trio.testing.wait_all_tasks_blocked()
            assert proxy.open_connections == 0
            proxy.stop_hanging()
            assert await read_all(stream) == b""
        async with await trio.open_tcp_stream(LOOPBACK, proxy.port) as stream:
            await stream.send_all(b"served")
            assert await stream.receive_some() == b"served"
