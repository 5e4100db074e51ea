"""Many sockets read in one task: who is read, who goes on, and what an error ends."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio

from broker.readers import Readers
from config.wire_limits import READS_PER_TURN
from tests.support.waiting import wait_until


class Reading:
    """One of a pair of sockets. What begins with `!` is for its own task; `x` is an error."""

    def __init__(self) -> None:
        self.ours, self.theirs = socket.socketpair()
        self.ours.setblocking(False)
        self.read: list[bytes] = []

    def fileno(self) -> int:
        return self.ours.fileno()

    def read_now(self) -> bytes | None:
        data = self.ours.recv(100)
        self.read.append(data)
        if data == b"x":
            raise ValueError("x")
        return data if data[:1] == b"!" else None

    def close(self) -> None:
        self.ours.close()
        self.theirs.close()


@asynccontextmanager
async def readers_of(
    count: int, *, has_epoll: bool = True
) -> AsyncIterator[tuple[Readers, list[Reading], trio.Nursery]]:
    readers = Readers(has_epoll=has_epoll)
    found = [Reading() for _ in range(count)]
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(readers.run)
            yield readers, found, nursery
            nursery.cancel_scope.cancel()
    finally:
        readers.close()
        for reading in found:
            reading.close()


@pytest.mark.parametrize("has_epoll", [True, False])
async def test_the_own_task_goes_on_only_with_what_is_left_to_it(has_epoll):
    async with readers_of(1, has_epoll=has_epoll) as (readers, [reading], nursery):
        given: list[bytes] = []

        async def wait() -> None:
            given.append(await readers.wait(reading))

        nursery.start_soon(wait)
        for data in (b"a", b"b", b"!c"):
            reading.theirs.send(data)
            await trio.testing.wait_all_tasks_blocked()
            assert reading.read[-1:] == [data]
        await wait_until(lambda: given)
        assert given == [b"!c"]
        reading.theirs.send(b"!d")
        await trio.testing.wait_all_tasks_blocked()
        assert reading.read == [b"a", b"b", b"!c"]
        assert await readers.wait(reading) == b"!d"


async def test_a_turn_reads_each_once_and_not_too_many():
    class Rounds(trio.abc.Instrument):
        number = 0

        def after_io_wait(self, timeout: float) -> None:
            self.number += 1

    rounds = Rounds()
    turns: list[int] = []

    class Noting(Reading):
        def read_now(self) -> bytes | None:
            turns.append(rounds.number)
            self.ours.recv(1)
            return None

    readings = [Noting() for _ in range(READS_PER_TURN + 5)]
    readers = Readers()
    trio.lowlevel.add_instrument(rounds)
    try:
        async with trio.open_nursery() as nursery:
            for reading in readings:
                reading.theirs.send(b"ab")
                nursery.start_soon(readers.wait, reading)
            await trio.testing.wait_all_tasks_blocked()
            nursery.start_soon(readers.run)
            await wait_until(lambda: len(turns) == 2 * len(readings))
            nursery.cancel_scope.cancel()
    finally:
        trio.lowlevel.remove_instrument(rounds)
        readers.close()
        for reading in readings:
            reading.close()
    assert max(turns.count(turn) for turn in turns) == READS_PER_TURN


async def test_an_error_ends_its_own_task_alone():
    async with readers_of(2) as (readers, [bad, good], nursery):
        nursery.start_soon(readers.wait, good)
        bad.theirs.send(b"x")
        with pytest.raises(ValueError, match="x"):
            await readers.wait(bad)
        good.theirs.send(b"still")
        await wait_until(lambda: good.read == [b"still"])


@pytest.mark.parametrize("is_released", [True, False])
async def test_who_is_released_or_cancelled_is_not_read_any_more(is_released):
    async with readers_of(1) as (readers, [reading], nursery):
        scope = trio.CancelScope()
        given: list[bytes] = []

        async def wait() -> None:
            with scope:
                given.append(await readers.wait(reading))

        nursery.start_soon(wait)
        await trio.testing.wait_all_tasks_blocked()
        if is_released:
            readers.release(reading.fileno())
        else:
            scope.cancel()
        readers.release(reading.fileno())
        reading.theirs.send(b"!late")
        await trio.testing.wait_all_tasks_blocked()
        assert given == ([b""] if is_released else [])
        assert reading.read == []
        # Nothing is left of it: it may wait again.
        assert await readers.wait(reading) == b"!late"


async def test_one_may_end_another_in_the_same_turn():
    readers = Readers()

    class Ending(Reading):
        other: Reading

        def read_now(self) -> bytes | None:
            readers.release(self.other.fileno())
            self.other.close()
            return super().read_now()

    one, another = Ending(), Ending()
    one.other, another.other = another, one
    given: list[bytes] = []

    async def wait(reading: Reading) -> None:
        given.append(await readers.wait(reading))

    async with trio.open_nursery() as nursery:
        for reading in (one, another):
            reading.theirs.send(b"!")
            nursery.start_soon(wait, reading)
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(readers.run)
        await wait_until(lambda: len(given) == 2)
        nursery.cancel_scope.cancel()
    assert sorted(given) == [b"", b"!"]
    assert one.read + another.read == [b"!"]
    for reading in (one, another):
        reading.close()
    readers.close()
