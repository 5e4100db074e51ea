"""Rooms that are behind: portions, turns, and what happens to a room between two of them."""

from collections.abc import Callable
from typing import Any, cast

import trio
import trio.testing

from broker.counts import Counts
from broker.delivery import Delivery
from broker.domain.access import AccessReader
from broker.hub import Hub
from broker.spreading import Spreading
from config import spreading_limits as limits
from config.metrics import Metrics
from tests.broker.hubs import EPOCH, KEYS, FakeSubscriber, raw

LARGE = "p/large"
SMALL = "p/small"


def stand_still() -> float:
    return 0.0


class Node:
    """What of a node delivers, with portions of two."""

    def __init__(self, clock: Callable[[], float] = stand_still) -> None:
        self.counts = Counts(Metrics())
        self.spreading = Spreading(self.counts, sends_per_turn=2, clock=clock)
        self.hub = Hub(KEYS, self.spreading, wake_upkeep=lambda: None)
        # Delivery only forgets roles here, and nothing here needs a repair.
        access, repairs = AccessReader(cast("Any", None)), cast("Any", None)
        self.delivery = Delivery(self.hub, access, repairs, self.counts)

    def subscribe(self, key: str, *users: str) -> list[FakeSubscriber]:
        subscribers = [FakeSubscriber(user) for user in users]
        for subscriber in subscribers:
            room, hold = self.hub.begin(key, subscriber, needs_member=True)
            assert room.go_live(subscriber, hold, epoch=EPOCH, offset=room.offset, seq=0)
        return subscribers

    def deliver(self, *offsets: int, key: str = LARGE, **fields: Any) -> None:
        self.delivery.deliver([raw(offset, key=key, **fields) for offset in offsets])

    def turn(self, times: int = 1) -> None:
        for _ in range(times):
            self.spreading.turn()


def offsets_of(subscribers: list[FakeSubscriber]) -> list[list[int]]:
    return [subscriber.offsets for subscriber in subscribers]


def test_a_small_room_does_not_wait_for_a_large_one() -> None:
    node = Node()
    large = node.subscribe(LARGE, "alice", "bob", "carol", "dave", "erin")
    small = node.subscribe(SMALL, "alice", "bob")
    node.delivery.deliver([raw(1, key=LARGE), raw(1, key=SMALL)])
    assert offsets_of(small) == [[1], [1]]
    assert offsets_of(large) == [[]] * 5
    node.turn()
    assert offsets_of(large) == [[1], [1], [], [], []]
    node.deliver(2, key=SMALL)
    assert offsets_of(small) == [[1, 2], [1, 2]]
    node.turn(2)
    assert offsets_of(large) == [[1]] * 5
    assert node.counts.deliveries == 5 + 4


def test_large_rooms_take_turns_and_what_comes_meanwhile_joins() -> None:
    node = Node()
    first = node.subscribe(LARGE, "alice", "bob", "carol", "dave")
    second = node.subscribe("p/other", "erin", "frank", "grace")
    node.deliver(1)
    node.deliver(1, key="p/other")
    node.turn(2)
    assert offsets_of(first) == [[1], [1], [], []]
    assert offsets_of(second) == [[1], [1], []]
    node.deliver(2)
    node.turn(3)
    assert offsets_of(first) == [[1, 2]] * 4
    assert [one.sends for one in first] == [2, 2, 1, 1]
    assert offsets_of(second) == [[1]] * 3


def test_many_small_rooms_take_turns_too() -> None:
    node = Node()
    rooms = [
        node.subscribe(f"p/r{number}", "alice", "bob")
        for number in range(limits.SENDS_PER_BATCH // 2 + 1)
    ]
    node.delivery.deliver([raw(1, key=f"p/r{number}") for number in range(len(rooms))])
    assert [offsets_of(room) for room in rooms[:-1]] == [[[1], [1]]] * (len(rooms) - 1)
    assert offsets_of(rooms[-1]) == [[], []]
    node.turn()
    assert offsets_of(rooms[-1]) == [[1], [1]]


def test_who_is_removed_between_two_portions_has_what_came_before_and_nothing_after() -> None:
    node = Node()
    everybody = node.subscribe(LARGE, "alice", "bob", "carol", "dave", "erin")
    erin = everybody[-1]
    node.deliver(1)
    node.turn()
    data = b'{"user":"erin","by":null,"reason":"removed"}'
    node.deliver(2, event="member.removed", ver=2, data=data)
    assert offsets_of(everybody) == [[1, 2]] * 5
    assert erin.ended == [(LARGE, "not_a_member")]
    node.deliver(3)
    node.turn(3)
    assert erin.offsets == [1, 2]
    assert offsets_of(everybody[:-1]) == [[1, 2, 3]] * 4


def test_who_leaves_or_comes_between_two_portions_misses_and_repeats_nothing() -> None:
    node = Node()
    alice, bob, carol = node.subscribe(LARGE, "alice", "bob", "carol")
    room = node.hub.rooms[LARGE]
    node.deliver(1)
    node.turn()
    dave = FakeSubscriber("dave")
    _room, hold = node.hub.begin(LARGE, dave, needs_member=True)
    assert offsets_of([alice, bob, carol]) == [[1]] * 3, "it came before the hold"
    node.deliver(2)
    node.turn()
    assert room.go_live(dave, hold, epoch=EPOCH, offset=1, seq=1)
    assert offsets_of([alice, bob, carol, dave]) == [[1, 2], [1, 2], [1, 2], [2]]
    node.deliver(3)
    node.turn()
    node.hub.remove(LARGE, alice)
    assert offsets_of([alice, bob, carol, dave]) == [[1, 2, 3], [1, 2, 3], [1, 2, 3], [2, 3]]
    node.deliver(4)
    node.turn(2)
    assert offsets_of([alice, bob, carol, dave]) == [
        [1, 2, 3],
        [1, 2, 3, 4],
        [1, 2, 3, 4],
        [2, 3, 4],
    ]


def test_a_room_that_is_gone_when_its_turn_comes() -> None:
    node = Node()
    everybody = node.subscribe(LARGE, "alice", "bob", "carol")
    node.deliver(1)
    node.hub.end_all(node.hub.rooms[LARGE], "room_not_found", "The room has been deleted.")
    node.turn()
    assert offsets_of(everybody) == [[1]] * 3
    assert not node.hub.rooms


def test_a_turn_lasts_as_long_as_the_others_had_the_loop() -> None:
    times = iter([0.0, 0.0, 0.0, 0.002, 0.0025, 0.004, 0.004])
    node = Node(lambda: next(times))
    everybody = node.subscribe(LARGE, *"abcdefgh")
    node.deliver(1)
    node.turn()  # from 0.0 to 0.0, and the others have 2 ms
    assert sum(one.sends for one in everybody) == 2
    node.turn()  # 0.5 ms after the first portion it may go on, 2 ms after the second not
    assert sum(one.sends for one in everybody) == 6


async def test_the_inbox_is_not_read_while_many_rooms_are_behind() -> None:
    node = Node()
    keys = [f"p/r{number}" for number in range(limits.ROOMS_BEHIND_MAX)]
    for key in keys:
        node.subscribe(key, "alice", "bob", "carol")
        node.deliver(1, key=key)
    seen: list[str] = []

    async def wait() -> None:
        await node.spreading.wait_short()
        seen.append("read on")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        await trio.testing.wait_all_tasks_blocked()
        assert not seen
        nursery.start_soon(node.spreading.run)
        await trio.testing.wait_all_tasks_blocked()
        assert seen == ["read on"]
        assert node.counts.deliveries == 3 * len(keys)
        nursery.cancel_scope.cancel()
