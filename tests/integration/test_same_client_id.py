"""A repeated `client_id` makes one message, whichever broker it reaches and whatever died."""

from collections.abc import Callable
from typing import Any

import pytest
import trio

from storage.redis.keys import Keys, room_key
from tests.integration.conftest import Start
from tests.support.client import ChatClient, ChatError, ConnectionEnded
from tests.support.deployment import PARTITIONS, PROJECT, Deployment, room_path, without
from tests.support.tokens import make_token
from tests.support.waiting import wait_until

Name = Callable[[str], str]


def same_place(results: list[dict[str, Any]]) -> dict[str, Any]:
    """The one answer that all results are, but for `duplicate`."""
    first = without(results[0], "duplicate")
    assert [without(result, "duplicate") for result in results] == [first] * len(results)
    return first


async def test_the_other_node_gives_the_first_answer(shared: Deployment, name: Name) -> None:
    room, alice = name("room"), name("alice")
    await shared.create_room(room, alice)
    async with shared.connect(alice, 0) as here, shared.connect(alice, 1) as there:
        await here.subscribe(room)
        await there.subscribe(room)
        first = await here.publish(room, "once", client_id="c1")
        again = await there.publish(room, "something else", client_id="c1")
        assert (first["duplicate"], again["duplicate"]) == (False, True)
        same_place([first, again])
        last = await there.publish(room, "another", client_id="c2")
        assert (last["seq"], last["offset"]) == (first["seq"] + 1, first["offset"] + 1)
        for client in (here, there):
            await client.wait_messages(room, 2)
            assert [m["content"] for m in client.messages(room)] == ["once", "another"]


async def test_at_the_same_time_on_both_nodes_one_wins(shared: Deployment, name: Name) -> None:
    room, alice = name("room"), name("alice")
    await shared.create_room(room, alice)
    rounds = 40
    results: dict[str, list[dict[str, Any]]] = {f"c{number}": [] for number in range(rounds)}

    async def publish(client: ChatClient, client_id: str) -> None:
        results[client_id].append(await client.publish(room, "text", client_id=client_id))

    async with shared.connect(alice, 0) as here, shared.connect(alice, 1) as there:
        await there.subscribe(room)
        async with trio.open_nursery() as nursery:
            for client_id in results:
                for client in (here, there, here):
                    nursery.start_soon(publish, client, client_id)
        for client_id, answers in results.items():
            assert sorted(answer["duplicate"] for answer in answers) == [False, True, True]
            same_place(answers)
            assert client_id
        await there.wait_messages(room, rounds)
        assert {m["client_id"] for m in there.messages(room)} == results.keys()
        assert len(there.messages(room)) == rounds
    await shared.wait_archived()
    assert sorted(row["client_id"] for row in shared.stored(room)) == sorted(results)


async def test_rest_and_websocket_are_one_way_in(shared: Deployment, name: Name) -> None:
    room, alice = name("room"), name("alice")
    await shared.create_room(room, alice)
    async with shared.connect(alice, 1) as client:
        first = await client.publish(room, "once", client_id="c1")
    answer = await shared.send(
        "POST",
        f"{room_path(room)}/messages",
        {"content": "once"},
        user=alice,
        headers={"Idempotency-Key": "c1"},
    )
    assert answer.status == 200
    body = answer.json()
    assert body["duplicate"] is True
    same_place([first, {name: body[name] for name in first}])


async def test_a_client_id_belongs_to_its_sender_and_room(shared: Deployment, name: Name) -> None:
    """Ids may hold colons: parts that are joined must not be taken for other parts.

    Only rooms of one partition could be taken for each other.
    """
    partition = Keys(PARTITIONS).partition
    a = next(
        room
        for room in (name(f"a{number}") for number in range(1000))
        if partition(room_key(PROJECT, room)) == partition(room_key(PROJECT, f"{room}:b"))
    )
    ab, bc, c = f"{a}:b", "b:" + name("c"), name("c")
    await shared.create_room(a, bc, c)
    await shared.create_room(ab, bc, c)
    answers = []
    for room, user in ((a, bc), (a, c), (ab, bc), (ab, c)):
        async with shared.connect(user) as client:
            answers.append(await client.publish(room, "text", client_id="same"))
    assert [answer["duplicate"] for answer in answers] == [False] * 4
    assert len({answer["message_id"] for answer in answers}) == 4


async def test_after_the_first_broker_died(start: Start) -> None:
    system = await start()
    await system.create_room("room", "alice", "bob")
    async with system.connect("bob", 1) as bob:
        await bob.subscribe("room")
        async with system.connect("alice", 0) as alice:
            first = await alice.publish("room", "answered", client_id="answered")
            await alice.send(
                {"type": "publish", "room": "room", "content": "lost", "client_id": "lost"}
            )
            await wait_until(lambda: system.room_hash("room")["offset"] == "2")
            system.brokers[0].kill()
            await alice.wait_ended()
        async with system.connect("alice", 1) as alice:
            again = await alice.publish("room", "answered", client_id="answered")
            assert again["duplicate"] is True
            same_place([first, again])
            lost = await alice.publish("room", "lost", client_id="lost")
            assert (lost["duplicate"], lost["seq"]) == (True, 2)
        await bob.wait_messages("room", 2)
        assert [m["content"] for m in bob.messages("room")] == ["answered", "lost"]
    await system.check_rooms()
    assert [row["content"] for row in system.stored("room")] == ["answered", "lost"]


@pytest.mark.parametrize("answers_until_kill", [1, 60])
async def test_a_broker_that_dies_among_answers(start: Start, answers_until_kill: int) -> None:
    """Everything that was sent is sent again: no answer changes, nothing is there twice."""
    system = await start()
    await system.create_room("room", "alice")
    answered: dict[str, dict[str, Any]] = {}

    async def publish(client: ChatClient, client_id: str) -> None:
        try:
            answered[client_id] = await client.publish("room", client_id, client_id=client_id)
        except ConnectionEnded:
            return
        if len(answered) == answers_until_kill:
            system.brokers[0].kill()

    async with system.connect("alice", 0) as alice, trio.open_nursery() as nursery:
        for number in range(120):
            nursery.start_soon(publish, alice, f"c{number}")
    assert answers_until_kill <= len(answered)
    seen_before = dict(answered)
    async with system.connect("alice", 1) as alice:
        for number in range(120):
            client_id = f"c{number}"
            again = await alice.publish("room", client_id, client_id=client_id)
            if client_id in seen_before:
                assert again["duplicate"] is True
                same_place([seen_before[client_id], again])
            answered[client_id] = again
    await system.check_rooms()
    rows = system.stored("room")
    assert {row["client_id"]: (row["id"], row["seq"]) for row in rows} == {
        client_id: (answer["message_id"], answer["seq"]) for client_id, answer in answered.items()
    }
    assert len(rows) == 120


async def test_a_refused_publish_does_not_use_up_its_client_id(
    shared: Deployment, name: Name
) -> None:
    room, alice = name("room"), name("alice")
    await shared.create_room(room, alice)
    async with ChatClient.connect(shared.brokers[0].url, make_token(alice)) as client:
        with pytest.raises(ChatError) as refused:
            await client.publish(room, "text", client_id="c", reply_to=5)
        assert (refused.value.code, refused.value.field) == ("message_not_found", "reply_to")
        sent = await client.publish(room, "text", client_id="c")
        assert sent["duplicate"] is False
