"""Each metric moves when its thing happens: a real broker, api and archiver, read over HTTP."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest
import trio
import trio_websocket

from tests.support.client import ChatClient
from tests.support.deployment import Deployment, make_key
from tests.support.http import request
from tests.support.metrics import MetricsPage
from tests.support.processes import Processes
from tests.support.servers import PostgresServer, RedisServer
from tests.support.tokens import make_token
from workers.embedded.ports import LOOPBACK, free_port

Name = Callable[[str], str]
BROKER = {"AUTH_TIMEOUT": "1s", "RATE_MESSAGES_PER_SECOND": "200", "SEND_QUEUE_BYTES": "4000000"}
API = {"RATE_REQUESTS_PER_SECOND": "2"}


@dataclass
class Watched:
    """A deployment, and the page of each of its processes."""

    chat: Deployment
    broker: MetricsPage
    api: MetricsPage
    archiver: MetricsPage


async def start(processes: Processes, redis: RedisServer, database_url: str) -> Watched:
    processes.env |= {"REDIS_URL": redis.url, "DATABASE_URL": database_url, "DRAIN_SECONDS": "8"}
    ports = [free_port() for _ in range(3)]
    settings: tuple[tuple[str, dict[str, str]], ...] = (
        ("broker", BROKER),
        ("api", API),
        ("archiver", {}),
    )
    servers = [
        await processes.start(kind, env=env | {"METRICS_PORT": str(port)})
        for (kind, env), port in zip(settings, ports, strict=True)
    ]
    key = await make_key(database_url)
    chat = Deployment(processes, redis, database_url, servers[:1], servers[1], servers[2], key)
    return Watched(chat, *map(MetricsPage, ports))


@pytest.fixture(scope="module")
def watched(
    tmp_path_factory: pytest.TempPathFactory, postgres_server: PostgresServer
) -> Iterator[Watched]:
    folder = tmp_path_factory.mktemp("watched")
    redis = RedisServer(folder / "redis")
    redis.start()
    url = postgres_server.create_database()
    processes = Processes(folder / "processes", {})
    try:
        yield trio.run(partial(start, processes, redis, url))
    finally:
        processes.kill_all()
        redis.stop()
        postgres_server.drop_database(url)


async def test_a_publish_is_timed_stage_by_stage(watched: Watched, name: Name):
    room, alice = name("room"), name("alice")
    await watched.chat.create_room(room, alice)
    stages = ("begin", "script", "inbox", "post")
    count = "parley_publish_stage_seconds_count"
    before = {stage: await watched.broker.value(count, stage=stage) for stage in stages}
    notices = await watched.archiver.value("parley_notification_lag_seconds_count")
    async with watched.chat.connect(alice) as client:
        await client.subscribe(room)
        for number in range(40):
            await client.publish(room, f"{number}")
            await client.wait_messages(room, number + 1)
        for stage in stages:
            await watched.broker.wait_above(before[stage], count, stage=stage)
    await watched.archiver.wait_above(notices, "parley_notification_lag_seconds_count")
    total = await watched.broker.value("parley_publish_stage_seconds_sum", stage="inbox")
    assert 0 <= total < 60, "the clock of Redis is this machine's"


async def test_resumes_are_counted_by_outcome(watched: Watched, name: Name):
    room, alice = name("room"), name("alice")
    await watched.chat.create_room(room, alice)
    outcomes = ("recovered", "epoch", "ahead")
    before = {o: await watched.broker.value("parley_resumes_total", outcome=o) for o in outcomes}
    async with watched.chat.connect(alice, check=False) as client:
        reply = await client.subscribe(room)
        for epoch, offset in ((reply["epoch"], 0), ("elsewhere", 0), (reply["epoch"], 10**6)):
            await client.subscribe(room, since={"epoch": epoch, "offset": offset})
    after = {o: await watched.broker.value("parley_resumes_total", outcome=o) for o in outcomes}
    assert after == {outcome: value + 1 for outcome, value in before.items()}


async def test_a_subscription_that_the_server_ends_is_counted(watched: Watched, name: Name):
    room, alice = name("room"), name("alice")
    await watched.chat.create_room(room, alice)
    async with watched.chat.connect(alice) as client:
        await client.subscribe(room)
        assert (await watched.chat.remove_member(room, alice)).status == 204
        await watched.broker.wait_above(0, "parley_subscriptions_ended_total", code="not_a_member")


async def test_a_broker_counts_why_somebody_was_not_let_in(watched: Watched, name: Name):
    url, banned = watched.chat.brokers[0].url, name("banned")
    await watched.chat.ok("POST", "/v1/users", {"id": banned})
    await watched.chat.ok("PATCH", f"/v1/users/{banned}", {"status": "banned"})
    tokens = {
        "bad_token": "nonsense",
        "token_expired": make_token("late", exp=int(time.time()) - 3600),
        "forbidden": make_token(banned),
    }
    counter = "parley_authentication_failures_total"
    for reason, token in tokens.items():
        before = await watched.broker.value(counter, reason=reason)
        async with ChatClient.connect(url, token, hello=False) as client:
            await client.wait_ended()
        await watched.broker.wait_above(before, counter, reason=reason)
    before = await watched.broker.value(counter, reason="missing")
    async with ChatClient.connect(url, None, hello=False) as client:
        await client.wait_ended()
    await watched.broker.wait_above(before, counter, reason="missing")


async def test_an_api_counts_why_somebody_was_not_let_in(watched: Watched, name: Name):
    base = f"{watched.chat.processes.started[1].base_url}/v1/me"
    counter = "parley_authentication_failures_total"
    expired = make_token(name("late"), exp=int(time.time()) - 3600)
    asked: dict[str, dict[str, Any]] = {
        "missing": {},
        "bad_key": {"key": "parley_none"},
        "bad_token": {"token": "nonsense"},
        "token_expired": {"token": expired},
    }
    for reason, options in asked.items():
        before = await watched.api.value(counter, reason=reason)
        assert (await request("GET", base, **options)).status == 401
        assert await watched.api.value(counter, reason=reason) == before + 1


async def test_what_is_over_its_rate_is_counted(watched: Watched, name: Name):
    room, alice = name("room"), name("alice")
    await watched.chat.create_room(room, alice)
    before = await watched.api.value("parley_rate_limited_total")
    url, token = f"{watched.chat.processes.started[1].base_url}/v1/me", make_token(alice)
    statuses = [(await request("GET", url, token=token)).status for _ in range(40)]
    refused = statuses.count(429)
    assert refused
    assert await watched.api.value("parley_rate_limited_total") == before + refused
    before = await watched.broker.value("parley_rate_limited_total")
    async with watched.chat.connect(alice) as client:
        for _ in range(900):
            await client.send({"type": "publish", "room": room, "content": "much"})
        # What has not been read when the client goes is never read.
        await watched.broker.wait_above(before, "parley_rate_limited_total")


async def test_a_request_is_timed_by_its_route(watched: Watched, name: Name):
    labels = {"method": "GET", "route": "/v1/rooms/<room>"}
    room = name("room")
    await watched.chat.create_room(room, name("alice"))
    await watched.chat.ok("GET", f"/v1/rooms/{room}")
    found = await watched.api.read()
    routes = {dict(labels).get("route") for name_, labels in found if "request_seconds" in name_}
    assert not any(room in (route or "") for route in routes), "a label holds no room"
    assert any(route and route.startswith("/v1/rooms/<") for route in routes), (labels, routes)


async def test_bytes_kept_for_a_slow_client_show(watched: Watched, name: Name):
    room, alice, bob = name("room"), name("alice"), name("bob")
    await watched.chat.create_room(room, alice, bob)
    port = watched.chat.brokers[0].port
    stream = await trio.open_tcp_stream(LOOPBACK, port)
    async with stream, trio.open_nursery() as nursery:
        slow = await trio_websocket.wrap_client_stream(
            nursery, stream, f"{LOOPBACK}:{port}", f"/v1/connect?token={make_token(bob)}"
        )
        await slow.send_message(f'{{"type":"subscribe","room":"{room}"}}')
        async with watched.chat.connect(alice) as client:
            await client.subscribe(room)
            number = 0
            while not await watched.broker.value("parley_outbox_bytes"):
                for _ in range(20):
                    number += 1
                    await client.publish(room, "x" * 15_000)
                    await client.wait_messages(room, number)
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("process", ["broker", "api", "archiver"])
async def test_every_process_tells_about_itself(watched: Watched, process: str):
    page: MetricsPage = getattr(watched, process)
    found = await page.read()
    assert [labels for name, labels in found if name == "parley_build_info"]
    assert await page.value("parley_draining") == 0
    for histogram in ("event_loop_lag", "redis_round_trip", "postgres_query"):
        await page.wait_above(0, f"parley_{histogram}_seconds_count")
    await page.wait_above(0, "parley_redis_connected")
    await page.wait_above(0, "parley_postgres_connected")
    await page.wait_above(0, "parley_postgres_connections", state="open")
    assert abs(await page.value("parley_redis_clock_ahead_seconds")) < 30


async def test_a_drain_shows_and_so_does_a_new_life(
    processes: Processes, private_redis: RedisServer, database_url: str
):
    watched = await start(processes, private_redis, database_url)
    await watched.chat.create_room("room", "alice")
    async with watched.chat.connect("alice") as client:
        await client.subscribe("room")
        await client.publish("room", "one")
        private_redis.lose_data()
        await watched.broker.wait_above(0, "parley_fences_total")
        await watched.broker.wait_above(0, "parley_subscriptions_ended_total", code="resync")
        await watched.broker.wait_above(1, "parley_incarnations_total")
        watched.chat.brokers[0].terminate()
        await watched.broker.wait_above(0, "parley_draining")
    assert await watched.chat.brokers[0].wait_ended() == 0
