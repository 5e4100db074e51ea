"""Reading a batch of the archive stream piece by piece: whole, in order, and of one stream only."""

from typing import Any

import pytest

from config.archive_limits import ARCHIVE_BATCH_BYTES
from storage.redis.archive import READ_CHUNK, ArchiveStore
from tests.support.local_broker import replaced
from tests.support.script_rooms import ScriptRooms, open_rooms

OTHER = b"other 1 0 0 event p/room / 0\n"


@pytest.fixture
async def rooms(redis_url):
    async with open_rooms(redis_url) as opened:
        yield opened
        await opened.ask("DEL", opened.keys().archive)


async def add(rooms: ScriptRooms, count: int, *, size: int = 2, first_ms: int = 1000) -> None:
    """Entries with offsets from 1 on and ids from `first_ms` on."""
    key = rooms.keys().archive
    for start in range(1, count + 1, READ_CHUNK):
        await rooms.store.client.pipeline(
            [
                (
                    "XADD", key, f"{first_ms + offset}-1", "e",
                    b"life %d 0 0 event p/room / 0\n%b" % (offset, b"x" * size),
                )
                for offset in range(start, min(start + READ_CHUNK, count + 1))
            ]
        )  # fmt: skip


async def offsets(archive: ArchiveStore, partition: int, count: int) -> list[int]:
    return [item.entry.offset for item in await archive.read_batch(partition, count)]


@pytest.mark.parametrize(
    "wanted", [1, READ_CHUNK, READ_CHUNK + 1, 2 * READ_CHUNK, 2 * READ_CHUNK + 7, 9999]
)
async def test_a_batch_is_the_oldest_entries_in_their_order(rooms: ScriptRooms, wanted: int):
    there = 2 * READ_CHUNK + 100
    await add(rooms, there)
    found = await offsets(rooms.store.archive, rooms.keys().partition, wanted)
    assert found == list(range(1, min(wanted, there) + 1))


async def test_a_stream_that_ends_with_a_piece_is_read_to_its_end(rooms: ScriptRooms):
    await add(rooms, 2 * READ_CHUNK)
    found = await offsets(rooms.store.archive, rooms.keys().partition, 9999)
    assert found == list(range(1, 2 * READ_CHUNK + 1))


async def test_a_batch_of_large_events_ends_early(rooms: ScriptRooms):
    await add(rooms, 2 * READ_CHUNK, size=ARCHIVE_BATCH_BYTES // READ_CHUNK)
    found = await offsets(rooms.store.archive, rooms.keys().partition, 9999)
    assert found == list(range(1, READ_CHUNK + 1))


async def test_a_batch_is_never_joined_from_two_streams(rooms: ScriptRooms):
    """HAZARDS A3: after a failover the stream may have other entries below the last one read.

    Were they passed by, later events of their room would make them look archived.
    """
    await add(rooms, READ_CHUNK + 10)
    archive = rooms.store.archive
    partition = rooms.keys().partition
    pieces = 0

    def promote_another(read: Any) -> Any:
        async def read_range(*arguments: Any) -> object:
            nonlocal pieces
            pieces += 1
            reply = await read(*arguments)
            if pieces == 1:
                # It lacks the last that were read, and has given ids near theirs to others.
                await rooms.ask("DEL", rooms.keys().archive)
                await add(rooms, READ_CHUNK - 5)
                await rooms.ask("XADD", rooms.keys().archive, f"{996 + READ_CHUNK}-7", "e", OTHER)
                for ms in (9998, 9999):
                    await rooms.ask("XADD", rooms.keys().archive, f"{ms}-1", "e", OTHER)
            return reply

        return read_range

    with replaced(archive, "_read_range", promote_another):
        found = await offsets(archive, partition, 9999)
    assert found == list(range(1, READ_CHUNK + 1))
    assert pieces == 2
