"""The turnstile: some at a time, in order, and full before the wait is too long."""

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from broker.turnstile import Turnstile
from config import limits
from tests.support.waiting import pass_time


class Passing:
    """People who go through a turnstile and stay in it until they are let go."""

    def __init__(self, turnstile: Turnstile) -> None:
        self.turnstile = turnstile
        self.inside: list[int] = []
        self.too_late: list[int] = []
        self.let_go = trio.Event()

    async def go(self, number: int) -> None:
        try:
            async with self.turnstile.turn():
                self.inside.append(number)
                await self.let_go.wait()
        except trio.TooSlowError:
            self.too_late.append(number)


async def start(nursery: trio.Nursery, passing: Passing, count: int) -> None:
    for number in range(count):
        nursery.start_soon(passing.go, number)
        await wait_all_tasks_blocked()


async def test_some_at_a_time_and_in_order(autojump_clock: MockClock) -> None:
    passing = Passing(Turnstile())
    async with trio.open_nursery() as nursery:
        await start(nursery, passing, limits.ADMISSIONS_AT_ONCE + 5)
        assert passing.inside == list(range(limits.ADMISSIONS_AT_ONCE))
        assert not passing.turnstile.is_full()
        passing.let_go.set()
    assert sorted(passing.inside) == list(range(limits.ADMISSIONS_AT_ONCE + 5))
    assert passing.too_late == []


async def test_it_is_full_when_the_first_has_waited_for_long(autojump_clock: MockClock) -> None:
    passing = Passing(Turnstile())
    async with trio.open_nursery() as nursery:
        await start(nursery, passing, limits.ADMISSIONS_AT_ONCE + 1)
        await pass_time(limits.ADMISSION_WAIT)
        assert not passing.turnstile.is_full()
        await pass_time(0.1)
        assert passing.turnstile.is_full()
        passing.let_go.set()
        await wait_all_tasks_blocked()
        assert not passing.turnstile.is_full()


async def test_it_is_full_when_many_wait(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "ADMISSIONS_WAITING_MAX", 3)
    passing = Passing(Turnstile())
    async with trio.open_nursery() as nursery:
        await start(nursery, passing, limits.ADMISSIONS_AT_ONCE + 2)
        assert not passing.turnstile.is_full()
        await start(nursery, passing, 1)
        assert passing.turnstile.is_full()
        passing.let_go.set()


async def test_who_waits_too_long_gives_up_and_those_who_end_leave_nothing(
    autojump_clock: MockClock,
) -> None:
    passing = Passing(Turnstile())
    async with trio.open_nursery() as nursery:
        await start(nursery, passing, limits.ADMISSIONS_AT_ONCE + 2)
        await pass_time(limits.ADMISSION_WAIT_MAX - 1)
        passing.turnstile.tick()
        await wait_all_tasks_blocked()
        assert passing.too_late == []
        await pass_time(2)
        passing.turnstile.tick()
        await wait_all_tasks_blocked()
        assert sorted(passing.too_late) == [
            limits.ADMISSIONS_AT_ONCE,
            limits.ADMISSIONS_AT_ONCE + 1,
        ]
        assert not passing.turnstile.is_full()
        nursery.cancel_scope.cancel()
    assert not passing.turnstile.is_full()
