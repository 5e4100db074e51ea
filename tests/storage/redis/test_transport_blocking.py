"""The connection for commands that wait in Redis: wake-ups, deadlines, and when it is given up."""

import pytest
import trio
from redis.exceptions import ResponseError
from trio.testing import wait_all_tasks_blocked

from storage.errors import StorageUnavailable
from storage.redis.blocking import BlockingConnection, open_blocking
from storage.redis.replies import LifeInDoubt
from tests.support.proxy import open_proxy
from tests.support.servers import RedisServer


async def test_waiting_for_an_entry_and_reading_on_from_its_id(redis_url, redis_server):
    woken: list[object] = []

    async def read(blocking: BlockingConnection) -> None:
        last = b"0-0"
        while len(woken) < 3:
            reply = await blocking.execute("XREAD", "BLOCK", 0, "STREAMS", "s", last)
            assert isinstance(reply, list)
            entries = reply[0][1]
            last = entries[-1][0]
            woken.extend(fields[1] for _, fields in entries)

    async with open_blocking(redis_url) as blocking, trio.open_nursery() as nursery:
        nursery.start_soon(read, blocking)
        for number in range(3):
            await wait_all_tasks_blocked(0.01)
            redis_server.command("XADD", "s", "*", "e", number)
    assert woken == [b"0", b"1", b"2"]
    assert blocking.is_closed


async def test_redis_answers_nil_at_its_own_timeout_and_the_connection_stays(redis_url):
    async with open_blocking(redis_url) as blocking:
        assert await blocking.execute("XREAD", "BLOCK", 10, "STREAMS", "s", "0", timeout=5) is None
        assert await blocking.execute("PING") == b"PONG"
        with pytest.raises(ResponseError):
            await blocking.execute("NO")
        replies = await blocking.pipeline([("PING",), ("NO",), ("ECHO", 1)])
        assert [type(reply) for reply in replies] == [bytes, ResponseError, bytes]
        assert not blocking.is_closed


async def test_a_deadline_closes_it(redis_url):
    async with open_blocking(redis_url) as blocking:
        with pytest.raises(StorageUnavailable, match="deadline") as caught:
            await blocking.execute("XREAD", "BLOCK", 0, "STREAMS", "s", "0", timeout=0.05)
        assert caught.value.outcome == "unknown"
        assert blocking.is_closed
        with pytest.raises(StorageUnavailable) as caught:
            await blocking.execute("PING")
        assert caught.value.outcome == "not_done"


async def test_cancelling_closes_it(redis_url):
    async with open_blocking(redis_url) as blocking:
        with trio.move_on_after(0.05):
            await blocking.execute("XREAD", "BLOCK", 0, "STREAMS", "s", "0")
        assert blocking.is_closed


async def test_a_second_caller_is_a_bug(redis_url):
    async with open_blocking(redis_url) as blocking, trio.open_nursery() as nursery:
        nursery.start_soon(blocking.execute, "XREAD", "BLOCK", 0, "STREAMS", "s", "0")
        await wait_all_tasks_blocked()
        with pytest.raises(RuntimeError, match="one owner"):
            await blocking.execute("PING")
        nursery.cancel_scope.cancel()


async def test_a_killed_connection_raises(private_redis: RedisServer):
    async with open_blocking(private_redis.url) as blocking, trio.open_nursery() as nursery:

        async def wait() -> None:
            with pytest.raises(StorageUnavailable) as caught:
                await blocking.execute("XREAD", "BLOCK", 0, "STREAMS", "s", "0")
            assert caught.value.outcome == "unknown"

        nursery.start_soon(wait)
        await wait_all_tasks_blocked(0.01)
        private_redis.command("CLIENT", "KILL", "TYPE", "normal")
    assert blocking.is_closed


async def test_a_reply_cut_in_the_middle_raises(private_redis: RedisServer):
    async with (
        open_proxy(private_redis.port) as proxy,
        open_blocking(proxy.replace_port(private_redis.url)) as blocking,
    ):
        proxy.cut_after(3, "to_client")
        with pytest.raises(StorageUnavailable):
            await blocking.execute("PING")


async def test_a_server_whose_life_is_in_doubt_closes_it(
    private_redis: RedisServer, free_port: int
):
    async with open_blocking(private_redis.url) as blocking:
        private_redis.command("REPLICAOF", "127.0.0.1", free_port)
        with pytest.raises(LifeInDoubt):
            await blocking.execute("SET", "k", 1)
        assert blocking.is_closed


async def test_a_server_that_is_away(free_port: int):
    with pytest.raises(StorageUnavailable, match="refused") as caught:
        async with open_blocking(f"redis://127.0.0.1:{free_port}"):
            raise AssertionError
    assert caught.value.outcome == "not_done"


async def test_a_server_that_is_stopped(private_redis: RedisServer):
    private_redis.pause()
    try:
        with trio.fail_after(3), pytest.raises(StorageUnavailable):
            async with open_blocking(private_redis.url, connect_timeout=0.2):
                raise AssertionError
    finally:
        private_redis.resume()
