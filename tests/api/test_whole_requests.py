"""Requests refused before their body was read: the answer comes, the connection goes on."""

from __future__ import annotations

import http.client
from contextlib import closing

import pytest
import trio

from config.api_limits import API_BODY_BYTES_MAX, API_UNREAD_BYTES_MAX
from tests.support.processes import Processes, ServerProcess

# No credential, so nothing reads the body.
HEADERS = {"Content-Type": "application/json"}


@pytest.fixture
async def api(processes: Processes) -> ServerProcess:
    return await processes.start("api")


def ask(connection: http.client.HTTPConnection, body: bytes, method: str = "POST") -> int:
    connection.request(method, "/v1/rooms", body=body, headers=HEADERS)
    with closing(connection.getresponse()) as answer:
        answer.read()
        return answer.status


@pytest.mark.parametrize("size", [2, 70_000, 300_000, API_BODY_BYTES_MAX])
async def test_the_connection_goes_on_after_a_body_that_nobody_read(api, size):
    def work() -> list[int]:
        with closing(http.client.HTTPConnection("127.0.0.1", api.port, timeout=10)) as connection:
            return [ask(connection, b"x" * size) for _ in range(5)]

    assert await trio.to_thread.run_sync(work) == [401] * 5


async def test_a_body_that_is_too_large_is_still_answered(api):
    def work() -> list[int]:
        with closing(http.client.HTTPConnection("127.0.0.1", api.port, timeout=10)) as connection:
            return [ask(connection, b"x" * (API_BODY_BYTES_MAX + 1)) for _ in range(3)]

    assert await trio.to_thread.run_sync(work) == [401] * 3


async def test_a_body_without_an_end_ends_the_connection(api):
    """It is neither taken for ever nor left: the server closes, and serves others meanwhile."""

    def work() -> bool:
        with closing(http.client.HTTPConnection("127.0.0.1", api.port, timeout=20)) as connection:
            connection.putrequest("POST", "/v1/rooms")
            connection.putheader("Transfer-Encoding", "chunked")
            connection.endheaders()
            chunk = b"10000\r\n%b\r\n" % (b"x" * 65536)
            try:
                for _ in range(10 * API_UNREAD_BYTES_MAX // 65536):
                    connection.send(chunk)
            except (BrokenPipeError, ConnectionResetError):
                return True
        return False

    with trio.fail_after(30):
        assert await trio.to_thread.run_sync(work), "the server has read all of it"

    def other() -> list[int]:
        with closing(http.client.HTTPConnection("127.0.0.1", api.port, timeout=10)) as connection:
            return [ask(connection, b"{}")]

    assert await trio.to_thread.run_sync(other) == [401]
    assert "Traceback" not in api.output()


async def test_a_body_that_never_comes_is_not_waited_for_long(api):
    def work() -> list[str | None]:
        with closing(http.client.HTTPConnection("127.0.0.1", api.port, timeout=10)) as connection:
            connection.putrequest("POST", "/v1/rooms")
            connection.putheader("Content-Length", "10")
            connection.endheaders()
            with closing(connection.getresponse()) as answer:
                return [str(answer.status), answer.getheader("Connection")]

    assert await trio.to_thread.run_sync(work) == ["401", "close"]
