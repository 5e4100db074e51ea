"""Many changes of one room at once: announced together, answered when it is done."""

import json
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from storage.errors import StorageUnavailable
from tests.support.local_broker import replaced
from tests.support.rooms import PROJECT, Storage, open_storage

ROOM = "general"
CHANGES = 100
Announce = Callable[..., Awaitable[Any]]


@pytest.fixture
async def storage(redis_url: str, database_url: str) -> AsyncIterator[Storage]:
    async with open_storage(redis_url, database_url) as opened:
        await opened.create_room(ROOM)
        yield opened
        await opened.flush()
        await opened.check_rooms()


async def waiting(storage: Storage) -> int:
    count: int = await storage.db.fetchval("SELECT count(*) FROM announcements")
    return count


async def test_each_is_announced_about_once(storage: Storage) -> None:
    """Not by everybody who waits: a hundred would be ten thousand calls, and too late."""
    calls: Counter[int] = Counter()

    def counting(announce: Announce) -> Announce:
        async def count(key: str, **fields: Any) -> Any:
            calls[fields["version"]] += 1
            return await announce(key, **fields)

        return count

    async def change(number: int) -> None:
        await storage.add_silently(ROOM, f"user{number}")
        await storage.announce(ROOM)
        assert f"user{number}" in {entry_user(entry) for entry in await storage.log(ROOM)}

    with replaced(storage.store.rooms, "announce", counting):
        async with trio.open_nursery() as nursery:
            for number in range(CHANGES):
                nursery.start_soon(change, number)
    assert calls.keys() == set(range(1, CHANGES + 1))
    # The first of them finds the room cold, and asks again.
    assert calls.total() <= CHANGES + 2
    assert [entry.ver for entry in await storage.log(ROOM)] == list(range(1, CHANGES + 1))
    assert await waiting(storage) == 0


async def test_who_waits_goes_on_when_the_one_at_work_is_cancelled(storage: Storage) -> None:
    reached = trio.Event()

    def stuck(announce: Announce) -> Announce:
        async def stay_once(key: str, **fields: Any) -> Any:
            if not reached.is_set():
                reached.set()
                await trio.sleep_forever()
            return await announce(key, **fields)

        return stay_once

    await storage.add_silently(ROOM, "alice")
    with replaced(storage.store.rooms, "announce", stuck):
        async with trio.open_nursery() as nursery:
            scope = trio.CancelScope()

            async def be_cancelled() -> None:
                with scope:
                    await storage.announce(ROOM)

            nursery.start_soon(be_cancelled)
            await reached.wait()
            nursery.start_soon(storage.announce, ROOM)
            await wait_all_tasks_blocked()
            scope.cancel()
    assert [entry.event for entry in await storage.log(ROOM)] == ["member.added"]
    assert await waiting(storage) == 0


async def test_what_fails_fails_for_all_who_wait_and_not_one_after_the_other(
    storage: Storage,
) -> None:
    """Each trying for itself would let the last one wait for all the others' deadlines."""
    attempts = 0
    go_on = trio.Event()

    def failing(_announce: Announce) -> Announce:
        async def fail(*_arguments: Any, **_fields: Any) -> Any:
            nonlocal attempts
            attempts += 1
            await go_on.wait()
            raise StorageUnavailable("redis", "unknown")

        return fail

    outcomes: list[str] = []

    async def ask() -> None:
        try:
            await storage.announcer.drain_room(PROJECT, ROOM)
        except StorageUnavailable as error:
            outcomes.append(error.outcome)

    await storage.add_silently(ROOM, "alice")
    with replaced(storage.store.rooms, "announce", failing):
        async with trio.open_nursery() as nursery:
            for _ in range(20):
                nursery.start_soon(ask)
            await wait_all_tasks_blocked()
            go_on.set()
    assert outcomes == ["unknown"] * 20
    # The one at work when the others came, and one for all of those.
    assert attempts <= 2
    await storage.announce(ROOM)
    assert [entry.event for entry in await storage.log(ROOM)] == ["member.added"]


def entry_user(entry: Any) -> str:
    """Whom a `member.added` in the room log is about."""
    user: str = json.loads(entry.data)["user"]
    return user
