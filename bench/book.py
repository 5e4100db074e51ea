"""The messages of the history scenarios, which page is asked for next, and what it must hold.

Rules: rooms of `A_ROOM` messages each, made by `bench.filling`. A page is 50 messages below some
seq, ascending; every page that comes is held to the seqs asked for and to what was written at its
ends. Cold pages are drawn at random over all rooms; a hot one is always the same.
"""

import random
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from bench import checks, filling
from bench.database import Database

PAGE: Final = 50
_SEQ: Final = re.compile(rb'"seq" ?: ?(\d+)')
_USERS: Final = """
INSERT INTO users (project, id)
VALUES ('default', '{prefix}-writer'), ('default', '{prefix}-reader')
ON CONFLICT DO NOTHING"""
_MEMBERS: Final = """
INSERT INTO members (room_pk, user_id, project, role)
SELECT r.pk, m.id, 'default', 'member'
FROM rooms r CROSS JOIN (VALUES ('{prefix}-writer'), ('{prefix}-reader')) AS m (id)
WHERE r.project = 'default' AND r.id >= '{prefix}-' AND r.id < '{prefix}-~'"""


@dataclass(frozen=True, kw_only=True)
class Place:
    """One page: the 50 messages of a room below `before`."""

    room: str
    before: int


class Book:
    """All the rooms. `draw` gives a place at random; the same sequence for the same `seed`."""

    def __init__(self, prefix: str, rooms: list[str], each: int) -> None:
        self.writer = f"{prefix}-writer"
        self.reader = f"{prefix}-reader"
        self.rooms = rooms
        self._each = each

    def draws(self, seed: int) -> Callable[[], Place]:
        """A source of places."""
        source = random.Random(seed)

        def draw() -> Place:
            before = source.randint(PAGE + 1, self._each + 1)
            return Place(room=source.choice(self.rooms), before=before)

        return draw

    def newest(self) -> Place:
        """The newest page of the first room."""
        return Place(room=self.rooms[0], before=self._each + 1)

    def check(self, place: Place, body: bytes) -> None:
        """Whether `body` is that page."""
        found = [int(seq) for seq in _SEQ.findall(body)]
        if found != list(range(place.before - PAGE, place.before)):
            raise checks.CheckFailed(
                f"{place.room} below {place.before}: got the seqs {found[:3]} … {found[-3:]}, "
                f"{len(found)} of them"
            )
        for seq in (found[0], found[-1]):
            if b"%b %d a line" % (self.writer.encode(), seq) not in body:
                raise checks.CheckFailed(f"{place.room}: message {seq} is not what was written")


def make_book(
    database: Database,
    prefix: str,
    messages: int,
    say: Callable[[str], None],
    *,
    each: int = filling.A_ROOM,
) -> Book:
    """Fill the tables: rooms, messages, and one reader who is a member of all."""
    rooms = filling.fill_messages(database, prefix, messages, say, each=each)
    database.rows(_USERS.format(prefix=prefix))
    database.rows(_MEMBERS.format(prefix=prefix))
    database.rows("VACUUM (ANALYZE) members")
    return Book(prefix, rooms, each)
