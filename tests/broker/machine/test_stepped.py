"""The loop that is turned by hand: steps come to rest, and what never does is told with stacks."""

import pytest
import trio

from tests.broker.machine.stepped import Loop
from tests.support.time_limit import OverTime
from tests.support.waiting import pass_time


async def stay(_nursery: trio.Nursery) -> None:
    await trio.sleep_forever()


def test_a_step_ends_when_everything_waits_and_time_passes_only_by_jumps():
    seen: list[float] = []

    async def note_each_second(_nursery: trio.Nursery) -> None:
        while True:
            await pass_time(1)
            seen.append(trio.current_time())

    loop = Loop(note_each_second)
    began = loop.step(trio.current_time)
    assert seen == []
    loop.step(lambda: loop.clock.jump(1.5))
    assert seen == [began + 1.5]
    loop.close()


def test_what_never_comes_to_rest_fails_with_the_stack_of_each_task():
    async def go_round_and_round() -> None:
        while True:
            await trio.lowlevel.checkpoint()

    started: list[trio.Nursery] = []

    async def run(nursery: trio.Nursery) -> None:
        started.append(nursery)
        await trio.sleep_forever()

    loop = Loop(run)
    with pytest.raises(OverTime, match="in go_round_and_round\n"):
        loop.step(lambda: started[0].start_soon(go_round_and_round))
    loop.close()


def test_what_a_step_raises_is_raised_and_the_loop_goes_on():
    def fail() -> None:
        raise ValueError("mine")

    loop = Loop(stay)
    with pytest.raises(ValueError, match="mine"):
        loop.step(fail)
    assert loop.step(lambda: 42) == 42
    loop.close()


def test_what_ended_the_loop_is_raised_by_steps_and_by_closing():
    async def fail_in_a_second(_nursery: trio.Nursery) -> None:
        await pass_time(1)
        raise ValueError("mine")

    loop = Loop(fail_in_a_second)
    for work in (lambda: loop.step(lambda: loop.clock.jump(1)), loop.close):
        with pytest.raises(ExceptionGroup) as failure:
            work()
        assert failure.group_contains(ValueError, match="mine")
