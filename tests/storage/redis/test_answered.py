"""What a process remembers of the numbers that it gave out."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config import limits
from storage.redis.answered import AnsweredNumbers
from storage.redis.keys import Keys

KEYS = Keys(2)
ROOMS = ["p/a", "p/b", "p/c", "p/d"]
steps = st.lists(
    st.tuples(st.sampled_from(["answer", "late answer", "fence"]), st.sampled_from(ROOMS))
)


@given(steps)
def test_the_floors_are_the_greatest_numbers_of_former_lives(history):
    lives = ["life-0", "life-0"]
    answered = AnsweredNumbers(KEYS, lives)
    given_out: dict[str, dict[str, int]] = {room: {} for room in ROOMS}
    number = 0
    for what, room in history:
        partition = KEYS.partition(room)
        number += 1
        if what == "fence":
            lives[partition] = f"life-{number}"
            continue
        life = lives[partition]
        if what == "late answer":
            life = next(iter(given_out[room]), life)
        answered.note(room, life, number + 10, number)
        given_out[room][life] = max(number, given_out[room].get(life, 0))
    expected = set()
    for room, numbers in given_out.items():
        former = [n for life, n in numbers.items() if life != lives[KEYS.partition(room)]]
        assert answered.floor(room, lives[KEYS.partition(room)])[1] == max(former, default=0)
        if former:
            expected.add((room, max(former) + 10, max(former)))
    assert set(answered.floors({0, 1})) == expected
    assert {key for key, *_ in answered.floors({0})} == {
        key for key, *_ in expected if KEYS.partition(key) == 0
    }


def test_the_rooms_of_longest_ago_are_forgotten(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(limits, "ANSWERED_ROOMS_MAX", 10)
    lives = ["one", "one"]
    answered = AnsweredNumbers(KEYS, lives)
    for number in range(100):
        answered.note("p/steady", "one", number + 1, number + 1)
        answered.note(f"p/{number}", "one", 1, 1)
    lives[:] = ["two", "two"]
    known = {key: seq for key, _offset, seq in answered.floors({0, 1})}
    assert len(known) <= 20
    assert known["p/steady"] == 100
    assert "p/99" in known
