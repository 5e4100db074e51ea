"""One room on a node: each subscription sees each offset above its snapshot once and in order."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from broker.hold import Hold
from broker.hub_room import HubRoom
from broker.protocol.events import TimeTexts
from config import limits
from tests.broker.hubs import EPOCH, KEYS, FakeSubscriber, entry


def room_of(offset: int | None = None) -> HubRoom:
    room = HubRoom("p/room", KEYS.room("p/room"), TimeTexts())
    if offset is not None:
        room.epoch, room.offset = EPOCH, offset
    return room


def live(room: HubRoom, offset: int, user: str = "alice") -> FakeSubscriber:
    subscriber = FakeSubscriber(user)
    hold = room.hold(subscriber, needs_member=True)
    assert room.go_live(subscriber, hold, epoch=EPOCH, offset=offset, seq=offset)
    return subscriber


def test_a_batch_is_one_send_for_each_live_subscription() -> None:
    room = room_of()
    first, second = live(room, 0), live(room, 0, "carol")
    for offset in (1, 2, 3):
        assert room.take(entry(offset))
    room.flush()
    assert first.offsets == second.offsets == [1, 2, 3]
    assert first.sends == second.sends == 1


def test_events_that_came_before_the_reply_are_posted_after_it() -> None:
    room = room_of()
    subscriber = FakeSubscriber()
    hold = room.hold(subscriber, needs_member=True)
    for offset in (4, 5, 6):
        room.take(entry(offset))
    assert subscriber.frames == []
    assert room.go_live(subscriber, hold, epoch=EPOCH, offset=4, seq=4)
    room.take(entry(7))
    room.flush()
    assert subscriber.offsets == [5, 6, 7]


def test_a_snapshot_ahead_of_the_room_is_not_repeated_by_the_inbox() -> None:
    room = room_of()
    early = live(room, 98)
    late = FakeSubscriber("late")
    hold = room.hold(late, needs_member=True)
    assert room.go_live(late, hold, epoch=EPOCH, offset=100, seq=100)
    for offset in (99, 100, 101):
        room.take(entry(offset))
    room.flush()
    assert early.offsets == [99, 100, 101]
    assert late.offsets == [101]


def test_a_gap_stops_the_room_and_says_so() -> None:
    room = room_of()
    subscriber = live(room, 0)
    assert room.take(entry(1))
    assert not room.take(entry(3))
    room.flush()
    assert subscriber.offsets == [1]
    assert [waiting.offset for waiting in room.end_repair()] == [3]


def test_a_repeat_is_dropped() -> None:
    room = room_of()
    subscriber = live(room, 0)
    for offset in (1, 1, 2, 1, 2):
        assert room.take(entry(offset))
    room.flush()
    assert subscriber.offsets == [1, 2]


def test_a_hold_that_grows_too_long_ends_in_a_resync() -> None:
    room = room_of()
    subscriber = FakeSubscriber()
    hold = room.hold(subscriber, needs_member=True)
    for offset in range(1, limits.HELD_EVENTS_MAX + 3):
        room.take(entry(offset))
    assert hold.events == []
    assert not room.go_live(subscriber, hold, epoch=EPOCH, offset=0, seq=0)


def test_a_hold_with_a_hole_ends_in_a_resync() -> None:
    room = room_of()
    subscriber = FakeSubscriber()
    hold = room.hold(subscriber, needs_member=True)
    room.take(entry(7))
    assert not room.go_live(subscriber, hold, epoch=EPOCH, offset=5, seq=5)


def test_a_snapshot_of_another_epoch_ends_in_a_resync() -> None:
    room = room_of()
    live(room, 3)
    subscriber = FakeSubscriber("bob")
    hold = room.hold(subscriber, needs_member=True)
    assert not room.go_live(subscriber, hold, epoch="e2", offset=9, seq=9)


def test_what_came_of_another_life_before_the_reply_ends_in_a_resync() -> None:
    """A life may end between a snapshot and its reply; the next goes on with the next number."""
    for coming in (["e2"], [EPOCH, "e2"], ["e2", EPOCH]):
        room = room_of()
        subscriber = FakeSubscriber()
        hold = room.hold(subscriber, needs_member=True)
        for offset, epoch in enumerate(coming, start=7):
            assert room.take(entry(offset, epoch=epoch))
        assert not room.go_live(subscriber, hold, epoch=EPOCH, offset=6, seq=6)
        assert subscriber.frames == []


def test_what_came_of_the_life_before_is_below_the_snapshot_of_the_new_one() -> None:
    room = room_of()
    first, second = FakeSubscriber(), FakeSubscriber("second")
    hold = room.hold(first, needs_member=True)
    room.take(entry(7))
    room.take(entry(8, epoch="e2"))
    assert not room.go_live(first, hold, epoch="e2", offset=7, seq=7)
    again = room.hold(second, needs_member=True)
    room.take(entry(9, epoch="e2"))
    assert room.go_live(second, again, epoch="e2", offset=8, seq=8)
    assert second.offsets == [9]


def test_a_failed_second_subscribe_leaves_the_first_one_whole() -> None:
    room = room_of()
    subscriber = live(room, 0)
    room.take(entry(1))
    hold = room.hold(subscriber, needs_member=True)
    room.take(entry(2))
    room.flush()
    assert subscriber.offsets == [1]
    assert room.abandon_hold(subscriber, hold)
    room.take(entry(3))
    room.flush()
    assert subscriber.offsets == [1, 2, 3]


def test_ephemeral_events_reach_those_who_are_live_and_wait_for_those_held() -> None:
    room = room_of()
    first = live(room, 0)
    held = FakeSubscriber("held")
    hold = room.hold(held, needs_member=True)
    room.take(entry(0, event="presence.joined", data=b'{"user":"x","online":1}'))
    room.flush()
    assert room.go_live(held, hold, epoch=EPOCH, offset=0, seq=0)
    assert [f["event"] for f in first.frames] == [f["event"] for f in held.frames]


def test_users_are_counted_by_connection_from_the_intent_on() -> None:
    room = room_of()
    first, second = FakeSubscriber("bob"), FakeSubscriber("bob")
    room.hold(first, needs_member=True)
    room.hold(first, needs_member=True)
    room.hold(second, needs_member=True)
    assert room.users == {"bob": 2}
    assert room.remove(first)
    assert not room.remove(first)
    assert room.users == {"bob": 1}
    room.remove(second)
    assert room.is_empty


class RoomMachine(RuleBasedStateMachine):
    """Random subscribes, replies, failures, leaves and inbox deliveries against the real log."""

    def __init__(self) -> None:
        super().__init__()
        self.room = room_of()
        self.newest = 0
        self.delivered = 0
        self.waiting: dict[FakeSubscriber, tuple[Hold, int]] = {}
        self.seen_from: dict[FakeSubscriber, int] = {}

    @rule()
    def append(self) -> None:
        self.newest += 1

    @precondition(lambda self: self.delivered < self.newest)
    @rule(count=st.integers(1, 4), in_portions=st.booleans())
    def deliver(self, count: int, in_portions: bool) -> None:
        last = min(self.newest, self.delivered + count)
        for offset in range(self.delivered + 1, last + 1):
            # The node is registered only from the first subscribe script on.
            if self.waiting or self.seen_from:
                assert self.room.take(entry(offset))
        if not in_portions:
            self.room.flush()
        self.delivered = last

    @precondition(lambda self: self.room.live.is_behind)
    @rule(count=st.integers(1, 3))
    def spread(self, count: int) -> None:
        self.room.live.spread(count)

    @rule()
    def subscribe(self) -> None:
        if not self.waiting and not self.seen_from:
            # A fresh room: earlier events never reach this node's inbox.
            self.room = room_of()
            self.delivered = self.newest
        subscriber = FakeSubscriber(f"u{len(self.waiting)}")
        hold = self.room.hold(subscriber, needs_member=True)
        self.waiting[subscriber] = (hold, self.newest)

    @precondition(lambda self: self.seen_from)
    @rule(data=st.data())
    def subscribe_again(self, data: st.DataObject) -> None:
        subscriber = data.draw(st.sampled_from(list(self.seen_from)))
        del self.seen_from[subscriber]
        hold = self.room.hold(subscriber, needs_member=True)
        self.waiting[subscriber] = (hold, self.newest)

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def reply(self, data: st.DataObject) -> None:
        subscriber = data.draw(st.sampled_from(list(self.waiting)))
        hold, snapshot = self.waiting.pop(subscriber)
        subscriber.frames.clear()
        assert self.room.go_live(subscriber, hold, epoch=EPOCH, offset=snapshot, seq=snapshot)
        self.seen_from[subscriber] = snapshot

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def fail(self, data: st.DataObject) -> None:
        subscriber = data.draw(st.sampled_from(list(self.waiting)))
        hold, _snapshot = self.waiting.pop(subscriber)
        if not self.room.abandon_hold(subscriber, hold):
            self.room.remove(subscriber)
        else:
            first = subscriber.offsets[0] - 1 if subscriber.offsets else None
            self.seen_from[subscriber] = self.delivered if first is None else first
            if first is None:
                # Nothing seen yet: it goes on where it had come to.
                self.seen_from[subscriber] = max(hold.reached, self.room.offset)

    @precondition(lambda self: self.seen_from)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        subscriber = data.draw(st.sampled_from(list(self.seen_from)))
        del self.seen_from[subscriber]
        self.room.remove(subscriber)

    @invariant()
    def everybody_saw_each_offset_once(self) -> None:
        for subscriber, since in self.seen_from.items():
            last = max(self.delivered, since)
            expected = list(range(since + 1, last + 1))
            if self.room.live.is_behind:
                expected = expected[: len(subscriber.offsets)]
            assert subscriber.offsets == expected, subscriber.user

    def teardown(self) -> None:
        self.room.flush()
        self.everybody_saw_each_offset_once()


RoomMachine.TestCase.settings = settings(max_examples=200, stateful_step_count=40, deadline=None)
TestRoomMachine = RoomMachine.TestCase
