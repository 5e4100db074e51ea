"""Changes of one message from two nodes and REST at once: a legal outcome, the same for all.

Whoever applies the events of the room log by the rules gets what every page says, before and after
archiving, and what PostgreSQL holds; so do clients that were there all the time.
"""

import random
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest
import trio

from tests.support.client import ChatClient, ChatError
from tests.support.deployment import PROJECT, Deployment, room_path
from tests.support.repeating import times
from tests.support.seen import Event
from tests.support.servers import fetch

Name = Callable[[str], str]
REPEATS = 25
DELETIONS = times(200)
PER_ROOM = 10


def fold(events: list[Event]) -> dict[int, dict[str, Any]]:
    """What a client makes of a room's events; an event that may not be is an error."""
    messages: dict[int, dict[str, Any]] = {}
    for event in events:
        data = event.data
        if event.event == "message.created":
            messages[data["seq"]] = {"content": data["content"], "deleted": False, "set": set()}
            continue
        if not event.event.startswith(("message.", "reaction.")):
            continue
        message = messages[data["seq"]]
        assert not message["deleted"], f"{event.event} after the deletion"
        if event.event == "message.edited":
            assert message["content"] != data["content"], "an edit without a change"
            message["content"] = data["content"]
        elif event.event == "message.deleted":
            message.update(content=None, deleted=True, set=set())
        else:
            who = (data["user"], data["reaction"])
            is_added = event.event == "reaction.added"
            assert (who in message["set"]) != is_added, f"{event.event} of {who} without a change"
            (message["set"].add if is_added else message["set"].discard)(who)
            assert len({reaction for _, reaction in message["set"]}) <= 20
    return messages


def shown(message: dict[str, Any]) -> tuple[Any, bool, dict[str, int]]:
    counts = {kind: value["count"] for kind, value in message["reactions"].items()}
    return message["content"], message["deleted_at"] is not None, counts


def expected(message: dict[str, Any]) -> tuple[Any, bool, dict[str, int]]:
    counts: dict[str, int] = {}
    for _, reaction in message["set"]:
        counts[reaction] = counts.get(reaction, 0) + 1
    return message["content"], message["deleted"], counts


async def check_agreement(shared: Deployment, room: str, *clients: ChatClient) -> None:
    """All clients, the pages before and after archiving and the tables say the same."""
    page = await shared.page(room, "?limit=1")
    newest = (await clients[0].subscribe(room))["offset"]
    for client in clients:

        def has_all(client: ChatClient = client) -> bool:
            position = client.rooms[room].position
            return position is not None and position.offset >= newest

        await client.wait(has_all)
    folded = fold(clients[0].rooms[room].events)
    for client in clients[1:]:
        assert fold(client.rooms[room].events) == folded
    live = {seq: expected(message) for seq, message in folded.items()}
    for _ in range(2):
        history = await shared.whole_history(room)
        assert {message["seq"]: shown(message) for message in history} == live
        await shared.wait_archived()
    assert page["items"]
    query = """
        SELECT m.seq, x.user_id, x.reaction FROM messages m
        JOIN rooms r ON r.pk = m.room_pk AND r.project = $1 AND r.id = $2
        JOIN reactions x ON x.room_pk = m.room_pk AND x.seq = m.seq
        WHERE m.deleted_at IS NULL
    """
    stored = {(row["seq"], row["user_id"], row["reaction"])
              for row in fetch(shared.database_url, query, PROJECT, room)}  # fmt: skip
    assert stored == {(seq, *who) for seq, message in folded.items() for who in message["set"]}


async def quietly(client: ChatClient, type_: str, room: str, seq: int, **fields: Any) -> Any:
    """The offset of the answer, or the code of its error."""
    try:
        return (await client.call(type_, room=room, seq=seq, **fields))["offset"]
    except ChatError as error:
        return error.code


@pytest.mark.parametrize("archived", [False, True])
async def test_edit_against_delete(shared: Deployment, name: Name, archived: bool) -> None:
    """B13: content that was deleted stays gone, in every order and everywhere."""
    alice, bob, room = name("alice"), name("bob"), name("room")
    await shared.create_room(room, alice, created_by=bob)
    async with AsyncExitStack() as stack:
        watchers = [await stack.enter_async_context(shared.connect(bob, n)) for n in (0, 1)]
        for watcher in watchers:
            await watcher.subscribe(room)
        writers = [await stack.enter_async_context(shared.connect(alice, n)) for n in (0, 1)]
        for turn in range(DELETIONS):
            seq = (await writers[0].publish(room, "secret"))["seq"]
            if archived:
                await shared.wait_archived()
            results: dict[str, Any] = {}

            async def run(what: str, work: Any, found: dict[str, Any] = results) -> None:
                found[what] = await work

            async with trio.open_nursery() as nursery:
                for place, client in enumerate((*writers, writers[turn % 2])):
                    edit = quietly(client, "edit", room, seq, content=f"secret {place}")
                    nursery.start_soon(run, f"edit {place}", edit)
                for place, client in enumerate(watchers):
                    nursery.start_soon(run, f"delete {place}", quietly(client, "delete", room, seq))
            deletes = [results["delete 0"], results["delete 1"]]
            assert sum(isinstance(offset, int) for offset in deletes) == 1, results
            (deleted,) = (offset for offset in deletes if offset is not None)
            for place in range(3):
                edited = results[f"edit {place}"]
                assert edited == "conflict" or edited < deleted, results
        await check_agreement(shared, room, *watchers)
        assert all(m["content"] is None for m in await shared.whole_history(room))


async def test_ten_people_react_and_unreact_at_once(shared: Deployment, name: Name) -> None:
    people = [name(f"user{number}") for number in range(10)]
    rolls = random.Random(name(""))
    async with AsyncExitStack() as stack:
        clients = [
            await stack.enter_async_context(shared.connect(person, number % 2))
            for number, person in enumerate(people)
        ]
        for turn in range(4):
            room = name(f"room{turn}")
            await shared.create_room(room, *people)
            for client in clients[:2]:
                await client.subscribe(room)
            for _ in range(PER_ROOM):
                await clients[0].publish(room, "text")

            async def play(client: ChatClient, room: str = room) -> None:
                for step in range(REPEATS):
                    seq = 1 + step % PER_ROOM
                    type_ = rolls.choice(("react", "react", "unreact"))
                    reaction = rolls.choice("👍👎❤")
                    done = await quietly(client, type_, room, seq, reaction=reaction)
                    assert done is None or isinstance(done, int)

            async with trio.open_nursery() as nursery:
                for client in clients:
                    nursery.start_soon(play, client)
            await check_agreement(shared, room, *clients[:2])


async def test_the_limit_of_kinds_holds_when_all_add_one(shared: Deployment, name: Name) -> None:
    people = [name(f"user{number}") for number in range(10)]
    room = name("room")
    await shared.create_room(room, *people)
    async with AsyncExitStack() as stack:
        clients = [
            await stack.enter_async_context(shared.connect(person, number % 2))
            for number, person in enumerate(people)
        ]
        for client in clients[:2]:
            await client.subscribe(room)
        for turn in range(REPEATS):
            seq = (await clients[0].publish(room, "text"))["seq"]
            outcomes: list[Any] = []

            async def add(number: int, seq: int = seq, found: list[Any] = outcomes) -> None:
                for kind in range(3):
                    reaction = f"{number} {kind}"
                    found.append(
                        await quietly(clients[number], "react", room, seq, reaction=reaction)
                    )

            async with trio.open_nursery() as nursery:
                for number in range(10):
                    nursery.start_soon(add, number)
            assert sum(isinstance(outcome, int) for outcome in outcomes) == 20, turn
            assert outcomes.count("limit_reached") == 10
        await check_agreement(shared, room, *clients[:2])


async def test_everything_at_once_over_websocket_and_rest(shared: Deployment, name: Name) -> None:
    alice, bob, room = name("alice"), name("bob"), name("room")
    await shared.create_room(room, bob, created_by=alice)
    rolls = random.Random(name(""))
    path = f"{room_path(room)}/messages"
    async with AsyncExitStack() as stack:
        clients = [
            await stack.enter_async_context(shared.connect(user, node))
            for user, node in ((alice, 0), (bob, 1), (bob, 0), (alice, 1))
        ]
        for client in clients[:2]:
            await client.subscribe(room)
        for _ in range(PER_ROOM):
            await clients[1].publish(room, "text")

        async def play(client: ChatClient, is_bob: bool) -> None:
            for step in range(REPEATS):
                seq = rolls.randrange(1, PER_ROOM + 1)
                reaction = rolls.choice("ab")
                type_ = rolls.choice(("react", "unreact"))
                await quietly(client, type_, room, seq, reaction=reaction)
                if is_bob:
                    await quietly(client, "edit", room, seq, content=f"text {step % 3}")
                if not is_bob and step % 5 == 4:
                    await quietly(client, "delete", room, step // 5)

        async def play_rest() -> None:
            for step in range(REPEATS):
                seq = rolls.randrange(1, PER_ROOM + 1)
                body = {"content": f"by key {step % 2}"}
                answer = await shared.send("PATCH", f"{path}/{seq}", body)
                assert answer.status in (200, 409)
                answer = await shared.send("PUT", f"{path}/{seq}/reactions/a", user=bob)
                assert answer.status in (204, 409)

        async with trio.open_nursery() as nursery:
            for place, client in enumerate(clients):
                nursery.start_soon(play, client, place in (1, 2))
            nursery.start_soon(play_rest)
        await check_agreement(shared, room, *clients[:2])
