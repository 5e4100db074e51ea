"""PostgreSQL stands in the way of what clients do now: full, locked, or restarted under a seed.

What needs it not goes on (messages of rooms that are warm, their delivery); what needs it is
answered `unavailable` with a time, in bounded time, and goes on by itself when it can. A publish
that was not answered has been stored once or not at all, and its repeat makes one message of it.
"""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
import trio

from storage.errors import StorageUnavailable
from storage.postgres.pool import open_database
from tests.support.client import ChatClient, ChatError, ConnectionEnded
from tests.support.deployment import Deployment, room_path, start_deployment
from tests.support.processes import Processes
from tests.support.repeating import times
from tests.support.servers import PostgresServer, RedisServer, fetch
from tests.support.waiting import wait_until

pytestmark = pytest.mark.timeout(180)

WARM, COLD = "warm", "cold"
PATIENCE = 30.0
DRAIN = 4
# The whole of it with FULL=1: what a statement waits for is over in three.
LOCK_SECONDS = float(times(32))
SERVICE = "parley_app"


@pytest.fixture
def limited(postgres_server: PostgresServer, database_url: str) -> Iterator[str]:
    """The address of a login for which the number of connections may be limited."""
    yield postgres_server.restrict(database_url)
    limit_connections(postgres_server, database_url, -1)


@pytest.fixture
async def chat(
    processes: Processes, redis_server: RedisServer, database_url: str, limited: str
) -> AsyncIterator[Deployment]:
    """A warm room with both in it, and a cold one; everything is whole in the end."""
    made = await start_deployment(
        processes, redis_server, database_url, DATABASE_URL=limited, DRAIN_SECONDS=str(DRAIN)
    )
    for room in (WARM, COLD):
        await made.create_room(room, "alice", "bob")
    await made.post(WARM, "first", "alice")
    yield made
    for process in processes.started:
        assert "Traceback" not in process.output(), process.output()
    await made.check_rooms()


def limit_connections(server: PostgresServer, url: str, limit: int) -> None:
    """So many connections may the login have to this database, and those that it has are cut."""
    name = url.rpartition("/")[2]
    server.execute(f"ALTER DATABASE {name} CONNECTION LIMIT {limit}")
    server.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE datname = $1 AND usename = $2", name, SERVICE,
    )  # fmt: skip


async def refused(client: ChatClient, type_: str, **fields: Any) -> None:
    """The command is answered `unavailable`, and when to come again."""
    with pytest.raises(ChatError) as error:
        await client.call(type_, **fields)
    assert error.value.code == "unavailable"
    assert error.value.retry_after is not None


async def refused_over_http(chat: Deployment, method: str, path: str, body: Any = None) -> None:
    answer = await chat.send(method, path, body, timeout=PATIENCE)
    assert (answer.status, answer.json()["code"]) == (503, "unavailable"), answer
    assert int(answer.headers["retry-after"]) >= 1


async def call_until(client: ChatClient, type_: str, **fields: Any) -> dict[str, Any]:
    """The same command until PostgreSQL is there; it goes on by itself."""
    found: list[dict[str, Any]] = []

    async def is_answered() -> bool:
        try:
            found.append(await client.call(type_, **fields))
        except ChatError as error:
            assert error.code == "unavailable", error
            return False
        return True

    await wait_until(is_answered, deadline=PATIENCE, what=f"{type_} is answered")
    return found[0]


async def talk(alice: ChatClient, bob: ChatClient, *contents: str) -> None:
    """Messages of the warm room are answered and delivered, whatever PostgreSQL does."""
    for content in contents:
        assert not (await alice.publish(WARM, content))["duplicate"]
        await bob.wait(
            lambda content=content: content in [m["content"] for m in bob.messages(WARM)],
            deadline=PATIENCE, what=content,
        )  # fmt: skip


async def warm(alice: ChatClient, bob: ChatClient) -> None:
    """Both are in the room and have spoken: what PostgreSQL says of them is known."""
    for client in (alice, bob):
        await client.subscribe(WARM)
    await talk(alice, bob, "before")


async def test_no_connection_more_is_let_in(
    chat: Deployment, postgres_server: PostgresServer, database_url: str
) -> None:
    """`too many connections`, and none is left: others have taken them all."""
    async with chat.connect("alice") as alice, chat.connect("bob", 1) as bob:
        await warm(alice, bob)
        limit_connections(postgres_server, database_url, 0)
        await talk(alice, bob, "during 1", "during 2")
        for client in (alice, bob):
            await refused(client, "subscribe", room=COLD)
            await refused(client, "publish", room=COLD, content="not stored")
            await refused(client, "history", room=WARM)
        await refused_over_http(chat, "GET", f"{room_path(WARM)}/messages")
        await refused_over_http(chat, "POST", f"{room_path(COLD)}/messages", {"content": "no"})
        await talk(alice, bob, "during 3")
        limit_connections(postgres_server, database_url, -1)
        await call_until(alice, "subscribe", room=COLD)
        assert not (await call_until(bob, "publish", room=COLD, content="after"))["duplicate"]
        await alice.wait_messages(COLD, 1, deadline=PATIENCE)
    contents = [message["content"] for message in await chat.whole_history(WARM)]
    assert contents == ["first", "before", "during 1", "during 2", "during 3"]
    assert [message["content"] for message in await chat.whole_history(COLD)] == ["after"]


async def test_a_lock_on_the_members_stops_nobody_who_is_known(
    chat: Deployment, database_url: str
) -> None:
    """ACCESS EXCLUSIVE, as a careless migration has it, while all go on: 30 s with FULL=1."""
    async with chat.connect("alice") as alice, chat.connect("bob", 1) as bob:
        await warm(alice, bob)
        sent = 0
        async with locked(database_url, "LOCK TABLE members IN ACCESS EXCLUSIVE MODE"):
            began = trio.current_time()
            while trio.current_time() < began + LOCK_SECONDS:
                # Takes as long as a statement may.
                await refused(alice, "subscribe", room=COLD)
                await talk(alice, bob, f"during {sent}")
                await refused(bob, "publish", room=COLD, content="not stored")
                await talk(bob, alice, f"during {sent + 1}")
                await refused_over_http(chat, "GET", f"{room_path(WARM)}/members")
                sent += 2
        await call_until(alice, "subscribe", room=COLD)
        await call_until(bob, "publish", room=COLD, content="after")
        await alice.wait_messages(COLD, 1, deadline=PATIENCE)
    contents = [message["content"] for message in await chat.whole_history(WARM)]
    assert contents == ["first", "before", *(f"during {number}" for number in range(sent))]
    assert [message["content"] for message in await chat.whole_history(COLD)] == ["after"]


@asynccontextmanager
async def locked(url: str, statement: str, *arguments: Any) -> AsyncIterator[None]:
    """Somebody holds what the statement locks, for the block."""
    async with open_database(url, name="whoever locks") as db:
        connection = db.open_transaction()
        async with connection as held:
            await held.run(lambda c: c.execute("SET idle_in_transaction_session_timeout = 0"))
            await held.run(lambda c: c.execute(statement, *arguments))
            yield


def seed_waits(url: str) -> bool:
    """Whether a seed of somebody waits for the room's row."""
    rows = fetch(
        url,
        "SELECT pid FROM pg_stat_activity WHERE wait_event_type = 'Lock' "
        "AND datname = current_database() AND query LIKE '%FOR NO KEY UPDATE%'",
    )
    return bool(rows)


COLD_ROW = "SELECT FROM rooms WHERE id = 'cold' FOR UPDATE"


class Attempt:
    """One publish into the cold room, under way; what came of it."""

    def __init__(self) -> None:
        self.answer: dict[str, Any] | None = None
        self.error: ChatError | None = None
        self.is_over = False

    async def run(self, client: ChatClient, content: str) -> None:
        try:
            self.answer = await client.publish(COLD, content, client_id=content)
        except ChatError as error:
            self.error = error
        except (ConnectionEnded, trio.TooSlowError):
            pass  # the outcome is unknown
        self.is_over = True


async def check_once(chat: Deployment, content: str, attempt: Attempt, node: int) -> None:
    """It was answered, or not stored, or its outcome unknown; its repeat makes one of it."""
    if attempt.error is not None:
        assert attempt.error.code == "unavailable", attempt.error
        assert contents_of(chat) == []
    async with chat.connect("alice", node) as alice:
        again = await call_until(alice, "publish", room=COLD, content=content, client_id=content)
    if attempt.answer is not None:
        assert again == attempt.answer | {"duplicate": True}
    elif attempt.error is not None:
        assert not again["duplicate"]
    await chat.wait_archived()
    assert contents_of(chat) == [content]
    assert [message["content"] for message in await chat.whole_history(COLD)] == [content]


def contents_of(chat: Deployment) -> list[str]:
    return [row["content"] for row in chat.stored(COLD)]


async def test_a_restart_in_the_middle_of_a_seed(
    processes: Processes, redis_server: RedisServer, private_postgres: PostgresServer
) -> None:
    """The seed has locked nothing yet or all of it: it is made again from the beginning."""
    url = private_postgres.create_database()
    chat = await start_deployment(processes, redis_server, url, brokers=1)
    await chat.create_room(COLD, "alice", "bob")
    attempt = Attempt()
    async with chat.connect("alice") as alice, trio.open_nursery() as nursery:
        with suppress(StorageUnavailable):  # whoever locks is cut off, too
            async with locked(url, COLD_ROW):
                nursery.start_soon(attempt.run, alice, "once")
                await wait_until(lambda: seed_waits(url), deadline=PATIENCE, what="the seed waits")
                private_postgres.restart()
        await wait_until(lambda: attempt.is_over, deadline=PATIENCE, what="it is answered")
    assert attempt.answer or attempt.error, "told while the connection stands"
    await check_once(chat, "once", attempt, 0)
    await chat.check_rooms()


@pytest.mark.parametrize("comes", ["in time", "never"])
async def test_a_stop_in_the_middle_of_a_cold_publish(
    chat: Deployment, database_url: str, comes: str
) -> None:
    """SIGTERM while the seed waits for PostgreSQL: the row comes free in time to drain, or never.

    Promise 6: answered and stored, or neither; never both of it twice.
    """
    attempt = Attempt()
    broker = chat.brokers[0]
    async with chat.connect("alice", check=False) as alice, trio.open_nursery() as nursery:
        async with locked(database_url, COLD_ROW):
            nursery.start_soon(attempt.run, alice, "once")
            await wait_until(
                lambda: seed_waits(database_url), deadline=PATIENCE, what="the seed waits"
            )
            broker.terminate()
            if comes == "in time":
                await alice.wait(lambda: alice.drain, deadline=PATIENCE, what="drain is told")
            else:
                assert await broker.wait_ended(PATIENCE) == 0
        if comes == "in time":
            assert await broker.wait_ended(PATIENCE) == 0
        await wait_until(lambda: attempt.is_over, deadline=PATIENCE, what="it is over")
    if comes == "in time":
        assert attempt.answer is not None, attempt.error
    await check_once(chat, "once", attempt, 1)


async def test_a_stop_of_the_api_in_the_middle_of_a_cold_publish(
    chat: Deployment, database_url: str
) -> None:
    """The same over REST: the answer comes, or the repeat of the request makes one message."""
    assert chat.api is not None
    path, body = f"{room_path(COLD)}/messages", {"content": "once", "client_id": "once"}
    status: list[int] = []

    async def post() -> None:
        try:
            status.append((await chat.send("POST", path, body, user="alice")).status)
        except OSError:
            status.append(0)  # the outcome is unknown

    async with trio.open_nursery() as nursery, locked(database_url, COLD_ROW):
        nursery.start_soon(post)
        await wait_until(lambda: seed_waits(database_url), deadline=PATIENCE, what="the seed waits")
        chat.api.terminate()
        assert await chat.api.wait_ended(PATIENCE) == 0
    if status == [503]:
        assert contents_of(chat) == []
    chat.api = await chat.processes.start_api()
    again = await chat.send("POST", path, body, user="alice")
    assert again.status == (200 if status == [201] else again.status)
    assert again.status in (200, 201)
    await chat.wait_archived()
    assert contents_of(chat) == ["once"]
