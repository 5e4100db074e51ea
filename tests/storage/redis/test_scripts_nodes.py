"""Nodes and subscriptions: leases, joins and leaves in any order, resumes, presence, reaping."""

import json
import time

import pytest

from config.limits import LAG_EVENTS_MAX
from storage.redis.keys import LEASES_KEY, inbox_key, rooms_of_key
from storage.redis.outcomes import Refusal, Snapshot
from tests.support.script_rooms import LEASE_MS, R, ScriptRooms, open_rooms
from tests.support.waiting import wait_until


@pytest.fixture
async def rooms(redis_url):
    async with open_rooms(redis_url) as opened:
        yield opened


# --- incarnation and lease (M4) -------------------------------------------------------------------


async def test_a_nodes_name_is_used_once(rooms: ScriptRooms):
    """B6."""
    await rooms.open_node()
    before = await rooms.state()
    assert await rooms.nodes.open_node("n", 1) is False
    assert await rooms.state() == before


async def test_a_heartbeat_renews_inbox_and_lease(rooms: ScriptRooms):
    assert await rooms.nodes.open_node("n", 1000)
    assert await rooms.nodes.heartbeat("n", LEASE_MS) == []
    assert await rooms.ask("PTTL", inbox_key("n")) > 1000
    seconds, _micros = await rooms.ask("TIME")
    assert float(await rooms.ask("ZSCORE", LEASES_KEY, "n")) > 1000 * int(seconds) + 1000


async def test_a_lost_inbox_is_reported_and_never_made_again(rooms: ScriptRooms):
    """A4."""
    await rooms.warm()
    await rooms.open_node()
    await rooms.ask("UNLINK", inbox_key("n"))
    before = await rooms.state()
    assert await rooms.nodes.heartbeat("n", LEASE_MS) is None
    assert await rooms.subscribe() == Refusal("lost")
    assert await rooms.nodes.watch("p//alice", "n", 1) is False
    assert await rooms.state() == before


async def test_a_heartbeat_names_the_partitions_with_another_life(rooms: ScriptRooms):
    """A8: also while the connection never broke."""
    await rooms.open_node()
    partition = rooms.keys().partition
    await rooms.begin_other_life()
    assert await rooms.nodes.heartbeat("n", LEASE_MS) == [partition]
    await rooms.rooms.refence(partition)
    assert await rooms.nodes.heartbeat("n", LEASE_MS) == []


async def test_one_fence_wins(rooms: ScriptRooms):
    """M1: the loser of a race gets the winner's life."""
    partition = rooms.keys().partition
    known = rooms.life()
    await rooms.begin_other_life()
    await rooms.rooms.refence(partition)
    began = rooms.life()
    assert began != known
    await rooms.rooms.refence(partition)
    assert rooms.life() == began


# --- joining and leaving (B4) ---------------------------------------------------------------------


async def test_a_join_that_is_newer_survives_a_late_leave(rooms: ScriptRooms):
    await rooms.warm()
    await rooms.open_node()
    await rooms.subscribed(gen=5, user="/", connections=0)
    await rooms.nodes.leave(R, "n", 4, forget=True)
    assert await rooms.registered() == {"n": 5}
    assert await rooms.ask("SCARD", rooms_of_key("n")) == 1
    await rooms.nodes.leave(R, "n", 6, forget=True)
    assert await rooms.registered() == {}
    assert await rooms.ask("SCARD", rooms_of_key("n")) == 0


async def test_a_join_never_lowers_the_generation(rooms: ScriptRooms):
    await rooms.warm()
    await rooms.open_node()
    await rooms.subscribed(gen=5, user="/", connections=0)
    await rooms.subscribed(gen=3, user="/", connections=0)
    await rooms.nodes.leave(R, "n", 4, forget=True)
    assert await rooms.registered() == {"n": 5}


async def test_a_room_with_presence_in_its_grace_stays_to_be_cleaned(rooms: ScriptRooms):
    """B7: whoever reaps the node must find the room."""
    await rooms.warm()
    await rooms.open_node()
    await rooms.subscribed(gen=1)
    await rooms.nodes.presence(R, "n", "alice", 0, 2)
    await rooms.nodes.leave(R, "n", 3, forget=False)
    assert await rooms.registered() == {}
    assert await rooms.ask("SCARD", rooms_of_key("n")) == 1


# --- subscribe: refusals --------------------------------------------------------------------------


@pytest.mark.parametrize("cause", ["fenced", "cold", "gone", "stale", "lost"])
async def test_a_refused_subscribe_writes_nothing(redis_url, cause):
    async with open_rooms(redis_url, checked=False) as rooms:
        await rooms.warm(version=2)
        await rooms.open_node()
        expected = Refusal("stale", b"2") if cause == "stale" else Refusal(cause)
        match cause:
            case "fenced":
                await rooms.begin_other_life()
            case "cold":
                await rooms.ask("HSET", rooms.keys().room, "epoch", "former")
            case "gone":
                await rooms.ask("HSET", rooms.keys().room, "deleted", 1)
            case "lost":
                await rooms.ask("UNLINK", inbox_key("n"))
        before = await rooms.state()
        assert await rooms.subscribe(version=1 if cause == "stale" else 2) == expected
        assert await rooms.state() == before


# --- subscribe: what is missed (A10, A11) ---------------------------------------------------------


async def resume(rooms: ScriptRooms, offset: int, epoch: str | None = None) -> Snapshot:
    since = (epoch or rooms.life(), offset)
    return await rooms.subscribed(user="/", connections=0, since=since)


async def test_a_resume_gets_exactly_what_it_missed(rooms: ScriptRooms):
    await rooms.warm()
    await rooms.open_node()
    await rooms.publish_some(120)
    raw = [fields[1] for _id, fields in await rooms.ask("XRANGE", rooms.keys().log, "-", "+")]
    for offset in (0, 1, 19, 20, 69, 70, 71, 119):
        snapshot = await resume(rooms, offset)
        assert (snapshot.reason, snapshot.tail) == ("", raw[offset:])
    snapshot = await resume(rooms, 120)
    assert (snapshot.reason, snapshot.tail) == ("", [])


async def test_without_since_no_tail_is_read(rooms: ScriptRooms):
    await rooms.warm()
    await rooms.open_node()
    await rooms.publish_some(3)
    snapshot = await rooms.subscribed()
    assert (snapshot.offset, snapshot.seq, snapshot.reason, snapshot.tail) == (3, 3, "", [])


async def test_a_resume_that_is_impossible_says_why(rooms: ScriptRooms):
    few = rooms.with_limits(resume_events=5, resume_bytes=400, log_length=1)
    await few.warm()
    await few.open_node()
    await few.publish_some(4)
    for offset, epoch, reason in ((4, "former", "epoch"), (5, None, "ahead")):
        snapshot = await resume(few, offset, epoch)
        assert (snapshot.reason, snapshot.tail) == (reason, [])
    await few.publish(data=b"x" * 500)
    assert (await resume(few, 3)).reason == "too_large", "too many bytes"
    await few.publish_some(1)
    assert (await resume(few, 0)).reason == "too_large", "too many events"
    await few.archive(6)
    await few.ask("XDEL", few.keys().log, "1-0")
    assert (await resume(few, 0)).reason == "trimmed", "what is gone is no matter of size"


@pytest.mark.parametrize("missing", [1, 49, 50, 51, 52, 101, 119, 120])
async def test_a_resume_over_a_hole_is_not_recovered(redis_url, missing):
    """A10: recovered only if exactly the missing number of entries came back."""
    async with open_rooms(redis_url, checked=False) as rooms:
        await rooms.warm()
        await rooms.open_node()
        await rooms.publish_some(120)
        await rooms.ask("XDEL", rooms.keys().log, f"{missing}-0")
        for offset in (0, missing - 1):
            snapshot = await resume(rooms, offset)
            assert (snapshot.reason, snapshot.tail) == ("trimmed", [])
        assert (await resume(rooms, missing)).reason == ""


async def test_an_expired_log_is_no_recovery(rooms: ScriptRooms):
    """A10."""
    await rooms.warm()
    await rooms.open_node()
    await rooms.publish_some(3)
    await rooms.archive(3)
    await rooms.ask("DEL", rooms.keys().log)
    assert (await resume(rooms, 1)).reason == "trimmed"


async def test_the_lag_behind_postgresql_is_given_for_the_unread_count(rooms: ScriptRooms):
    await rooms.warm()
    await rooms.open_node()
    await rooms.publish_some(4)
    snapshot = await rooms.subscribed(lag_from=2)
    assert [raw.split(b" ")[1] for raw in snapshot.lag] == [b"3", b"4"]
    assert snapshot.read_seq == 4, "alice has read what she wrote"


async def test_the_lag_is_given_without_content_and_only_in_part(rooms: ScriptRooms):
    """A11: while the archiver is behind, no subscribe may cost a whole backlog."""
    await rooms.warm()
    await rooms.open_node()
    text = b'say ,"content": twice'.replace(b'"', b'\\"')
    data = b'{"id":"m","kind":"text","content":"' + text + b'","metadata":{"content":1}}'
    await rooms.publish(data=data)
    await rooms.publish(event="message.deleted", step=0, data=b'{"seq":1,"by":"bob"}')
    lag = (await rooms.subscribed(lag_from=0)).lag
    assert [json.loads(raw.partition(b"\n")[2]) for raw in lag] == [
        {"id": "m", "kind": "text"}, {"seq": 1, "by": "bob"},
    ]  # fmt: skip
    await rooms.publish_some(500)
    lag = (await rooms.subscribed(lag_from=0)).lag
    assert [int(raw.split(b" ")[1]) for raw in lag] == list(range(1, LAG_EVENTS_MAX + 1))
    for _ in range(60):
        await rooms.publish(data=b"x" * 60_000)
    lag = (await rooms.subscribed(lag_from=502)).lag
    assert len(lag) == 50, "bounded in bytes too"


# --- presence (B5, B7) ----------------------------------------------------------------------------


async def presence_events(rooms: ScriptRooms, node: str = "w") -> list[tuple[str, str, int]]:
    return [
        (entry.event, entry.sender or "", json.loads(entry.data)["online"])
        for entry in await rooms.inbox(node)
    ]


@pytest.fixture
async def watched(rooms: ScriptRooms) -> ScriptRooms:
    """A warm room that node `w` watches; `n` and `m` are open."""
    await rooms.warm()
    for node in ("w", "n", "m"):
        await rooms.open_node(node)
    await rooms.subscribed("w", user="/", connections=0)
    return rooms


async def test_counts_are_absolute_and_repeats_change_nothing(watched: ScriptRooms):
    await watched.subscribed("n", gen=1)
    before = await watched.state()
    await watched.subscribed("n", gen=1)
    assert await watched.state() == before
    assert await presence_events(watched) == [("presence.joined", "alice", 1)]


async def test_a_late_count_changes_nothing(watched: ScriptRooms):
    await watched.subscribed("n", gen=5, connections=2)
    before = await watched.state()
    await watched.nodes.presence(R, "n", "alice", 0, 4)
    assert await watched.state() == before


async def test_a_user_is_announced_over_all_nodes_together(watched: ScriptRooms):
    await watched.subscribed("n")
    await watched.subscribed("m")
    assert await watched.online() == ["alice"]
    for node in ("n", "m"):
        await watched.nodes.presence(R, node, "alice", 0, 2)
    assert await watched.online() == ["alice"], "both are in their grace"
    await watched.nodes.leave_due(R, "n", "alice", 0)
    assert await watched.online() == ["alice"]
    await watched.nodes.leave_due(R, "m", "alice", 0)
    assert await watched.online() == []
    assert await presence_events(watched) == [
        ("presence.joined", "alice", 1), ("presence.left", "alice", 0),
    ]  # fmt: skip


async def test_who_is_back_within_the_grace_never_left(watched: ScriptRooms):
    await watched.subscribed("n", gen=1)
    await watched.nodes.presence(R, "n", "alice", 0, 2)
    await watched.subscribed("n", gen=3)
    await watched.nodes.leave_due(R, "n", "alice", 0)
    assert await watched.online() == ["alice"]
    assert await presence_events(watched) == [("presence.joined", "alice", 1)]


async def test_leaving_is_announced_once(watched: ScriptRooms):
    await watched.subscribed("n", gen=1)
    await watched.nodes.presence(R, "n", "alice", 0, 2)
    await watched.nodes.leave_due(R, "n", "alice", 0)
    before = await watched.state()
    await watched.nodes.leave_due(R, "n", "alice", 0)
    await watched.nodes.presence(R, "n", "alice", 0, 3)
    assert await watched.state() == before


async def test_a_large_room_names_nobody(watched: ScriptRooms):
    """Ruling 46: from the first user too many on; names come back with the last one too many."""
    small = watched.with_limits(quiet_users=2)
    for number, user in enumerate(("alice", "bob", "carol", "dave"), 1):
        await small.subscribed("n", user=user, gen=number)
    for number, user in enumerate(("alice", "bob", "carol"), 5):
        await small.nodes.presence(R, "n", user, 0, number)
        await small.nodes.leave_due(R, "n", user, 0)
    told = await presence_events(small)
    assert [(event, online) for event, _user, online in told] == [
        ("presence.joined", 1), ("presence.joined", 2), ("presence.count", 3),
        ("presence.left", 2), ("presence.left", 1),
    ]  # fmt: skip
    assert [user for event, user, _online in told if event == "presence.left"] == ["bob", "carol"]


async def test_who_left_was_seen_when_its_last_connection_ended(watched: ScriptRooms):
    """The event's time is that of the end, not of the grace behind it."""
    await watched.subscribed("n", gen=1)
    await watched.nodes.presence(R, "n", "alice", 0, 2)
    ended_ms = (await watched.ask("TIME"))[0]
    before_ms = int(ended_ms) * 1000
    await wait_until(lambda: time.time() * 1000 > before_ms + 1500, deadline=3)
    await watched.nodes.leave_due(R, "n", "alice", 0)
    left = (await watched.inbox("w"))[-1]
    assert left.event == "presence.left"
    assert before_ms - 1000 <= left.ms <= before_ms + 1000


async def test_who_was_reaped_and_is_still_there_is_announced_as_back(watched: ScriptRooms):
    """B6: a node that was stopped for longer than its lease says everything again."""
    await watched.subscribed("n", gen=1)
    await watched.end_lease("n")
    assert await watched.nodes.reap("n") == 0
    await watched.open_node("n2")
    await watched.nodes.presence(R, "n2", "alice", 1, 2)
    await watched.nodes.presence(R, "n2", "alice", 2, 3)
    assert await presence_events(watched) == [
        ("presence.joined", "alice", 1), ("presence.left", "alice", 0),
        ("presence.joined", "alice", 1),
    ]  # fmt: skip


# --- reaping (B6, B7) -----------------------------------------------------------------------------


async def test_a_living_node_is_not_reaped(watched: ScriptRooms):
    await watched.subscribed("n")
    before = await watched.state()
    assert await watched.nodes.reap("n") == -1
    assert await watched.state() == before


async def test_reaping_removes_a_node_from_everything(watched: ScriptRooms):
    await watched.subscribed("n", user="alice")
    await watched.subscribed("n", user="bob", gen=2)
    await watched.subscribed("m", user="bob")
    assert await watched.nodes.watch("p//alice", "n", 3)
    await watched.end_lease("n")
    assert await watched.nodes.dead_nodes() == ["n"]
    assert await watched.nodes.reap("n") == 0
    assert await watched.nodes.dead_nodes() == []
    assert set(await watched.registered()) == {"w", "m"}
    assert await watched.registered("p//alice") == {}
    assert await watched.online() == ["bob"], "on another node too"
    assert not await watched.exists(rooms_of_key("n"))
    left = [event for event in await presence_events(watched) if event[0] == "presence.left"]
    assert left == [("presence.left", "alice", 1)]


async def test_a_reaper_that_dies_leaves_the_rest_for_the_next(watched: ScriptRooms):
    """B7: each call is whole, and nobody is announced twice."""
    for number in range(150):
        key = f"p/room{number}"
        await watched.warm(key)
        await watched.subscribed("w", key=key, user="/", connections=0)
        await watched.subscribed("n", key=key)
    await watched.end_lease("n")
    assert await watched.nodes.reap("n") == 50
    assert await watched.nodes.dead_nodes() == ["n"], "it stays to be found"
    assert await watched.nodes.reap("n") == 0
    events = await watched.inbox_events("w")
    assert events.count("presence.left") == events.count("presence.joined") == 150


async def test_a_node_reaps_its_former_self_without_announcing(watched: ScriptRooms):
    """B6: it has joined again under its new name before."""
    await watched.subscribed("n")
    await watched.subscribed("m")
    assert await watched.nodes.reap("n", force=True) == 0
    assert await watched.online() == ["alice"]
    assert not await watched.exists(inbox_key("n"))
    assert await presence_events(watched) == [("presence.joined", "alice", 1)]


async def test_a_drained_node_leaves_its_presence_for_a_while(watched: ScriptRooms):
    """B8."""
    await watched.subscribed("n")
    await watched.nodes.drain_node("n", LEASE_MS)
    assert not await watched.exists(inbox_key("n"))
    assert await watched.online() == ["alice"]
    assert await watched.nodes.reap("n") == -1
    await watched.nodes.drain_node("n", -1)
    assert await watched.nodes.dead_nodes() == ["n"]


# --- audit and floors (M5, B2) --------------------------------------------------------------------


async def test_the_audit_finds_what_differs(watched: ScriptRooms):
    for key in ("p/same", "p/behind", "p/left", "p/other"):
        await watched.warm(key)
        await watched.subscribed("n", key=key, user="/", connections=0)
    await watched.publish("p/behind")
    await watched.nodes.leave("p/left", "n", 9, forget=True)
    life = watched.life
    asked = [
        ("p/same", life("p/same"), 0), ("p/behind", life("p/behind"), 0),
        ("p/left", life("p/left"), 0), ("p/other", "former", 7), ("p/nowhere", "e", 0),
    ]  # fmt: skip
    found = {state.place: state for state in await watched.nodes.audit("n", asked)}
    assert set(found) == {1, 2, 3, 4}
    assert (found[1].registered, found[1].offset) == (True, 1)
    assert not found[2].registered
    assert (found[3].registered, found[3].epoch) == (True, life("p/other"))
    assert (found[4].registered, found[4].epoch, found[4].offset) == (False, "", -1)


async def test_the_audit_renews_what_may_expire_and_only_that(watched: ScriptRooms):
    """M5, A2: an expiry on a room with unarchived events would lose them."""
    await watched.publish()
    await watched.nodes.audit("n", [(R, watched.life(), 1)])
    assert await watched.expires() == [False, False, False]
    await watched.archive(1)
    keys = watched.keys()
    # As an archiver of a release before would leave it.
    await watched.ask("HDEL", keys.room, "settled")
    for name in (keys.room, keys.log, keys.reads):
        await watched.ask("PEXPIRE", name, 1000)
    await watched.nodes.audit("n", [(R, watched.life(), 1)])
    for name in (keys.room, keys.log, keys.reads):
        assert await watched.ask("PTTL", name) > 1000


async def test_the_greatest_floor_wins(rooms: ScriptRooms):
    """B2."""
    for offset, seq in ((5, 3), (9, 2), (7, 4)):
        assert await rooms.rooms.raise_floors([(R, offset, seq)]) == []
    inputs = await rooms.rooms.seed_inputs(R)
    assert not isinstance(inputs, Refusal)
    assert (inputs.offset, inputs.seq) == (9, 4)
    assert await rooms.ask("PTTL", rooms.keys().floors) > 0


async def test_a_grace_of_an_earlier_absence_ends_no_later_one(watched: ScriptRooms):
    await watched.subscribed("n", gen=1)
    await watched.nodes.presence(R, "n", "alice", 0, 2)
    await watched.nodes.leave_due(R, "n", "alice", 60_000)
    assert await watched.online() == ["alice"]
    await watched.nodes.leave_due(R, "n", "alice", 0)
    assert await watched.online() == []
