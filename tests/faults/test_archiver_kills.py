"""The archiver killed at random instants: PostgreSQL equals what was answered, row by row."""

import random

import pytest

from tests.faults.archive_model import RoomModel, differences
from tests.faults.archiver_crash_points import run_points
from tests.faults.archiver_kills import run_kills
from tests.support.repeating import times
from tests.support.seen import Event
from tests.support.servers import run_sql

# `python -m tests.faults.archiver_kills` makes 200 of them.
KILLS = times(16)
# `python -m tests.faults.archiver_crash_points` takes all of them; those of a batch are taken
# without processes by `test_archive_order`.
POINTS = times(8)


@pytest.mark.slow
@pytest.mark.timeout(400)
async def test_archivers_killed_at_random_instants(
    processes, redis_server, redis_url, database_url
):
    """HAZARDS 3 and 4, in real processes."""
    tally = await run_kills(
        processes, redis_server, database_url, kills=KILLS, seed=random.randrange(2**32)
    )
    print(tally)
    assert tally.kills >= KILLS
    assert tally.events > 100


@pytest.mark.slow
@pytest.mark.timeout(400)
async def test_archivers_that_die_at_a_step_leave_nothing_undone(
    processes, redis_url, database_url
):
    """HAZARDS 4: batches, notifications, announcements, retention and removals, at any step."""
    points = await run_points(processes, redis_url, database_url, rng=random.Random(), count=POINTS)
    assert len(points) == POINTS


def created(offset: int, seq: int, **fields: object) -> Event:
    data = {
        "id": "01890000-0000-7000-8000-000000000000", "seq": seq, "sender": "alice", "kind": "text",
        "content": "x", "reply_to": None, "client_id": None,
        "created_at": "2026-01-02T03:04:05.678Z",
    }  # fmt: skip
    return Event("message.created", "r", offset, "", data | fields)


def test_the_comparison_finds_what_is_missing_and_what_is_too_much(database_url, postgres_server):
    """It has teeth: an empty room is not one with a message, a hole is one."""
    run_sql(
        database_url, lambda c: c.execute("INSERT INTO rooms (project, id) VALUES ('default', 'r')")
    )
    model = RoomModel("r")
    assert differences(model, database_url, marked=()) == []
    model.replay([created(1, 1), created(3, 3)])
    found = "\n".join(differences(model, database_url, marked=()))
    for sentence in (
        "offset 3 after 1",
        "seq 3 after 1",
        "message 1: None",
        "room at (0, 0, None)",
    ):
        assert sentence in found
