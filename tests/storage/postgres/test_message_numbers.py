"""Totals and pages by number are exact: a model of a room, whatever is chosen and skipped."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from storage.postgres.archive_counts import BLOCK
from storage.postgres.message_filters import SHAPES, MessageFilter
from storage.postgres.messages import read_page, select_skip
from storage.postgres.pool import Database
from tests.storage.postgres.archiving import START_MS, archive, created, make_room

COUNT = 3 * BLOCK + 700
OLD_LIFE = 2 * BLOCK + 100
SENDERS = ("alice", "bob", "carol", None)
KINDS = ("text", "text", "text", "image", "system")
_COUNTS = """
SELECT sender, kind, block, messages FROM message_counts WHERE room_pk = $1 ORDER BY 1, 2, 3
"""
_RECOUNT = "SELECT count_messages($1, 0, counted_seq / 2048 - 1) FROM rooms WHERE pk = $1"


def story(dice: random.Random) -> list[Any]:
    """Messages of two lives; the second one skips some seqs."""
    events = []
    for offset in range(1, COUNT + 1):
        is_old = offset <= OLD_LIFE
        events.append(
            created(
                offset,
                offset if is_old else offset + 57,
                sender=dice.choice(SENDERS),
                kind=dice.choice(KINDS),
                epoch="old" if is_old else "new",
            )
        )
    return events


def at(offset: int) -> datetime:
    return datetime.fromtimestamp(START_MS / 1000, UTC) + timedelta(milliseconds=offset)


CHOSEN: dict[str, dict[str, Any]] = {
    "": {},
    "text": {"kind": "text"},
    "kind": {"kind": "image"},
    "sender": {"sender": "bob"},
    "time": {"earliest": at(1500), "latest": at(COUNT - 300)},
}


def filter_of(shape: str, **more: Any) -> MessageFilter:
    given: dict[str, Any] = {}
    for part in shape.split():
        given |= CHOSEN[part]
    return MessageFilter(**(given | more))


async def check(database: Database, pk: int, chosen: MessageFilter, dice: random.Random) -> None:
    rows = await database.fetch(
        "SELECT seq, sender, kind, created_at FROM messages WHERE room_pk = $1 ORDER BY seq DESC",
        pk,
    )
    truth = [seq for seq, sender, kind, at in rows if chosen.admits(sender, kind, at, None)]
    ends = [0, 1, len(truth) - 1, len(truth), len(truth) + 5]
    for skip in [*ends, *(dice.randrange(len(truth)) for _ in range(6))]:
        unarchived = dice.choice(([], [10**6, 10**6 + 1]))
        page = await read_page(database, pk, select_skip(skip, 7, unarchived).among(chosen))
        assert page is not None
        first = max(0, skip - len(unarchived))
        assert page.total == len(truth)
        assert page.seqs == truth[first : first + 7][::-1], (chosen, skip)


async def check_counts(database: Database, pk: int) -> int:
    """What is kept is what counting would give; how many blocks there are."""
    kept = await database.fetch(_COUNTS, pk)
    async with database.open_transaction() as transaction:
        await transaction.run(lambda c: c.execute(_RECOUNT.replace("$1", str(pk))))
    assert await database.fetch(_COUNTS, pk) == kept
    return len({row["block"] for row in kept})


async def test_pages_by_number_agree_with_the_rows_whatever_is_chosen(database: Database):
    dice = random.Random(11)
    pk = await make_room(database, epoch="new", base_offset=OLD_LIFE, base_seq=OLD_LIFE)
    events = story(dice)
    late = sorted(dice.sample(range(OLD_LIFE), 300))
    left_out = set(late)
    prompt = [event for place, event in enumerate(events) if place not in left_out]
    for first in range(0, len(prompt), 900):
        await archive(database, prompt[first : first + 900])
    assert await check_counts(database, pk) == 3
    await archive(database, [events[place] for place in late])
    assert await check_counts(database, pk) == 3
    for shape in SHAPES:
        if shape != "replies":
            await check(database, pk, filter_of(shape), dice)
    narrow = {"earliest": at(3000), "latest": at(3100)}
    for more in (narrow, {"latest": at(100)}, {"earliest": at(COUNT - 50)}):
        await check(database, pk, filter_of("sender", **more), dice)
        await check(database, pk, filter_of("", **more), dice)


async def test_rows_that_go_away_leave_the_counts(database: Database):
    pk = await make_room(database)
    await archive(database, [created(n, n, sender="bob") for n in range(1, 2 * BLOCK + 50)])
    await database.execute("DELETE FROM messages WHERE room_pk = $1 AND seq < 3000", pk)
    assert await check_counts(database, pk) == 1
    dice = random.Random(5)
    await check(database, pk, MessageFilter(), dice)
    await check(database, pk, MessageFilter(sender="bob"), dice)
    await database.execute("DELETE FROM messages WHERE room_pk = $1", pk)
    assert await check_counts(database, pk) == 0


@pytest.mark.parametrize("count", [0, 1, BLOCK - 1, BLOCK, BLOCK + 1])
async def test_a_room_around_its_first_block(database: Database, count: int):
    pk = await make_room(database)
    events = [created(n, n, kind="image") for n in range(1, count + 1)]
    await archive(database, events)
    counted = await database.fetchval("SELECT counted_seq FROM rooms WHERE pk = $1", pk)
    assert counted == (BLOCK if count >= BLOCK else 0)
    for chosen in (MessageFilter(), MessageFilter(kind="image"), MessageFilter(kind="text")):
        for skip in (0, count // 2, count):
            page = await read_page(database, pk, select_skip(skip, 3, []).among(chosen))
            assert page is not None
            expected = 0 if chosen.kind == "text" else count
            assert page.total == expected
            assert len(page.seqs) == min(3, max(0, expected - skip))
