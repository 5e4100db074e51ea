"""The newest numbers that this process has given out, by room: its part of the floors.

An answer may be out before its event has come through any inbox, and whoever got it needs no
subscription. If Redis loses both, only the process that answered knows that the numbers were given.
What was given in a life that is over counts above all: nobody may give it again, and until a seed
has put it into PostgreSQL it is known here only, so it is kept beside what is given in the present
life. Bounded: the rooms of longest ago are forgotten, two generations of them being kept.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

from config import limits
from storage.redis.keys import Keys


class _Given:
    """The newest numbers of one life, and the greatest of all lives before."""

    __slots__ = ("life", "offset", "offset_before", "seq", "seq_before")

    def __init__(self, life: str, offset: int, seq: int) -> None:
        self.life = life
        self.offset = offset
        self.seq = seq
        self.offset_before = 0
        self.seq_before = 0

    def before(self, life: str) -> tuple[int, int]:
        """The greatest (offset, seq) of other lives than this."""
        if self.life == life:
            return self.offset_before, self.seq_before
        return max(self.offset, self.offset_before), max(self.seq, self.seq_before)

    def add_before(self, offset: int, seq: int) -> None:
        """These were given in a life before."""
        self.offset_before = max(offset, self.offset_before)
        self.seq_before = max(seq, self.seq_before)


class AnsweredNumbers:
    """What was given out in each room; `lives` are the present ones, by partition."""

    __slots__ = ("_earlier", "_keys", "_lives", "_recent")

    def __init__(self, keys: Keys, lives: list[str]) -> None:
        self._keys = keys
        self._lives = lives
        self._recent: dict[str, _Given] = {}
        self._earlier: dict[str, _Given] = {}

    def note(self, key: str, life: str, offset: int, seq: int) -> None:
        """These numbers of the room `key` (R) were given out in this life.

        The life is the present one, or an earlier one that was the present one when it was asked.
        """
        known = self._recent.get(key)
        if known is None or known.life != life:
            known = self._place(key, known, life, offset, seq)
        if offset > known.offset and known.life == life:
            known.offset = offset
            known.seq = seq

    def floor(self, key: str, life: str) -> tuple[int, int]:
        """The greatest (offset, seq) of the room that were given in other lives than this."""
        known = self._recent.get(key) or self._earlier.get(key)
        return (0, 0) if known is None else known.before(life)

    def floors(self, partitions: Collection[int]) -> Iterator[tuple[str, int, int]]:
        """(R, offset, seq) that were given before the present lives of these partitions began."""
        for numbers in (self._earlier, self._recent):
            for key, known in numbers.items():
                partition = self._keys.partition(key)
                if partition in partitions:
                    offset, seq = known.before(self._lives[partition])
                    if offset:
                        yield key, offset, seq

    def _place(self, key: str, known: _Given | None, life: str, offset: int, seq: int) -> _Given:
        """Where the numbers of a life other than the last, or of another room, are kept."""
        if known is None:
            if len(self._recent) >= limits.ANSWERED_ROOMS_MAX:
                self._earlier, self._recent = self._recent, {}
            known = self._earlier.pop(key, None) or _Given(life, offset, seq)
            self._recent[key] = known
        if known.life != life:
            if known.life == self._lives[self._keys.partition(key)]:
                known.add_before(offset, seq)  # an answer of an earlier life, told late
            else:
                known.add_before(known.offset, known.seq)
                known.life, known.offset, known.seq = life, offset, seq
        return known
