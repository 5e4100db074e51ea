"""The pipelined client against a real Redis: order, answers, limits, preparing, cancelling."""

import pytest
import trio
from redis.exceptions import ResponseError

from config.limits import REDIS_UNANSWERED_MAX, REDIS_UNSENT_BYTES_MAX
from storage.errors import StorageUnavailable
from storage.redis.client import RedisClient, open_redis, pack
from storage.redis.connection import RedisConnection
from tests.support.servers import RedisServer
from tests.support.waiting import wait_until


async def connected(client: RedisClient) -> None:
    await client.wait_connected(trio.current_time() + 5)


async def test_commands_are_run_in_the_order_of_submit_for_1000_callers(redis_url):
    order: list[bytes] = []

    async def call(client: RedisClient, caller: int) -> None:
        for turn in range(10):
            word = f"{caller}.{turn}".encode()
            order.append(word)
            length = await client.execute("RPUSH", "order", word)
            assert isinstance(length, int)
            assert order[length - 1] == word

    async with open_redis(redis_url) as client:
        await connected(client)
        async with trio.open_nursery() as nursery:
            for caller in range(1000):
                nursery.start_soon(call, client, caller)
        assert await client.execute("LRANGE", "order", 0, -1) == order


async def test_replies_are_raw_and_errors_are_raised(redis_url):
    async with open_redis(redis_url) as client:
        await connected(client)
        assert await client.execute("SET", "k", "å") == b"OK"
        assert await client.execute("GET", "k") == "å".encode()
        assert await client.execute("GET", "none") is None
        assert await client.execute("INCRBY", "n", 7) == 7
        assert await client.execute("MGET", "k", "none") == ["å".encode(), None]
        with pytest.raises(ResponseError, match="WRONGTYPE"):
            await client.execute("LPUSH", "k", 1)


async def test_a_pipeline_gives_errors_in_their_places(redis_url):
    async with open_redis(redis_url) as client:
        await connected(client)
        replies = await client.pipeline([("SET", "k", 1), ("LPOP", "k"), ("INCR", "k"), ("NO",)])
        assert replies[0] == b"OK"
        assert isinstance(replies[1], ResponseError)
        assert replies[2] == 2
        assert isinstance(replies[3], ResponseError)
        assert await client.pipeline([]) == []


async def test_a_pipeline_is_one_send_and_one_receive(redis_url):
    async with open_redis(redis_url) as client:
        await connected(client)
        before = client.statistics()
        await client.pipeline([("PING",)] * 500)
        after = client.statistics()
        assert after.commands - before.commands == 500
        assert after.bytes_sent - before.bytes_sent == 500 * len(pack("PING"))
        assert after.bytes_received - before.bytes_received == 500 * len(b"+PONG\r\n")
        assert after.in_flight == 0
        assert after.last_round_trip is not None
        assert 0 < after.last_round_trip < 5


async def test_a_reply_of_32_mebibytes_and_small_ones_around_it(redis_url):
    size = 32 * 1024 * 1024
    async with open_redis(redis_url) as client:
        await connected(client)
        await client.execute("SETRANGE", "big", size - 1, "x")
        before, big, after = await client.pipeline([("ECHO", "a"), ("GET", "big"), ("ECHO", "b")])
        assert (before, after) == (b"a", b"b")
        assert isinstance(big, bytes)
        assert len(big) == size


async def test_a_callback_that_raises_does_not_harm_the_others(redis_url):
    answers: list[object] = []

    def fail(reply: object) -> None:
        raise LookupError("a bug in a callback")

    async with open_redis(redis_url) as client:
        await connected(client)
        client.submit(pack("ECHO", 1), answers.append)
        client.submit(pack("ECHO", 2), fail)
        client.submit(pack("ECHO", 3), answers.append)
        assert await client.execute("ECHO", 4) == b"4"
        assert answers == [b"1", b"3"]
        assert client.statistics().callback_errors == 1
        assert client.connection_number == 1


async def test_cancelling_anywhere_never_shifts_the_replies_of_others(redis_url):
    async with open_redis(redis_url) as client:
        await connected(client)
        for steps in range(12):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(client.execute, "ECHO", "abandoned")
                nursery.start_soon(client.pipeline, [("ECHO", "abandoned")] * 3)
                for _ in range(steps):
                    await trio.lowlevel.checkpoint()
                nursery.cancel_scope.cancel()
            assert await client.execute("ECHO", steps) == str(steps).encode()
        assert client.statistics().in_flight == 0
        assert client.connection_number == 1


async def test_a_call_in_a_cancelled_scope_sends_nothing(redis_url):
    async with open_redis(redis_url) as client:
        await connected(client)
        with trio.CancelScope() as scope:
            scope.cancel()
            await client.execute("SET", "k", 1)
        assert await client.execute("EXISTS", "k") == 0


async def test_without_a_server_every_command_is_refused_at_once(free_port):
    answers: list[object] = []
    async with open_redis(f"redis://127.0.0.1:{free_port}") as client:
        client.submit(pack("PING"), answers.append)
        assert isinstance(answers[0], StorageUnavailable)
        with pytest.raises(StorageUnavailable) as caught, trio.fail_after(1):
            await client.execute("PING")
        assert (caught.value.outcome, caught.value.backend) == ("not_done", "redis")
        replies = await client.pipeline([("PING",), ("PING",)])
        assert [type(reply) for reply in replies] == [StorageUnavailable] * 2
        with pytest.raises(StorageUnavailable, match="refused"):
            await client.wait_connected(trio.current_time() + 0.3)
        assert not client.is_connected
        assert client.connection_number == 0


async def test_after_the_block_the_client_refuses(redis_url):
    async with open_redis(redis_url) as client:
        await connected(client)
    with pytest.raises(StorageUnavailable):
        await client.execute("PING")


async def test_prepare_comes_before_everybody_on_every_connection(redis_url):
    prepared: list[object] = []

    async def prepare(connection: RedisConnection) -> None:
        assert not client.is_connected
        with pytest.raises(StorageUnavailable):
            await client.execute("PING")
        prepared.append(await connection.execute("CLIENT", "ID"))

    async with open_redis(redis_url, prepare=prepare) as client:
        await connected(client)
        assert prepared == [await client.execute("CLIENT", "ID")]
        client.disconnect_now()
        assert not client.is_connected
        await connected(client)
        assert client.connection_number == 2
        assert client.statistics().reconnects == 1
        assert prepared[1:] == [await client.execute("CLIENT", "ID")]
        assert prepared[0] != prepared[1]


@pytest.mark.parametrize("error", [ValueError("a bug"), StorageUnavailable("redis")])
async def test_a_connection_whose_preparing_fails_is_not_offered(redis_url, error):
    attempts = 0

    async def prepare(connection: RedisConnection) -> None:
        nonlocal attempts
        attempts += 1
        await connection.execute("PING")
        if attempts < 3:
            raise error

    async with open_redis(redis_url, prepare=prepare) as client:
        await connected(client)
        assert attempts == 3
        assert client.connection_number == 1
        assert client.statistics().failures >= 2


async def test_disconnecting_from_a_callback_answers_the_rest_as_unknown(redis_url):
    answers: list[object] = []
    async with open_redis(redis_url) as client:
        await connected(client)
        client.submit(pack("PING"), lambda reply: client.disconnect_now())
        client.submit(pack("BLPOP", "nothing", 0), answers.append)
        await wait_until(lambda: answers)
        assert isinstance(answers[0], StorageUnavailable)
        assert answers[0].outcome == "unknown"
        await connected(client)
        assert await client.execute("PING") == b"PONG"


async def test_a_callback_may_submit_again_and_is_refused_while_the_connection_ends(redis_url):
    answers: list[object] = []

    def try_again(reply: object) -> None:
        answers.append(reply)
        client.submit(pack("PING"), answers.append)

    async with open_redis(redis_url) as client:
        await connected(client)
        client.submit(pack("BLPOP", "nothing", 0), try_again)
        client.disconnect_now()
        await wait_until(lambda: len(answers) == 2)
        outcomes = [answer.outcome for answer in answers if isinstance(answer, StorageUnavailable)]
        assert outcomes[1] == "not_done"


async def test_unanswered_commands_are_limited(private_redis: RedisServer):
    answers: list[object] = []
    async with open_redis(private_redis.url, command_timeout=30) as client:
        await connected(client)
        client.submit(pack("BLPOP", "wake", 0), answers.append)
        for _ in range(REDIS_UNANSWERED_MAX - 1):
            client.submit(pack("PING"), answers.append)
        assert answers == []
        client.submit(pack("PING"), answers.append)
        assert isinstance(answers[0], StorageUnavailable)
        assert answers[0].outcome == "not_done"
        private_redis.command("RPUSH", "wake", 1)
        await wait_until(lambda: len(answers) == REDIS_UNANSWERED_MAX + 1)
        assert await client.execute("PING") == b"PONG"


async def test_unsent_bytes_are_limited(redis_url):
    mebibyte = pack("ECHO", b"x" * 1024 * 1024)
    count = REDIS_UNSENT_BYTES_MAX // len(mebibyte) + 1
    answers: list[object] = []
    async with open_redis(redis_url, command_timeout=30) as client:
        await connected(client)
        for _ in range(count + 1):
            client.submit(mebibyte, answers.append)
        assert isinstance(answers[0], StorageUnavailable)
        assert answers[0].outcome == "not_done"
        await wait_until(lambda: len(answers) == count + 1)
        assert all(isinstance(answer, bytes) for answer in answers[1:])


async def test_a_short_timeout_holds_for_the_command_that_asks_for_it(redis_url):
    async with open_redis(redis_url, command_timeout=30) as client:
        await connected(client)
        with trio.fail_after(5), pytest.raises(StorageUnavailable) as caught:
            await client.execute("BLPOP", "nothing", 0, timeout=0.1)
        assert caught.value.outcome == "unknown"
        await connected(client)
