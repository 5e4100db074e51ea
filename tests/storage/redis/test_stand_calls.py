"""How rooms stand, asked in one script call: each caller for itself, each room once."""

from __future__ import annotations

import pytest

from storage.errors import StorageUnavailable
from storage.redis.stand_call import STAND_CALL_ROOMS, Stand
from tests.storage.redis.test_publish_calls import calls, draft, together
from tests.support.script_rooms import R, ScriptRooms, open_rooms
from tests.support.waiting import wait_until


@pytest.fixture
async def rooms(redis_url):
    async with open_rooms(redis_url) as opened:
        yield opened


async def stands(rooms: ScriptRooms, *keys: str) -> list[Stand | Exception]:
    """Ask about all of them in one synchronous section."""
    found: list[tuple[int, Stand | Exception]] = []
    for place, key in enumerate(keys):

        def take(stand: Stand | Exception, place: int = place) -> None:
            found.append((place, stand))

        rooms.rooms.submit_stand(key, take)
    await wait_until(lambda: len(found) == len(keys), what="all are answered")
    return [stand for _place, stand in sorted(found, key=lambda one: one[0])]


async def test_those_who_ask_in_a_turn_share_a_call(rooms: ScriptRooms):
    await rooms.warm()
    before = await calls(rooms)
    first, absent, again, elsewhere = await stands(rooms, R, "p/absent", R, "q/absent")
    assert await calls(rooms) == before + 1
    assert [one.room for one in (absent, elsewhere) if isinstance(one, Stand)] == [None, None]
    assert first == again
    tail, stamp = await rooms.rooms.unarchived_and_stamp(R)
    assert tail is not None
    assert first == Stand((tail.epoch, tail.offset, tail.version), stamp)


async def test_each_project_has_its_own_stamp_and_events_move_a_room(rooms: ScriptRooms):
    await rooms.warm()
    (before,) = await stands(rooms, R)
    project = R.partition("/")[0]
    await rooms.rooms.renew_stamp(project)
    renewed, other = await stands(rooms, R, "another/room")
    assert isinstance(renewed, Stand)
    assert isinstance(before, Stand)
    assert renewed.stamp not in {None, before.stamp}
    assert renewed.room == before.room
    assert isinstance(other, Stand)
    assert other.room is None
    await together(rooms, (R, draft()))
    (moved,) = await stands(rooms, R)
    assert isinstance(moved, Stand)
    assert moved.room is not None
    assert before.room is not None
    assert moved.room[1] == before.room[1] + 1


async def test_a_room_that_is_not_there_stands_otherwise_in_another_life(rooms: ScriptRooms):
    (before,) = await stands(rooms, R)
    assert (await stands(rooms, R, "p/absent"))[0] == before
    await rooms.client.execute("DEL", rooms.keys(R).life)
    (lost,) = await stands(rooms, R)
    assert isinstance(before, Stand)
    assert isinstance(lost, Stand)
    assert before.room is lost.room is None
    assert before.stamp != lost.stamp
    assert (await rooms.rooms.unarchived_and_stamp(R))[1] == lost.stamp


async def test_a_question_is_read_behind_what_was_submitted_before_it(rooms: ScriptRooms):
    await rooms.warm()
    found: list[Stand | Exception] = []
    rooms.rooms.submit_stand(R, found.append)
    rooms.rooms.submit_publish(rooms.keys(R), draft(), lambda _reply: None)
    rooms.rooms.submit_stand(R, found.append)
    await wait_until(lambda: len(found) == 2, what="both are answered")
    offsets = [one.room[1] for one in found if isinstance(one, Stand) and one.room is not None]
    assert offsets[1] == offsets[0] + 1


async def test_a_call_takes_only_so_many_rooms(rooms: ScriptRooms):
    before = await calls(rooms)
    keys = [f"p/room{number}" for number in range(STAND_CALL_ROOMS + 1)]
    found = await stands(rooms, *keys)
    assert [one.room for one in found if isinstance(one, Stand)] == [None] * len(keys)
    assert await calls(rooms) == before + 2


async def test_a_flushed_script_fails_once(rooms: ScriptRooms):
    await rooms.client.execute("SCRIPT", "FLUSH")
    (first,) = await stands(rooms, R)
    assert isinstance(first, Exception)
    (again,) = await stands(rooms, R)
    assert isinstance(again, Stand)


async def test_all_hear_that_the_connection_was_lost(rooms: ScriptRooms):
    found: list[Stand | Exception] = []
    for key in (R, R, "p/another"):
        rooms.rooms.submit_stand(key, found.append)
    rooms.client.disconnect_now()
    await wait_until(lambda: len(found) == 3, what="all are answered")
    assert all(isinstance(one, StorageUnavailable) for one in found)
    await wait_until(lambda: rooms.client.is_connected, what="there is a connection again")
    (again,) = await stands(rooms, R)
    assert isinstance(again, Stand)


async def test_a_callback_that_raises_keeps_nobody_from_the_answer(rooms: ScriptRooms):
    found: list[Stand | Exception] = []

    def fail(_stand: Stand | Exception) -> None:
        raise RuntimeError("a bug")

    for on_stand in (found.append, fail, found.append):
        rooms.rooms.submit_stand(R, on_stand)
    await wait_until(lambda: len(found) == 2, what="the others are answered")
    assert rooms.client.statistics().callback_errors == 1
