"""Unread counts after thousands of random operations equal a recount from the events."""

import random
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import pytest
import trio

from tests.support.client import ChatClient, ChatError
from tests.support.deployment import Deployment, room_path
from tests.support.repeating import times

Name = Callable[[str], str]
Place = tuple[str, str]
"""(user, room)."""

USERS, DEVICES, ROOMS, OPERATIONS = 20, 3, 3, times(10_000)


class Talk:
    """What was answered to everybody: how far each has read, whose each message is."""

    def __init__(self, rooms: list[str], seed: int) -> None:
        self.rooms = rooms
        self.random = random.Random(seed)
        self.read: dict[Place, int] = defaultdict(int)
        self.own: dict[Place, list[int]] = defaultdict(list)
        self.newest: dict[str, int] = defaultdict(int)

    async def operate(self, client: ChatClient, user: str) -> None:
        """One random operation of one device."""
        room = self.random.choice(self.rooms)
        place = (user, room)
        kind = self.random.random()
        if kind < 0.35:
            answer = await client.call("publish", room=room, content="x")
            self.own[place].append(answer["seq"])
            self.newest[room] = max(self.newest[room], answer["seq"])
            self.read[place] = max(self.read[place], answer["seq"])
        elif kind < 0.45 and self.own[place]:
            await self.change(client, room, self.random.choice(self.own[place]))
        else:
            seq = self.random.randint(0, self.newest[room] + 2)
            type_ = "read" if kind < 0.8 else "delivered"
            newest = self.newest[room]
            answer = await client.call(type_, room=room, seq=seq)
            assert answer["seq"] >= min(seq, newest)
            if type_ == "read":
                self.read[place] = max(self.read[place], answer["seq"])

    async def change(self, client: ChatClient, room: str, seq: int) -> None:
        """Delete a message, or edit it if it still is there."""
        if self.random.random() < 0.6:
            await client.call("delete", room=room, seq=seq)
            return
        try:
            await client.call("edit", room=room, seq=seq, content="y")
        except ChatError as error:
            assert error.code == "conflict"


def recount(messages: list[dict[str, Any]], user: str, read_seq: int) -> int:
    """Ruling 27, from what the events have made of the messages."""
    counted = [
        message
        for message in messages
        if message["seq"] > read_seq
        and message["deleted_at"] is None
        and message["sender"] != user
        and message["kind"] != "system"
    ]
    return min(1000, len(counted))


@pytest.mark.slow
@pytest.mark.timeout(180)
async def test_unread_counts_equal_a_recount_from_the_events(shared: Deployment, name: Name):
    """Ruling 27: 10 000 operations (see `times`) by 20 users on 3 devices each, over two nodes."""
    rooms = [name(f"room{number}") for number in range(ROOMS)]
    users = [name(f"user{number}") for number in range(USERS)]
    for room in rooms:
        await shared.create_room(room, *users)
        await shared.ok(
            "POST", f"{room_path(room)}/messages", {"content": "hello", "kind": "system"}
        )
    talk = Talk(rooms, seed=42)
    talk.newest.update(dict.fromkeys(rooms, 1))
    left = OPERATIONS

    async def work(user: str, node: int) -> None:
        nonlocal left
        async with shared.connect(user, node) as device:
            while left > 0:
                left -= 1
                await talk.operate(device, user)

    async with trio.open_nursery() as nursery:
        for number, user in enumerate(users):
            for device in range(DEVICES):
                nursery.start_soon(work, user, (number + device) % 2)
    for _archived in range(2):
        await compare(shared, talk, users)
        await shared.wait_archived()


async def compare(shared: Deployment, talk: Talk, users: list[str]) -> None:
    """What everybody is told now, by subscribing and in the list of rooms, against the recount."""
    histories = {room: await shared.whole_history(room) for room in talk.rooms}
    for number, user in enumerate(users):
        expected = {
            room: recount(messages, user, talk.read[user, room])
            for room, messages in histories.items()
        }
        async with shared.connect(user, number % 2) as client:
            for room in talk.rooms:
                reply = await client.subscribe(room)
                assert reply["read_seq"] == talk.read[user, room]
                assert reply["unread"] == expected[room]
        listed = await shared.ok("GET", "/v1/me/rooms", user=user)
        assert {item["id"]: item["unread"] for item in listed["items"]} == expected
