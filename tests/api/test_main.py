"""`parley api` as a process: it starts, drains on SIGTERM, and refuses a bad pair of storages."""

from __future__ import annotations

import socket

from tests.support.http import request
from tests.support.servers import run_sql
from tests.support.tokens import make_token
from tests.support.waiting import wait_until

SLOW_HEAD = (
    "POST /v1/rooms HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n"
    "Content-Type: application/json\r\nContent-Length: 2\r\n\r\n{{"
)


async def test_it_serves_and_answers_what_is_under_way_when_told_to_stop(processes):
    process = await processes.start("api")
    answer = await request("GET", f"{process.base_url}/v1/auth/verify", token=make_token("al"))
    assert answer.json()["user"] == {"userId": "al"}
    with socket.create_connection(("127.0.0.1", process.port), timeout=10) as slow:
        slow.sendall(SLOW_HEAD.format(token=make_token("al")).encode())

        async def refuses() -> bool:
            try:
                await request("GET", f"{process.base_url}/healthz")
            except OSError:
                return True
            return False

        # The request whose body is half sent is known to the server once it answers others.
        await request("GET", f"{process.base_url}/healthz")
        process.terminate()
        await wait_until(refuses)
        slow.sendall(b"}")
        head = slow.recv(65536)
        assert head.startswith(b"HTTP/1.1 201 ")
    assert await process.wait_ended() == 0
    assert "Traceback" not in process.output()


async def test_it_does_not_wait_longer_than_it_may_drain(processes):
    process = await processes.start("api", env={"DRAIN_SECONDS": "1"})
    with socket.create_connection(("127.0.0.1", process.port), timeout=10) as slow:
        slow.sendall(SLOW_HEAD.format(token=make_token("al")).encode())
        await request("GET", f"{process.base_url}/healthz")
        assert await process.stop(deadline=5) == 0
    assert "Traceback" not in process.output()


async def test_it_waits_for_a_redis_that_is_not_there_yet_and_can_be_stopped_meanwhile(
    processes, private_redis
):
    private_redis.stop()
    env = {"REDIS_URL": private_redis.url}
    waiting = await processes.start("api", ready=False, env=env)
    await wait_until(lambda: "waiting for storage" in waiting.output(), deadline=20)
    assert await waiting.stop(deadline=10) == 0
    waiting = await processes.start("api", ready=False, env=env)
    await wait_until(lambda: "waiting for storage" in waiting.output(), deadline=20)
    private_redis.start()
    await waiting.wait_ready()


async def test_it_refuses_a_redis_that_belongs_to_another_database(
    processes, private_redis, database_url
):
    await (await processes.start("api", env={"REDIS_URL": private_redis.url})).stop()
    run_sql(
        database_url,
        lambda c: c.execute("UPDATE settings SET value = 'other' WHERE name = 'deployment'"),
    )
    refused = await processes.start("api", ready=False, env={"REDIS_URL": private_redis.url})
    assert await refused.wait_ended() == 2
    assert "REDIS_URL" in refused.output()
    assert "Traceback" not in refused.output()
