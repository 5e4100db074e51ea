"""Publishes that leave in one script call: each for itself, in order, and woken nodes once."""

from functools import partial
from typing import Any

import pytest
import trio

from storage.errors import StorageUnavailable
from storage.redis.blocking import open_blocking
from storage.redis.entries import parse_entry
from storage.redis.inbox import InboxReader
from storage.redis.keys import inbox_key, joining_node
from storage.redis.outcomes import Draft
from storage.redis.publish_call import PUBLISH_CALL_BYTES, PUBLISH_CALL_EVENTS, SentExpiries
from storage.redis.replies import pack
from tests.support.script_rooms import R, ScriptRooms, open_rooms
from tests.support.waiting import wait_until

ROOMS = [f"p/room{number}" for number in range(20)]
DIGEST = bytes(range(16))
JOINING = joining_node("n")


@pytest.fixture
async def rooms(redis_url):
    async with open_rooms(redis_url) as opened:
        yield opened


def draft(**given: Any) -> Draft:
    fields: dict[str, Any] = {
        "event": "message.created", "sender": "alice", "version": 2**53 - 1, "step": 1,
        "data": b'{"id":"m"}',
    }  # fmt: skip
    return Draft(**(fields | given))


def is_long(replies: list[Any], count: int) -> bool:
    return len(replies) == count


async def together(rooms: ScriptRooms, *publishes: tuple[str, Draft]) -> list[Any]:
    """Publish all of them in one synchronous section; the replies, in that order."""
    replies: list[Any] = [None] * len(publishes)
    for place, (key, event) in enumerate(publishes):

        def take(reply: Any, place: int = place) -> None:
            replies[place] = reply

        rooms.rooms.submit_publish(rooms.keys(key), event, take)
    await wait_until(lambda: None not in replies, what="all are answered")
    return replies


async def calls(rooms: ScriptRooms) -> int:
    """Script calls that the server has run."""
    stats = await rooms.client.commands.info("commandstats")
    return int(stats["cmdstat_evalsha"]["calls"])


async def test_what_is_published_together_is_one_call_whatever_the_partitions(rooms: ScriptRooms):
    for key in ROOMS:
        await rooms.warm(key)
    before = await calls(rooms)
    replies = await together(rooms, *[(key, draft()) for key in ROOMS])
    assert await calls(rooms) - before == 1
    assert [reply[:2] for reply in replies] == [[1, 1]] * len(ROOMS)
    assert len({rooms.keys(key).partition for key in ROOMS}) > 5
    for key in ROOMS:
        assert [entry.offset for entry in await rooms.log(key)] == [1]


async def test_events_of_one_room_keep_their_order(rooms: ScriptRooms):
    await rooms.warm()
    data = [b'{"n":%d}' % number for number in range(10)]
    replies = await together(rooms, *[(R, draft(data=one)) for one in data])
    assert [reply[0] for reply in replies] == list(range(1, 11))
    assert [entry.data for entry in await rooms.log()] == data


async def test_a_refusal_fails_only_itself(rooms: ScriptRooms):
    await rooms.warm(version=3)
    replies = await together(
        rooms,
        (R, draft()),
        (R, draft(version=2)),
        ("p/cold", draft()),
        (R, draft(reply_to=99)),
        (R, draft(digest=DIGEST, message_id="m-1")),
        (R, draft(digest=DIGEST, message_id="m-2")),
        (R, draft()),
    )
    first, stale, cold, noref, sent, again, last = replies
    assert (first[0], sent[0], last[0]) == (1, 2, 3)
    assert stale == [b"STALE", b"3"]
    assert cold[0] == b"COLD"
    assert noref[0] == b"NOREF"
    assert again == [b"SENT", f"m-1 {sent[1]} {sent[0]} {sent[2]}".encode()]


async def test_the_backlog_is_counted_within_a_call(rooms: ScriptRooms):
    limited = rooms.with_limits(backlog_events=2)
    await limited.warm()
    replies = await together(limited, *[(R, draft())] * 4)
    assert [reply[0] for reply in replies] == [1, 2, b"FULL", b"FULL"]


async def test_an_error_in_one_room_fails_only_itself_and_forgets_its_client_id(redis_url):
    async with open_rooms(redis_url, checked=False) as rooms:
        await rooms.warm()
        await rooms.warm("p/broken")
        await rooms.ask("SET", rooms.keys("p/broken").log, "no stream")
        replies = await together(
            rooms, (R, draft()), ("p/broken", draft(digest=DIGEST, message_id="m")), (R, draft())
        )
        assert (replies[0][0], replies[2][0]) == (1, 2)
        assert "WRONGTYPE" in str(replies[1])
        await rooms.ask("DEL", rooms.keys("p/broken").log)
        (answer,) = await together(rooms, ("p/broken", draft(digest=DIGEST, message_id="m")))
        assert answer[0] == 1, "what was not appended was not remembered"


async def test_a_server_that_may_not_write_fails_the_whole_call_before_anything(
    rooms: ScriptRooms,
):
    await rooms.warm()
    await rooms.ask("CONFIG", "SET", "min-replicas-to-write", 1)
    replies = await together(rooms, (R, draft(digest=DIGEST, message_id="m")), (R, draft()))
    await rooms.ask("CONFIG", "SET", "min-replicas-to-write", 0)
    assert [(type(reply), reply.outcome) for reply in replies] == [
        (StorageUnavailable, "not_done")
    ] * 2
    assert await rooms.log() == []
    assert (await together(rooms, (R, draft(digest=DIGEST, message_id="m"))))[0][0] == 1


async def test_a_call_is_bounded_in_events_and_bytes(rooms: ScriptRooms):
    await rooms.warm()
    before = await calls(rooms)
    await together(rooms, *[(R, draft())] * (2 * PUBLISH_CALL_EVENTS + 1))
    assert await calls(rooms) - before == 3
    before = await calls(rooms)
    large = draft(data=b'{"x":"%s"}' % (b"x" * (PUBLISH_CALL_BYTES // 2)))
    await together(rooms, *[(R, large)] * 4)
    assert await calls(rooms) - before == 2


async def test_commands_reach_the_server_in_the_order_in_which_they_were_made(rooms: ScriptRooms):
    await rooms.warm()
    seen: list[Any] = []
    log = rooms.keys().log
    for _ in range(3):
        rooms.rooms.submit_publish(rooms.keys(), draft(), lambda reply: seen.append(reply[0]))
        rooms.client.submit(pack("XLEN", log), seen.append)
    await wait_until(lambda: len(seen) == 6, what="all are answered")
    assert seen == [1, 1, 2, 2, 3, 3]


async def test_a_lost_connection_answers_everybody_once(rooms: ScriptRooms):
    await rooms.warm()
    replies: list[Any] = []
    for _ in range(3):
        rooms.rooms.submit_publish(rooms.keys(), draft(), replies.append)
    rooms.client.disconnect_now()
    rooms.rooms.submit_publish(rooms.keys(), draft(), replies.append)
    await wait_until(lambda: len(replies) == 4, what="all are answered")
    outcomes = [reply.outcome for reply in replies]
    assert outcomes in (["not_done"] * 4, ["unknown"] * 4), "one call, one outcome"
    await rooms.client.wait_connected(trio.current_time() + 30)
    offset = (await together(rooms, (R, draft())))[0][0]
    assert offset == 1 or (offset == 5 and outcomes[0] == "unknown")


async def test_a_publish_that_cannot_be_packed_fails_alone(rooms: ScriptRooms):
    await rooms.warm()
    broken = draft(digest=DIGEST, message_id="\ud800")
    replies: list[Any] = []
    for before in (1, 0):
        count = len(replies) + before + 1
        for _ in range(before):
            rooms.rooms.submit_publish(rooms.keys(), draft(), replies.append)
        with pytest.raises(UnicodeEncodeError):
            rooms.rooms.submit_publish(rooms.keys(), broken, replies.append)
        rooms.rooms.submit_publish(rooms.keys(), draft(), replies.append)
        await wait_until(partial(is_long, replies, count), what="all are answered")
    assert [entry.offset for entry in await rooms.log()] == [1, 2, 3]


async def test_a_callback_that_raises_keeps_nobody_from_the_answer(rooms: ScriptRooms):
    await rooms.warm()
    replies: list[Any] = []

    def fail(_reply: Any) -> None:
        raise RuntimeError("a bug")

    for on_reply in (replies.append, fail, replies.append):
        rooms.rooms.submit_publish(rooms.keys(), draft(), on_reply)
    await wait_until(lambda: len(replies) == 2, what="the others are answered")
    assert rooms.client.statistics().callback_errors == 1


async def test_a_node_gets_what_came_together_in_one_entry_and_an_older_one_each(
    rooms: ScriptRooms, redis_url
):
    for node in (JOINING, "old"):
        await rooms.open_node(node)
    for key in ROOMS[:3]:
        await rooms.warm(key)
        for node in (JOINING, "old"):
            await rooms.subscribed(node, key=key, user="/", connections=0)
    await together(rooms, *[(key, draft()) for key in ROOMS[:3]])
    await rooms.rooms.broadcast(ROOMS[0], event="typing.started", sender="bob", data=b"{}")
    assert await rooms.ask("XLEN", inbox_key(JOINING)) == 2
    assert await rooms.ask("XLEN", inbox_key("old")) == 4
    expected = [(key, 1) for key in ROOMS[:3]] + [(ROOMS[0], 0)]
    for node in (JOINING, "old"):
        async with open_blocking(redis_url) as connection:
            entries = [parse_entry(raw) for raw in await InboxReader(node).read(connection, 100)]
        assert [(entry.room, entry.offset) for entry in entries] == expected


async def test_an_inbox_of_large_entries_is_unlinked_at_fewer(rooms: ScriptRooms):
    """Its limit stands for memory, too, and an entry of many events has more of that."""
    limited = rooms.with_limits(inbox_max=8)
    await limited.warm()
    await limited.open_node(JOINING)
    await limited.subscribed(JOINING, user="/", connections=0)
    inbox = inbox_key(JOINING)
    # The length is looked at in one millisecond of sixteen; there are four entries at most.
    for _ in range(400):
        await together(limited, *[(R, draft())] * PUBLISH_CALL_EVENTS)
        await rooms.ask("XTRIM", inbox, "MAXLEN", 3)
        if not await rooms.exists(inbox):
            return
    raise AssertionError("it was never unlinked")


async def test_a_dead_node_is_dropped_from_every_room_of_the_call(rooms: ScriptRooms):
    for key in ROOMS[:3]:
        await rooms.warm(key)
    await rooms.open_node(JOINING)
    for key in ROOMS[:3]:
        await rooms.subscribed(JOINING, key=key, user="/", connections=0)
    await rooms.ask("DEL", inbox_key(JOINING))
    replies = await together(rooms, *[(key, draft()) for key in ROOMS[:3]])
    assert [reply[0] for reply in replies] == [1, 1, 1]
    for key in ROOMS[:3]:
        assert await rooms.ask("HKEYS", rooms.keys(key).nodes) == []


# --- which hashes of idempotency keys expire ------------------------------------------------------


def test_an_expiry_is_known_by_bucket_slot_and_life():
    expiries = SentExpiries()
    now = 1_700_000_000_000
    expiries.note(3, "life", DIGEST, now)
    bucket = now // 600_000
    assert expiries.find(3, "life", DIGEST) == bucket
    assert expiries.find(3, "life", DIGEST[:1] + b"\x0f" + DIGEST[2:]) == bucket, "the same slot"
    assert expiries.find(3, "life", DIGEST[:1] + b"\x10" + DIGEST[2:]) == 0
    assert expiries.find(4, "life", DIGEST) == 0
    assert expiries.find(3, "another", DIGEST) == 0
    expiries.note(3, "another", b"\xff" * 16, now)
    assert expiries.find(3, "another", DIGEST) == expiries.find(3, "life", DIGEST) == 0


async def test_hashes_of_idempotency_keys_expire_again_in_another_life(rooms: ScriptRooms):
    """What a process knew of them may have gone with the former life."""
    await rooms.warm()
    (answer,) = await together(rooms, (R, draft(digest=DIGEST, message_id="m-1")))
    (name,) = await rooms.ask("KEYS", f"{rooms.keys().prefix}sent:*")
    assert await rooms.ask("PTTL", name) > 0
    await rooms.ask("DEL", name)
    await rooms.begin_other_life()
    await rooms.rooms.refence(rooms.keys().partition)
    await rooms.warm(offset=answer[0], seq=answer[1])
    await together(rooms, (R, draft(digest=DIGEST, message_id="m-2")))
    assert await rooms.ask("PTTL", name) > 0
