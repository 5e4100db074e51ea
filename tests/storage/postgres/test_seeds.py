"""The seed's transaction: where a cold room's numbering goes on."""

import time

import pytest
import trio

from storage.postgres.pool import Database
from storage.postgres.seeds import UNREPORTED_SKIP, RoomSeed, SeedTooEarly, seed_room
from tests.support.waiting import wait_until

WAIT_MS = 2000


async def make_room(database: Database, room: str = "general", **columns: object) -> int:
    names = ["project", "id", *columns]
    places = ", ".join(f"${place}" for place in range(1, len(names) + 1))
    return int(
        await database.fetchval(
            f"INSERT INTO rooms ({', '.join(names)}) VALUES ({places}) RETURNING pk",
            "default",
            room,
            *columns.values(),
        )
    )


async def seed(database: Database, life: str = "new", **inputs) -> RoomSeed | None:
    inputs = {
        "life_age_ms": WAIT_MS,
        "redis_offset": 0,
        "redis_seq": 0,
        "must_skip": False,
        "fence_wait_ms": WAIT_MS,
        "window_s": 600.0,
        "verified_at": time.monotonic(),
    } | inputs
    return await seed_room(database, "default", inputs.pop("room", "general"), life, **inputs)


async def locks_waited_for(database: Database) -> bool:
    waiting = await database.fetchval(
        "SELECT count(*) FROM pg_stat_activity "
        "WHERE datname = current_database() AND wait_event_type = 'Lock'"
    )
    return bool(waiting)


async def stored(database: Database, room: str = "general") -> tuple[str | None, int, int]:
    row = await database.fetchrow(
        "SELECT epoch, base_offset, base_seq FROM rooms WHERE id = $1", room
    )
    assert row is not None
    return row["epoch"], row["base_offset"], row["base_seq"]


async def test_a_room_that_does_not_exist_has_no_seed(database: Database):
    assert await seed(database) is None
    await make_room(database)
    assert await seed_room(
        database, "other", "general", "new", life_age_ms=0, redis_offset=0, redis_seq=0,
        must_skip=False, fence_wait_ms=0, window_s=600, verified_at=time.monotonic(),
    ) is None  # fmt: skip


async def test_a_new_room_begins_at_zero_without_waiting(database: Database):
    pk = await make_room(database, kind="public", frozen=True)
    found = await seed(database, life_age_ms=0)
    assert found == RoomSeed(pk, "new", 0, 0, 0, 0, False, "public", True, [])
    assert await stored(database) == ("new", 0, 0)


async def test_the_same_life_goes_on_and_writes_nothing(database: Database):
    await make_room(database, epoch="new", base_offset=5, base_seq=7, archived_offset=9, seq=6)
    found = await seed(database, life_age_ms=0, redis_offset=1000, redis_seq=7)
    assert found is not None
    assert (found.offset, found.seq, found.archived_offset) == (9, 7, 9)
    assert await stored(database) == ("new", 5, 7)


async def test_seqs_that_were_reported_late_are_skipped_in_the_same_life(database: Database):
    """B2: offsets have no hole within a life, seqs may have."""
    await make_room(database, epoch="new", base_offset=5, base_seq=7, archived_offset=9, seq=6)
    found = await seed(database, life_age_ms=0, redis_offset=1000, redis_seq=11)
    assert found is not None
    assert (found.offset, found.seq, found.archived_offset) == (9, 11, 9)
    assert await stored(database) == ("new", 5, 11)


@pytest.mark.parametrize(
    ("columns", "redis", "expected"),
    [
        ({"archived_offset": 100, "seq": 90}, (0, 0), (100, 90)),
        ({"archived_offset": 100, "seq": 90}, (130, 110), (130, 110)),
        ({"archived_offset": 100, "seq": 90}, (130, 50), (130, 90)),
        ({"base_offset": 200, "base_seq": 150, "archived_offset": 100}, (130, 110), (200, 150)),
    ],
)
async def test_another_life_goes_on_above_whatever_anybody_knows(
    database: Database, columns, redis, expected
):
    await make_room(database, epoch="earlier", **columns)
    found = await seed(database, redis_offset=redis[0], redis_seq=redis[1])
    assert found is not None
    assert (found.offset, found.seq) == expected
    # What is not archived below the base stays to be archived.
    assert found.archived_offset == columns.get("archived_offset", 0)
    assert await stored(database) == ("new", *expected)
    assert await seed(database) == found


async def test_numbers_are_skipped_where_another_server_may_go_on(database: Database):
    """A promoted replica: the old master may number on for those who have not noticed."""
    await make_room(database, epoch="earlier", archived_offset=10, seq=8)
    found = await seed(database, must_skip=True, redis_offset=12, redis_seq=9)
    assert found is not None
    assert (found.offset, found.seq) == (12, 9 + UNREPORTED_SKIP)
    assert await seed(database, must_skip=True) == found, "once"


async def test_an_older_life_that_takes_a_room_back_numbers_elsewhere(database: Database):
    """Somebody at the old master warms a room that has gone over already, and back again."""
    await make_room(database, epoch="life-1", archived_offset=10, seq=8)
    seqs = []
    for life in ("life-2", "life-1", "life-2"):
        # Verified after the seed before, whatever a busy machine needs to say so.
        verified_at = time.monotonic() + 60
        found = await seed(database, life, must_skip=life == "life-2", verified_at=verified_at)
        assert found is not None
        seqs.append(found.seq)
    assert seqs == [8 + UNREPORTED_SKIP, 8 + 2 * UNREPORTED_SKIP, 8 + 3 * UNREPORTED_SKIP]


async def test_a_room_that_nobody_has_numbered_skips_nothing(database: Database):
    await make_room(database)
    found = await seed(database, must_skip=True)
    assert found is not None
    assert found.seq == 0


async def test_a_young_life_waits_for_the_nodes_reports(database: Database):
    await make_room(database, epoch="earlier", archived_offset=10)
    with pytest.raises(SeedTooEarly) as caught:
        await seed(database, life_age_ms=WAIT_MS - 500)
    assert caught.value.retry_after == pytest.approx(0.5)
    assert (await stored(database))[0] == "earlier"
    assert await seed(database, life_age_ms=WAIT_MS) is not None


async def test_a_life_that_has_ended_is_not_taken_back(database: Database):
    """A slow seeder verified life "earlier"; then the fence; another seeds "new" and publishes."""
    await make_room(database, epoch="first", archived_offset=10)
    verified_at = time.monotonic()
    assert await seed(database, "new", redis_offset=20) is not None
    with pytest.raises(SeedTooEarly):
        await seed(database, "earlier", verified_at=verified_at)
    assert await stored(database) == ("new", 20, 0)


async def test_a_life_verified_after_the_last_seed_is_taken(database: Database):
    await make_room(database, epoch="first")
    assert await seed(database, "second") is not None
    assert await seed(database, "third", verified_at=time.monotonic()) is not None
    assert (await stored(database))[0] == "third"


async def test_two_seeders_of_one_life_agree(database: Database):
    await make_room(database, epoch="earlier", archived_offset=10, seq=8)
    found: list[RoomSeed | None] = []

    async def one(offset: int) -> None:
        found.append(await seed(database, redis_offset=offset, redis_seq=offset))

    async with trio.open_nursery() as nursery:
        for offset in (11, 12, 13, 14):
            nursery.start_soon(one, offset)
    # Whoever came first has decided; the script refuses it if Redis knows more ("ahead"). Only seqs
    # that a later one knows of are skipped.
    seeds = [seed for seed in found if seed is not None]
    assert len({seed.offset for seed in seeds}) == 1
    assert await stored(database) == ("new", seeds[0].offset, max(seed.seq for seed in seeds))


async def test_a_seed_waits_for_a_batch_that_holds_the_room(database: Database):
    pk = await make_room(database, epoch="earlier", archived_offset=10)
    found: list[RoomSeed | None] = []

    async def seed_it() -> None:
        found.append(await seed(database, verified_at=time.monotonic()))

    async with trio.open_nursery() as nursery, database.open_transaction() as batch:
        await batch.run(
            lambda c: c.execute("UPDATE rooms SET archived_offset = 15 WHERE pk = $1", pk)
        )
        nursery.start_soon(seed_it)
        await wait_until(lambda: locks_waited_for(database), what="the seed waits")
        assert found == []
    assert found[0] is not None
    assert found[0].offset == found[0].archived_offset == 15


async def test_pending_announcements_are_not_taken_for_done(database: Database):
    pk = await make_room(database, version=7)
    found = await seed(database)
    assert found is not None
    assert found.version_floor == 7
    for version in (6, 7):
        await database.execute(
            "INSERT INTO announcements (room_pk, version, event, data) VALUES ($1, $2, 'x', '{}')",
            pk,
            version,
        )
    found = await seed(database)
    assert found is not None
    assert found.version_floor == 5


async def test_a_deleted_room_says_so(database: Database):
    await make_room(database)
    await database.execute("UPDATE rooms SET deleted_at = now()")
    found = await seed(database)
    assert found is not None
    assert found.deleted


async def test_the_idempotency_window_comes_back_from_the_archive(database: Database):
    pk = await make_room(database)
    await database.execute(
        """
        INSERT INTO messages (room_pk, seq, id, sender, client_id, created_at, event_offset,
                              last_offset)
        SELECT $1, n, gen_random_uuid(), CASE n WHEN 2 THEN NULL ELSE 'alice' END,
               CASE n WHEN 3 THEN NULL ELSE 'c' || n END,
               date_trunc('milliseconds', now()) - make_interval(mins => 20 - 5 * n::int), n + 10, n
        FROM generate_series(1, 4) n
        """,
        pk,
    )
    await database.execute("UPDATE rooms SET last_message_at = now()")
    found = await seed(database)
    assert found is not None
    assert [(k.sender, k.client_id, k.seq, k.offset) for k in found.sent] == [
        ("alice", "c4", 4, 14),
    ]
    wide = await seed(database, window_s=3600.0)
    assert wide is not None
    assert [(k.sender, k.client_id) for k in wide.sent] == [
        ("alice", "c4"), ("", "c2"), ("alice", "c1"),
    ]  # fmt: skip
    row = await database.fetchrow(
        "SELECT id::text, (extract(epoch FROM created_at) * 1000)::bigint AS ms "
        "FROM messages WHERE seq = 4"
    )
    assert row is not None
    assert (found.sent[0].message_id, found.sent[0].created_ms) == (row["id"], row["ms"])
