"""Whose commands are begun: users take turns, however many connections each has."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from hypothesis import given
from hypothesis import strategies as st

from broker.fairness import Fairness, Work
from config import limits


@dataclass
class _Asking:
    channel: str
    is_closed: bool = False


class _Tasks:
    """Collects what would run in tasks; `end` runs one."""

    def __init__(self) -> None:
        self.begun: list[Work] = []
        self.names: list[str] = []
        self.fairness = Fairness(self.begun.append)

    def add(self, asking: _Asking, name: str = "") -> None:
        self.fairness.add(asking, partial(self.note, name or asking.channel))

    async def note(self, name: str) -> None:
        self.names.append(name)

    def end(self, place: int = 0) -> None:
        """Run the one at a place; what it notes is there at once."""
        running = self.begun.pop(place)()
        try:
            running.send(None)  # type: ignore[attr-defined]
        except StopIteration:
            return


def test_a_user_has_no_more_places_with_more_connections():
    """Promise 4: a flood over many connections waits behind itself."""
    tasks = _Tasks()
    for number in range(3 * limits.COMMANDS_AT_ONCE):
        tasks.add(_Asking("mallory"), str(number))
    assert len(tasks.begun) == limits.COMMANDS_AT_ONCE
    tasks.add(_Asking("alice"))
    assert len(tasks.begun) == limits.COMMANDS_AT_ONCE + 1
    while tasks.begun:
        tasks.end()
    assert [name for name in tasks.names if name != "alice"] == [
        str(number) for number in range(3 * limits.COMMANDS_AT_ONCE)
    ]


def test_when_the_node_is_full_users_take_turns():
    tasks = _Tasks()
    floods = limits.NODE_COMMANDS_AT_ONCE // limits.COMMANDS_AT_ONCE
    for _ in range(5 * limits.COMMANDS_AT_ONCE):
        for flood in range(floods):
            tasks.add(_Asking(f"mallory{flood}"))
    tasks.add(_Asking("alice"))
    assert len(tasks.begun) == limits.NODE_COMMANDS_AT_ONCE
    tasks.end()
    assert len(tasks.begun) == limits.NODE_COMMANDS_AT_ONCE
    tasks.end(-1)
    assert tasks.names[-1] == "alice"


def test_what_waits_of_a_connection_that_has_ended_is_not_begun():
    tasks = _Tasks()
    gone = _Asking("mallory")
    for _ in range(2 * limits.COMMANDS_AT_ONCE):
        tasks.add(gone)
    gone.is_closed = True
    tasks.add(_Asking("mallory"), "another")
    tasks.end()
    tasks.end(-1)
    assert tasks.names == ["mallory", "another"]


_STEPS = st.lists(st.tuples(st.sampled_from(["add", "add", "end", "close"]), st.integers(0, 40)))


@given(_STEPS)
def test_nothing_is_forgotten_and_no_limit_passed(steps: list[tuple[str, int]]):
    tasks = _Tasks()
    askings = [_Asking(f"u{number % 6}") for number in range(41)]
    added = 0
    for step, number in steps * 8:
        if step == "add" and not askings[number].is_closed:
            tasks.add(askings[number])
            added += 1
        elif step == "end" and tasks.begun:
            tasks.end(number % len(tasks.begun))
        elif step == "close" and number > 35:
            askings[number].is_closed = True
        assert len(tasks.begun) <= limits.NODE_COMMANDS_AT_ONCE
    while tasks.begun:
        tasks.end()
    if not any(asking.is_closed for asking in askings):
        assert len(tasks.names) == added
    assert not tasks.fairness._waiting
    assert not tasks.fairness._ready
    assert not tasks.fairness._working


def test_what_needs_no_task_takes_a_place_of_its_user():
    tasks = _Tasks()
    for _ in range(limits.COMMANDS_AT_ONCE):
        assert tasks.fairness.take("alice")
    assert not tasks.fairness.take("alice")
    tasks.add(_Asking("alice"))
    assert not tasks.begun
    tasks.fairness.give_back("alice")
    assert len(tasks.begun) == 1
    tasks.end()
    assert tasks.names == ["alice"]
    # Nobody goes past those who wait, and nobody past the node's limit.
    assert tasks.fairness.take("alice")
    tasks.add(_Asking("alice"))
    tasks.fairness.give_back("alice")
    for flood in range(limits.NODE_COMMANDS_AT_ONCE):
        tasks.fairness.take(f"user{flood}")
    assert not tasks.fairness.take("another")
