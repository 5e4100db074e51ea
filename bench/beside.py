"""A room under load beside the one that is measured: a second generator in a process of its own.

Rules: forked, so it has the target as it is, on the generator's core; it does what `bench.fanout`
does, one publish on its way at a time, as fast as the server lets it, and checks what it receives.
It ends with the block; whatever it found wrong ends the run then.
"""

import contextlib
import multiprocessing
import time
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection as Pipe
from typing import Final

from bench import checks, wire
from bench.connection import BenchError
from bench.fanout import FanoutOptions, open_room
from bench.target import Target

STEP: Final = 0.5  # seconds between two looks whether it may end
START_TIMEOUT: Final = 60.0


def _load(target: Target, room: str, users: Sequence[str], pipe: Pipe, parents: Pipe) -> None:
    parents.close()  # or this end would never see that the other process is gone
    try:
        with open_room(target, room, users, FanoutOptions(receivers=len(users))) as state:
            pipe.send(None)
            start, published = time.perf_counter(), state.published
            while not pipe.poll():
                state.run_until(time.perf_counter() + STEP)
            seconds = time.perf_counter() - start
            pipe.send((state.published - published) * len(users) / seconds)
    except (BenchError, checks.CheckFailed, wire.WireError, OSError) as error:
        pipe.send(f"the room beside: {error}")


def _receive(pipe: Pipe) -> float | None:
    if not pipe.poll(START_TIMEOUT):
        raise BenchError("the room beside does not answer")
    found: float | str | None = pipe.recv()
    if isinstance(found, str):
        raise BenchError(found)
    return found


@contextlib.contextmanager
def loaded(target: Target, room: str, users: Sequence[str]) -> Iterator[list[float]]:
    """Keep `room` under load within the block; afterwards the list has its deliveries a second."""
    rate: list[float] = []
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("fork").Process(
        target=_load, args=(target, room, users, theirs, ours), daemon=True
    )
    process.start()
    theirs.close()
    try:
        _receive(ours)
        yield rate
        ours.send(None)
        rate.append(_receive(ours) or 0.0)
    finally:
        ours.close()
        process.join(START_TIMEOUT)
        if process.is_alive():
            process.kill()
            process.join()
