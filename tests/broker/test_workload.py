"""How much one connection has under way: tasks at once, and what its answers cost its rate."""

from __future__ import annotations

from functools import partial

import trio

from broker.fairness import Asking, Work
from broker.protocol.commands import History, Ping, Publish, Subscribe
from broker.rates import Allowance, paces_of
from broker.workload import Workload
from config import limits


class _Tasks:
    """Collects what would run in tasks; the test runs it."""

    def __init__(self) -> None:
        self.begun: list[Work] = []
        self.waiting = 0
        self.done: list[int] = []

    def add(self, _asking: Asking, work: Work) -> None:
        self.begun.append(work)

    def count_waiting(self, step: int) -> None:
        self.waiting += step

    async def note(self, number: int) -> None:
        self.done.append(number)

    async def fail(self) -> None:
        raise ValueError


class _Connection:
    channel = "default//ann"
    is_closed = False


async def test_only_so_many_at_once_and_the_rest_in_order():
    tasks = _Tasks()
    workload = Workload(tasks, tasks)
    most = limits.COMMANDS_AT_ONCE
    for number in range(most + 10):
        workload.add(_Connection(), partial(tasks.note, number))
    assert (len(tasks.begun), tasks.waiting) == (most, 10)
    for place in range(most + 10):
        await tasks.begun[place]()
        assert tasks.waiting == max(0, 9 - place)
    assert tasks.done == list(range(most + 10))


async def test_one_that_fails_makes_room_too():
    tasks = _Tasks()
    workload = Workload(tasks, tasks)
    for _ in range(limits.COMMANDS_AT_ONCE):
        workload.add(_Connection(), tasks.fail)
    workload.add(_Connection(), partial(tasks.note, 1))
    try:
        await tasks.begun[0]()
    except ValueError:
        await tasks.begun[-1]()
    assert tasks.done == [1]


async def test_after_the_end_nothing_that_waits_is_begun():
    tasks = _Tasks()
    workload = Workload(tasks, tasks)
    for number in range(limits.COMMANDS_AT_ONCE + 1):
        workload.add(_Connection(), partial(tasks.note, number))
    workload.clear()
    await tasks.begun[0]()
    assert len(tasks.begun) == limits.COMMANDS_AT_ONCE
    await trio.lowlevel.checkpoint()


def _taken(allowance: Allowance, command: type, now: float) -> int:
    count = 0
    while not allowance.take(command, now):
        count += 1
    return count


def test_a_client_comes_back_to_all_of_its_rooms_but_reads_slower_afterwards():
    """Ten times as many at once as messages, and some; then twice as many a second (A11)."""
    allowance = Allowance(paces_of(50.0))
    assert _taken(allowance, Subscribe, 0.0) == 1100
    assert _taken(allowance, History, 1.0) == 100
    assert _taken(allowance, Publish, 1.0) == 100
    assert _taken(allowance, Ping, 1.0) == 1000


def test_large_answers_count_by_their_size():
    allowance = Allowance(paces_of(50.0))
    assert allowance.take(Subscribe, 0.0) == 0
    for _ in range(100):
        allowance.charge_answer(limits.RESUME_BYTES_MAX)
    # One and 100 * 11.25 tokens: twenty-six more than there are.
    assert allowance.take(Subscribe, 0.0) > 0.26
    assert allowance.take(Subscribe, 0.25) > 0
    assert allowance.take(Subscribe, 0.28) == 0
    assert allowance.take(Ping, 0.0) == 0
