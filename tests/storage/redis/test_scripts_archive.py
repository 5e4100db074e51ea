"""seed and archived: where a room's numbering begins, and what goes away after the commit."""

from typing import Any

import pytest

from storage.errors import StorageUnavailable
from storage.redis.keys import DEPLOYMENT_KEY
from storage.redis.outcomes import Appended, Refusal
from storage.redis.store import require_deployment
from tests.support.script_rooms import R, ScriptRooms, open_rooms

DIGEST = bytes(range(16))


@pytest.fixture
async def rooms(redis_url):
    async with open_rooms(redis_url) as opened:
        yield opened


# --- seed (M1, A2, B1) ----------------------------------------------------------------------------


async def test_a_seeded_room_goes_on_above_its_numbers(rooms: ScriptRooms):
    assert await rooms.warm(offset=40, seq=30, version=6) == "ok"
    assert await rooms.numbers() == {
        "epoch": rooms.life(), "offset": "40", "seq": "30", "archived": "40", "ver": "6",
        "base": "30",
    }  # fmt: skip
    outcome = await rooms.publish()
    assert isinstance(outcome, Appended)
    assert (outcome.offset, outcome.seq) == (41, 31)


async def test_a_warm_room_stays_as_it_is(rooms: ScriptRooms):
    """Two nodes seed one room: the second must not take numbers back that were given."""
    await rooms.warm(offset=40, seq=30)
    await rooms.publish_some(3)
    before = await rooms.state()
    assert await rooms.warm(offset=40, seq=30) == "ok"
    assert await rooms.warm(offset=90, seq=90) == "ok"
    assert await rooms.state() == before


async def test_a_seed_for_another_life_is_refused(rooms: ScriptRooms):
    before = await rooms.state()
    assert await rooms.warm(life="former") == "fenced"
    assert await rooms.state() == before
    await rooms.begin_other_life()
    before = await rooms.state()
    assert await rooms.warm() == "fenced"
    assert isinstance(await rooms.rooms.seed_inputs(R), Refusal)
    assert await rooms.state() == before


@pytest.mark.parametrize(
    "given", [{"offset": 4, "seq": 9}, {"offset": 9, "seq": 4}, {"offset": 4, "seq": 4}]
)
async def test_a_seed_below_what_redis_knows_is_refused(rooms: ScriptRooms, given):
    """B1: no number is given twice, even if PostgreSQL was asked too early."""
    await rooms.warm(offset=0, seq=0)
    await rooms.publish_some(5)
    await rooms.ask("HSET", rooms.keys().room, "epoch", "former")
    before = await rooms.state()
    assert await rooms.warm(**given, archived=0) == "ahead"
    assert await rooms.state() == before
    await rooms.ask("HSET", rooms.keys().room, "epoch", rooms.life())


async def test_the_logs_end_counts_when_the_counters_are_gone(rooms: ScriptRooms):
    await rooms.warm()
    await rooms.publish_some(5)
    await rooms.ask("DEL", rooms.keys().room)
    inputs = await rooms.rooms.seed_inputs(R)
    assert not isinstance(inputs, Refusal)
    assert (inputs.offset, inputs.seq) == (5, 5)
    assert await rooms.warm(offset=4, seq=5, archived=0) == "ahead"
    assert await rooms.warm(offset=5, seq=5, archived=0) == "ok"
    assert len(await rooms.log()) == 5, "unarchived events live in it"
    assert await rooms.expires() == [False, False, False]


async def test_a_seeded_room_expires_only_if_everything_is_archived(rooms: ScriptRooms):
    """A2: the seed of a room that is only subscribed to must not stay for ever (P8)."""
    await rooms.warm(offset=10, seq=10, archived=7)
    assert await rooms.expires() == [True, False, False], "there is nothing between 8 and 10"


async def test_a_deleted_room_is_seeded_as_one(rooms: ScriptRooms):
    await rooms.warm(deleted=True)
    assert await rooms.publish() == Refusal("gone")


async def test_a_seed_gives_idempotency_keys_back(rooms: ScriptRooms):
    """B3."""
    seconds, _micros = await rooms.ask("TIME")
    ms = int(seconds) * 1000
    await rooms.warm(offset=1, seq=1, sent=[(DIGEST, f"m-1 1 1 {ms}".encode(), ms)])
    outcome = await rooms.publish(digest=DIGEST, message_id="m-2")
    assert outcome == Refusal("sent", f"m-1 1 1 {ms}".encode())


# --- archived (A1, A2, A3) ------------------------------------------------------------------------


async def test_exactly_the_given_entries_go_away(rooms: ScriptRooms):
    await rooms.warm()
    await rooms.publish_some(5)
    await rooms.archive(2)
    assert [entry.offset for entry in await rooms.archive_entries()] == [3, 4, 5]
    assert (await rooms.numbers())["archived"] == "2"
    assert [entry.offset for entry in await rooms.log()] == [1, 2, 3, 4, 5]


async def test_entries_that_came_meanwhile_stay(rooms: ScriptRooms):
    """A3: never by age or length, for ids of another master's clock are in no order."""
    await rooms.warm()
    await rooms.publish_some(1)
    await rooms.ask("XADD", rooms.keys().archive, "*", "e", b"x 0 0 0 event p/room / 0\n")
    archive = rooms.store.archive
    partition = rooms.keys().partition
    batch = await archive.read_batch(partition, 2)
    assert await archive.mark_archived(
        partition, ids=[batch[1].id], total_bytes=len(batch[1].raw), rooms=[(R, 0)]
    )
    assert [entry.offset for entry in await rooms.archive_entries()] == [1]


async def test_repeating_an_acknowledgement_changes_nothing(rooms: ScriptRooms):
    """A3: the archiver died between the script and knowing so."""
    await rooms.warm()
    await rooms.publish_some(4)
    archive = rooms.store.archive
    partition = rooms.keys().partition
    batch = await archive.read_batch(partition, 2)
    call: dict[str, Any] = {
        "ids": [item.id for item in batch],
        "total_bytes": sum(len(item.raw) for item in batch),
        "rooms": [(R, 2)],
    }
    assert await archive.mark_archived(partition, **call)
    before = await rooms.state()
    assert await archive.mark_archived(partition, **call)
    assert await rooms.state() == before
    await rooms.archive(2)
    assert await archive.mark_archived(partition, **call), "the oldest of all comes last"
    assert (await rooms.numbers())["archived"] == "4"
    assert await rooms.expires() == [True, True, True]


async def test_a_batch_is_deleted_as_a_whole_only_in_the_life_in_which_it_was_read(
    rooms: ScriptRooms,
):
    """A3: a promoted server may have given lower ids to events that nobody has read yet."""
    await rooms.warm()
    await rooms.publish_some(5)
    archive = rooms.store.archive
    partition = rooms.keys().partition
    life = archive.life_of(partition)
    batch = await archive.read_batch(partition, 3)
    call: dict[str, Any] = {
        "ids": [item.id for item in batch],
        "total_bytes": sum(len(item.raw) for item in batch),
        "rooms": [(R, 3)],
    }
    assert await archive.mark_archived(partition, life="former", **call) is False
    assert [entry.offset for entry in await rooms.archive_entries()] == [1, 2, 3, 4, 5]
    assert await archive.mark_archived(partition, life=life, **call)
    assert [entry.offset for entry in await rooms.archive_entries()] == [4, 5]
    before = await rooms.state()
    assert await archive.mark_archived(partition, life=life, **call), "a repeat"
    assert await rooms.state() == before
    rest = await archive.read_batch(partition, 5)
    call = {"ids": [rest[1].id], "total_bytes": 1, "rooms": []}
    assert await archive.mark_archived(partition, **call), "by its id alone"
    assert [entry.offset for entry in await rooms.archive_entries()] == [4]
    call = {"ids": [rest[0].id], "total_bytes": 1, "rooms": [(R, 5)]}
    assert await archive.mark_archived(partition, **call)


async def test_a_mark_never_passes_what_there_is(rooms: ScriptRooms):
    """C11: PostgreSQL may be ahead of a Redis that lost writes."""
    await rooms.warm()
    await rooms.publish_some(2)
    archive = rooms.store.archive
    partition = rooms.keys().partition
    batch = await archive.read_batch(partition, 5)
    ids = [item.id for item in batch]
    assert await archive.mark_archived(partition, ids=ids, total_bytes=1, rooms=[(R, 77)])
    assert (await rooms.numbers())["archived"] == "2"


async def test_an_acknowledgement_of_another_life_does_nothing(rooms: ScriptRooms):
    await rooms.warm()
    await rooms.publish_some(2)
    before = await rooms.state()
    life = rooms.life()
    assert await rooms.archive(2, life="former") is False
    assert await rooms.state() == before
    assert await rooms.archive(2, life=life) is True


async def test_a_room_of_a_node_is_settled_and_expires_when_the_last_one_leaves(rooms: ScriptRooms):
    """A2, P8: a publish then has no expiry to take away; a room that nobody wants has one."""
    await rooms.warm()
    for node in ("n", "m"):
        await rooms.open_node(node)
        await rooms.subscribed(node)
    keys = rooms.keys()
    await rooms.publish_some(3)
    await rooms.archive(2)
    assert await rooms.ask("HGET", keys.room, "settled") is None
    await rooms.archive(1)
    assert await rooms.ask("HGET", keys.room, "settled") == b"3"
    assert await rooms.expires() == [False, False, False]
    await rooms.publish()
    assert await rooms.expires() == [False, False, False]
    await rooms.archive(1)
    await rooms.nodes.leave(R, "n", 9, forget=True)
    assert await rooms.expires() == [False, False, False]
    await rooms.nodes.leave(R, "m", 9, forget=True)
    assert await rooms.expires() == [True, True, True]
    assert await rooms.ask("HGET", keys.room, "settled") is None
    await rooms.publish()
    assert await rooms.expires() == [False, False, False]


@pytest.mark.parametrize("is_archived", [True, False])
async def test_a_room_expires_when_its_last_node_has_died(rooms: ScriptRooms, is_archived: bool):
    """A2, P8."""
    await rooms.warm()
    await rooms.open_node("n")
    await rooms.subscribed("n")
    await rooms.publish_some(2)
    await rooms.archive(2 if is_archived else 1)
    await rooms.end_lease("n")
    assert await rooms.nodes.reap("n") == 0
    assert await rooms.expires() == [is_archived] * 3


async def test_what_may_expire_is_settled_by_no_repeat(rooms: ScriptRooms):
    """A2: a node has come since the acknowledgement, whose outcome the archiver did not hear."""
    await rooms.warm()
    await rooms.publish_some(2)
    partition = rooms.keys().partition
    batch = await rooms.store.archive.read_batch(partition, 2)
    call: dict[str, Any] = {"ids": [item.id for item in batch], "total_bytes": 1, "rooms": [(R, 2)]}
    assert await rooms.store.archive.mark_archived(partition, **call)
    await rooms.open_node("n")
    await rooms.subscribed("n")
    assert await rooms.store.archive.mark_archived(partition, **call)
    assert await rooms.expires() == [True, True, True]
    await rooms.publish()
    assert await rooms.expires() == [False, False, False]


async def test_an_expiry_that_an_older_release_has_set_is_taken_away(rooms: ScriptRooms):
    """A2: its archiver knows nothing of `settled`, and the next event is not archived yet."""
    await rooms.warm()
    await rooms.open_node("n")
    await rooms.subscribed("n")
    await rooms.publish_some(1)
    await rooms.archive(1)
    await rooms.publish()
    keys = rooms.keys()
    await rooms.ask("DEL", keys.archive)
    await rooms.ask("HSET", keys.room, "archived", 2)
    for name in (keys.room, keys.log, keys.reads):
        await rooms.ask("PEXPIRE", name, 60_000)
    await rooms.publish()
    assert await rooms.expires() == [False, False, False]


async def test_a_base_above_everything_counts_as_archived_in_the_end(rooms: ScriptRooms):
    """B1: after a fence the base may be above the last event; the room must still go quiet."""
    await rooms.warm()
    await rooms.publish_some(3)
    await rooms.ask("HSET", rooms.keys().room, "epoch", "former")
    assert await rooms.warm(offset=8, seq=8, archived=1) == "ok"
    assert (await rooms.numbers())["archived"] == "1"
    assert await rooms.expires() == [False, False, False]
    await rooms.archive(3)
    assert (await rooms.numbers())["archived"] == "8"
    assert await rooms.expires() == [True, True, True]


async def test_what_is_unarchived_is_read_across_a_fence(rooms: ScriptRooms):
    """A9: history must show what the former life left in the log."""
    await rooms.warm()
    await rooms.publish_some(3)
    await rooms.archive(1)
    await rooms.ask("HSET", rooms.keys().room, "epoch", "former")
    await rooms.warm(offset=3, seq=3, archived=1)
    await rooms.publish_some(1)
    tail = await rooms.rooms.unarchived(R)
    assert tail is not None
    assert [entry.offset for entry in tail.entries] == [2, 3, 4]
    assert (tail.archived, tail.offset, tail.seq) == (1, 4, 4)


async def test_a_long_unarchived_tail_comes_whole(rooms: ScriptRooms):
    """Point 5: more than one chunk, and more than the log's length."""
    await rooms.warm()
    await rooms.publish_some(2500)
    tail = await rooms.rooms.unarchived(R)
    assert tail is not None
    assert [entry.offset for entry in tail.entries] == list(range(1, 2501))
    assert await rooms.rooms.unarchived("p/elsewhere") is None


# --- memory runs out (B10) ------------------------------------------------------------------------


@pytest.fixture
async def full_rooms(private_redis):
    """A server that takes no more data; two nodes, one room with unarchived events."""
    async with open_rooms(private_redis.url) as opened:
        await opened.warm()
        await opened.open_node()
        await opened.subscribed()
        await opened.publish_some(3)
        private_redis.command("CONFIG", "SET", "maxmemory", 1)
        yield opened
        private_redis.command("CONFIG", "SET", "maxmemory", 0)


async def test_without_memory_a_script_is_refused_as_a_whole(full_rooms: ScriptRooms):
    before = await full_rooms.state()
    calls = [
        lambda: full_rooms.publish(digest=DIGEST, message_id="m"),
        lambda: full_rooms.announce(1),
        lambda: full_rooms.subscribe(user="bob", gen=2),
        lambda: full_rooms.nodes.watch("p//bob", "n", 3),
        lambda: full_rooms.nodes.open_node("other", 1000),
    ]
    for call in calls:
        with pytest.raises(StorageUnavailable) as caught:
            await call()
        assert caught.value.outcome == "not_done"
        assert await full_rooms.state() == before


async def test_without_memory_the_backlog_still_shrinks(full_rooms: ScriptRooms):
    """Or nothing would ever free memory again: leases, leaves and the archiver go on."""
    assert await full_rooms.nodes.heartbeat("n", 60_000) == []
    await full_rooms.archive(3)
    assert await full_rooms.archive_entries() == []
    await full_rooms.nodes.leave(R, "n", 9, forget=False)
    assert await full_rooms.registered() == {}
    assert await full_rooms.expires() == [True, True, True]


async def test_without_memory_a_new_life_can_begin(full_rooms: ScriptRooms):
    """A full Redis that restarts must let the archiver in."""
    former = full_rooms.life()
    await full_rooms.ask("HDEL", full_rooms.keys().life, "replid")
    await full_rooms.rooms.refence(full_rooms.keys().partition)
    assert full_rooms.life() != former
    assert await full_rooms.archive(3)


async def test_a_process_may_start_without_memory(full_rooms: ScriptRooms, private_redis):
    """Else the archiver that was restarted could never make room."""
    await full_rooms.ask("DEL", DEPLOYMENT_KEY)
    with pytest.raises(StorageUnavailable):
        await require_deployment(full_rooms.client, "d-1")
    private_redis.command("CONFIG", "SET", "maxmemory", 0)
    await require_deployment(full_rooms.client, "d-1")
    private_redis.command("CONFIG", "SET", "maxmemory", 1)
    await require_deployment(full_rooms.client, "d-1")
