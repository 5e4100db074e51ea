"""Waiting for conditions: the only place in the tests that sleeps."""

import inspect
import random
import time
from collections.abc import Callable
from typing import Any, TypeVar

import trio

T = TypeVar("T")
_INTERVAL = 0.01


async def wait_until(
    condition: Callable[[], Any], *, deadline: float = 10.0, what: str = ""
) -> Any:
    """Ask `condition` (sync or async) until it is true; return what it said.

    After `deadline` seconds fails with the last answer and `what` was waited for.
    """
    give_up_at = trio.current_time() + deadline
    while True:
        answer = condition()
        if inspect.isawaitable(answer):
            answer = await answer
        if answer:
            return answer
        if trio.current_time() >= give_up_at:
            raise AssertionError(_sentence(what, condition, deadline, answer))
        await trio.sleep(_INTERVAL)


async def pass_time(seconds: float) -> None:
    """Let real time go by, for tests where the time itself is the condition."""
    await trio.sleep(seconds)


def wait_until_sync(condition: Callable[[], T], *, deadline: float = 10.0, what: str = "") -> T:
    """`wait_until` for tests that do not run in trio."""
    give_up_at = time.monotonic() + deadline
    while True:
        answer = condition()
        if answer:
            return answer
        if time.monotonic() >= give_up_at:
            raise AssertionError(_sentence(what, condition, deadline, answer))
        time.sleep(_INTERVAL)


async def jitter(longest: float = 0.01) -> None:
    """Wait for no reason at all, at most `longest` seconds: so that races begin in any order."""
    await trio.sleep(random.random() * longest)


def _sentence(what: str, condition: object, deadline: float, answer: object) -> str:
    return f"{what or condition} not within {deadline} s (last answer: {answer!r})"
