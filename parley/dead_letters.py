"""`parley deadletters`: what the archiver put aside, listed and put back.

Nothing that somebody wrote is printed unless it is asked for: PostgreSQL's own words about a value
may hold it, so of those the kind of the error is shown.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Final, TypeVar

import trio

from config.settings import load_settings
from storage.postgres.dead_letters import LetterStays, StoredLetter, list_letters, put_back
from storage.postgres.pool import Database, open_database

LETTERS_AT_ONCE: Final = 500
# Reasons that are ours and name nothing but numbers and ids.
_PLAIN: Final = ("late_epoch", "unknown_room", "impossible_number", "seq ")

_Result = TypeVar("_Result")


def list_dead_letters(room: str | None, *, with_bodies: bool) -> list[str]:
    """One line a letter, with a heading; `room` is PROJECT/ROOM."""
    letters = _with_database(_fetch_all)
    rows = [("ID", "ROOM", "SEQ", "OFFSET", "EVENT", "SINCE", "REASON")]
    chosen = [letter for letter in letters if room in (None, letter.room)]
    rows += [
        (
            str(letter.id),
            letter.room,
            str(letter.seq),
            str(letter.offset),
            letter.event,
            f"{letter.created_at:%Y-%m-%d %H:%M:%S}",
            letter.reason if with_bodies else describe_reason(letter.reason),
        )
        for letter in chosen
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
    if with_bodies:
        bodies = [f"  {letter.entry!r}" for letter in chosen]
        lines[1:] = [line for pair in zip(lines[1:], bodies, strict=True) for line in pair]
    return lines


def put_back_letters(ids: Sequence[int], *, all_of_them: bool) -> tuple[list[str], bool]:
    """A sentence for each letter, and whether all could be put back."""
    return _with_database(lambda database: _put_back(database, ids, all_of_them))


def describe_reason(reason: str) -> str:
    """The reason without what somebody may have written."""
    return reason if reason.startswith(_PLAIN) else reason.partition(":")[0]


async def _put_back(
    database: Database, ids: Sequence[int], all_of_them: bool
) -> tuple[list[str], bool]:
    # In their order: a message comes before its edits.
    chosen = sorted(ids)
    if all_of_them:
        chosen = [letter.id for letter in await _fetch_all(database)]
    lines: list[str] = []
    is_whole = True
    for letter_id in chosen:
        try:
            found = await put_back(database, letter_id)
        except LetterStays as stays:
            is_whole = False
            lines.append(f"{letter_id}: stays, {describe_reason(str(stays))}")
        else:
            lines.append(f"{letter_id}: " + ("put back" if found else "there is no such letter"))
    return lines, is_whole


async def _fetch_all(database: Database) -> list[StoredLetter]:
    letters: list[StoredLetter] = []
    while chunk := await list_letters(database, letters[-1].id if letters else 0, LETTERS_AT_ONCE):
        letters += chunk
    return letters


def _with_database(work: Callable[[Database], Awaitable[_Result]]) -> _Result:
    settings = load_settings()
    settings.require_for("apikey")

    async def run() -> _Result:
        async with open_database(settings.database_url, pool_size=1, name="parley-cli") as database:
            return await work(database)

    return trio.run(run)
