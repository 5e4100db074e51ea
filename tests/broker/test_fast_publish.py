"""When the answer to a publish waits for its event: only where that is still to come."""

import re
from functools import partial

import pytest

from tests.support.local_broker import LocalBroker, LocalClient, open_broker
from tests.support.rooms import key_of

ROOM = "general"


@pytest.fixture
async def broker(redis_url, database_url):
    async with open_broker(redis_url, database_url) as opened:
        await opened.storage.create_room(ROOM, "alice", "bob")
        await opened.storage.seeder.warm(key_of(ROOM))
        yield opened


class _Answers:
    """Notes each answer to a publish: its offset, the room's then, and whether it may wait."""

    def __init__(self, broker: LocalBroker, client: LocalClient) -> None:
        self.seen: list[tuple[int, int, bool]] = []
        self._room = broker.node.hub.rooms[key_of(ROOM)]
        self._post = client.peer.post
        client.connection.post = partial(self._take, may_wait=False)
        client.peer.post_soon = partial(self._take, may_wait=True)  # type: ignore[method-assign]

    def _take(self, frame: bytes, *, may_wait: bool) -> None:
        found = re.search(rb'"message_id":.*"offset":(\d+)', frame)
        if found and b'"type":"reply"' in frame:
            self.seen.append((int(found[1]), self._room.offset, may_wait))
        self._post(frame)


async def test_an_answer_waits_for_its_event_unless_that_has_come(broker: LocalBroker):
    """The inbox and the answer come by two connections: either may be read first."""
    async with broker.connect("alice") as alice:
        await alice.subscribe(ROOM)
        answers = _Answers(broker, alice)
        for number in range(20):
            await alice.publish(ROOM, f"message {number}")
        await alice.wait_messages(ROOM, 20)
    assert len(answers.seen) == 20
    for offset, reached, may_wait in answers.seen:
        assert may_wait == (reached < offset)


async def test_an_answer_does_not_wait_for_an_event_that_came_before_it(broker: LocalBroker):
    async with broker.connect("alice", check=False) as alice:
        await alice.subscribe(ROOM)
        await alice.publish(ROOM, "warm")
        await alice.wait_messages(ROOM, 1)
        answers = _Answers(broker, alice)
        broker.node.hub.rooms[key_of(ROOM)].offset += 10
        await alice.publish(ROOM, "its event is known")
        assert answers.seen == [(2, 11, False)]


async def test_an_answer_does_not_wait_where_its_writer_gets_no_events(broker: LocalBroker):
    async with broker.connect("alice") as alice, broker.connect("bob") as bob:
        await bob.subscribe(ROOM)
        answers = _Answers(broker, alice)
        for number in range(5):
            await alice.publish(ROOM, f"message {number}")
        await bob.wait_messages(ROOM, 5)
    assert [may_wait for _offset, _reached, may_wait in answers.seen] == [False] * 5
