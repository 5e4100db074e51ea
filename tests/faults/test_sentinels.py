"""A whole deployment under sentinels: failovers, an old master that comes back, a split brain.

What was answered and never reached the replica is lost; nothing else may go wrong: no two
messages share a (room, seq) among clients, PostgreSQL and the log, clients are told to reload, and
everything answered after the fence is archived (A8, B1, B2; tests 11 and 13, real processes).
"""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from storage.postgres.seeds import UNREPORTED_SKIP
from tests.support.client import ChatClient, ChatError
from tests.support.deployment import Deployment, start_deployment
from tests.support.processes import Processes
from tests.support.sentinels import WatchedRedis

ROOMS = ["told", "quiet"]
DEADLINE = 60.0


@pytest.fixture
async def watched(tmp_path: Path) -> AsyncIterator[WatchedRedis]:
    servers = WatchedRedis(tmp_path / "watched")
    try:
        await servers.start()
        yield servers
    finally:
        servers.stop()


class Numbers:
    """Every (room, seq) that anybody was told, with the message it was told for."""

    def __init__(self) -> None:
        self.ids: dict[tuple[str, int], set[str]] = {}

    def note(self, room: str, seq: int, message_id: str) -> None:
        self.ids.setdefault((room, seq), set()).add(message_id)

    def repeated(self) -> list[tuple[str, int]]:
        return [place for place, ids in self.ids.items() if len(ids) > 1]

    async def publish(self, client: ChatClient, room: str, text: str) -> dict[str, Any]:
        """Publish until it is answered, and note the answer."""
        while True:
            try:
                answer = await client.publish(room, text, client_id=text)
            except ChatError as error:
                assert error.code == "unavailable", error
                continue
            self.note(room, answer["seq"], answer["message_id"])
            return answer

    async def post(self, system: Deployment, room: str, text: str) -> dict[str, Any]:
        """The same over REST, where nobody is subscribed and only the api knows the answer."""
        while True:
            answer = await system.send(
                "POST", f"/v1/rooms/{room}/messages", {"content": text, "client_id": text},
                user="alice",
            )  # fmt: skip
            if answer.status == 503:
                continue
            assert answer.status in (200, 201), answer
            message = answer.json()
            self.note(room, message["seq"], message["message_id"])
            return dict(message)


async def come_back(client: ChatClient, numbers: Numbers, lives: int) -> None:
    """Told to reload, so it does; what it saw is noted."""
    await client.wait(lambda: len(client.unsubscribed) >= lives, deadline=DEADLINE, what="resync")
    assert {frame["code"] for frame in client.unsubscribed} == {"resync"}
    while True:
        try:
            again = await client.resume(ROOMS[0])
        except ChatError as error:
            assert error.code == "unavailable", error
            continue
        assert (again["recovered"], again["reason"]) == (False, "epoch")
        break
    for message in client.messages(ROOMS[0]):
        numbers.note(ROOMS[0], message["seq"], message["id"])


async def start(processes: Processes, watched: WatchedRedis, database_url: str) -> Deployment:
    system = await start_deployment(processes, watched.first, database_url, REDIS_URL=watched.url)
    for room in ROOMS:
        await system.create_room(room, "alice", "bob")
    return system


async def test_failovers_there_and_back(
    processes: Processes, watched: WatchedRedis, database_url: str
):
    """A8, B1, B2 (tests 11, 12): the replica lacks the last answers; then the old master leads.

    The second room has no subscriber, and its answers are known to the api alone.
    """
    system = await start(processes, watched, database_url)
    first, second = watched.first, watched.second
    numbers = Numbers()
    async with system.connect("alice", 0) as alice, system.connect("bob", 1) as bob:
        for client in (alice, bob):
            await client.subscribe(ROOMS[0])
        kept = [await numbers.publish(alice, ROOMS[0], f"kept {n}") for n in range(3)]
        kept.append(await numbers.post(system, ROOMS[1], "kept"))
        await system.wait_archived()
        assert system.archiver is not None
        system.archiver.kill()
        watched.cut_replication(first)
        for n in range(5):
            await numbers.publish(alice, ROOMS[0], f"lost {n}")
            await numbers.post(system, ROOMS[1], f"lost {n}")
        await bob.wait_messages(ROOMS[0], 8)

        first.kill()
        await watched.wait_master(second)
        system.redis = second
        for client in (alice, bob):
            await come_back(client, numbers, 1)
        system.archiver = await system.processes.start_archiver()
        after = [await numbers.publish(bob, ROOMS[0], f"after {n}") for n in range(3)]
        after += [await numbers.post(system, ROOMS[1], f"after {n}") for n in range(3)]
        skipped = [answer["seq"] - UNREPORTED_SKIP for answer in after]
        assert skipped == [9, 10, 11, 7, 8, 9], (
            "above what was lost, and what may be given elsewhere"
        )

        watched.start_server(first)
        await watched.wait_in_step(first)
        watched.fail_over()
        await watched.wait_master(first)
        system.redis = first
        for client in (alice, bob):
            await come_back(client, numbers, 2)
        after.append(await numbers.publish(alice, ROOMS[0], "home again"))
        await bob.wait(
            lambda: "home again" in [m["content"] for m in bob.messages(ROOMS[0])],
            deadline=DEADLINE,
        )
    await judge(system, numbers, answered=[*kept, *after])


async def test_an_old_master_that_goes_on_accepting(
    processes: Processes, watched: WatchedRedis, database_url: str
):
    """Split brain: nobody can tell the old master, whose answers are lost; every process leaves it
    by itself, and what was only there is never numbered again."""
    system = await start(processes, watched, database_url)
    numbers = Numbers()
    async with system.connect("alice", 0) as alice, system.connect("bob", 1) as bob:
        for client in (alice, bob):
            await client.subscribe(ROOMS[0])
        kept = [await numbers.publish(alice, ROOMS[0], "kept")]
        await system.wait_archived()
        watched.hide(watched.first)
        watched.cut_replication(watched.first)
        watched.fail_over()
        doomed: list[dict[str, Any]] = []
        while not alice.unsubscribed:
            doomed.append(await numbers.publish(alice, ROOMS[0], f"doomed {len(doomed)}"))
            await numbers.post(system, ROOMS[1], f"doomed {len(doomed)}")
        system.redis = watched.second
        assert watched.first.command("ROLE")[0] == b"master", "it was never told"
        for client in (alice, bob):
            await come_back(client, numbers, 1)
        after = [await numbers.publish(bob, ROOMS[0], "after")]
        after.append(await numbers.post(system, ROOMS[1], "after"))
        await alice.wait(
            lambda: "after" in [m["content"] for m in alice.messages(ROOMS[0])], deadline=DEADLINE
        )
    assert len(doomed) > 1
    await judge(system, numbers, answered=[*kept, *after])


async def judge(system: Deployment, numbers: Numbers, *, answered: list[dict[str, Any]]) -> None:
    """Nothing shares a number, what was answered outside of the gap is stored, all is archived."""
    await system.check_rooms(deadline=30)
    stored = {room: system.stored(room) for room in ROOMS}
    for room, rows in stored.items():
        for row in rows:
            numbers.note(room, row["seq"], row["id"])
        assert [m["id"] for m in await system.whole_history(room)] == [row["id"] for row in rows]
    assert numbers.repeated() == []
    found = {row["id"] for rows in stored.values() for row in rows}
    assert {answer["message_id"] for answer in answered} <= found
