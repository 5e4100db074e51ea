"""SIGTERM when it does not suit: storages that hang, peers that take nothing, a start, impatience.

Promise 6: whatever hangs, a process ends in DRAIN_SECONDS and a moment; what was answered is kept,
and what was not is repeated with its client_id and makes one message.
"""

import signal
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any

import pytest
import trio

from storage.postgres.pool import open_database
from tests.hostile.target import Target, text_frame
from tests.integration.conftest import Start
from tests.support.client import ChatClient, ChatError, ConnectionEnded
from tests.support.deployment import Deployment
from tests.support.processes import Processes, ServerProcess
from tests.support.servers import PostgresServer, RedisServer, fetch
from tests.support.waiting import wait_until

# DRAIN_SECONDS is 1 here, and closing what hangs takes one more; the rest is for a busy machine.
ENDS_WITHIN = 15.0
PAGES = 10


async def end_all(*servers: ServerProcess) -> None:
    """SIGTERM of all of them; each must end in time, without a word of a bug."""
    for server in servers:
        server.terminate()
    for server in servers:
        assert await server.wait_ended(ENDS_WITHIN) == 0, server.output()
        assert "Traceback" not in server.output()


async def publish_quietly(client: ChatClient, client_id: str) -> None:
    """A publish whose answer may be that nobody knows, or none at all."""
    with suppress(ChatError, ConnectionEnded):
        await client.publish("room", client_id, client_id=client_id)


async def post_quietly(system: Deployment, client_id: str) -> None:
    """The same over REST."""
    with suppress(OSError):
        await system.send("POST", "/v1/rooms/room/messages", message(client_id), user="alice")


def message(client_id: str) -> dict[str, Any]:
    return {"content": client_id, "client_id": client_id}


@pytest.mark.slow
@pytest.mark.timeout(150)
async def test_what_hangs_holds_nobody_up(
    start_private: Start, private_redis: RedisServer, private_postgres: PostgresServer
) -> None:
    """First PostgreSQL is stopped, then Redis; each time somebody takes nothing and one waits."""
    system = await start_private(brokers=2, DRAIN_SECONDS="1", SEND_QUEUE_BYTES="16777216")
    assert system.api is not None
    assert system.archiver is not None
    await system.create_room("room", "alice", "bob")
    for number in range(PAGES):
        await system.post("room", f"{number}{'x' * 30_000}", "alice")
    servers: list[PostgresServer | RedisServer] = [private_postgres, private_redis]
    for place, (broker, server) in enumerate(zip(system.brokers, servers, strict=True)):
        async with system.connect("alice", place) as alice, deaf_reader(broker):
            await alice.subscribe("room")
            await alice.publish("room", f"answered {place}", client_id=f"answered-{place}")
            server.pause()
            async with trio.open_nursery() as nursery:
                if server is private_postgres:
                    # The room is warm, so it is answered, and the archiver hangs with it in hand.
                    await alice.publish("room", "kept", client_id="kept")
                    await end_all(broker, system.archiver)
                else:
                    nursery.start_soon(publish_quietly, alice, "last")
                    nursery.start_soon(post_quietly, system, "last-posted")
                    await end_all(broker, system.api)
            await alice.wait_ended(deadline=20)
            server.resume()
    await check_nothing_is_missing(system)


@asynccontextmanager
async def deaf_reader(broker: ServerProcess) -> AsyncIterator[None]:
    """Somebody who has asked for more than the kernel keeps, and reads nothing of it."""
    target = Target(broker.url, broker.pid, "", broker.pid, "room", 0, user="bob")
    async with target.deaf() as stream:
        await stream.send_all(text_frame(type="history", room="room", limit=100) * 20)
        yield


async def check_nothing_is_missing(system: Deployment) -> None:
    """Repeat what had no answer; then everything is there once, in PostgreSQL, too."""
    system.api = await system.processes.start_api()
    await system.processes.start_archiver()
    path = "/v1/rooms/room/messages"
    for client_id in ("kept", "last", "last-posted"):
        first = await system.ok("POST", path, message(client_id), user="alice")
        again = await system.ok("POST", path, message(client_id), user="alice")
        assert (again["id"], again["duplicate"]) == (first["id"], True)
        assert client_id != "kept" or first["duplicate"]
    await system.check_rooms()
    query = "SELECT client_id FROM messages WHERE client_id IS NOT NULL"
    stored = Counter(row["client_id"] for row in fetch(system.database_url, query))
    assert stored == dict.fromkeys(("answered-0", "answered-1", "kept", "last", "last-posted"), 1)


@pytest.mark.slow
async def test_what_is_under_way_is_finished(start: Start) -> None:
    """A request of the API and a batch of the archiver that wait for a lock when SIGTERM comes."""
    system = await start(brokers=0, DRAIN_SECONDS="20")
    assert system.api is not None
    assert system.archiver is not None
    await system.create_room("room", "alice")
    await system.post("room", "warm", "alice")
    await system.wait_archived()
    answers = []

    async def create() -> None:
        answers.append(await system.send("POST", "/v1/rooms", {"id": "another"}))

    async with (
        open_database(system.database_url, pool_size=1) as db,
        trio.open_nursery() as nursery,
        db.open_transaction() as held,
    ):
        await held.run(lambda c: c.execute("LOCK TABLE rooms, messages IN SHARE MODE"))
        await system.post("room", "text", "alice")
        nursery.start_soon(create)

        async def are_waiting() -> bool:
            query = "SELECT count(*) = 2 FROM pg_locks WHERE NOT granted AND database IS NOT NULL"
            return bool(await held.run(lambda c: c.fetchval(query)))

        await wait_until(are_waiting, what="a request and a batch that wait for the lock")
        system.api.terminate()
        system.archiver.terminate()
        await wait_until(partial(is_closed, system.api), what="the API takes nobody any more")
    assert await system.api.wait_ended() == 0
    assert await system.archiver.wait_ended() == 0
    assert [answer.status for answer in answers] == [201]
    assert system.archive_backlog() == 0
    assert [row["content"] for row in system.stored("room")] == ["warm", "text"]


async def is_closed(server: ServerProcess) -> bool:
    """Whether nobody takes connections on its port."""
    try:
        stream = await trio.open_tcp_stream("127.0.0.1", server.port)
    except OSError:
        return True
    await stream.aclose()
    return False


async def test_a_start_that_waits_is_ended_at_once(
    processes: Processes, private_redis: RedisServer, private_postgres: PostgresServer
) -> None:
    """Nobody is served yet, so nothing is drained, however long a storage would let it wait."""
    processes.env |= {
        "REDIS_URL": private_redis.url,
        "DATABASE_URL": private_postgres.create_database(),
        "DRAIN_SECONDS": "60",
    }
    assert await (await processes.start("archiver")).stop(ENDS_WITHIN) == 0
    # It may be asked which deployment it belongs to, but takes no node.
    private_redis.command("CONFIG", "SET", "maxmemory", "1")
    broker = await processes.start("broker", ready=False)
    await wait_until(lambda: "waiting for storage" in broker.output(), deadline=30)
    await end_all(broker)
    private_postgres.pause()
    api = await processes.start("api", ready=False)
    await wait_until(lambda: "waiting for storage" in api.output(), deadline=40)
    await end_all(api)
    private_postgres.resume()


async def test_without_any_time_it_ends_at_once(start: Start) -> None:
    """DRAIN_SECONDS=0, by SIGINT: whoever is there is told, and repeats elsewhere."""
    system = await start(brokers=1, DRAIN_SECONDS="0")
    broker = system.brokers[0]
    await system.create_room("room", "alice")
    async with system.connect("alice") as alice:
        await alice.publish("room", "text", client_id="text")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(publish_quietly, alice, "last")
            broker.send_signal(signal.SIGINT)
        assert await broker.wait_ended(ENDS_WITHIN) == 0, broker.output()
        assert "Traceback" not in broker.output()
        assert await alice.wait_ended() == 1012
    for client_id, seq in (("last", 2), ("text", 1)):
        path = "/v1/rooms/room/messages"
        repeated = await system.ok("POST", path, message(client_id), user="alice")
        assert repeated["seq"] == seq
    await system.check_rooms()
