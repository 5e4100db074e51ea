"""The scripts `mark` and `unread_inputs`: marks, what the room hears of them, what may expire."""

import json

import pytest

from storage.redis.entries import Entry
from storage.redis.outcomes import Mark, Marked, Refusal
from tests.support.script_rooms import R, ScriptRooms, open_rooms

ANY_VERSION = 2**53 - 1
TTL_MS = 86_400_000


@pytest.fixture
async def rooms(redis_url):
    """A room with five messages by alice, its node listening."""
    async with open_rooms(redis_url) as opened:
        await opened.warm()
        await opened.open_node()
        await opened.subscribed(user="/", connections=0)
        await opened.publish_some(5)
        yield opened


async def mark(rooms: ScriptRooms, user: str = "bob", **given: int) -> Marked:
    floors = {"read_floor": 0, "delivered_floor": 0}
    outcome = await rooms.rooms.mark(R, Mark(user, ANY_VERSION, **(floors | given)))
    assert isinstance(outcome, Marked), outcome
    return outcome


async def receipts(rooms: ScriptRooms) -> list[tuple[str, str, int]]:
    """What the node has heard."""
    entries = [entry for entry in await rooms.inbox() if entry.event.startswith("receipt.")]
    return [(entry.event, *json.loads(entry.data).values()) for entry in entries]


async def archived_receipts(rooms: ScriptRooms) -> list[Entry]:
    return [entry for entry in await rooms.archive_entries() if entry.offset == 0]


async def can_tell_again(rooms: ScriptRooms) -> None:
    """Let a second have passed since the room heard of anybody."""
    told = rooms.keys().told
    flat = await rooms.ask("HGETALL", told)
    for name, value in zip(flat[::2], flat[1::2], strict=True):
        await rooms.ask("HSET", told, name, b"1 " + value.split(b" ", 1)[1])


# --- the marks ------------------------------------------------------------------------------------


async def test_a_mark_moves_forward_only_and_never_beyond_the_newest_message(rooms):
    """Ruling 28: cut to the newest."""
    steps = [(2, 2, True), (1, 2, False), (2, 2, False), (4, 4, True), (99, 5, True), (0, 5, False)]
    for seq, reached, is_moved in steps:
        outcome = await mark(rooms, read=seq)
        assert (outcome.read, outcome.seq, outcome.is_moved) == (reached, 5, is_moved)
    (bob,) = await rooms.rooms.user_marks(R, ["bob"])
    assert (bob.read, bob.delivered) == (5, 5)


async def test_reading_implies_delivery_and_not_the_other_way_round(rooms):
    outcome = await mark(rooms, delivered=4)
    assert (outcome.read, outcome.delivered) == (0, 4)
    assert not (await mark(rooms, delivered=3)).is_moved
    outcome = await mark(rooms, read=2)
    assert (outcome.read, outcome.delivered) == (2, 4)
    outcome = await mark(rooms, read=5)
    assert (outcome.read, outcome.delivered) == (5, 5)
    assert not (await mark(rooms, delivered=5)).is_moved


async def test_publishing_is_a_read_mark_that_no_older_mark_takes_back(rooms):
    outcome = await mark(rooms, "alice", read=3)
    assert (outcome.read, outcome.is_moved) == (5, False)
    assert await receipts(rooms) == []


async def test_a_mark_that_redis_does_not_know_rests_on_what_postgres_knows(rooms):
    wanted = Mark("bob", ANY_VERSION, read=2)
    assert await rooms.rooms.mark(R, wanted) == Refusal("unknown")
    outcome = await mark(rooms, read=2, read_floor=3, delivered_floor=4)
    assert (outcome.read, outcome.delivered, outcome.is_moved) == (3, 4, False)
    outcome = await mark(rooms, delivered=5, read_floor=3, delivered_floor=4)
    assert (outcome.read, outcome.delivered, outcome.is_moved) == (3, 5, True)
    # From now on Redis knows both, and older floors change nothing.
    outcome = await mark(rooms, read=1, read_floor=0)
    assert (outcome.read, outcome.delivered) == (3, 5)


async def test_a_mark_takes_no_offset_and_leaves_the_log_alone(rooms):
    before = await rooms.numbers()
    log = await rooms.log()
    await mark(rooms, read=3)
    after = await rooms.numbers()
    assert after.pop("marks")
    assert after == before
    assert await rooms.log() == log
    (entry,) = await archived_receipts(rooms)
    assert (entry.event, entry.sender, entry.seq, entry.room) == ("receipt.read", "bob", 3, R)


# --- refusals write nothing -----------------------------------------------------------------------


async def fenced(rooms: ScriptRooms) -> None:
    rooms.store.lives.ids[rooms.keys().partition] = "another"


async def cold(rooms: ScriptRooms) -> None:
    await rooms.ask("HSET", rooms.keys().room, "epoch", "another")


async def gone(rooms: ScriptRooms) -> None:
    await rooms.ask("HSET", rooms.keys().room, "deleted", 1)


async def stale(rooms: ScriptRooms) -> None:
    await rooms.ask("HSET", rooms.keys().room, "ver", 7)


@pytest.mark.parametrize("spoil", [fenced, cold, gone, stale])
async def test_a_refusal_writes_nothing(redis_url, spoil):
    async with open_rooms(redis_url, checked=False) as rooms:
        await rooms.warm()
        await rooms.publish_some(2)
        await spoil(rooms)
        before = await rooms.state()
        outcome = await rooms.rooms.mark(R, Mark("bob", 6, read=1, read_floor=0))
        assert isinstance(outcome, Refusal)
        assert outcome.kind == spoil.__name__
        assert await rooms.state() == before


async def test_a_full_backlog_refuses_what_moves_and_answers_what_does_not(rooms):
    await mark(rooms, read=2)
    full = rooms.with_limits(backlog_events=1)
    before = await rooms.state()
    assert await full.rooms.mark(R, Mark("bob", ANY_VERSION, read=3)) == Refusal("full")
    assert await rooms.state() == before
    assert (await mark(full, read=1)).read == 2


# --- what may expire ------------------------------------------------------------------------------


async def expiries(rooms: ScriptRooms) -> set[bool]:
    keys = rooms.keys()
    names = (keys.room, keys.log, keys.reads)
    return {await rooms.ask("PTTL", name) > 0 for name in names}


async def test_a_room_does_not_expire_before_its_marks_are_archived(rooms):
    await rooms.nodes.leave(R, "n", 9, forget=True)
    await rooms.archive(5)
    assert await expiries(rooms) == {True}
    await mark(rooms, read=2)
    await mark(rooms, read=3)
    assert await expiries(rooms) == {False}
    assert await rooms.check() == []
    await rooms.archive(1)
    assert await expiries(rooms) == {False}
    await rooms.archive(1)
    assert await expiries(rooms) == {True}


async def test_an_archived_event_does_not_let_a_later_mark_expire(rooms):
    await rooms.nodes.leave(R, "n", 9, forget=True)
    await mark(rooms, read=2)
    await rooms.archive(5)
    assert await expiries(rooms) == {False}
    assert await rooms.check() == []
    await rooms.archive(1)
    assert await expiries(rooms) == {True}


async def test_marks_survive_a_new_life_that_lost_nothing(rooms):
    """A fence makes the room cold; what waits for the archive still keeps it from expiring."""
    await rooms.nodes.leave(R, "n", 9, forget=True)
    await rooms.archive(5)
    await mark(rooms, read=2)
    await rooms.begin_other_life()
    await rooms.rooms.refence(rooms.keys().partition)
    assert await rooms.warm(offset=5, seq=5) == "ok"
    assert await rooms.check() == []
    assert await expiries(rooms) == {False}
    assert (await mark(rooms, read=1)).read == 2
    await rooms.archive(1)
    assert await expiries(rooms) == {True}


async def begin_life(rooms: ScriptRooms) -> None:
    await rooms.begin_other_life()
    await rooms.rooms.refence(rooms.keys().partition)
    assert await rooms.warm(offset=5, seq=5, archived=5) == "ok"


async def test_a_new_life_believes_an_old_mark_once_postgres_was_asked(rooms):
    """Redis may have lost marks that PostgreSQL has: a receipt does not go back to before them."""
    await mark(rooms, read=2)
    await mark(rooms, "carol", read=3)
    for life in range(2):
        await begin_life(rooms)
        for user in ("bob", "carol"):
            assert await rooms.rooms.mark(R, Mark(user, ANY_VERSION, read=1)) == Refusal("unknown")
        outcome = await mark(rooms, read=1, read_floor=3 + life, delivered_floor=4)
        assert (outcome.read, outcome.delivered, outcome.is_moved) == (3 + life, 4, False)
        # What waits for the archive PostgreSQL does not know.
        outcome = await mark(rooms, "carol", read=1, read_floor=1)
        assert (outcome.read, outcome.is_moved) == (3, False)
        # Neither is asked for again in this life.
        outcome = await mark(rooms, read=1, read_floor=-1, delivered_floor=-1)
        assert (outcome.read, outcome.delivered) == (3 + life, 4)
        outcome = await mark(rooms, "carol", read=1, read_floor=-1, delivered_floor=-1)
        assert outcome.read == 3
    assert (await rooms.rooms.user_marks(R, ["bob"]))[0].read == 4


async def test_a_new_life_without_old_marks_asks_nobody_twice(rooms):
    """Who published has a mark of this life."""
    await rooms.ask("DEL", rooms.keys().reads)
    await begin_life(rooms)
    await rooms.publish_some(1)
    outcome = await mark(rooms, "alice", read=1, read_floor=-1, delivered_floor=-1)
    assert outcome.read == 6


async def test_what_was_held_back_before_a_loss_is_told_no_more(rooms):
    """The room may have heard of a later mark from the server that is gone; PostgreSQL has it."""
    await mark(rooms, read=1)
    await mark(rooms, read=2)
    await can_tell_again(rooms)
    await begin_life(rooms)
    assert await rooms.rooms.tell(R, "bob") == Refusal("unknown")
    outcome = await mark(rooms, read=1, read_floor=4, delivered_floor=4)
    assert (outcome.read, outcome.is_told) == (4, False)
    assert isinstance(await rooms.rooms.tell(R, "bob"), Marked)
    assert [seq for _event, _user, seq in await receipts(rooms)] == [1]


# --- what the room hears --------------------------------------------------------------------------


async def test_a_room_hears_the_newest_mark_of_a_user_and_second(rooms):
    assert (await mark(rooms, read=1)).is_told
    for seq in (2, 3, 4):
        outcome = await mark(rooms, read=seq)
        assert not outcome.is_told
        assert 0 < outcome.wait_ms <= 1000
    assert await receipts(rooms) == [("receipt.read", "bob", 1)]
    waiting = await rooms.rooms.tell(R, "bob")
    assert isinstance(waiting, Marked)
    assert waiting.wait_ms > 0
    await can_tell_again(rooms)
    told = await rooms.rooms.tell(R, "bob")
    assert isinstance(told, Marked)
    assert (told.is_told, told.is_moved, told.wait_ms) == (True, False, 0)
    again = await rooms.rooms.tell(R, "bob")
    assert isinstance(again, Marked)
    assert not again.is_told
    assert await receipts(rooms) == [("receipt.read", "bob", 1), ("receipt.read", "bob", 4)]
    ms = [entry.ms for entry in await archived_receipts(rooms)]
    assert (await rooms.inbox())[-1].ms == ms[-1]


async def test_users_and_kinds_of_marks_are_told_apart(rooms):
    await mark(rooms, read=1)
    await mark(rooms, "carol", read=1)
    await mark(rooms, delivered=3)
    expected = [
        ("receipt.read", "bob", 1), ("receipt.read", "carol", 1), ("receipt.delivered", "bob", 3),
    ]  # fmt: skip
    assert await receipts(rooms) == expected


async def test_what_changes_nothing_is_not_told(rooms):
    await mark(rooms, read=3)
    await can_tell_again(rooms)
    await mark(rooms, read=3)
    await mark(rooms, delivered=2)
    assert await receipts(rooms) == [("receipt.read", "bob", 3)]


async def test_a_quiet_room_hears_nothing(rooms):
    """Ruling 46: above QUIET_ROOM_USERS online users no receipts."""
    quiet = rooms.with_limits(quiet_users=1)
    await rooms.subscribed(user="carol", gen=2)
    assert (await mark(quiet, read=1)).is_told
    assert await receipts(rooms) == [("receipt.read", "bob", 1)]
    await rooms.subscribed(user="dave", gen=3)
    await mark(quiet, "dave", read=2)
    assert await receipts(rooms) == [("receipt.read", "bob", 1)]
    assert len(await archived_receipts(rooms)) == 2


async def test_telling_about_nobody_writes_nothing(rooms):
    before = await rooms.state()
    assert await rooms.rooms.tell(R, "bob") == Refusal("unknown")
    outcome = await rooms.rooms.tell(R, "alice")
    assert isinstance(outcome, Marked)
    assert (outcome.is_told, outcome.wait_ms) == (False, 0)
    assert await rooms.state() == before


async def test_what_a_room_has_heard_is_forgotten_by_itself(rooms):
    await mark(rooms, read=1)
    assert 0 < await rooms.ask("PTTL", rooms.keys().told) <= 60_000


# --- unread_inputs --------------------------------------------------------------------------------


async def test_inputs_of_several_rooms_in_one_round_trip(rooms):
    await rooms.archive(3)
    await mark(rooms, read=2)
    known, other = await rooms.rooms.unread_inputs([(R, ["bob", "carol"]), ("p/none", ["bob"])])
    assert (known.offset, known.seq, known.read_seqs) == (5, 5, [2, -1])
    assert [int(raw.split(b" ")[1]) for raw in known.lag] == [4, 5]
    assert (other.offset, other.seq, other.lag, other.read_seqs) == (-1, -1, [], [-1])
    assert await rooms.rooms.unread_inputs([]) == []


async def test_inputs_after_the_scripts_were_flushed(rooms):
    await rooms.ask("SCRIPT", "FLUSH")
    (known,) = await rooms.rooms.unread_inputs([(R, ["alice"])])
    assert (known.seq, known.read_seqs) == (5, [5])
