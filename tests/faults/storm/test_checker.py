"""The checker itself: silent about good histories, and it finds each way to spoil one.

The histories come from `histories`, a small pure Parley; a failing example is its seed.
"""

import random

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from tests.faults.storm.checker import Kind, check
from tests.faults.storm.histories import History
from tests.faults.storm.record import Record
from tests.faults.storm.spoilers import SPOILERS

SEEDS = st.integers(0, 2**32)


def good(seed: int, **options: bool) -> Record:
    return History(random.Random(seed), **options).run(150)


@given(SEEDS, st.booleans())
@example(3549, False)  # a reaction to a message that PostgreSQL refused
@settings(max_examples=60, deadline=None)
def test_good_histories_are_silent(seed, may_lose):
    """With answers lost, frames late or never read, fences, losses that are excused."""
    assert check(good(seed, may_lose=may_lose)) == []


@given(seed=SEEDS)
@settings(max_examples=6, deadline=None)
@pytest.mark.parametrize(("spoil", "kind"), SPOILERS, ids=[spoil.__name__ for spoil, _ in SPOILERS])
def test_each_way_to_be_wrong_is_found_and_nothing_else(spoil, kind, seed):
    record = good(seed, is_whole=True)
    assert check(record) == []
    assume(spoil(record, random.Random(seed)))
    breaches = check(record)
    assert {breach.kind for breach in breaches} == {kind}, [str(one) for one in breaches]


@given(SEEDS)
@settings(max_examples=20, deadline=None)
def test_numbers_may_be_skipped_where_the_rooms_row_says_that_an_epoch_began(seed):
    """Also if no client has seen an event of the epoch before."""
    record = good(seed, is_whole=True)
    archive = record.archive
    assert archive is not None
    room = archive.rooms[0].room
    rows = sorted(row.seq for row in archive.messages if row.room == room)
    assume(len(rows) > 3)
    last = rows[len(rows) // 2]
    for place, row in enumerate(archive.messages):
        if row.room == room and row.seq > last:
            archive.messages[place] = row._replace(seq=row.seq + 10_000)
    hole = f"{room}: rows have holes in seq"
    assume(hole in [breach.text for breach in check(record)])  # else two epochs were seen
    (place,) = (at for at, one in enumerate(archive.rooms) if one.room == room)
    for base, is_hole in ((last - 1, True), (last + 10_000, False)):
        archive.rooms[place] = archive.rooms[place]._replace(base_seq=base)
        assert (hole in [breach.text for breach in check(record)]) is is_hole


def test_every_kind_has_a_spoiler():
    assert {kind for _, kind in SPOILERS} == set(Kind)
