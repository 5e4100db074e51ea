"""An inbox keeps what was delivered only while there is more to come."""

from __future__ import annotations

from config import limits
from storage.redis.blocking import open_blocking
from storage.redis.inbox import InboxReader
from storage.redis.keys import inbox_key
from tests.support.servers import RedisServer

KEY = inbox_key("n")


def add(server: RedisServer, *texts: str) -> None:
    for text in texts:
        server.command("XADD", KEY, "*", "e", text)


async def test_when_nothing_new_comes_it_is_emptied(redis_url: str, redis_server: RedisServer):
    add(redis_server, "a", "b")
    redis_server.command("PEXPIRE", KEY, 60_000)
    reader = InboxReader("n")
    async with open_blocking(redis_url) as connection:
        assert await reader.read(connection, 1) == [b"a", b"b"]
        assert redis_server.command("XLEN", KEY) == 2
        for _ in range(3):
            assert await reader.read(connection, 1) == []
        assert redis_server.command("XLEN", KEY) == 0
        assert redis_server.command("PTTL", KEY) > 0, "it stays, with its lease: it is not lost"
        assert redis_server.command("XADD", KEY, "NOMKSTREAM", "*", "e", "c") is not None
        assert await reader.read(connection, 1) == [b"c"]


async def test_what_a_rough_trim_left_goes_too(redis_url: str, redis_server: RedisServer):
    reader = InboxReader("n")
    async with open_blocking(redis_url) as connection:
        for _ in range(4):
            add(redis_server, "x" * (limits.INBOX_TRIM_BYTES // 2))
            assert len(await reader.read(connection, 1)) == 1
        assert redis_server.command("XLEN", KEY) > 0
        for _ in range(3):
            assert await reader.read(connection, 1) == []
        assert redis_server.command("XLEN", KEY) == 0


async def test_what_came_meanwhile_is_never_trimmed(redis_url: str, redis_server: RedisServer):
    reader = InboxReader("n")
    async with open_blocking(redis_url) as connection:
        seen = []
        for number in range(20):
            add(redis_server, f"{number}a")
            seen += await reader.read(connection, 1)
            if number % 3:
                seen += await reader.read(connection, 1)
            add(redis_server, f"{number}b")
        seen += await reader.read(connection, 1)
    assert [text.decode() for text in seen] == [f"{n}{half}" for n in range(20) for half in "ab"]
