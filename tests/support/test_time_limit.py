"""What hangs ends with the stacks of all tasks; what does not is left alone."""

from functools import partial

import pytest
import trio

from tests.support.time_limit import OverTime, within

AGES = 600.0


async def hang_here(seconds: float) -> None:
    with trio.fail_after(seconds):
        await trio.Event().wait()


async def test_the_failure_names_where_every_task_is():
    async def hang() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(hang_here, AGES)
            await trio.Event().wait()

    with pytest.raises(OverTime) as failure:
        await within(0.05, hang)
    told = str(failure.value)
    assert "not over after 0.05 s" in told
    for place in ("in hang\n", "in hang_here\n"):
        assert place in told


async def test_threads_are_told_too(capsys):
    token = trio.lowlevel.current_trio_token()

    def wait_in_a_thread() -> None:
        trio.from_thread.run(partial(hang_here, AGES), trio_token=token)

    async def hang() -> None:
        await trio.to_thread.run_sync(wait_in_a_thread, abandon_on_cancel=True)

    with pytest.raises(OverTime, match="in wait_in_a_thread\n"):
        await within(0.3, hang)
    assert "in wait_in_a_thread\n" in capsys.readouterr().err


async def test_what_ends_in_time_is_as_without():
    async def answer() -> int:
        return 42

    async def fail() -> None:
        raise ValueError("mine")

    assert await within(AGES, answer) == 42
    with pytest.raises(ValueError, match="mine"):
        await within(AGES, fail)
