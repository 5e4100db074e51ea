"""publish and announce: every refusal, their order, and what is written when there is none."""

from itertools import combinations
from typing import Any

import pytest

from broker.domain.seeding import sent_digest
from storage.redis.keys import inbox_key, user_channel
from storage.redis.outcomes import Appended, Refusal
from tests.support.script_rooms import R, ScriptRooms, open_rooms, wait_gone

DIGEST = bytes(range(16))
OTHER_DIGEST = bytes(range(1, 17))


@pytest.fixture
async def rooms(redis_url):
    async with open_rooms(redis_url) as opened:
        yield opened


# --- what a publish writes ------------------------------------------------------------------------


async def test_one_entry_goes_to_log_archive_and_inboxes(rooms: ScriptRooms):
    await rooms.warm(offset=7, seq=4)
    for node in ("n", "m"):
        await rooms.open_node(node)
        await rooms.subscribed(node, user="/", connections=0)
    outcome = await rooms.publish(data=b'{"id":"x"}', digest=DIGEST, message_id="x")
    assert isinstance(outcome, Appended)
    assert (outcome.offset, outcome.seq) == (8, 5)
    (entry,) = await rooms.log()
    assert entry[:4] == (rooms.life(), 8, 5, outcome.ms)
    assert entry[4:] == ("message.created", R, "alice", 0, b'{"id":"x"}')
    assert await rooms.archive_entries() == [entry]
    assert await rooms.inbox("n") == await rooms.inbox("m") == [entry]
    numbers = await rooms.numbers()
    assert (numbers["offset"], numbers["seq"], numbers["archived"]) == ("8", "5", "7")


async def test_only_events_with_a_step_take_a_seq(rooms: ScriptRooms):
    await rooms.warm()
    for step, expected in ((1, (1, 1)), (0, (2, 1)), (0, (3, 1)), (1, (4, 2))):
        outcome = await rooms.publish(step=step)
        assert isinstance(outcome, Appended)
        assert (outcome.offset, outcome.seq) == expected
    assert [(entry.offset, entry.seq) for entry in await rooms.log()] == [
        (1, 1), (2, 1), (3, 1), (4, 2),
    ]  # fmt: skip


async def test_publishing_moves_the_senders_own_read_mark(rooms: ScriptRooms):
    await rooms.warm()
    await rooms.publish(sender="alice")
    await rooms.publish(sender="bob")
    await rooms.publish(sender=None)
    marks = await rooms.rooms.user_marks(R, ["alice", "bob", "carol"])
    assert [mark.read for mark in marks] == [1, 2, -1]
    (entry, *_) = await rooms.log()
    assert marks[0].read_ms == entry.ms


async def test_a_broadcast_is_stored_nowhere(rooms: ScriptRooms):
    await rooms.warm()
    await rooms.open_node()
    await rooms.subscribed(user="/", connections=0)
    await rooms.rooms.broadcast(R, event="typing.started", sender="bob", data=b"{}")
    (entry,) = await rooms.inbox()
    assert (entry.offset, entry.event, entry.sender) == (0, "typing.started", "bob")
    assert await rooms.log() == await rooms.archive_entries() == []


# --- refusals: nothing is written, and which one wins (C2) ----------------------------------------


async def fenced(rooms: ScriptRooms) -> None:
    rooms.store.lives.ids[rooms.keys().partition] = "former"


async def cold(rooms: ScriptRooms) -> None:
    await rooms.ask("HSET", rooms.keys().room, "epoch", "former")


async def gone(rooms: ScriptRooms) -> None:
    await rooms.ask("HSET", rooms.keys().room, "deleted", 1)


async def stale(rooms: ScriptRooms) -> None:
    await rooms.ask("HSET", rooms.keys().room, "ver", 9)


async def sent(rooms: ScriptRooms) -> None:
    seconds, micros = await rooms.ask("TIME")
    ms = int(seconds) * 1000 + int(micros) // 1000
    key = f"{rooms.keys().prefix}sent:{ms // 600_000}:{DIGEST[0] * 16 + DIGEST[1] // 16}"
    await rooms.ask("HSET", key, DIGEST, f"id 1 1 {ms}")


async def noref(rooms: ScriptRooms) -> None:
    await rooms.ask("HSET", rooms.keys().room, "seq", 0)


async def full(rooms: ScriptRooms) -> None:
    await rooms.ask("HSET", rooms.keys().life, "bytes", 2**40)


REFUSALS = [fenced, cold, gone, stale, sent, noref, full]
ALL_AT_ONCE: dict[str, Any] = {"version": 8, "digest": DIGEST, "message_id": "y", "reply_to": 1}


@pytest.fixture
async def unchecked(redis_url):
    async with open_rooms(redis_url, checked=False) as opened:
        yield opened


@pytest.mark.parametrize("cause", REFUSALS, ids=lambda cause: cause.__name__)
async def test_a_refused_publish_writes_nothing(unchecked: ScriptRooms, cause):
    await unchecked.warm(offset=1, seq=1)
    await cause(unchecked)
    before = await unchecked.state()
    outcome = await unchecked.publish(**ALL_AT_ONCE)
    assert isinstance(outcome, Refusal)
    assert outcome.kind == cause.__name__
    assert await unchecked.state() == before


@pytest.mark.parametrize(
    ("first", "second"), [*combinations(REFUSALS, 2)], ids=lambda cause: cause.__name__
)
async def test_the_earlier_refusal_wins(unchecked: ScriptRooms, first, second):
    """C2: the repeat of an accepted publish must not be told `full`, a removed user not `sent`."""
    await unchecked.warm(offset=1, seq=1)
    await second(unchecked)
    await first(unchecked)
    outcome = await unchecked.publish(**ALL_AT_ONCE)
    assert isinstance(outcome, Refusal)
    assert outcome.kind == first.__name__


async def test_without_any_cause_the_same_publish_is_accepted(rooms: ScriptRooms):
    await rooms.warm(offset=1, seq=1)
    assert isinstance(await rooms.publish(**ALL_AT_ONCE), Appended)


async def test_a_room_that_is_not_there_is_cold(rooms: ScriptRooms):
    assert await rooms.publish() == Refusal("cold")
    assert await rooms.announce(1) == Refusal("cold")


async def test_a_stale_publisher_is_told_the_version(rooms: ScriptRooms):
    await rooms.warm(version=3)
    assert await rooms.publish(version=2) == Refusal("stale", b"3")
    assert isinstance(await rooms.publish(version=3), Appended)


async def test_the_backlog_is_limited_by_number(rooms: ScriptRooms):
    limited = rooms.with_limits(backlog_events=2)
    await limited.warm()
    await limited.publish_some(2)
    assert await limited.publish() == Refusal("full")
    assert isinstance(await limited.announce(1), Appended), "a committed change ignores the limit"
    await limited.archive(2)
    assert isinstance(await limited.publish(), Appended)


async def test_the_backlog_is_limited_in_bytes(rooms: ScriptRooms):
    """C3: what events weigh (counted by samples) refuses more, and is gone once archived."""
    await rooms.warm()
    published = 0
    while not (weight := await rooms.ask("HGET", rooms.keys().life, "bytes")):
        await rooms.publish_some(100)
        published += 100
        assert published < 50_000, "one millisecond in ten is sampled"
    limited = rooms.with_limits(backlog_bytes=int(weight))
    assert await limited.publish() == Refusal("full")
    await rooms.archive(published)
    assert await rooms.ask("HGET", rooms.keys().life, "bytes") == b"0"
    assert isinstance(await limited.publish(), Appended)


# --- idempotency ----------------------------------------------------------------------------------


async def test_a_repeat_gets_the_first_answer(rooms: ScriptRooms):
    """P3, B3."""
    await rooms.warm()
    first = await rooms.publish(digest=DIGEST, message_id="m-1")
    assert isinstance(first, Appended)
    await rooms.publish(digest=OTHER_DIGEST, message_id="m-2")
    repeat = await rooms.publish(digest=DIGEST, message_id="m-3")
    assert repeat == Refusal("sent", f"m-1 {first.seq} {first.offset} {first.ms}".encode())
    assert len(await rooms.log()) == 2


@pytest.mark.parametrize(
    ("age_ms", "is_known"), [(0, True), (290_000, True), (590_000, True), (600_500, False)]
)
async def test_a_client_id_is_remembered_for_ten_minutes(rooms: ScriptRooms, age_ms, is_known):
    """C1: the window is exact, whatever five minutes the key was put into."""
    seconds, _micros = await rooms.ask("TIME")
    sent_ms = int(seconds) * 1000 - age_ms
    await rooms.warm(offset=1, seq=1, sent=[(DIGEST, f"id 1 1 {sent_ms}".encode(), sent_ms)])
    outcome = await rooms.publish(digest=DIGEST, message_id="m")
    assert isinstance(outcome, Refusal) is is_known


async def test_idempotency_keys_expire(rooms: ScriptRooms):
    await rooms.warm()
    await rooms.publish(digest=DIGEST, message_id="m")
    (name,) = await rooms.ask("KEYS", f"{rooms.keys().prefix}sent:*")
    assert 0 < await rooms.ask("PTTL", name) <= 1_200_000


# --- the log and its expiry (A1, A2) --------------------------------------------------------------


async def test_the_log_keeps_everything_that_is_not_archived(rooms: ScriptRooms):
    """A1: trimming never removes an unarchived entry, however long the backlog is."""
    short = rooms.with_limits(log_length=10)
    await short.warm()
    await short.publish_some(350)
    assert [entry.offset for entry in await short.log()] == list(range(1, 351))
    await short.archive(200)
    await short.publish_some(150)
    offsets = [entry.offset for entry in await short.log()]
    assert offsets[-300:] == list(range(201, 501))


async def test_the_log_is_trimmed_to_its_length_once_archived(rooms: ScriptRooms):
    short = rooms.with_limits(log_length=10)
    await short.warm()
    await short.publish_some(450)
    await short.archive(450)
    offsets = [entry.offset for entry in await short.log()]
    assert offsets[-10:] == list(range(441, 451))
    assert len(offsets) < 10 + 200, "whole nodes of a stream are trimmed, so some are left"


async def test_a_room_expires_only_while_everything_is_archived(rooms: ScriptRooms):
    """A2: a key that may expire is completely in PostgreSQL."""
    await rooms.warm()
    assert await rooms.expires() == [True, False, False]
    await rooms.publish_some(3)
    assert await rooms.expires() == [False, False, False]
    await rooms.archive(2)
    assert await rooms.expires() == [False, False, False]
    await rooms.archive(1)
    assert await rooms.expires() == [True, True, True]
    await rooms.publish()
    assert await rooms.expires() == [False, False, False]


async def test_an_announcement_keeps_the_room_as_a_publish_does(rooms: ScriptRooms):
    """A2."""
    await rooms.warm()
    await rooms.announce(1)
    assert await rooms.expires() == [False, False, False]


async def test_a_quiet_archived_room_goes_away(redis_url):
    """P8, and its key is not missed: a publish finds the room cold."""
    async with open_rooms(redis_url, room_log_ttl=1.0) as rooms:
        await rooms.warm()
        await wait_gone(rooms, rooms.keys().room)
        assert await rooms.publish() == Refusal("cold")


# --- announcements (M6) ---------------------------------------------------------------------------


async def test_an_announcement_is_made_once(rooms: ScriptRooms):
    """A7: whoever announces a version second, or late, changes nothing."""
    await rooms.warm(version=1)
    assert isinstance(await rooms.announce(2), Appended)
    assert isinstance(await rooms.announce(3), Appended)
    before = await rooms.state()
    for version in (1, 2, 3):
        assert await rooms.announce(version) == Refusal("done")
    assert await rooms.state() == before
    assert [entry.ver for entry in await rooms.log()] == [2, 3]
    assert (await rooms.numbers())["ver"] == "3"


async def test_a_refused_announcement_writes_nothing(unchecked: ScriptRooms):
    await unchecked.warm()
    for cause in (cold, fenced):
        await cause(unchecked)
        before = await unchecked.state()
        assert await unchecked.announce(1) == Refusal(cause.__name__)
        assert await unchecked.state() == before


async def test_an_announcement_looks_at_the_server_itself(unchecked: ScriptRooms):
    """A8: it is rare and must not go to a server that lost its past; publish has the heartbeat."""
    await unchecked.warm()
    await unchecked.begin_other_life()
    assert await unchecked.announce(1) == Refusal("fenced")


async def test_a_deleted_room_takes_nothing_more(rooms: ScriptRooms):
    """B11."""
    await rooms.warm()
    await rooms.open_node()
    assert isinstance(await rooms.announce(1, event="room.deleted"), Appended)
    assert await rooms.publish() == Refusal("gone")
    assert await rooms.subscribe() == Refusal("gone")


# --- delivery into inboxes ------------------------------------------------------------------------


async def test_a_dead_node_is_dropped_by_whoever_publishes(rooms: ScriptRooms):
    await rooms.warm()
    for node in ("n", "dead"):
        await rooms.open_node(node)
        await rooms.subscribed(node, user="/", connections=0)
    await rooms.ask("DEL", inbox_key("dead"))
    await rooms.publish()
    assert list(await rooms.registered()) == ["n"]
    assert not await rooms.exists(inbox_key("dead")), "an inbox is created by its owner, once"


async def test_an_inbox_that_errs_does_not_stop_the_publish(rooms: ScriptRooms):
    """B10: every publish is answered and whole, and the node stays registered for its audit."""
    await rooms.warm()
    for node in ("bad", "n"):
        await rooms.open_node(node)
        await rooms.subscribed(node, user="/", connections=0)
    await rooms.ask("DEL", inbox_key("bad"))
    await rooms.ask("SET", inbox_key("bad"), "no stream")
    await rooms.publish_some(200)
    assert len(await rooms.inbox("n")) == len(await rooms.archive_entries()) == 200
    assert set(await rooms.registered()) == {"bad", "n"}


async def test_an_inbox_that_nobody_reads_is_unlinked(rooms: ScriptRooms):
    """M4: it is never trimmed; that it is missing is the only sign of loss."""
    limited = rooms.with_limits(inbox_max=5)
    await limited.warm()
    await limited.open_node()
    await limited.subscribed(user="/", connections=0)
    length = 0
    while await rooms.exists(inbox_key("n")):
        assert len(await rooms.inbox()) >= length, "it was trimmed"
        length = len(await rooms.inbox())
        await limited.publish()
    assert length >= 5


async def test_a_failing_first_write_leaves_nothing_half_done(unchecked: ScriptRooms):
    """B10: the log's last id is above the counters, so XADD fails; no number may be burnt."""
    await unchecked.warm()
    await unchecked.ask("XADD", unchecked.keys().log, "500-0", "e", b"/ 0 0 0 x y / 0\n")
    before = await unchecked.state()
    for _ in range(3):
        with pytest.raises(Exception, match="equal or smaller"):
            await unchecked.publish(digest=DIGEST, message_id="m")
    assert await unchecked.state() == before


# --- nobody is mixed up with anybody (A5) ---------------------------------------------------------


async def test_rooms_users_and_projects_never_meet_in_one_key(rooms: ScriptRooms):
    """A5 (test 7): one room id in two projects of one partition, ids with colons, a room called
    like a user's channel: each has its own numbering and its own idempotency keys."""
    partition = rooms.keys("p1/general").partition
    twin = next(
        project
        for project in (f"p{number}" for number in range(2, 500))
        if rooms.keys(f"{project}/general").partition == partition
    )
    cases = [
        ("p1/general", "alice"), (f"{twin}/general", "alice"), ("p1/a", "b:c"), ("p1/a:b", "c"),
        ("p1/user:alice", "alice"), (user_channel("p1", "alice"), "alice"),
    ]  # fmt: skip
    for key, _user in cases:
        await rooms.warm(key)
    for key, user in cases:
        digest = sent_digest(key, user, "c1")
        outcome = await rooms.publish(key, sender=user, digest=digest, message_id=f"{key} {user}")
        assert isinstance(outcome, Appended)
        assert (outcome.offset, outcome.seq) == (1, 1)
        assert [entry.room for entry in await rooms.log(key)] == [key]
