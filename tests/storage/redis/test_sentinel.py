"""Finding the master by sentinels: who is believed, what is told, and leaving an old master."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio

from storage.errors import StorageRefused, StorageUnavailable
from storage.redis.address import RedisAddress, SentinelAddress, parse_address
from storage.redis.blocking import open_blocking
from storage.redis.client import RedisClient, open_redis
from storage.redis.sentinel import Found, SentinelAnswer, ServerFinder, judge
from tests.support.proxy import open_proxy
from tests.support.sentinels import SERVICE, SentinelServer, WatchedRedis, url_of
from tests.support.servers import RedisServer
from tests.support.waiting import wait_until
from workers.embedded.ports import LOOPBACK

SENTINELS = tuple(RedisAddress(f"s{number}", 26379) for number in range(3))
ADDRESS = SentinelAddress(SERVICE, SENTINELS, RedisAddress("master", database=2))
OLD, NEW = ADDRESS.master_at("old", 1), ADDRESS.master_at("new", 1)
AWAY = StorageUnavailable("redis", "not_done", "s: Connection refused")


def named(place: int, master: RedisAddress, epoch: int) -> SentinelAnswer:
    return SentinelAnswer(SENTINELS[place], master, epoch)


def away(place: int) -> SentinelAnswer:
    return SentinelAnswer(SENTINELS[place], problem=AWAY)


# --- who is believed ------------------------------------------------------------------------------


def test_a_majority_is_believed():
    found = judge(ADDRESS, [named(0, NEW, 3), named(1, NEW, 3), away(2)])
    assert found == Found(NEW, 3, is_majority=True)


def test_the_newest_configuration_beats_an_older_majority():
    """It was agreed upon by a majority, which has not heard of it yet."""
    answers = [named(0, OLD, 3), named(1, OLD, 3), named(2, NEW, 4)]
    assert judge(ADDRESS, answers) == Found(NEW, 4, is_majority=False)


def test_the_only_one_that_answers_is_believed_but_is_no_majority():
    assert judge(ADDRESS, [named(0, OLD, 3), away(1), away(2)]) == Found(OLD, 3, is_majority=False)


def test_what_is_for_the_operator_is_told_as_such():
    refused = StorageRefused("redis", "REDIS_URL: s knows no service")
    with pytest.raises(StorageRefused, match="knows no service"):
        raise_judged([away(0), SentinelAnswer(SENTINELS[1], problem=refused), away(2)])
    with pytest.raises(StorageUnavailable, match="no sentinel of chat: s: Connection refused"):
        raise_judged([away(0), away(1), away(2)])


def raise_judged(answers: list[SentinelAnswer]) -> None:
    judge(ADDRESS, answers)


# --- real sentinels -------------------------------------------------------------------------------


@pytest.fixture
async def watched(tmp_path: Path) -> AsyncIterator[WatchedRedis]:
    servers = WatchedRedis(tmp_path / "watched")
    try:
        await servers.start()
        yield servers
    finally:
        servers.stop()


async def test_a_minority_does_not_lead_back(watched: WatchedRedis):
    """A sentinel that lies: it knows nothing of the failover, and the old master neither."""
    first, second, (stale, *others) = watched.first, watched.second, watched.sentinels
    async with open_proxy(others[0].port) as way_0, open_proxy(others[1].port) as way_1:
        finder = ServerFinder(parse_address(url_of(stale.port, way_0.port, way_1.port)))
        assert (await finder.find()).server.port == first.port
        stale.stop()
        watched.hide(first)
        others[0].command("SENTINEL", "FAILOVER", SERVICE)
        await wait_until(
            lambda: {sentinel.master_port() for sentinel in others} == {second.port}, deadline=40
        )
        stale.start(first.port)
        await stale.wait_ready()
        assert first.command("ROLE")[0] == b"master"
        found = await finder.find()
        assert (found.server.port, found.config_epoch > 0) == (second.port, True)
        # The others can not be reached: one answer is left, and it is older than what was seen.
        for way in (way_0, way_1):
            way.refuse()
        with pytest.raises(StorageUnavailable, match="name an older master"):
            await finder.find()
        found = await ServerFinder(finder.address).find()
        assert (found.server.port, found.is_majority) == (first.port, False)
        answers = await finder.ask_all()
        assert [answer.master is None for answer in answers] == [False, True, True]


async def test_a_master_that_was_replaced_is_left(watched: WatchedRedis):
    """Nobody can tell it, and it goes on accepting: the sentinels are asked now and then."""
    async with open_redis(watched.url) as client:
        await connected(client)
        assert client.server.port == watched.first.port
        watched.hide(watched.first)
        watched.sentinels[0].command("SENTINEL", "FAILOVER", SERVICE)
        await wait_until(lambda: client.connection_number == 2, deadline=40)
        assert client.server.port == watched.second.port
        assert watched.first.command("ROLE")[0] == b"master"
        async with open_blocking(client.server) as blocking:
            assert (await blocking.execute("ROLE"))[0] == b"master"  # type: ignore[index]


async def test_a_server_that_is_no_master_is_not_used(
    private_redis: RedisServer, tmp_path: Path, free_port: int
):
    sentinel = SentinelServer(tmp_path / "sentinel", free_port)
    sentinel.start(private_redis.port)
    try:
        await sentinel.wait_ready()
        private_redis.command("REPLICAOF", LOOPBACK, 1)
        async with open_redis(url_of(sentinel.port)) as client:
            reason = f"{LOOPBACK}:{private_redis.port} is no master"
            with pytest.raises(StorageUnavailable, match=reason):
                await client.wait_connected(trio.current_time() + 1)
            private_redis.command("REPLICAOF", "NO", "ONE")
            await connected(client)
            assert await client.execute("PING") == b"PONG"
    finally:
        sentinel.stop()


async def test_sentinels_of_which_none_helps(
    private_redis: RedisServer, tmp_path: Path, free_port: int
):
    """Away, without the service, with a password: each is told in its own words."""
    async with open_redis(url_of(free_port)) as client:
        with pytest.raises(StorageUnavailable, match=r"no sentinel of chat: .*refused"):
            await client.wait_connected(trio.current_time() + 1)
        with pytest.raises(StorageUnavailable, match="no sentinel of chat"):
            _ = client.server
        with pytest.raises(StorageUnavailable, match="no sentinel of chat"):
            await client.execute("PING")
    sentinel = SentinelServer(tmp_path / "sentinel", free_port)
    sentinel.start(private_redis.port)
    try:
        await sentinel.wait_ready()
        async with open_redis(url_of(sentinel.port, service="unknown")) as client:
            with pytest.raises(StorageRefused, match=r"REDIS_URL: .* knows no service 'unknown'"):
                await connected(client)
        sentinel.command("ACL", "SETUSER", "default", "resetpass", ">s3cret")
        async with open_redis(url_of(sentinel.port)) as client:
            with pytest.raises(StorageRefused, match=r"REDIS_URL: .* did not accept us without"):
                await connected(client)
        wrong, right = "?sentinel_password=wr0ng", "?sentinel_password=s3cret"
        async with open_redis(url_of(sentinel.port, options=wrong)) as client:
            with pytest.raises(StorageRefused, match=r"REDIS_URL: .* did not accept") as caught:
                await connected(client)
            assert "wr0ng" not in str(caught.value)
        async with open_redis(url_of(sentinel.port, options=right)) as client:
            await connected(client)
            assert await client.execute("PING") == b"PONG"
    finally:
        sentinel.stop()


async def connected(client: RedisClient) -> None:
    await client.wait_connected(trio.current_time() + 20)
