"""PostgreSQL that fails the API inside a change: the answer is honest, the change is whole.

Only the API's way to PostgreSQL is disturbed, by a proxy. The answer to a COMMIT is lost: the
change has happened, the API cannot know, so it says `unavailable`; the change is announced by
itself, and the same request again changes nothing twice. A server that takes bytes and never
answers, and a row that somebody keeps locked: `unavailable` within a bounded time, nothing half
done, and all well afterwards.
"""

from collections.abc import AsyncIterator
from typing import Any, NamedTuple

import pytest
import trio

from storage.postgres.pool import open_database
from tests.support.client import ChatClient
from tests.support.deployment import Deployment, room_path, start_deployment
from tests.support.http import Response
from tests.support.processes import Processes
from tests.support.proxy import TcpProxy, open_proxy
from tests.support.servers import PostgresServer, RedisServer, fetch
from tests.support.waiting import wait_until

pytestmark = pytest.mark.timeout(180)

ROOM = "general"
COMMIT = b"COMMIT\x00"
PATIENCE = 20.0
"""A statement has 3 s and some requests make several; this machine may be busy."""
WRITERS = (
    ("PATCH", room_path(ROOM), {"topic": "changed"}),
    ("POST", f"{room_path(ROOM)}/members", {"user": "carol"}),
    ("DELETE", f"{room_path(ROOM)}/members/bob", None),
)


class Change(NamedTuple):
    """A request whose commit is not answered, what follows by itself, how a repeat is answered."""

    method: str
    path: str
    body: dict[str, Any] | None
    event: str
    again: set[int]


CHANGES = {
    "add": Change("POST", f"{room_path(ROOM)}/members", {"user": "carol"}, "member.added", {200}),
    "remove": Change(
        "DELETE", f"{room_path(ROOM)}/members/bob", None, "member.removed", {204, 404}
    ),
    "rename": Change("PATCH", room_path(ROOM), {"name": "new"}, "room.updated", {200}),
    "create": Change(
        "POST", "/v1/rooms", {"id": "made", "members": ["alice", "bob"]}, "", {200, 409}
    ),
    "delete user": Change("DELETE", "/v1/users/dave", None, "member.removed", {204, 404}),
}


@pytest.fixture
async def proxy(postgres_server: PostgresServer) -> AsyncIterator[TcpProxy]:
    async with open_proxy(postgres_server.port) as opened:
        yield opened


@pytest.fixture
async def chat(
    processes: Processes, redis_server: RedisServer, database_url: str, proxy: TcpProxy
) -> AsyncIterator[Deployment]:
    """A deployment whose API comes to PostgreSQL through the proxy."""
    made = await start_deployment(processes, redis_server, database_url, brokers=1, api=False)
    made.api = await processes.start_api(DATABASE_URL=proxy.replace_port(database_url))
    await made.create_room(ROOM, "alice", "bob", "dave")
    yield made
    for process in processes.started:
        assert process.is_running(), process.output()
        assert "Traceback" not in process.output(), process.output()
    await made.check_rooms()


def check_unavailable(answer: Response) -> None:
    assert (answer.status, answer.json()["code"]) == (503, "unavailable"), answer
    assert int(answer.headers["retry-after"]) >= 1


async def send_until(chat: Deployment, change: Change, statuses: set[int]) -> Response:
    """The same request again, until the API has PostgreSQL back."""
    answer: list[Response] = []

    async def is_answered() -> bool:
        answer[:] = [await chat.send(change.method, change.path, change.body)]
        return answer[0].status != 503

    await wait_until(is_answered, deadline=2 * PATIENCE, what="the API is back by itself")
    assert answer[0].status in statuses, answer
    return answer[0]


def events_of(client: ChatClient) -> list[str]:
    return [event.event for event in client.rooms[ROOM].events if event.offset]


async def hear(client: ChatClient, content: str) -> None:
    """Wait for the message."""
    await client.wait(
        lambda: content in [message["content"] for message in client.messages(ROOM)],
        deadline=PATIENCE, what=content,
    )  # fmt: skip


def versions(chat: Deployment) -> list[int]:
    """Of all rooms: what has been changed, announced or not."""
    rows = fetch(chat.database_url, "SELECT version FROM rooms ORDER BY pk")
    return [row["version"] for row in rows]


async def test_a_commit_whose_answer_is_lost_has_happened_once(
    chat: Deployment, proxy: TcpProxy
) -> None:
    """Ruling 14: 503, the announcement follows, repeating is safe."""
    async with chat.connect("alice") as alice:
        await alice.subscribe(ROOM)
        for name, change in CHANGES.items():
            seen = len(events_of(alice))
            proxy.lose_answer_to(COMMIT)
            check_unavailable(await chat.send(change.method, change.path, change.body))
            assert proxy.has_lost_answer, name
            if change.event:
                await alice.wait(
                    lambda seen=seen: len(events_of(alice)) > seen,
                    deadline=PATIENCE, what=f"{name} is announced by itself",
                )  # fmt: skip
            before = versions(chat)
            await send_until(chat, change, change.again)
            assert versions(chat) == before, f"{name} was done twice"
            await chat.post(ROOM, f"after {name}", "alice")
            await hear(alice, f"after {name}")
            told = events_of(alice)[seen:]
            assert told == [change.event, "message.created"] if change.event else told
    made = await chat.ok("GET", f"{room_path('made')}/members")
    assert {member["user"] for member in made["items"]} == {"alice", "bob"}


async def test_a_direct_room_is_one_whoever_gets_no_answer(
    chat: Deployment, proxy: TcpProxy
) -> None:
    """B12: both make it at once, and one of the two commits is not answered."""
    answers: dict[str, Response] = {}

    async def make(user: str, other: str) -> None:
        body = {"kind": "direct", "members": [other]}
        answers[user] = await chat.send("POST", "/v1/rooms", body, user=user)

    async def make_both() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(make, "alice", "bob")
            nursery.start_soon(make, "bob", "alice")

    proxy.lose_answer_to(COMMIT)
    await make_both()
    assert {answer.status for answer in answers.values()} <= {200, 201, 503}

    async def is_made() -> bool:
        await make_both()
        return {answer.status for answer in answers.values()} == {200}

    await wait_until(is_made, deadline=2 * PATIENCE, what="both have the room")
    assert answers["alice"].json()["id"] == answers["bob"].json()["id"]
    rows = fetch(chat.database_url, "SELECT pk FROM rooms WHERE kind = 'direct'")
    assert len(rows) == 1


async def all_unavailable(chat: Deployment) -> None:
    """Every change is refused in time."""

    async def send(method: str, path: str, body: dict[str, Any] | None) -> None:
        check_unavailable(await chat.send(method, path, body, timeout=PATIENCE))

    async with trio.open_nursery() as nursery:
        for writer in WRITERS:
            nursery.start_soon(send, *writer)


async def change_all(chat: Deployment) -> None:
    """Every change is made, as soon as the API has PostgreSQL back."""
    for method, path, body in WRITERS:
        await send_until(chat, Change(method, path, body, "", set()), {200, 201, 204})


async def test_a_server_that_never_answers_is_not_waited_for(
    chat: Deployment, proxy: TcpProxy
) -> None:
    """Half-open: bytes are taken on old connections and new ones, and nothing comes back."""
    before = versions(chat)
    proxy.swallow()
    proxy.hang()
    await all_unavailable(chat)
    proxy.stop_hanging()
    proxy.stop_swallowing()
    assert versions(chat) == before
    await change_all(chat)


async def test_a_row_that_somebody_keeps_locked_is_not_waited_for(chat: Deployment) -> None:
    """A change waits no longer than a statement may; messages go on all the while."""
    before = versions(chat)
    async with chat.connect("alice") as alice:
        await alice.subscribe(ROOM)
        async with open_database(chat.database_url) as db, db.open_transaction() as held:
            await held.run(lambda c: c.execute("SELECT FROM rooms WHERE id = $1 FOR UPDATE", ROOM))
            await all_unavailable(chat)
            await alice.publish(ROOM, "meanwhile")
            await hear(alice, "meanwhile")
            assert versions(chat) == before
        await change_all(chat)
        await alice.wait_event(ROOM, "member.removed", deadline=PATIENCE)
