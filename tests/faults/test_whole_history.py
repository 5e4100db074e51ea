"""History while PostgreSQL is away, comes back and catches up: never a hole (A1, A9, A11)."""

from typing import Any

import pytest
import trio

from broker.domain.history import load_page
from broker.domain.pages import Page, PageQuery
from storage.errors import StorageUnavailable
from storage.redis.outcomes import Registration, Resume, Snapshot
from tests.support.rooms import Storage, key_of, open_storage
from tests.support.servers import PostgresServer

ROOM = "general"
EVENTS = 5000
NODE = "test.1"


async def page_of(storage: Storage, **query: Any) -> Page:
    return await load_page(
        storage.db,
        storage.store.rooms,
        key_of(ROOM),
        room_pk=await storage.pk_of(ROOM),
        query=PageQuery(limit=100, **query),
        viewer="alice",
    )


async def whole_history(storage: Storage) -> list[int]:
    """Every seq, page by page, from the newest back."""
    seqs: list[int] = []
    before: int | None = None
    while True:
        page = await page_of(storage, before=before)
        seqs = page.seqs + seqs
        before = page.older_before
        if before is None:
            return seqs


async def resume(storage: Storage, offset: int) -> Snapshot:
    epoch = (await storage.hash_of(ROOM))["epoch"]
    registration = Registration(NODE, 1, "/", 0, 2**53 - 1, -1)
    outcome = await storage.store.rooms.subscribe(key_of(ROOM), registration, Resume(epoch, offset))
    assert isinstance(outcome, Snapshot)
    return outcome


def offsets(snapshot: Snapshot) -> list[int]:
    return [int(raw.split(b" ")[1]) for raw in snapshot.tail]


async def test_no_hole_while_postgresql_is_away_and_returns(
    redis_url, private_postgres: PostgresServer
):
    """A1, A9, A10, A11 (test 1): 5000 events without PostgreSQL, ROOM_LOG_LENGTH=100; while it
    catches up every paging gives all of them, and a resume gets everything or is told why not."""
    url = private_postgres.create_database()
    async with open_storage(redis_url, url, room_log_length=100) as storage:
        await storage.create_room(ROOM, "alice")
        await storage.publish(ROOM)
        private_postgres.stop()
        await storage.publish_many(ROOM, EVENTS - 1)
        with pytest.raises(StorageUnavailable):
            await storage.flush()
        private_postgres.start()
        await storage.wait_postgres()
        assert await whole_history(storage) == list(range(1, EVENTS + 1))
        await storage.store.nodes.open_node(NODE, 60_000)
        assert (await resume(storage, 1)).reason == "too_large"
        caught_up = trio.Event()

        async def archive_slowly() -> None:
            await storage.flush(batch=40)
            caught_up.set()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(archive_slowly)
            readings = 0
            while not caught_up.is_set():
                assert await whole_history(storage) == list(range(1, EVENTS + 1))
                for offset in (EVENTS - 400, EVENTS - 90):
                    snapshot = await resume(storage, offset)
                    if snapshot.reason:
                        assert snapshot.reason == "trimmed"
                        assert offset == EVENTS - 400, "the newest 100 are always there"
                    else:
                        assert offsets(snapshot) == list(range(offset + 1, EVENTS + 1))
                readings += 1
        assert readings > 1, "the reading was meant to meet the flushing"
        assert await whole_history(storage) == list(range(1, EVENTS + 1))
        assert [row["seq"] for row in await storage.rows(ROOM)] == list(range(1, EVENTS + 1))
        assert await storage.dead_letters() == []
        await storage.store.nodes.leave(key_of(ROOM), NODE, 2, forget=True)
        await storage.check_rooms()


@pytest.mark.parametrize("flushed", [0, 3, 7, 12])
async def test_an_edit_shows_wherever_the_flush_stands(redis_url, database_url, flushed):
    """A9: unarchived edits and deletions change messages that PostgreSQL has already."""
    async with open_storage(redis_url, database_url) as storage:
        await storage.create_room(ROOM, "alice")
        for number in range(1, 9):
            await storage.publish(ROOM, f"message {number}")
        await storage.append_event(ROOM, "message.edited", {"seq": 1, "content": "edited"})
        await storage.append_event(ROOM, "message.deleted", {"seq": 2, "by": "alice"})
        await storage.append_event(ROOM, "message.edited", {"seq": 2, "content": "too late"})
        await storage.append_event(ROOM, "message.edited", {"seq": 8, "content": "edited too"})
        if flushed:
            partition = storage.store.keys.partition(key_of(ROOM))
            await storage.archiver(batch=flushed).flush(partition)
        page = await page_of(storage)
        text = page.items.decode()
        assert page.seqs == list(range(1, 9))
        assert "edited" in text
        assert "edited too" in text
        assert "too late" not in text
        assert "message 2" not in text, "a deleted message shows nothing"
        await storage.flush()
        await storage.check_rooms()
