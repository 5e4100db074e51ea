"""change: what it writes, every refusal, and what counts as a change of the message meanwhile."""

import json

import pytest

from storage.redis.outcomes import Appended, Draft, Premise, Refusal
from tests.support.script_rooms import R, ScriptRooms, open_rooms

NEVER = ("message.deleted",)


@pytest.fixture
async def rooms(redis_url):
    async with open_rooms(redis_url) as opened:
        yield opened


@pytest.fixture
async def unchecked(redis_url):
    async with open_rooms(redis_url, checked=False) as opened:
        yield opened


def encode(**fields: object) -> bytes:
    return json.dumps(fields, separators=(",", ":"), ensure_ascii=False).encode()


def reaction(user: str, name: str, seq: int = 1, *, removed: bool = False) -> Draft:
    event = "reaction.removed" if removed else "reaction.added"
    data = encode(message_id="x", seq=seq, user=user, reaction=name)
    return Draft(event, user, 9, 0, data)


def deletion(seq: int = 1) -> Draft:
    return Draft("message.deleted", "bob", 9, 0, encode(id="x", seq=seq, sender="a", by="bob"))


def edit(seq: int = 1, **fields: object) -> Draft:
    return Draft("message.edited", "a", 9, 0, encode(id="x", seq=seq, sender="a", **fields))


async def test_it_is_appended_like_a_publish_and_takes_no_seq(rooms: ScriptRooms):
    await rooms.warm(offset=7, seq=4)
    await rooms.open_node()
    await rooms.subscribed(user="/", connections=0)
    outcome = await rooms.rooms.change(R, deletion(4), Premise(7, 4, NEVER))
    assert isinstance(outcome, Appended)
    assert (outcome.offset, outcome.seq) == (8, 4)
    (entry,) = await rooms.log()
    data = deletion(4).data
    assert entry == (rooms.life(), 8, 4, outcome.ms, "message.deleted", R, "bob", 0, data)
    assert await rooms.archive_entries() == await rooms.inbox() == [entry]


async def happen(rooms: ScriptRooms, *drafts: Draft) -> int:
    """Messages 1 and 2, then these, as somebody else's; the offset of the messages."""
    await rooms.warm()
    await rooms.publish(data=encode(id="x", content='"seq":1,'))
    await rooms.publish(data=encode(id="y"))
    for draft in drafts:
        assert isinstance(await rooms.rooms.publish(R, draft), Appended)
    return 2


@pytest.mark.parametrize(
    "draft",
    [
        deletion(2),
        deletion(11),
        edit(2, content="x"),
        edit(2, content='"seq":1,'),
        reaction("bob", "x"),
        reaction("bob", "x", removed=True),
        Draft("message.created", "bob", 9, 1, encode(id="z", metadata={"seq": 1, "x": 2})),
    ],
)
async def test_what_happens_to_other_messages_or_matters_not_is_no_change(rooms, draft):
    since = await happen(rooms, draft)
    assert isinstance(await rooms.rooms.change(R, deletion(), Premise(since, 1, NEVER)), Appended)


@pytest.mark.parametrize(
    ("drafts", "premise"),
    [
        ([deletion()], {"events": ("message.edited", "message.deleted")}),
        ([edit(content="x")], {"events": ("message.edited", "message.deleted")}),
        ([reaction("bob", "x")], {"own": b'"user":"bob","reaction":"x"}'}),
        ([reaction("bob", "x", removed=True)], {"own": b'"user":"bob","reaction":"x"}'}),
        ([reaction("zoe", "x", removed=True)], {"kind": b'"reaction":"x"}'}),
        ([reaction("a", "x"), reaction("b", "y")], {"spare": 1}),
    ],
)
async def test_what_happens_to_the_message_is_a_race(rooms, drafts, premise):
    since = await happen(rooms, *drafts)
    given = {"events": NEVER} | premise
    before = await rooms.state()
    outcome = await rooms.rooms.change(R, reaction("c", "z"), Premise(since, 1, **given))
    assert outcome == Refusal("raced")
    assert await rooms.state() == before
    again = await rooms.rooms.change(R, reaction("c", "z"), Premise(since + 9, 1, **given))
    assert again == Refusal("raced"), "a premise of another numbering"
    now = Premise(since + len(drafts), 1, **given)
    assert isinstance(await rooms.rooms.change(R, reaction("c", "z"), now), Appended)


async def test_reactions_of_others_are_no_race(rooms: ScriptRooms):
    since = await happen(rooms, *(reaction(f"u{number}", "x") for number in range(10)))
    premise = Premise(
        since, 1, NEVER, own=b'"user":"bob","reaction":"x"}', kind=b'"reaction":"x"}', spare=10
    )
    assert isinstance(await rooms.rooms.change(R, reaction("bob", "x"), premise), Appended)


async def test_a_log_that_is_trimmed_or_too_long_is_read_again(rooms: ScriptRooms):
    since = await happen(rooms)
    for number in range(201):
        await rooms.publish(data=encode(id=f"{number}"))
    late = await rooms.rooms.change(R, deletion(), Premise(since, 1, NEVER))
    assert late == Refusal("raced")
    assert isinstance(await rooms.rooms.change(R, deletion(), Premise(3, 1, NEVER)), Appended)


@pytest.mark.parametrize("kind", ["fenced", "cold", "gone", "stale", "full"])
async def test_a_refused_change_writes_nothing(unchecked: ScriptRooms, kind: str):
    rooms = unchecked
    since = await happen(rooms)
    if kind == "fenced":
        rooms.store.lives.ids[rooms.keys().partition] = "former"
    elif kind == "full":
        await rooms.ask("HSET", rooms.keys().life, "bytes", 2**40)
    else:
        fields = {"cold": ("epoch", "former"), "gone": ("deleted", "1"), "stale": ("ver", "10")}
        await rooms.ask("HSET", rooms.keys().room, *fields[kind])
    before = await rooms.state()
    outcome = await rooms.rooms.change(R, deletion(), Premise(since, 1, NEVER))
    assert isinstance(outcome, Refusal)
    assert outcome.kind == kind
    assert await rooms.state() == before
