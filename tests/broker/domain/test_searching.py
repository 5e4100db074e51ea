"""How a search walks: wider while it is quick, narrower when it is not, ended by its time."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from broker.domain.searching import SearchQuery, next_width, search_room
from config.limits import SEARCH_STEP_MAX, SEARCH_STRETCHES_MAX, SEARCH_WALK_SECONDS
from storage.postgres.pool import open_database
from storage.postgres.search import STRETCH_BITS


class NothingUnarchived:
    """A Redis that holds nothing of the room."""

    async def unarchived(self, key: str) -> None:
        return None


@given(
    width=st.integers(1, SEARCH_STRETCHES_MAX),
    took=st.floats(0, 10, allow_nan=False),
)
def test_a_step_is_never_empty_nor_too_wide(width: int, took: float) -> None:
    following = next_width(width, took)
    assert 1 <= following <= min(width * SEARCH_STEP_MAX, SEARCH_STRETCHES_MAX)


def test_a_slow_step_is_followed_by_a_narrower_one() -> None:
    assert next_width(64, 0.1) in (6, 7)
    assert next_width(64, 0.001) == SEARCH_STRETCHES_MAX
    assert next_width(1, 5.0) == 1


async def test_a_walk_that_takes_too_long_answers_and_can_be_continued(database_url: str) -> None:
    """With a clock that says every step took the whole time: one stretch a call, nothing lost."""
    now = 0.0

    def clock() -> float:
        nonlocal now
        now += 2 * SEARCH_WALK_SECONDS
        return now

    top = 5 << STRETCH_BITS
    async with open_database(database_url, pool_size=1, name="test") as db:
        room_pk = await db.fetchval(
            "INSERT INTO rooms (project, id, seq) VALUES ('p', 'r', $1) RETURNING pk", top
        )
        await db.execute(
            "INSERT INTO messages (room_pk, seq, id, content, created_at, event_offset, "
            "last_offset) SELECT $1::bigint, n, gen_random_uuid(), 'needle', now(), n, n "
            "FROM unnest($2::bigint[]) n",
            room_pk,
            [3, top - 1],
        )
        before: int | None = None
        pages: list[int] = []
        while True:
            found = await search_room(
                db,
                NothingUnarchived(),
                "p/r",
                room_pk=room_pk,
                query=SearchQuery(text="needle", limit=50, before=before),
                clock=clock,
            )
            pages.append(len(found.bodies))
            if found.next_before is None:
                break
            before = found.next_before
    assert pages == [0, 1, 0, 0, 0, 1]
