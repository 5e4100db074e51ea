"""The live group of a room: everybody gets each frame once and in order, in whatever portions."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.live_group import LiveGroup
from broker.protocol.frames import encode_text_frame
from tests.broker.hubs import FakeSubscriber

adding = st.tuples(st.just("add"), st.integers(1, 3))
spreading = st.tuples(st.just("spread"), st.integers(1, 7))
flushing = st.just(("flush", 0))


def frame_of(number: int) -> bytes:
    return encode_text_frame(b'{"offset":%d}' % number)


def group_of(size: int) -> tuple[LiveGroup, list[FakeSubscriber]]:
    group, subscribers = LiveGroup(), [FakeSubscriber(f"u{number}") for number in range(size)]
    for subscriber in subscribers:
        group.join(subscriber)
    return group, subscribers


@given(size=st.integers(0, 6), steps=st.lists(adding | spreading | flushing, max_size=40))
def test_each_frame_goes_round_once_and_in_order(size: int, steps: list[Any]) -> None:
    group, subscribers = group_of(size)
    added = 0
    for what, count in steps:
        sends = sum(one.sends for one in subscribers)
        if what == "add":
            for number in range(added + 1, added + count + 1):
                group.add(frame_of(number))
            added += count
        elif what == "spread":
            sent = group.spread(count)
            assert sent <= count
            assert sum(one.sends for one in subscribers) == sends + sent
        else:
            group.flush()
            assert sum(one.sends for one in subscribers) <= sends + size, "one send for each"
        for one in subscribers:
            assert one.offsets == list(range(1, len(one.offsets) + 1))
        lacking = [added - len(one.offsets) for one in subscribers]
        if size:
            assert group.is_behind == any(lacking)
            assert group.waiting_bytes >= max(lacking) * len(frame_of(1))
        assert group.is_behind or not group.waiting_bytes
    for _ in range(2 * size + 1):
        group.spread(1)
    assert not group.is_behind
    assert all(one.offsets == list(range(1, added + 1)) for one in subscribers)
    assert group.delivered == added * size


def test_what_comes_while_a_frame_goes_round_shares_its_sends() -> None:
    group, subscribers = group_of(4)
    group.add(frame_of(1))
    assert group.spread(2) == 2
    group.add(frame_of(2))
    assert [group.spread(9), group.spread(9), group.spread(9)] == [2, 2, 0]
    assert [one.sends for one in subscribers] == [2, 2, 1, 1]
    assert all(one.offsets == [1, 2] for one in subscribers)


def test_the_group_does_not_change_while_something_is_on_its_way() -> None:
    group, subscribers = group_of(2)
    group.add(frame_of(1))
    group.spread(1)
    with pytest.raises(AssertionError, match="what came before"):
        group.join(FakeSubscriber("late"))
    with pytest.raises(AssertionError, match="what came before"):
        group.leave(subscribers[1])
    group.flush()
    group.leave(subscribers[1])
    assert list(group) == subscribers[:1]
