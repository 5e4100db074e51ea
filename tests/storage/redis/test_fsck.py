"""The check of all rooms: silent about health, and a sentence for each kind of damage."""

import pytest

from storage.redis.keys import LEASES_KEY
from tests.support.script_rooms import R, ScriptRooms, open_rooms


def entry(offset: int, seq: int, *, room: str = R, epoch: str = "e") -> bytes:
    return f"{epoch} {offset} {seq} 1 message.created {room} / 0\n{{}}".encode()


@pytest.fixture
async def rooms(redis_url):
    """A room with five events, two of them archived, and one node."""
    async with open_rooms(redis_url, checked=False) as opened:
        await opened.warm()
        await opened.open_node()
        await opened.subscribed()
        await opened.publish_some(5)
        await opened.archive(2)
        assert await opened.check() == []
        yield opened


async def found(rooms: ScriptRooms) -> str:
    return "\n".join(await rooms.check())


async def test_health_is_an_empty_list(rooms: ScriptRooms):
    await rooms.warm("p/other", offset=3, seq=2)
    await rooms.warm("p/third")
    await rooms.publish_some(1, "p/third")
    await rooms.archive(3)
    assert await rooms.check() == []


async def test_an_empty_redis_is_healthy(redis_url):
    async with open_rooms(redis_url) as empty:
        assert await empty.check() == []


@pytest.mark.parametrize("name", ["epoch", "offset", "seq", "archived", "ver"])
async def test_a_missing_number(rooms: ScriptRooms, name):
    await rooms.ask("HDEL", rooms.keys().room, name)
    assert f"no {name} in the room hash" in await found(rooms)


async def test_more_archived_than_there_is(rooms: ScriptRooms):
    await rooms.ask("HSET", rooms.keys().room, "archived", 9)
    assert "archived 9 is above offset 5" in await found(rooms)


async def test_unarchived_events_missing_from_the_archive(rooms: ScriptRooms):
    (first, *_) = await rooms.ask("XRANGE", rooms.keys().archive, "-", "+")
    await rooms.ask("XDEL", rooms.keys().archive, first[0])
    assert "unarchived in the log 3 (3 to 5), in the archive 2 (4 to 5)" in await found(rooms)


async def test_unarchived_events_missing_from_the_log(rooms: ScriptRooms):
    await rooms.ask("XDEL", rooms.keys().log, "4-0")
    problems = await found(rooms)
    assert "log jumps from 3 to 5" in problems
    assert "in the archive 3 (3 to 5)" in problems


async def test_a_log_that_begins_too_late(rooms: ScriptRooms):
    """A1: trimmed beyond what is archived."""
    await rooms.ask("XTRIM", rooms.keys().log, "MAXLEN", 1)
    assert "the log begins at 5, archived is 2" in await found(rooms)


async def test_an_empty_log_with_unarchived_events(rooms: ScriptRooms):
    await rooms.ask("DEL", rooms.keys().log)
    assert "3 unarchived events but an empty log" in await found(rooms)


async def test_a_log_above_the_counters(rooms: ScriptRooms):
    await rooms.ask("HSET", rooms.keys().room, "offset", 4)
    assert "the log ends above the room's counters" in await found(rooms)


@pytest.mark.parametrize(
    ("raw", "sentence"),
    [
        (entry(9, 6), "log entry 6-0 says offset 9"),
        (entry(6, 6, room="p/other"), "log entry 6-0 belongs to p/other"),
        (entry(6, 4), "seq goes from 5 to 4"),
        (entry(6, 7), "seq goes from 5 to 7"),
    ],
)
async def test_an_entry_that_does_not_belong(rooms: ScriptRooms, raw, sentence):
    raw = raw.replace(b"e ", rooms.life().encode() + b" ", 1)
    await rooms.ask("XADD", rooms.keys().log, "6-0", "e", raw)
    assert sentence in await found(rooms)


async def test_an_expiry_on_unarchived_events(rooms: ScriptRooms):
    """A2."""
    await rooms.ask("PEXPIRE", rooms.keys().room, 50_000)
    assert "before all is archived" in await found(rooms)


async def test_an_archived_room_for_ever(rooms: ScriptRooms):
    """P8."""
    await rooms.nodes.leave(R, "n", 9, forget=True)
    await rooms.archive(3)
    await rooms.ask("PERSIST", rooms.keys().room)
    assert f"yet {rooms.keys().room} never expires" in await found(rooms)


async def test_a_room_that_lost_its_hash(rooms: ScriptRooms):
    await rooms.ask("DEL", rooms.keys().room)
    assert f"{R}: 3 archive entries but no room in Redis" in await found(rooms)


async def test_a_node_that_nobody_will_reap(rooms: ScriptRooms):
    await rooms.ask("ZREM", LEASES_KEY, "n")
    assert "node n has no lease" in await found(rooms)


async def test_a_jump_between_two_epochs_is_no_damage(rooms: ScriptRooms):
    """After a fence numbers go on above what anybody has seen."""
    await rooms.begin_other_life()
    await rooms.rooms.refence(rooms.keys().partition)
    await rooms.warm(offset=9, seq=9, archived=2)
    await rooms.publish_some(1)
    assert await rooms.check() == []


async def test_presence_that_nobody_will_end(rooms: ScriptRooms):
    await rooms.ask("ZREM", LEASES_KEY, "n")
    assert f"{R}: alice is present on node n, which has no lease" in await found(rooms)


async def test_presence_and_where_that_disagree(rooms: ScriptRooms):
    where = rooms.keys().where("alice")
    await rooms.ask("DEL", where)
    assert f"{R}: {where} does not name it" in await found(rooms)
    await rooms.ask("HSET", where, R, "", "p/other", "")
    assert await found(rooms) == f"p/other: {where} names it without presence"
