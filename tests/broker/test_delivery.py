"""From the inbox to the hub: batches, their cuts, and what is reported instead of dropped."""

from typing import Any, cast

import pytest

from broker.counts import Counts
from broker.delivery import Delivery
from broker.domain.access import AccessReader
from broker.domain.users import USER_CHANGED
from broker.hub import Hub
from broker.hub_room import HubRoom
from broker.spreading import Spreading
from config import limits, spreading_limits
from config.metrics import Metrics
from tests.broker.hubs import EPOCH, KEYS, FakeSubscriber, entry, raw


class Repairs:
    def __init__(self) -> None:
        self.repaired: list[HubRoom] = []
        self.verified: list[int] = []

    def request_repair(self, room: HubRoom) -> None:
        self.repaired.append(room)

    def request_verify(self, partition: int) -> None:
        self.verified.append(partition)


class Setup:
    def __init__(self, *, sends_per_turn: int = spreading_limits.SENDS_PER_TURN) -> None:
        self.counts = Counts(Metrics())
        self.spreading = Spreading(self.counts, sends_per_turn=sends_per_turn)
        self.hub = Hub(KEYS, self.spreading, wake_upkeep=lambda: None)
        self.repairs = Repairs()
        # Delivery only forgets roles here; no statement is ever sent.
        access = AccessReader(cast("Any", None))
        self.delivery = Delivery(self.hub, access, self.repairs, self.counts)

    def subscribe(self, user: str, *, needs_member: bool = True) -> FakeSubscriber:
        subscriber = FakeSubscriber(user)
        room, hold = self.hub.begin("p/room", subscriber, needs_member=needs_member)
        assert room.go_live(subscriber, hold, epoch=EPOCH, offset=room.offset, seq=0)
        return subscriber


@pytest.fixture
def setup() -> Setup:
    return Setup()


def removed(offset: int, user: str, ver: int = 2) -> bytes:
    data = b'{"user":"%b","by":null,"reason":"removed"}' % user.encode()
    return raw(offset, event="member.removed", ver=ver, data=data)


def test_a_removal_cuts_the_batch_and_is_the_last_that_its_user_gets(setup: Setup) -> None:
    alice, bob = setup.subscribe("alice"), setup.subscribe("bob")
    setup.delivery.deliver([raw(1), removed(2, "bob"), raw(3)])
    assert bob.offsets == [1, 2]
    assert bob.ended == [("p/room", "not_a_member")]
    assert alice.offsets == [1, 2, 3]
    assert (setup.counts.events_received, setup.counts.deliveries) == (3, 5)
    assert setup.hub.connection_count("p/room", "bob") == 0
    assert ("p/room", "bob") in setup.hub.dirty_presence


def test_a_visitor_of_a_public_room_stays_when_a_membership_ends(setup: Setup) -> None:
    bob = setup.subscribe("bob", needs_member=False)
    setup.delivery.deliver([removed(1, "bob"), raw(2)])
    assert bob.offsets == [1, 2]
    assert bob.ended == []


def test_a_deleted_room_ends_every_subscription_after_its_event(setup: Setup) -> None:
    alice, bob = setup.subscribe("alice"), setup.subscribe("bob")
    setup.delivery.deliver([raw(1, event="room.deleted", ver=2, data=b"{}"), raw(2)])
    for subscriber in (alice, bob):
        assert subscriber.offsets == [1]
        assert subscriber.ended == [("p/room", "room_not_found")]
    assert "p/room" in setup.hub.dirty_leaves


def test_a_gap_asks_for_a_repair_and_nothing_overtakes_it(setup: Setup) -> None:
    alice = setup.subscribe("alice")
    room = setup.hub.rooms["p/room"]
    setup.delivery.deliver([raw(1), raw(4)])
    assert setup.repairs.repaired == [room]
    room.is_repairing = True
    setup.delivery.deliver([raw(5)])
    assert alice.offsets == [1]
    assert setup.delivery.fill(room, [entry(2), entry(3)])
    assert alice.offsets == [1, 2, 3, 4, 5]


def test_a_removal_inside_the_missed_tail_takes_effect(setup: Setup) -> None:
    bob = setup.subscribe("bob")
    room = setup.hub.rooms["p/room"]
    room.is_repairing = True
    data = b'{"user":"bob","by":null,"reason":"removed"}'
    setup.delivery.fill(room, [entry(1, event="member.removed", ver=2, data=data), entry(2)])
    assert bob.offsets == [1]
    assert bob.ended == [("p/room", "not_a_member")]


def test_another_epoch_is_never_delivered_but_looked_into(setup: Setup) -> None:
    alice = setup.subscribe("alice")
    setup.delivery.deliver([raw(1), raw(2, epoch="e2"), raw(2)])
    assert alice.offsets == [1, 2]
    assert setup.repairs.verified == [setup.hub.rooms["p/room"].keys.partition]


def test_an_event_for_a_room_that_nobody_holds_marks_a_leave(setup: Setup) -> None:
    setup.delivery.deliver([raw(1, key="p/other"), raw(0, key="p//user", event=USER_CHANGED)])
    assert setup.hub.dirty_leaves == {"p/other", "p//user"}


def test_a_changed_user_is_looked_at_on_each_of_its_connections(setup: Setup) -> None:
    first, second = FakeSubscriber("bob"), FakeSubscriber("bob")
    for connection in (first, second):
        setup.hub.add_connection("p//bob", connection)
    setup.delivery.deliver([raw(0, key="p//bob", event=USER_CHANGED, data=b"{}")])
    assert (first.rechecks, second.rechecks) == (1, 1)
    for connection in (first, second):
        setup.hub.remove_connection("p//bob", connection)
    assert setup.hub.dirty_leaves == {"p//bob"}


def test_large_events_are_not_joined_beyond_what_a_client_may_owe(setup: Setup) -> None:
    alice = setup.subscribe("alice")
    data = b'{"content":"%b"}' % (b"x" * 60_000)
    setup.delivery.deliver([raw(offset, data=data) for offset in range(1, 21)])
    assert alice.offsets == list(range(1, 21))
    assert alice.largest_send <= limits.JOINED_BYTES_MAX + len(data) + 500
    assert alice.sends < 20


def test_a_live_subscription_that_a_failed_repeat_has_cost_is_told(setup: Setup) -> None:
    """Its events were held meanwhile, and they were too many or their inbox was lost."""
    alice = setup.subscribe("alice")
    room, hold = setup.hub.begin("p/room", alice, needs_member=True)
    room.spoil_holds()
    setup.hub.abandon(room, alice, hold)
    assert alice.ended == [("p/room", "resync")]
    assert not setup.hub.rooms


def test_a_subscribe_that_fails_is_not_told_of_an_end(setup: Setup) -> None:
    alice = FakeSubscriber("alice")
    room, hold = setup.hub.begin("p/room", alice, needs_member=True)
    room.spoil_holds()
    setup.hub.abandon(room, alice, hold)
    assert alice.ended == []
    assert not setup.hub.rooms


@pytest.mark.parametrize("reason", ["removed", "banned"])
def test_who_has_no_subscribe_reply_yet_is_told_nothing(setup: Setup, reason: str) -> None:
    """Ruling 18: nothing of a room comes before its subscribe reply; the command is refused."""
    alice, bob = setup.subscribe("alice"), FakeSubscriber("bob")
    room, _hold = setup.hub.begin("p/room", bob, needs_member=True)
    data = b'{"user":"bob","by":null,"reason":"%b"}' % reason.encode()
    setup.delivery.deliver([raw(1, event="member.removed", ver=2, data=data)])
    assert bob not in room
    assert bob.ended == []
    setup.hub.begin("p/room", bob, needs_member=True)
    setup.hub.begin("p/room", alice, needs_member=True)
    setup.hub.end_all(room, "resync", "Again.")
    assert (bob.ended, alice.ended) == ([], [("p/room", "resync")])
