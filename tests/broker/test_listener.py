"""Accepting, refusing, HTTP answers, stopping."""

from __future__ import annotations

import errno
import json
import os
import resource
import socket

import pytest
import trio

from broker.listener import Listener, ListenerOptions
from broker.listening import close_all, open_listening_sockets
from config.metrics import Metrics
from config.settings import load_settings
from tests.broker.wires import (
    RecordingApplication,
    connect,
    connect_raw,
    echo,
    ended,
    head,
    only,
    serve,
    text,
)
from tests.support.waiting import wait_until


async def http(listener: Listener, request: bytes) -> tuple[int, dict[str, str], bytes]:
    """One HTTP answer, after which the server must end the connection."""
    async with connect_raw(listener) as client:
        await client.send(request)
        answer = await client.read_http()
        with trio.fail_after(5):
            assert await client.read_to_end() == []
        return answer


async def test_health_on_the_same_port():
    application = RecordingApplication()
    async with serve(application) as listener:
        status, headers, body = await http(listener, b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n")
        assert (status, headers["content-type"]) == (200, "application/json")
        assert json.loads(body) == {"status": "ok"}
        assert (await http(listener, b"GET /readyz HTTP/1.1\r\n\r\n"))[0] == 200
        application.ready = {"ready": False, "redis": "away"}
        status, _, body = await http(listener, b"GET /readyz HTTP/1.1\r\n\r\n")
        assert (status, json.loads(body)) == (503, {"ready": False, "redis": "away"})
        assert application.recorders == []


@pytest.mark.parametrize(
    ("request_head", "status"),
    [
        (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", 426),
        (b"POST /v1/rooms HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc", 426),
        (head(Upgrade=None), 426),
        (head("/nowhere"), 404),
        (head(Sec_WebSocket_Protocol="other"), 400),
        (head(Sec_WebSocket_Key=None), 400),
        (head(Sec_WebSocket_Version="7"), 426),
        (head(Origin="https://evil.example"), 403),
        (b"nonsense\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
        (b"GET / HTTP/1.1\r\nX: " + b"x" * 17_000, 431),
        (b"GET / HTTP/1.1\r\nX: " + b"x" * 17_000 + b"\r\n\r\n", 431),
    ],
)
async def test_what_is_no_websocket_is_answered_in_http(request_head, status):
    application = RecordingApplication()
    async with serve(application) as listener:
        got, headers, body = await http(listener, request_head)
        assert got == status
        assert headers["connection"] == "close"
        assert body.endswith(b".\n")
        await wait_until(lambda: listener.statistics().sockets == 0)
        assert application.recorders == []


async def test_the_subprotocol_is_confirmed_if_it_was_offered():
    async with serve(RecordingApplication()) as listener, connect_raw(listener) as client:
        await client.send(head(Sec_WebSocket_Protocol="parley.v1, other"))
        status, headers, _ = await client.read_http()
        assert status == 101
        assert headers["sec-websocket-protocol"] == "parley.v1"
        assert headers["sec-websocket-accept"] == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="


@pytest.mark.parametrize("size", [1, 20])
async def test_a_head_that_trickles_in(size):
    application = RecordingApplication()
    async with serve(application) as listener, connect_raw(listener) as client:
        raw = head()
        for at in range(0, len(raw), size):
            await client.send(raw[at : at + size])
        assert (await client.read_http())[0] == 101
        await only(application)


@pytest.mark.parametrize("part", [b"", b"GET /v1/con", head()[:-2]])
async def test_a_handshake_cut_short(part):
    """The client goes away, or says nothing more: neither stays."""
    async with serve(RecordingApplication(), head_timeout=0.2) as listener:
        async with connect_raw(listener) as client:
            await client.send(part)
        await wait_until(lambda: listener.statistics().sockets == 0)
        async with connect_raw(listener) as client:
            await client.send(part)
            with trio.fail_after(5):
                assert await client.read_to_end() == []
        await wait_until(lambda: listener.statistics().sockets == 0)


async def test_a_head_that_never_ends_is_cut_off_while_bytes_still_come():
    async with (
        serve(RecordingApplication(), head_timeout=0.3) as listener,
        connect_raw(listener) as client,
    ):
        await client.send(b"GET / HTTP/1.1\r\n")

        async def trickle() -> bool:
            try:
                await client.send(b"X: y\r\n")
            except trio.BrokenResourceError:
                return True
            return False

        await wait_until(trickle, what="the end of the connection")


async def test_above_the_limit_websockets_get_503_and_health_is_told():
    application = RecordingApplication(echo)
    async with serve(application, connections_max=2) as listener:
        async with connect(listener) as one, connect(listener):
            await wait_until(lambda: listener.statistics().open == 2)
            status, headers, _ = await http(listener, head())
            assert (status, headers["retry-after"]) == (503, "5")
            assert listener.statistics().refused == 1
            assert (await http(listener, b"GET /healthz HTTP/1.1\r\n\r\n"))[0] == 200
            await one.send(text("x"))
            assert await one.read_text() == "x"
        await wait_until(lambda: listener.statistics().open == 0)
        async with connect(listener):
            pass


async def test_stopping_takes_no_more_and_keeps_what_is_there():
    application = RecordingApplication(echo)
    async with serve(application) as listener, connect(listener) as client:
        recorder = await only(application)
        async with connect_raw(listener) as late:
            await wait_until(lambda: listener.statistics().sockets == 2)
            listener.stop_accepting()
            await late.send(head())
            assert (await late.read_http())[0] == 503
        with pytest.raises(OSError, match=r"refused|all attempts"):
            await trio.open_tcp_stream("127.0.0.1", listener.port)
        await client.send(text("x"))
        assert await client.read_text() == "x"
        assert await listener.wait_closed(0.05) == 1
        recorder.peer.disconnect(1012)
        await client.send(b"\x88\x80abcd")
        with trio.fail_after(5):
            assert await listener.wait_closed() == 0
        assert await ended(recorder) == 1012


async def test_run_returns_after_the_last_connection():
    listener = Listener(
        application=RecordingApplication(), options=ListenerOptions(), metrics=Metrics()
    )
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            await nursery.start(listener.run)
            async with connect(listener):
                listener.stop_accepting()
            # The nursery ends because `run` does.


async def test_aborting_tells_every_receiver_once():
    application = RecordingApplication()
    async with serve(application) as listener, connect(listener), connect(listener):
        await wait_until(lambda: len(application.recorders) == 2)
        listener.abort()
        assert [await ended(recorder) for recorder in application.recorders] == [1006, 1006]


async def test_metrics_count_connections():
    metrics = Metrics()
    listener = Listener(
        application=RecordingApplication(), options=ListenerOptions(), metrics=metrics
    )
    async with trio.open_nursery() as nursery:
        await nursery.start(listener.run)
        async with connect(listener) as client:
            await wait_until(lambda: b"parley_connections 1.0" in metrics.render())
            await client.send(b"\x88\x82\0\0\0\0\x03\xe8")
            await client.read_to_end()
        await wait_until(lambda: b"parley_connections 0.0" in metrics.render())
        assert b"parley_connections_opened_total 1.0" in metrics.render()
        assert b'parley_connections_closed_total{code="1000"} 1.0' in metrics.render()
        listener.stop_accepting()


async def test_out_of_file_descriptors_accepting_pauses_and_goes_on():
    application = RecordingApplication()
    async with serve(application) as listener:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        client = socket.socket()
        client.setblocking(False)
        spare = os.dup(client.fileno())
        try:
            # From here on not one more descriptor: the connection waits in the kernel.
            resource.setrlimit(resource.RLIMIT_NOFILE, (spare, hard))
            with pytest.raises(OSError, match=os.strerror(errno.EMFILE)):
                os.dup(client.fileno())
            assert client.connect_ex(("127.0.0.1", listener.port)) in (0, errno.EINPROGRESS)
            await trio.lowlevel.wait_writable(client)
            client.send(head())
            await trio.testing.wait_all_tasks_blocked()
            assert listener.statistics().sockets == 0
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            os.close(spare)
        await only(application)
        client.close()


async def test_two_listeners_share_a_port_only_if_asked_to():
    first = await open_listening_sockets("127.0.0.1", 0, backlog=1, reuse_port=True)
    port = first[0].getsockname()[1]
    second = await open_listening_sockets("127.0.0.1", port, backlog=1, reuse_port=True)
    with pytest.raises(OSError, match=os.strerror(errno.EADDRINUSE)):
        await open_listening_sockets("127.0.0.1", port, backlog=1, reuse_port=False)
    close_all(first + second)


async def test_a_name_of_several_addresses_gets_one_port():
    sockets = await open_listening_sockets("localhost", 0, backlog=1, reuse_port=False)
    assert len({one.getsockname()[1] for one in sockets}) == 1
    close_all(sockets)
    close_all(sockets)


def test_options_come_from_the_settings(monkeypatch):
    monkeypatch.delenv("PORT", raising=False)
    settings = load_settings(env_file=None, broker_processes=2, allowed_origins="https://a.example")
    options = ListenerOptions.from_settings(settings, connections_max=7)
    assert (options.port, options.reuse_port, options.connections_max) == (8765, True, 7)
    assert options.allowed_origins == ("https://a.example",)
    assert options.max_frame_bytes == settings.max_frame_bytes


async def test_when_too_many_come_at_once_handshakes_get_503_and_health_is_told():
    application = RecordingApplication(echo)
    async with serve(application) as listener:
        async with connect(listener) as one:
            application.refuses = "Too many connect at once; connect again."
            status, headers, body = await http(listener, head())
            assert (status, headers["retry-after"]) == (503, "5")
            assert b"connect again" in body
            assert (await http(listener, b"GET /readyz HTTP/1.1\r\n\r\n"))[0] == 200
            await one.send(text("x"))
            assert await one.read_text() == "x"
            application.refuses = None
        async with connect(listener):
            pass
