"""History holds what was answered, at once: archived, being archived, or not archived for long."""

from collections.abc import Callable
from typing import Any

import pytest
import trio

from tests.integration.conftest import Start
from tests.support.client import ChatClient
from tests.support.deployment import Deployment, seqs
from tests.support.lean_client import open_lean_client
from tests.support.paging import read_everything
from tests.support.repeating import times
from tests.support.tokens import make_token

Name = Callable[[str], str]
UNARCHIVED = times(8_000)


async def publish_and_read(system: Deployment, client: ChatClient, room: str, count: int) -> None:
    """After each answer the message must be the newest everywhere it can be read."""
    for number in range(count):
        sent = await client.publish(room, f"text {number}", metadata={"n": number})
        page = await system.page(room, "?limit=3")
        newest = page["items"][-1]
        assert (newest["id"], newest["seq"]) == (sent["message_id"], sent["seq"])
        assert newest["created_at"] == sent["created_at"]
        assert newest["content"] == f"text {number}"
        assert not page["has_more_after"]
        by_socket = await client.call("history", room=room, limit=3)
        assert by_socket["messages"] == page["items"]
        one = await system.page(room, f"/{sent['message_id']}")
        assert one == newest


@pytest.mark.parametrize("node", [0, 1])
async def test_while_the_archiver_runs(shared: Deployment, name: Name, node: int) -> None:
    room, alice = name("room"), name("alice")
    await shared.create_room(room, alice)
    async with shared.connect(alice, node) as client:
        await publish_and_read(shared, client, room, 60)
        live = await read_everything(shared, room, client=client, limit=7)
        await shared.wait_archived()
        assert await read_everything(shared, room, client=client, limit=7) == live
    assert seqs(live) == list(range(1, 61))


async def test_while_it_is_paused_and_after(start: Start) -> None:
    system = await start(brokers=1)
    assert system.archiver is not None
    await system.create_room("room", "alice")
    async with system.connect("alice") as client:
        await client.publish("room", "archived")
        await system.wait_archived()
        system.archiver.pause()
        await publish_and_read(system, client, "room", 20)
        paused = await read_everything(system, "room", client=client, limit=6)
        assert seqs(paused) == list(range(1, 22))
        assert len(system.stored("room")) < len(paused)
        room = await system.ok("GET", "/v1/rooms/room")
        assert (room["seq"], room["last_message_at"]) == (21, paused[-1]["created_at"])
        system.archiver.resume()
        await publish_and_read(system, client, "room", 20)
        await system.check_rooms()
        archived = await read_everything(system, "room", client=client, limit=6)
    assert archived[:21] == paused
    assert seqs(archived) == list(range(1, 42))


async def test_what_the_sender_reads_is_what_subscribers_got(
    shared: Deployment, name: Name
) -> None:
    room, alice, bob = name("room"), name("alice"), name("bob")
    await shared.create_room(room, alice, bob)
    rich: dict[str, Any] = {
        "kind": "custom.thing",
        "metadata": {"a": [1, None, "ü"], "b": {"c": 1.5}},
        "mentions": [alice],
        "attachments": [{"url": "https://example.com/a", "name": "a", "size": 3}],
        "client_id": "c1",
    }
    async with shared.connect(alice, 0) as client, shared.connect(bob, 1) as other:
        await client.subscribe(room)
        await other.subscribe(room)
        await client.publish(room, "first")
        await other.publish(room, "tränen 👍", reply_to=1, **rich)
        for receiver in (client, other):
            await receiver.wait_messages(room, 2)
        assert client.messages(room) == other.messages(room)
        second = (await client.call("history", room=room))["messages"][1]
        # What may change later is as it was when the message was created, but for what has changed.
        assert second == client.messages(room)[1]
        await shared.wait_archived()
        assert (await other.call("history", room=room))["messages"][1] == second


@pytest.mark.slow
async def test_thousands_that_are_not_archived(start: Start) -> None:
    system = await start(brokers=1, archiver=False, ROOM_LOG_LENGTH="1000")
    await system.create_room("room", "alice", "bob")
    ids: list[object] = []
    async with open_lean_client(system.brokers[0].url, make_token("alice")) as sender:
        for begin in range(0, UNARCHIVED, 500):
            texts = [f"text {number}" for number in range(begin, begin + 500)]
            answers = await sender.call_all(
                "publish", [{"room": "room", "content": text} for text in texts]
            )
            ids += [answer["message_id"] for answer in answers]
            page = await system.page("room", "?limit=2")
            assert page["items"][-1]["id"] == ids[-1]
    async with system.connect("bob") as bob:
        before = await read_everything(system, "room", client=bob)
        assert [message["id"] for message in before] == ids
        assert seqs(before) == list(range(1, UNARCHIVED + 1))
        assert [message["content"] for message in before[::999]] == [
            f"text {number}" for number in range(0, UNARCHIVED, 999)
        ]
        result = await bob.subscribe("room", history=100)
        assert result["messages"] == before[-100:]
        assert result["unread"] == 1000
        await read_while_archiving(system, before)
        await system.check_rooms()
    assert await system.whole_history("room") == before
    assert int(system.room_hash("room")["archived"]) == UNARCHIVED


async def read_while_archiving(system: Deployment, messages: list[dict[str, Any]]) -> None:
    """Read all of it, again and again, until the archive has caught up: never a hole."""
    system.archiver = await system.processes.start("archiver", ready=False)
    rounds = 0
    while system.archive_backlog() or not rounds:
        found = await system.whole_history("room")
        assert len(found) == len(messages), (rounds, first_difference(found, messages))
        assert found == messages, (rounds, first_difference(found, messages))
        rounds += 1
        await trio.lowlevel.checkpoint()


def first_difference(found: list[Any], wanted: list[Any]) -> tuple[int, Any, Any]:
    for place, (one, other) in enumerate(zip(found, wanted, strict=False)):
        if one != other:
            return place, one, other
    return min(len(found), len(wanted)), len(found), len(wanted)
