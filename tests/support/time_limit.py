"""A time limit for what does many things at once: when it is over, the failure has every stack.

A test that hangs is ended by pytest-timeout, which shows where the main thread is: in the event
loop, whatever hangs. Here it is the stack of each task and thread. They also go to standard error,
at once: what hangs may be something that can not be cancelled either.
"""

import sys
import threading
import traceback
from collections.abc import Awaitable, Callable, Iterator
from typing import TypeVar

import trio

from tests.support.waiting import pass_time

T = TypeVar("T")


class OverTime(AssertionError):
    """It took too long; the text has the stacks."""


async def within(seconds: float, work: Callable[[], Awaitable[T]]) -> T:
    """What `work()` returns; after so many seconds it is cancelled, and OverTime raised."""
    told = ""
    working, watching = trio.CancelScope(), trio.CancelScope()

    async def watch() -> None:
        nonlocal told
        with watching:
            await pass_time(seconds)
            told = f"not over after {seconds:g} s\n{stacks()}"
            print(told, file=sys.stderr, flush=True)
            working.cancel()

    # A task of the system: in a nursery, what `work` raises would come in a group.
    trio.lowlevel.spawn_system_task(watch)
    try:
        with working:
            return await work()
    finally:
        watching.cancel()
    raise OverTime(told)


def stacks() -> str:
    """What each task and each other thread is at."""
    return "\n".join([*_tasks(), *_threads()])


def _tasks() -> Iterator[str]:
    """The stack of each task, a child after its parent."""
    root = trio.lowlevel.current_root_task()
    waiting = [] if root is None else [root]
    while waiting:
        task = waiting.pop()
        frames = traceback.StackSummary.extract(task.iter_await_frames())
        yield f"task {task.name}:\n{''.join(frames.format())}"
        waiting += [child for nursery in task.child_nurseries for child in nursery.child_tasks]


def _threads() -> Iterator[str]:
    """The stack of each thread but the one that asks."""
    for thread in threading.enumerate():
        frame = sys._current_frames().get(thread.ident or 0)
        if frame is not None and thread is not threading.current_thread():
            yield f"thread {thread.name}:\n{''.join(traceback.format_stack(frame))}"
