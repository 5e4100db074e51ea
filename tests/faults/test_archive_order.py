"""The archiver under faults: whatever fails, PostgreSQL gets every event once, in order."""

import random
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio

from storage.errors import StorageUnavailable
from tests.support.local_broker import replaced
from tests.support.rooms import Storage, contents, key_of, open_storage
from tests.support.waiting import wait_until

ROOM = "general"


@pytest.fixture
async def storage(redis_url, database_url):
    async with open_storage(redis_url, database_url) as opened:
        await opened.create_room(ROOM, "alice", "bob")
        yield opened
        await opened.flush()
        await opened.check_rooms()


async def talk(storage: Storage, room: str = ROOM) -> None:
    """Messages 1 to 6; 2 is edited twice, 3 edited and deleted, 4 deleted and then edited."""
    for number in range(1, 5):
        await storage.publish(room, f"message {number}")
    await storage.append_event(room, "message.edited", {"seq": 2, "content": "first edit"})
    await storage.append_event(room, "message.edited", {"seq": 3, "content": "an edit"})
    await storage.publish(room, "message 5", sender="bob", reply_to=2)
    await storage.append_event(room, "message.deleted", {"seq": 3, "by": "bob"}, sender="bob")
    await storage.append_event(room, "message.deleted", {"seq": 4, "by": "bob"}, sender="bob")
    await storage.append_event(room, "message.edited", {"seq": 2, "content": "second edit"})
    await storage.append_event(room, "message.edited", {"seq": 4, "content": "too late"})
    await storage.publish(room, "message 6")


async def assert_archived(storage: Storage, room: str = ROOM) -> None:
    """PostgreSQL is what `talk` means."""
    rows = await storage.rows(room)
    assert [row["seq"] for row in rows] == [1, 2, 3, 4, 5, 6]
    assert contents(rows) == [
        "message 1", "second edit", "an edit", "message 4", "message 5", "message 6",
    ]  # fmt: skip
    assert [row["deleted_by"] for row in rows] == [None, None, "bob", "bob", None, None]
    assert [row["reply_count"] for row in rows] == [0, 1, 0, 0, 0, 0]
    assert await storage.dead_letters() == []
    assert await watermark(storage, room) == (12, 6)
    assert (await storage.hash_of(room))["archived"] == "12"
    assert await storage.store.archive.backlog(partition(storage, room)) == 0


async def watermark(storage: Storage, room: str = ROOM) -> tuple[int, int]:
    row: Any = await storage.db.fetchrow(
        "SELECT archived_offset, seq FROM rooms WHERE id = $1", room
    )
    return row["archived_offset"], row["seq"]


def partition(storage: Storage, room: str = ROOM) -> int:
    return storage.store.keys.partition(key_of(room))


# --- 2: a backlog that outlives everything (A2) ---------------------------------------------------


async def test_unarchived_rooms_never_expire(redis_url, database_url):
    """A2 (test 2): with ROOM_LOG_TTL=1s and no archiver, seq goes on and nothing is lost."""
    async with open_storage(redis_url, database_url, room_log_ttl=1.0) as storage:
        await storage.create_room(ROOM, "alice")
        await storage.create_room("quiet", "alice")
        for number in (1, 2):
            await storage.publish(ROOM, f"message {number}")
        await storage.archiver(batch=1).flush(partition(storage))
        await storage.publish("quiet")
        await storage.archiver().flush(partition(storage, "quiet"))
        epoch = (await storage.hash_of("quiet"))["epoch"]

        async def has_expired() -> bool:
            return not await storage.hash_of("quiet")

        await wait_until(has_expired, what="the archived room expired")
        assert (await storage.publish(ROOM, "message 3")).seq == 3
        assert (await storage.publish("quiet")).seq == 2, "a clean room keeps its numbering"
        assert (await storage.hash_of("quiet"))["epoch"] == epoch, "clients need not reload"
        await storage.flush()
        assert contents(await storage.rows(ROOM)) == ["message 1", "message 2", "message 3"]
        assert len(await storage.rows("quiet")) == 2
        assert await storage.dead_letters() == []
        await storage.check_rooms()


# --- 3: two archivers (A3) ------------------------------------------------------------------------


@pytest.mark.parametrize("batch", [1, 2, 3, 5, 12])
async def test_the_second_archiver_finds_the_partition_locked(storage: Storage, batch):
    """A3 (test 3): one hangs inside its transaction with a batch; nobody overtakes it."""
    await talk(storage)
    reached, go_on = trio.Event(), trio.Event()

    def hang(read: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def read_and_hang(*arguments: Any) -> Any:
            found = await read(*arguments)
            reached.set()
            await go_on.wait()
            return found

        return read_and_hang

    slow = storage.archiver(batch=batch, store=_Wrapped(storage.store.archive))
    other = storage.archiver(batch=batch)
    with replaced(slow._store, "read_batch", hang):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(slow.flush, partition(storage))
            await reached.wait()
            assert await other.flush(partition(storage)) is None
            assert await storage.rows(ROOM) == []
            go_on.set()
    while await other.flush(partition(storage)):
        pass
    await assert_archived(storage)


async def test_a_batch_whose_transaction_was_ended_is_not_written(storage: Storage):
    """A3: PostgreSQL ends a transaction that is idle for too long; the batch belongs to the next
    archiver, and the one that wakes up writes nothing of it."""
    await talk(storage)

    def end_the_transaction(read: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def read_and_lose(*arguments: Any) -> Any:
            found = await read(*arguments)
            await storage.db.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE state = 'idle in transaction' AND datname = current_database()"
            )
            await storage.flush(batch=4)
            return found

        return read_and_lose

    slow = storage.archiver(batch=3, store=_Wrapped(storage.store.archive))
    with (
        replaced(slow._store, "read_batch", end_the_transaction),
        pytest.raises(StorageUnavailable),
    ):
        await slow.flush(partition(storage))
    await assert_archived(storage)


# --- 4: killed at every statement (A3) ------------------------------------------------------------


class _Killed(Exception):
    """The archiver dies here."""


class _Fuse:
    """Burns at the n-th step; `after`: when the step has been done."""

    def __init__(self, at: int, *, after: bool) -> None:
        self.at = at
        self.after = after
        self.steps: list[str] = []

    async def do(self, name: str, step: Callable[[], Awaitable[Any]]) -> Any:
        self.steps.append(name)
        is_last = len(self.steps) == self.at
        if is_last and not self.after:
            raise _Killed(name)
        result = await step()
        if is_last:
            raise _Killed(name)
        return result


class _Wrapped:
    """A storage object of which single calls may be replaced; the rest is passed on."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


class _FusedConnection(_Wrapped):
    """An asyncpg connection whose every statement is a step."""

    def __init__(self, inner: Any, fuse: _Fuse) -> None:
        super().__init__(inner)
        self._fuse = fuse

    def __getattr__(self, name: str) -> Any:
        found = super().__getattr__(name)
        if name not in ("execute", "fetch", "fetchrow", "fetchval", "copy_records_to_table"):
            return found

        async def step(*arguments: Any, **more: Any) -> Any:
            return await self._fuse.do(name, lambda: found(*arguments, **more))

        return step


class _FusedDatabase(_Wrapped):
    """A database whose transactions run over fused connections; the commit is a step too."""

    def __init__(self, inner: Any, fuse: _Fuse) -> None:
        super().__init__(inner)
        self._fuse = fuse

    @asynccontextmanager
    async def open_transaction(self) -> Any:
        fuse = self._fuse
        async with self._inner.open_transaction() as transaction:

            class Held:
                async def run(self, work: Callable[[Any], Awaitable[Any]]) -> Any:
                    return await transaction.run(lambda c: work(_FusedConnection(c, fuse)))

            yield Held()
            if len(fuse.steps) + 1 == fuse.at and not fuse.after:
                fuse.steps.append("commit")
                raise _Killed("commit")
        await fuse.do("commit", trio.lowlevel.checkpoint)


class _FusedStore(_Wrapped):
    """An archive store whose every call is a step."""

    def __init__(self, inner: Any, fuse: _Fuse) -> None:
        super().__init__(inner)
        self._fuse = fuse

    async def read_batch(self, *arguments: Any) -> Any:
        return await self._fuse.do("read", lambda: self._inner.read_batch(*arguments))

    async def mark_archived(self, *arguments: Any, **more: Any) -> Any:
        return await self._fuse.do("mark", lambda: self._inner.mark_archived(*arguments, **more))


@pytest.mark.parametrize("after", [False, True], ids=["before doing it", "after doing it"])
@pytest.mark.parametrize("batch", [3, 12])
async def test_an_archiver_may_die_at_every_statement(storage: Storage, batch, after):
    """A3 (test 4): each death is a repeat that is skipped; the watermark never goes back."""
    died_at: set[str] = set()
    while True:
        at = len(died_at) + 1
        room = f"room{at}"
        await storage.create_room(room, "alice", "bob")
        await talk(storage, room)
        fuse = _Fuse(at, after=after)
        dying = storage.archiver(
            batch=batch,
            database=_FusedDatabase(storage.db, fuse),
            store=_FusedStore(storage.store.archive, fuse),
        )
        died = False
        try:
            while await dying.flush(partition(storage, room)):
                pass
        except _Killed:
            died = True
            died_at.add(f"{at} {fuse.steps[-1]}")
        before = await watermark(storage, room)
        assert len(await storage.rows(room)) == before[1], "a row for each seq up to the watermark"
        await storage.flush(batch=5)
        assert await watermark(storage, room) >= before
        await assert_archived(storage, room)
        if not died:
            break
    names = {name.partition(" ")[2] for name in died_at}
    assert names >= {"read", "commit", "mark", "copy_records_to_table", "execute", "fetchval"}


async def test_an_acknowledgement_that_is_late_spoils_nothing(storage: Storage):
    """A3: the first archiver's acknowledgement arrives when the second is far beyond it."""
    held: list[Callable[[], Awaitable[Any]]] = []

    def hold(mark: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def hold_it(*arguments: Any, **more: Any) -> bool:
            held.append(lambda: mark(*arguments, **more))
            return True

        return hold_it

    await talk(storage)
    slow = storage.archiver(batch=4, store=_Wrapped(storage.store.archive))
    with replaced(slow._store, "mark_archived", hold):
        await slow.flush(partition(storage))
    await storage.flush(batch=5)
    await assert_archived(storage)
    for late in held:
        await late()
    await assert_archived(storage)


async def test_a_batch_that_was_read_from_another_server_is_not_deleted_as_a_whole(
    storage: Storage,
):
    """A3: the connection went to another master and came back; here is what was never there."""
    others = (f"other{number}" for number in range(100_000))
    other = next(name for name in others if partition(storage, name) == partition(storage))
    await storage.create_room(other, "alice")
    await storage.publish(other, "only here")
    await talk(storage)
    inner: Any = storage.store.archive
    lives = iter([inner.life_of(partition(storage)), "the other server's"])

    class Elsewhere(_Wrapped):
        def life_of(self, _partition: int) -> Any:
            return next(lives)

        async def read_batch(self, *arguments: Any) -> Any:
            return (await inner.read_batch(*arguments))[1:]

    await storage.archiver(store=Elsewhere(inner)).flush(partition(storage))
    await storage.flush()
    assert contents(await storage.rows(other)) == ["only here"]
    await assert_archived(storage)


# --- 23: poison, and a table that is missing (B15) ------------------------------------------------


async def test_one_poisoned_row_is_put_aside_and_no_more(storage: Storage):
    """B15 (test 23): only the row itself goes to the dead letters, and seq stays dense."""
    for number in range(1, 6):
        text = "ghost \0 text" if number == 3 else f"message {number}"
        await storage.publish(ROOM, text)
    await storage.flush()
    ((room, offset, reason),) = await storage.dead_letters()
    assert (room, offset) == (key_of(ROOM), 3)
    assert reason
    rows = await storage.rows(ROOM)
    assert [row["seq"] for row in rows] == [1, 2, 3, 4, 5]
    assert (rows[2]["kind"], rows[2]["content"], rows[2]["deleted_at"] is not None) == (
        "custom", None, True,
    )  # fmt: skip


async def test_a_missing_table_is_an_outage_and_no_poison(storage: Storage):
    """B15 (test 23): zero dead letters, and all rows once the table is back."""
    for number in range(1, 6):
        await storage.publish(ROOM, f"message {number}")
    await storage.db.execute("ALTER TABLE messages RENAME TO elsewhere")
    for _ in range(3):
        with pytest.raises(Exception, match="messages"):
            await storage.flush()
    assert await storage.store.archive.backlog(partition(storage)) == 5
    await storage.db.execute("ALTER TABLE elsewhere RENAME TO messages")
    await storage.flush()
    assert contents(await storage.rows(ROOM)) == [f"message {number}" for number in range(1, 6)]
    assert await storage.dead_letters() == []


async def test_random_batches_by_two_archivers_at_once(storage: Storage):
    """A3: whoever gets the lock, in whatever sizes."""
    archivers = [storage.archiver(batch=size) for size in (1, 3)]
    rng = random.Random(random.randrange(2**32))

    async def flush_often(place: int) -> None:
        while await storage.store.archive.backlog(partition(storage)):
            await archivers[place].flush(partition(storage))
            for _ in range(rng.randrange(5)):
                await trio.lowlevel.checkpoint()

    await talk(storage)
    async with trio.open_nursery() as nursery:
        for place in range(2):
            nursery.start_soon(flush_often, place)
    await assert_archived(storage)
