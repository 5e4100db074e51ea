"""Many clients on two brokers: everything exactly once, in one order, and archived."""

from collections.abc import Sequence
from contextlib import AsyncExitStack

import pytest
import trio

from tests.integration.conftest import Start
from tests.support.deployment import Deployment
from tests.support.lean_client import LeanClient, Seen, open_lean_client
from tests.support.repeating import times
from tests.support.tokens import make_token
from tests.support.waiting import wait_until

ROOMS = [f"room{number}" for number in range(10)]
CLIENTS = 40
MESSAGES = times(40_000)
WINDOW = 25


def rooms_of(client: int) -> tuple[str, str]:
    """Each client is in two rooms; each room has eight clients, four on either broker."""
    return ROOMS[client // 2 % 10], ROOMS[(client // 2 + 3) % 10]


class Person:
    """A client of the load with what it sent and was answered."""

    def __init__(self, number: int, client: LeanClient) -> None:
        self.number = number
        self.client = client
        self.begins_at: dict[str, object] = {}
        self.answered: dict[str, list[Seen]] = {room: [] for room in rooms_of(number)}

    async def subscribe(self) -> None:
        for room in rooms_of(self.number):
            result = await self.client.call("subscribe", room=room)
            self.begins_at[room] = result["offset"]

    async def send(self, count: int) -> None:
        """Publish by turns into both rooms, WINDOW at a time."""
        rooms = rooms_of(self.number)
        for start in range(0, count, WINDOW):
            batch: list[dict[str, object]] = [
                {"room": rooms[n % 2], "content": f"{self.number}-{n}", "client_id": f"{n}"}
                for n in range(start, min(start + WINDOW, count))
            ]
            results = await self.client.call_all("publish", batch)
            for sent, got in zip(batch, results, strict=True):
                assert got["duplicate"] is False
                answer = answer_as_event(got, sent)
                self.answered[str(sent["room"])].append(answer)


def answer_as_event(result: dict[str, object], sent: dict[str, object]) -> Seen:
    """An answer in the form in which the event must have come."""
    offset, seq = result["offset"], result["seq"]
    assert isinstance(offset, int)
    assert isinstance(seq, int)
    return Seen(offset, "message.created", str(result["message_id"]), seq, str(sent["content"]))


async def connect_all(system: Deployment, stack: AsyncExitStack) -> list[Person]:
    people = []
    for number in range(CLIENTS):
        url = system.brokers[number % 2].url
        client = await stack.enter_async_context(open_lean_client(url, make_token(f"u{number}")))
        people.append(Person(number, client))
    async with trio.open_nursery() as nursery:
        for person in people:
            nursery.start_soon(person.subscribe)
    return people


def check_received(people: Sequence[Person]) -> None:
    for room in ROOMS:
        here = [person for person in people if room in person.answered]
        answered = sorted(answer for person in here for answer in person.answered[room])
        assert len({answer.id for answer in answered}) == MESSAGES // len(ROOMS)
        for person in here:
            assert person.begins_at[room] == 0
            assert person.client.events[room] == answered, (room, person.number)
        assert [answer.offset for answer in answered] == list(range(1, len(answered) + 1))
        assert [answer.seq for answer in answered] == list(range(1, len(answered) + 1))


@pytest.mark.slow
async def test_everybody_gets_everything_once_and_in_one_order(start: Start) -> None:
    system = await start()
    for room in ROOMS:
        members = [f"u{number}" for number in range(CLIENTS) if room in rooms_of(number)]
        await system.create_room(room, *members)
    async with AsyncExitStack() as stack:
        people = await connect_all(system, stack)
        async with trio.open_nursery() as nursery:
            for person in people:
                nursery.start_soon(person.send, MESSAGES // CLIENTS)
        expected = MESSAGES // len(ROOMS)
        await wait_until(
            lambda: all(
                len(person.client.events[room]) >= expected
                for person in people
                for room in person.answered
            ),
            deadline=20,
            what="everything received",
        )
        check_received(people)
        sequences = {room: people_in(people, room)[0].client.events[room] for room in ROOMS}
    await system.check_rooms()
    for room, events in sequences.items():
        rows = [(row["seq"], row["event_offset"], row["id"]) for row in system.stored(room)]
        assert rows == [(event.seq, event.offset, event.id) for event in events]


def people_in(people: Sequence[Person], room: str) -> list[Person]:
    return [person for person in people if room in person.answered]
