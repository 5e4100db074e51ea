"""Presence as it is read, typing and signals: over several nodes, dead ones among them."""

import json
from typing import Any

import pytest

from storage.redis.keys import LEASES_KEY, inbox_key
from storage.redis.live import Presence
from storage.redis.outcomes import Refusal
from tests.support.script_rooms import R, ScriptRooms, open_rooms
from tests.support.waiting import wait_until

ANY_VERSION = 2**53 - 1


@pytest.fixture
async def rooms(redis_url):
    """A warm room that node `w` watches; `n` and `m` are open."""
    async with open_rooms(redis_url) as opened:
        await opened.warm()
        for node in ("w", "n", "m"):
            await opened.open_node(node)
        await opened.subscribed("w", user="/", connections=0)
        yield opened


async def present(rooms: ScriptRooms, users_max: int = 100) -> list[tuple[str, int]]:
    return [(who.user, who.connections) for who in (await rooms.live.presence(R, users_max)).users]


async def told(rooms: ScriptRooms, node: str = "w") -> list[tuple[str, str]]:
    """(event, user) of what a node got, leaving presence aside."""
    return [
        (entry.event, json.loads(entry.data)["user"])
        for entry in await rooms.inbox(node)
        if not entry.event.startswith("presence.")
    ]


# --- presence -------------------------------------------------------------------------------------


async def test_connections_are_counted_over_all_nodes(rooms: ScriptRooms):
    await rooms.subscribed("n", user="alice", connections=2)
    await rooms.subscribed("m", user="alice", connections=1)
    await rooms.subscribed("m", user="bob", gen=2)
    found = await rooms.live.presence(R, 100)
    assert [(who.user, who.connections) for who in found.users] == [("alice", 3), ("bob", 1)]
    assert found.online == 2
    assert found.users[0].since_ms <= found.users[1].since_ms


async def test_nobody_is_there(rooms: ScriptRooms):
    assert await rooms.live.presence("p/nowhere", 1) == ([], 0)


async def test_who_is_in_its_grace_is_there_with_no_connection(rooms: ScriptRooms):
    """A list and the events say the same: nobody has left before it was announced."""
    await rooms.subscribed("n", gen=1)
    await rooms.nodes.presence(R, "n", "alice", 0, 2)
    assert await present(rooms) == [("alice", 0)]


@pytest.mark.parametrize("is_entered", [True, False])
async def test_a_node_whose_lease_has_ended_counts_for_nothing(rooms: ScriptRooms, is_entered):
    """B7: reads ignore a node that is past its end or absent, though nobody has reaped it yet."""
    await rooms.subscribed("n", user="alice")
    await rooms.subscribed("n", user="bob", gen=2, connections=3)
    await rooms.subscribed("m", user="bob")
    await rooms.end_lease("n")
    if not is_entered:
        await rooms.ask("ZREM", LEASES_KEY, "n")
    found = await rooms.live.presence(R, 100)
    assert ([(who.user, who.connections) for who in found.users], found.online) == ([("bob", 1)], 1)
    assert await rooms.live.rooms_of("p", "alice") == []
    assert await rooms.live.rooms_of("p", "bob") == [R]
    await rooms.nodes.reap("n", force=True)


async def test_a_drained_node_counts_until_its_lease_ends(rooms: ScriptRooms):
    """B8."""
    await rooms.subscribed("n")
    await rooms.nodes.drain_node("n", 60_000)
    assert await present(rooms) == [("alice", 1)]


async def test_a_large_room_is_given_in_part_and_counted_whole(rooms: ScriptRooms):
    for number in range(1000):
        await rooms.subscribed("n", user=f"user{number}", gen=number + 1)
    found = await rooms.live.presence(R, 10)
    assert (len(found.users), found.online) == (10, 1000)
    found = await rooms.live.presence(R, 1000)
    assert (len(found.users), found.online) == (1000, 1000)
    assert [who.since_ms for who in found.users] == sorted(who.since_ms for who in found.users)


async def test_where_a_user_is_follows_every_way_of_coming_and_going(rooms: ScriptRooms):
    for key in ("p/one", "p/two", "p/three", "q/one"):
        await rooms.warm(key)
        await rooms.subscribed("n", key=key, gen=1)
    await rooms.subscribed("m", key="p/one")
    assert await rooms.live.rooms_of("p", "alice") == ["p/one", "p/three", "p/two"]
    assert await rooms.live.rooms_of("q", "alice") == ["q/one"], "projects never meet"
    assert await rooms.live.rooms_of("p", "bob") == []
    for key in ("p/one", "p/two"):
        await rooms.nodes.presence(key, "n", "alice", 0, 2)
        await rooms.nodes.leave_due(key, "n", "alice", 0)
    assert await rooms.live.rooms_of("p", "alice") == ["p/one", "p/three"]
    await rooms.end_lease("n")
    assert await rooms.nodes.reap("n") == 0
    assert await rooms.live.rooms_of("p", "alice") == ["p/one"]
    await rooms.nodes.presence("p/one", "m", "alice", 0, 2)
    await rooms.nodes.leave_due("p/one", "m", "alice", 0)
    assert [name async for name in names(rooms, "*where*")] == []
    assert [name async for name in names(rooms, "*presence*")] == []


async def names(rooms: ScriptRooms, pattern: str):
    for name in await rooms.ask("KEYS", pattern):
        yield name


async def test_counts_of_many_rooms_at_once(rooms: ScriptRooms):
    await rooms.subscribed("n")
    assert await rooms.live.online_counts([R, "p/nowhere"]) == [1, 0]
    assert await rooms.live.online_counts([]) == []


async def test_reaping_a_room_of_many_users_takes_several_calls(rooms: ScriptRooms):
    """A call is bounded by the users that it looks at, not by rooms alone."""
    for room in range(3):
        await rooms.warm(f"p/room{room}")
        for user in range(1500):
            await rooms.subscribed("n", key=f"p/room{room}", user=f"user{user}", gen=user + 1)
    await rooms.end_lease("n")
    left = [await rooms.nodes.reap("n")]
    while left[-1]:
        left.append(await rooms.nodes.reap("n"))
    assert left == [1, 0]
    assert await rooms.live.online_counts([f"p/room{room}" for room in range(3)]) == [0, 0, 0]


async def test_the_channels_of_a_node_and_the_end_of_its_lease(rooms: ScriptRooms):
    assert await rooms.nodes.watch("p//alice", "n", 1)
    assert await rooms.nodes.watch("p//bob", "n", 2)
    await rooms.subscribed("n", user="carol")
    assert await rooms.nodes.channels_of("n") == ["p//alice", "p//bob"]
    assert await rooms.nodes.channels_of("nobody") == []
    await rooms.end_lease("n")
    assert await rooms.nodes.lease_end("n") == 1
    assert await rooms.nodes.lease_end("nobody") is None
    await rooms.nodes.reap("n")


# --- typing ---------------------------------------------------------------------------------------


async def types(
    rooms: ScriptRooms, node: str, is_active: bool, *, user: str = "alice", **given
) -> int:
    fields: dict[str, Any] = {"version": ANY_VERSION, "origin": "c1"} | given
    outcome = await rooms.live.typing(R, node=node, user=user, is_active=is_active, **fields)
    assert not isinstance(outcome, Refusal)
    return outcome


async def test_typing_is_told_once_and_its_end_once(rooms: ScriptRooms):
    """Ruling 47: at most one typing.started per user and 3 s, over all nodes."""
    assert await types(rooms, "n", True) == 3000
    for node in ("n", "m", "n"):
        assert 0 < await types(rooms, node, True) <= 3000
    assert await told(rooms) == [("typing.started", "alice")]
    started = (await rooms.inbox("w"))[-1]
    assert json.loads(started.data) == {"user": "alice", "expires_in": 6}
    assert (started.epoch, started.offset) == ("c1", 0), "it names whom it is not sent back to"
    await types(rooms, "n", False)
    assert await told(rooms) == [("typing.started", "alice")], "on another node it goes on"
    await types(rooms, "m", False, origin="c2")
    for node in ("n", "m"):
        await types(rooms, node, False)
    assert await told(rooms) == [("typing.started", "alice"), ("typing.stopped", "alice")]
    stopped = (await rooms.inbox("w"))[-1]
    assert (json.loads(stopped.data), stopped.epoch) == ({"user": "alice"}, "c2")


async def test_beginning_again_within_the_pause_is_not_told(rooms: ScriptRooms):
    await types(rooms, "n", True)
    await types(rooms, "n", False)
    assert 0 < await types(rooms, "n", True) <= 3000
    await types(rooms, "n", False)
    assert await told(rooms) == [("typing.started", "alice"), ("typing.stopped", "alice")]


async def test_after_the_pause_it_is_told_again(rooms: ScriptRooms):
    brief = rooms.with_limits(typing_pause_ms=1, typing_expires_ms=60_000)
    for _ in range(2):
        assert await types(brief, "n", True) == 1
        await wait_gone_by(brief, 2)
    assert await told(rooms) == [("typing.started", "alice")] * 2
    await types(brief, "n", False)


async def wait_gone_by(rooms: ScriptRooms, ms: int) -> None:
    first = await rooms.ask("TIME")

    async def has_passed() -> bool:
        now = await rooms.ask("TIME")
        return (int(now[0]) - int(first[0])) * 10**6 + int(now[1]) - int(first[1]) > ms * 1000

    await wait_until(has_passed)


async def test_a_dead_nodes_word_is_forgotten(rooms: ScriptRooms):
    """Ruling 47: nobody ends it, so it ends by itself; it keeps nobody else typing either."""
    brief = rooms.with_limits(typing_pause_ms=1, typing_expires_ms=30)
    await types(brief, "n", True)
    await types(brief, "m", True)
    await wait_gone_by(brief, 40)
    await types(brief, "m", True)
    await types(brief, "m", False)
    assert (await told(rooms))[-1] == ("typing.stopped", "alice")
    await types(brief, "n", True)

    async def is_gone() -> bool:
        return not await rooms.exists(rooms.keys().typing("alice"))

    await wait_until(is_gone)


async def test_users_and_rooms_type_apart(rooms: ScriptRooms):
    await types(rooms, "n", True)
    await types(rooms, "n", True, user="bob")
    await types(rooms, "n", False)
    assert await told(rooms) == [
        ("typing.started", "alice"), ("typing.started", "bob"), ("typing.stopped", "alice"),
    ]  # fmt: skip


async def test_a_quiet_room_hears_of_no_typing(rooms: ScriptRooms):
    """Ruling 46."""
    small = rooms.with_limits(quiet_users=1)
    await small.subscribed("n", user="alice")
    await small.subscribed("n", user="bob", gen=2)
    await types(small, "n", True)
    await types(small, "n", False)
    assert await told(rooms) == []


async def test_the_end_of_typing_in_a_room_that_is_gone_is_no_error(rooms: ScriptRooms):
    await types(rooms, "n", True)
    await rooms.ask("HSET", rooms.keys().room, "deleted", 1)
    await types(rooms, "n", False)
    assert not isinstance(await rooms.live.typing(
        R, node="n", user="bob", version=0, is_active=False, origin="/"
    ), Refusal)  # fmt: skip
    await rooms.ask("HDEL", rooms.keys().room, "deleted")


# --- signals, and what is refused -----------------------------------------------------------------


async def test_a_signal_reaches_every_node_and_is_stored_nowhere(rooms: ScriptRooms):
    await rooms.subscribed("m", user="/", connections=0)
    data = b'{"user":"alice","name":"wave","data":null}'
    assert await rooms.live.signal(R, user="alice", version=0, origin="c1", data=data) is None
    for node in ("w", "m"):
        entry = (await rooms.inbox(node))[-1]
        assert (entry.event, entry.data, entry.sender) == ("signal", data, "alice")
        assert (entry.epoch, entry.offset) == ("c1", 0)
    assert await rooms.inbox("n") == []
    assert await rooms.log() == []
    assert await rooms.archive_entries() == []


@pytest.mark.parametrize("cause", ["fenced", "cold", "gone", "stale"])
async def test_what_is_refused_writes_nothing(redis_url, cause):
    async with open_rooms(redis_url, checked=False) as rooms:
        await rooms.warm(version=2)
        await rooms.open_node("w")
        await rooms.subscribed("w", user="/", connections=0)
        version, detail = 2, b""
        match cause:
            case "fenced":
                await rooms.ask("HSET", rooms.keys().life, "id", "another")
            case "cold":
                await rooms.ask("DEL", rooms.keys().room)
            case "gone":
                await rooms.ask("HSET", rooms.keys().room, "deleted", 1)
            case "stale":
                version, detail = 1, b"2"
        before = await rooms.state()
        refused = Refusal(cause, detail)
        signal = await rooms.live.signal(R, user="a", version=version, origin="/", data=b"{}")
        typing = await rooms.live.typing(
            R, node="w", user="a", version=version, is_active=True, origin="/"
        )
        assert (signal, typing) == (refused, refused)
        assert await rooms.state() == before


async def test_what_a_record_says_is_read_as_it_was_written(rooms: ScriptRooms):
    """The scripts pack it, Python unpacks it."""
    await rooms.subscribed("n", gen=7, connections=300)
    await rooms.subscribed("m", gen=70_000, connections=2)
    (alice,) = (await rooms.live.presence(R, 10)).users
    assert isinstance(alice, Presence)
    assert alice.connections == 302
    now = await rooms.ask("TIME")
    assert 0 <= int(now[0]) * 1000 + 1000 - alice.since_ms < 60_000
    assert await rooms.exists(inbox_key("n"))
