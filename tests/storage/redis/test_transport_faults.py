"""What the pipelined client does when the connection, the server or the replies go wrong."""

import time
from functools import partial

import pytest
import trio
from redis.exceptions import ResponseError
from trio.testing import wait_all_tasks_blocked

from storage.errors import StorageUnavailable
from storage.redis.client import RedisClient, open_redis, pack
from storage.redis.replies import LifeInDoubt
from tests.support.proxy import open_proxy
from tests.support.servers import RedisServer
from tests.support.waiting import wait_until


async def connected(client: RedisClient) -> None:
    await client.wait_connected(trio.current_time() + 5)


def outcomes(answers: list[object]) -> list[str | None]:
    return [getattr(answer, "outcome", None) for answer in answers]


async def test_client_kill_makes_what_is_in_flight_unknown_and_later_commands_work(
    private_redis: RedisServer,
):
    answers: list[object] = []
    async with open_redis(private_redis.url) as client:
        await connected(client)
        client.submit(pack("SET", "k", 1), answers.append)
        client.submit(pack("BLPOP", "nothing", 0), answers.append)
        for _ in range(20):
            client.submit(pack("INCR", "k"), answers.append)
        await wait_until(lambda: answers)
        assert answers == [b"OK"]
        private_redis.command("CLIENT", "KILL", "TYPE", "normal")
        await wait_until(lambda: len(answers) == 22)
        assert outcomes(answers[1:]) == ["unknown"] * 21
        await connected(client)
        assert await client.execute("GET", "k") == b"1"
        assert client.connection_number == 2


async def test_a_stopped_server_is_unavailable_within_the_deadline_and_then_recovers(
    private_redis: RedisServer,
):
    async with open_redis(private_redis.url, command_timeout=0.3, connect_timeout=0.3) as client:
        await connected(client)
        private_redis.pause()
        try:
            with trio.fail_after(2), pytest.raises(StorageUnavailable) as caught:
                await client.execute("SET", "k", 1)
            assert caught.value.outcome == "unknown"
            with trio.fail_after(0.2), pytest.raises(StorageUnavailable) as caught:
                await client.execute("SET", "k", 1)
            assert caught.value.outcome == "not_done"
            await wait_until(lambda: client.statistics().failures >= 2)
        finally:
            private_redis.resume()
        await connected(client)
        assert await client.execute("PING") == b"PONG"


async def test_a_process_that_was_stopped_itself_does_not_blame_the_server(redis_url):
    async with open_redis(redis_url, command_timeout=0.05) as client:
        await connected(client)
        for word in range(8):
            with trio.fail_after(5):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(client.execute, "ECHO", word)
                    await wait_all_tasks_blocked()
                    time.sleep(0.11)  # nobody runs, neither reader nor watchdog: this is the fault
        assert client.connection_number == 1


async def test_a_server_that_is_killed_and_started_again(private_redis: RedisServer):
    async with open_redis(private_redis.url) as client:
        await connected(client)
        await client.execute("SET", "k", 1)
        private_redis.stop()
        await wait_until(lambda: not client.is_connected)
        await wait_until(lambda: client.statistics().failures >= 3)
        private_redis.start()
        await connected(client)
        assert await client.execute("GET", "k") == b"1"


async def test_what_the_kernel_never_took_is_not_done(private_redis: RedisServer):
    answers: list[object] = []
    async with open_redis(private_redis.url, command_timeout=0.3) as client:
        await connected(client)
        private_redis.pause()
        try:
            client.submit(pack("SET", "first", 1), answers.append)
            await wait_until(lambda: client.statistics().in_flight == 1)
            await wait_all_tasks_blocked()
            client.submit(pack("SET", "second", b"x" * 30_000_000), answers.append)
            await wait_all_tasks_blocked()
            client.submit(pack("SET", "third", 3), answers.append)
            await wait_until(lambda: len(answers) == 3)
            assert outcomes(answers) == ["unknown", "not_done", "not_done"]
        finally:
            private_redis.resume()
        await connected(client)
        assert await client.execute("EXISTS", "second", "third") == 0


async def test_a_half_open_connection_is_given_up_at_the_deadline(private_redis: RedisServer):
    async with (
        open_proxy(private_redis.port) as proxy,
        open_redis(proxy.replace_port(private_redis.url), command_timeout=0.3) as client,
    ):
        await connected(client)
        proxy.swallow()
        with trio.fail_after(2), pytest.raises(StorageUnavailable) as caught:
            await client.execute("SET", "k", 1)
        assert caught.value.outcome == "unknown"
        proxy.stop_swallowing()
        await connected(client)
        assert await client.execute("EXISTS", "k") == 0


@pytest.mark.parametrize("count", [0, 1, 5, 6, 7, 8, 5000, 10_010, 10_011])
async def test_a_reply_that_is_cut_in_the_middle_never_reaches_the_caller(
    private_redis: RedisServer, count: int
):
    private_redis.command("SET", "k", "x" * 10_000)
    whole = len("+PONG\r\n$10000\r\n") + 10_000 + len("\r\n")
    assert count < whole
    async with (
        open_proxy(private_redis.port) as proxy,
        open_redis(proxy.replace_port(private_redis.url)) as client,
    ):
        await connected(client)
        proxy.cut_after(count, "to_client")
        first, second = await client.pipeline([("PING",), ("GET", "k")])
        assert isinstance(first, StorageUnavailable) == (count < len("+PONG\r\n"))
        assert isinstance(second, StorageUnavailable)
        assert second.outcome == "unknown"
        await connected(client)
        value = await client.execute("GET", "k")
        assert value == b"x" * 10_000


async def test_cutting_the_connection_again_and_again_never_mixes_up_answers(
    private_redis: RedisServer,
):
    wrong: list[object] = []
    done = 0
    is_over = False

    def has_moved_on_and_lost(client: RedisClient, at: int) -> bool:
        return done > at and not client.is_connected

    async def call(client: RedisClient, caller: int) -> None:
        nonlocal done
        while not is_over:
            word = f"{caller}-{done}".encode()
            try:
                reply = await client.execute("ECHO", word)
            except StorageUnavailable:
                await trio.lowlevel.checkpoint()
                with trio.move_on_after(1):
                    await client.wait_connected(trio.current_time() + 1)
                continue
            done += 1
            if reply != word:
                wrong.append((word, reply))

    async with (
        open_proxy(private_redis.port) as proxy,
        open_redis(proxy.replace_port(private_redis.url)) as client,
        trio.open_nursery() as nursery,
    ):
        for caller in range(50):
            nursery.start_soon(call, client, caller)
        for limit in range(5):
            await wait_until(lambda: client.is_connected)
            at = done
            proxy.cut_after(700 + 131 * limit, "to_client")
            await wait_until(partial(has_moved_on_and_lost, client, at))
        await connected(client)
        is_over = True
        assert wrong == []
        assert client.connection_number == 6


async def test_a_replica_that_refuses_to_write_is_dropped_and_verified_again(
    private_redis: RedisServer, free_port: int
):
    prepared = 0

    async def prepare(connection: object) -> None:
        nonlocal prepared
        await trio.lowlevel.checkpoint()
        prepared += 1

    def has_prepared_again(before: int) -> bool:
        return prepared > before

    script = "return redis.call('SET', KEYS[1], 1)"
    async with open_redis(private_redis.url, prepare=prepare) as client:
        await connected(client)
        private_redis.command("REPLICAOF", "127.0.0.1", free_port)
        for command in (("SET", "k", 1), ("EVAL", script, 1, "k")):
            before = prepared
            with pytest.raises(LifeInDoubt, match="READONLY") as caught:
                await client.execute(*command)
            assert caught.value.outcome == "not_done"
            await wait_until(partial(has_prepared_again, before))
            await connected(client)
        private_redis.command("CONFIG", "SET", "replica-serve-stale-data", "no")
        with pytest.raises(LifeInDoubt, match="MASTERDOWN"):
            await client.execute("GET", "k")
        private_redis.command("REPLICAOF", "NO", "ONE")
        await connected(client)
        assert await client.execute("EXISTS", "k") == 0


async def test_replies_behind_a_refusal_are_still_told(private_redis: RedisServer, free_port: int):
    async with open_redis(private_redis.url) as client:
        await connected(client)
        private_redis.command("REPLICAOF", "127.0.0.1", free_port)
        replies = await client.pipeline([("SET", "k", 1), ("ECHO", "a"), ("SET", "k", 2)])
        assert [type(reply) for reply in replies] == [LifeInDoubt, bytes, LifeInDoubt]


async def test_a_full_redis_is_unavailable_and_the_connection_stays(private_redis: RedisServer):
    script = "return redis.call('SET', KEYS[1], 1)"
    private_redis.command("CONFIG", "SET", "maxmemory", 1)
    async with open_redis(private_redis.url) as client:
        await connected(client)
        for command in (("SET", "k", 1), ("EVAL", script, 1, "k")):
            with pytest.raises(StorageUnavailable, match="OOM") as caught:
                await client.execute(*command)
            assert caught.value.outcome == "not_done"
        assert client.connection_number == 1
        assert client.is_connected


async def test_a_server_that_wants_replicas_is_unavailable(private_redis: RedisServer):
    private_redis.command("CONFIG", "SET", "min-replicas-to-write", 1)
    async with open_redis(private_redis.url) as client:
        await connected(client)
        with pytest.raises(StorageUnavailable, match="NOREPLICAS"):
            await client.execute("SET", "k", 1)
        with pytest.raises(StorageUnavailable, match="NOREPLICAS"):
            await client.execute("EVAL", "return redis.call('SET', KEYS[1], 1)", 1, "k")
        with pytest.raises(ResponseError, match="my own"):
            await client.execute("EVAL", "return redis.error_reply('ERR my own')", 0)
        assert client.connection_number == 1


@pytest.mark.parametrize(
    "nonsense",
    [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"+OK\r\n+more\r\n", b"%1\r\n%1\r\n+a\r\n+b\r\n+c\r\n"],
)
async def test_a_server_that_is_no_redis_is_reported_and_tried_again(nonsense: bytes):
    calls = 0

    async def answer(stream: trio.SocketStream) -> None:
        nonlocal calls
        calls += 1
        async with stream:
            async for _ in stream:
                await stream.send_all(nonsense)
                return

    async with trio.open_nursery() as nursery:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, answer, listeners)
        port = listeners[0].socket.getsockname()[1]
        async with open_redis(f"redis://127.0.0.1:{port}") as client:
            await wait_until(lambda: calls >= 3)
            with pytest.raises(StorageUnavailable):
                await client.execute("PING")
        nursery.cancel_scope.cancel()
