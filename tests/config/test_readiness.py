"""Readiness: who watches is waited for, who does not is not."""

import pytest
import trio
from trio.testing import MockClock

from config import limits
from config.readiness import Readiness
from tests.support.waiting import pass_time


async def ask(readiness: Readiness, *pauses: float) -> None:
    for pause in pauses:
        await pass_time(pause)
        readiness.note_asked()


@pytest.mark.parametrize(
    ("pauses", "is_watched"),
    [((), False), ((0.0,), False), ((0.0, 10.0), True), ((0.0, 29.0), True), ((0.0, 31.0), False)],
)
async def test_whoever_asks_twice_watches(
    autojump_clock: MockClock, pauses: tuple[float, ...], is_watched: bool
) -> None:
    readiness = Readiness()
    await ask(readiness, *pauses)
    assert readiness.is_watched is is_watched
    began = trio.current_time()
    assert await readiness.leave(20) == (16.0 if is_watched else 20.0)
    assert trio.current_time() - began == (4.0 if is_watched else 0.0)
    assert readiness.is_stopping


async def test_a_watch_that_ended_long_ago_counts_no_more(autojump_clock: MockClock) -> None:
    readiness = Readiness()
    await ask(readiness, 0.0, 1.0, 1.0)
    await pass_time(limits.READY_WATCHED_WITHIN)
    assert not readiness.is_watched


async def test_the_wait_has_a_limit_and_may_be_ended(autojump_clock: MockClock) -> None:
    readiness = Readiness()
    await ask(readiness, 0.0, 1.0)
    assert await readiness.leave(600) == 590.0
    await ask(readiness, 0.0, 1.0)
    with trio.move_on_after(2) as stopping:
        await readiness.leave(600)
    assert stopping.cancelled_caught
    assert readiness.is_stopping


async def test_without_time_to_drain_nobody_is_waited_for(autojump_clock: MockClock) -> None:
    readiness = Readiness()
    await ask(readiness, 0.0, 1.0)
    assert await readiness.leave(0) == 0.0
