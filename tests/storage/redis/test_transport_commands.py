"""redis-py's methods over our transport give what redis-py's own client gives."""

from collections.abc import Callable
from typing import Any

import pytest
import redis
import trio
from redis.exceptions import DataError, ResponseError

from storage.redis.client import open_redis

CALLS: dict[str, Callable[[Any], Any]] = {
    "set": lambda r: r.set("k", "v", px=100_000, nx=True),
    "set that does nothing": lambda r: r.set("k", "v", nx=True),
    "get": lambda r: r.get("k"),
    "config_get": lambda r: r.config_get("maxmemory-policy"),
    "hset": lambda r: r.hset("h", mapping={"a": 1, "b": 2.5}),
    "hgetall": lambda r: r.hgetall("h"),
    "hmget": lambda r: r.hmget("h", ["a", "c"]),
    "sadd": lambda r: r.sadd("set", 1, 2),
    "smembers": lambda r: r.smembers("set"),
    "zadd": lambda r: r.zadd("z", {"a": 1, "b": 2}),
    "zrange": lambda r: r.zrange("z", 0, -1, withscores=True),
    "zscore": lambda r: r.zscore("z", "a"),
    "xadd": lambda r: r.xadd("s", {"e": "x"}, id="5-0"),
    "xrange": lambda r: r.xrange("s"),
    "xread": lambda r: r.xread({"s": "0"}, count=1),
    "xinfo": lambda r: r.xinfo_stream("s"),
    "xlen": lambda r: r.xlen("s"),
    "expire": lambda r: r.expire("k", 10),
    "pttl of nothing": lambda r: r.pttl("none"),
    "scan": lambda r: r.scan(match="h*", count=1000),
    "eval": lambda r: r.eval("return {KEYS[1], ARGV[1], 1}", 1, "k", "v"),
    "script exists": lambda r: r.script_exists("0" * 40),
    "script load": lambda r: r.script_load("return 1"),
    "ping": lambda r: r.ping(),
    "delete": lambda r: r.delete("k", "h"),
    "dbsize": lambda r: r.dbsize(),
}


async def test_the_results_are_those_of_redis_py(redis_url):
    plain = redis.Redis.from_url(redis_url, protocol=2)
    expected = {}
    for name, call in CALLS.items():
        expected[name] = call(plain)
    plain.flushall()
    plain.close()
    async with open_redis(redis_url) as client:
        await client.wait_connected(trio.current_time() + 5)
        for name, call in CALLS.items():
            assert await call(client.commands) == expected[name], name


async def test_info_lists_and_iterators(redis_url):
    async with open_redis(redis_url) as client:
        await client.wait_connected(trio.current_time() + 5)
        commands = client.commands
        replication = await commands.info("replication")
        assert replication["role"] == "master"
        assert len(replication["master_replid"]) == 40
        assert (await commands.config_get("maxmemory-policy"))["maxmemory-policy"] == "noeviction"
        await commands.mset({f"k{number}": number for number in range(50)})
        assert len([key async for key in commands.scan_iter("k*", count=7)]) == 50
        names = [row["addr"] for row in await commands.client_list()]
        assert len(names) >= 1


async def test_errors(redis_url):
    async with open_redis(redis_url) as client:
        await client.wait_connected(trio.current_time() + 5)
        await client.commands.set("k", "v")
        with pytest.raises(ResponseError, match="WRONGTYPE"):
            await client.commands.lpush("k", 1)
        with pytest.raises(DataError):
            await client.commands.set("k", None)  # type: ignore[arg-type]
        assert await client.commands.get("k") == b"v"
