"""Lives, fences and floors: what ends a life, what does not, and which numbers are given again."""

import pytest

from storage.redis.keys import LEASES_KEY
from storage.redis.outcomes import Refusal
from tests.support.script_rooms import LEASE_MS, R, ScriptRooms, open_rooms
from tests.support.servers import RedisServer


@pytest.fixture
async def rooms(redis_url):
    async with open_rooms(redis_url) as opened:
        yield opened


# --- floors (B2) ----------------------------------------------------------------------------------


async def test_a_floor_counts_until_its_room_is_seeded(rooms: ScriptRooms):
    """B2: reported between the seed's reading and its writing, too; then it is PostgreSQL's."""
    assert await rooms.rooms.raise_floors([(R, 9, 4)]) == []
    assert await rooms.warm(offset=9, seq=3) == "ahead"
    assert await rooms.warm(offset=9, seq=4) == "ok"
    assert await rooms.ask("HGET", rooms.keys().floors, R) is None
    await rooms.publish()
    assert (await rooms.numbers())["seq"] == "5"
    await rooms.archive(1)


async def test_a_floor_that_comes_too_late_raises_the_room(rooms: ScriptRooms):
    """B2: the seqs are skipped, in this life and in whatever follows its expiry."""
    await rooms.warm(offset=3, seq=3)
    assert await rooms.rooms.raise_floors([(R, 3, 3)]) == []
    (late,) = await rooms.rooms.raise_floors([(R, 7, 5)])
    assert (late, late.is_repeated) == ((R, 3, 3, 5), False)
    assert await rooms.rooms.raise_floors([(R, 7, 5)]) == [], "it is told once"
    await rooms.publish()
    numbers = await rooms.numbers()
    assert (numbers["offset"], numbers["seq"]) == ("4", "6"), "offsets have no hole in a life"
    await rooms.archive(1)
    await rooms.ask("UNLINK", rooms.keys().room, rooms.keys().log, rooms.keys().reads)
    assert await rooms.warm(offset=4, seq=4) == "ahead"
    assert await rooms.warm(offset=4, seq=6) == "ok"


async def test_two_seeds_of_which_the_second_knows_more(rooms: ScriptRooms):
    """B2: it lets the room skip what it knows of, unless messages were numbered meanwhile."""
    await rooms.warm(offset=3, seq=3)
    await rooms.warm(offset=7, seq=5)
    await rooms.publish()
    assert ((await rooms.numbers())["offset"], (await rooms.numbers())["seq"]) == ("4", "6")
    await rooms.warm(offset=9, seq=9)
    await rooms.publish()
    assert (await rooms.numbers())["seq"] == "7", "left to the report, which tells"
    await rooms.archive(2)


async def test_numbers_that_were_given_again_are_told(rooms: ScriptRooms):
    """B2: nothing can mend that, so it must at least be known; and it ends there."""
    await rooms.warm(offset=3, seq=3)
    await rooms.publish()
    (late,) = await rooms.rooms.raise_floors([(R, 7, 5)])
    assert (late, late.is_repeated) == ((R, 3, 4, 5), True)
    assert await rooms.rooms.raise_floors([(R, 7, 5)]) == []
    await rooms.publish()
    assert (await rooms.numbers())["seq"] == "6"
    await rooms.archive(2)


async def test_a_floor_below_the_base_changes_nothing(rooms: ScriptRooms):
    await rooms.warm(offset=9, seq=9)
    before = await rooms.state()
    assert await rooms.rooms.raise_floors([(R, 9, 9), (R, 2, 1)]) == []
    assert await rooms.state() == before


async def test_lives_are_compared_by_processes_without_a_node(rooms: ScriptRooms):
    """A8: the api and the archiver learn of a fence while nobody calls them."""
    told: list[int] = []
    rooms.store.lives.add_listener(lambda partition, _known, _life: told.append(partition))
    await rooms.rooms.check_lives()
    assert told == []
    await rooms.begin_other_life()
    await rooms.rooms.check_lives()
    assert told == [rooms.keys().partition]


# --- fences that lost nothing (A8) ----------------------------------------------------------------


async def life_after(server: ScriptRooms, *, spoil: tuple[str, str] | None = None) -> bool:
    """Whether the life went on after the replication id changed as for a first replica."""
    known = server.life()
    if spoil is not None:
        await server.ask("HSET", server.keys().life, *spoil)
    await server.ask("DEBUG", "CHANGE-REPL-ID")
    await server.rooms.refence(server.keys().partition)
    return server.life() == known


async def test_a_life_goes_on_where_nothing_can_be_lost(rooms: ScriptRooms):
    """A8: the same process, never a replica, under observation: only the id is another."""
    await rooms.open_node()
    await rooms.warm()
    await rooms.publish()
    assert await life_after(rooms)
    assert await rooms.nodes.heartbeat("n", LEASE_MS) != [], "other partitions come one by one"
    await rooms.rooms.check_lives()
    assert await rooms.nodes.heartbeat("n", LEASE_MS) == []
    await rooms.publish()
    await rooms.archive(2)


@pytest.mark.parametrize("spoil", [("run", "another"), ("roles", "0 7 0"), ("run", "")])
async def test_another_process_or_role_ends_the_life(rooms: ScriptRooms, spoil):
    """A8: a restart may have lost writes; a server that followed another has its data."""
    await rooms.open_node()
    assert not await life_after(rooms, spoil=spoil)


async def test_a_server_that_nobody_watched_ends_the_life(rooms: ScriptRooms):
    """A8: without a running lease nobody knows what happened to it meanwhile."""
    assert not await life_after(rooms)
    await rooms.open_node()
    await rooms.ask("ZADD", LEASES_KEY, 1, "n")
    assert not await life_after(rooms)


async def test_a_life_of_before_is_completed_while_it_holds(rooms: ScriptRooms):
    """A running system is upgraded: what a life lacks is written while the id is the server's."""
    await rooms.open_node()
    await rooms.ask("HDEL", rooms.keys().life, "run", "roles")
    known = rooms.life()
    await rooms.rooms.refence(rooms.keys().partition)
    assert rooms.life() == known
    assert await life_after(rooms)


async def test_following_another_server_ends_the_life(private_redis: RedisServer):
    """A8 (test 12): one that was a replica for a moment has an id of a former master."""
    async with open_rooms(private_redis.url) as rooms:
        await rooms.open_node()
        known = rooms.life()
        private_redis.command("REPLICAOF", "127.0.0.1", 1)
        private_redis.command("REPLICAOF", "NO", "ONE")
        await rooms.rooms.check_lives()
        assert rooms.life() != known
        assert await must_skip(rooms)
        # The count of such commands alone is enough, when the former id is forgotten.
        known = rooms.life()
        private_redis.command("REPLICAOF", "127.0.0.1", 1)
        private_redis.command("REPLICAOF", "NO", "ONE")
        assert not await life_after(rooms)
        assert rooms.life() != known
        assert await must_skip(rooms), "what it followed goes on, perhaps"


async def must_skip(rooms: ScriptRooms) -> bool:
    inputs = await rooms.rooms.seed_inputs(R)
    assert not isinstance(inputs, Refusal)
    return inputs.must_skip


async def test_a_server_that_followed_nobody_has_no_rival(rooms: ScriptRooms):
    """A restart, a fence by hand: nobody else goes on under the life before."""
    known = rooms.life()
    await rooms.ask("HSET", rooms.keys().life, "run", "another")
    await rooms.ask("DEBUG", "CHANGE-REPL-ID")
    await rooms.rooms.refence(rooms.keys().partition)
    assert rooms.life() != known
    assert not await must_skip(rooms)


async def test_an_emptied_server_does_not_know_what_was_given(rooms: ScriptRooms):
    """Who knows may be stopped for longer than it is waited for."""
    await rooms.ask("HSET", rooms.keys().life, "run", "another")
    await rooms.ask("DEBUG", "CHANGE-REPL-ID")
    await rooms.rooms.refence(rooms.keys().partition)
    assert not await must_skip(rooms)
    await rooms.ask("FLUSHALL")
    await rooms.rooms.refence(rooms.keys().partition)
    assert await must_skip(rooms)
