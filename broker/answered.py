"""The newest numbers that this node has answered, by room: a part of the floors after a fence.

An answer may be out before its event has come through the inbox, and the sender needs no
subscription here. If Redis loses both, only this knows that the numbers were given. Bounded: the
rooms answered longest ago are forgotten, two generations of them being kept.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

from config import limits
from storage.redis.keys import Keys


class AnsweredNumbers:
    """(offset, seq) per room, as its last answered publish had them."""

    __slots__ = ("_earlier", "_keys", "_recent")

    def __init__(self, keys: Keys) -> None:
        self._keys = keys
        self._recent: dict[str, tuple[int, int]] = {}
        self._earlier: dict[str, tuple[int, int]] = {}

    def note(self, key: str, offset: int, seq: int) -> None:
        """A publish into the room `key` (R) was answered with these."""
        recent = self._recent
        known = recent.get(key)
        if known is None and len(recent) >= limits.ANSWERED_ROOMS_MAX:
            self._earlier, self._recent = recent, {}
            recent = self._recent
        if known is None or known[0] < offset:
            recent[key] = (offset, seq)

    def in_partitions(self, partitions: Collection[int]) -> Iterator[tuple[str, int, int]]:
        """(R, offset, seq) of the rooms in these partitions; a room may come twice."""
        for numbers in (self._earlier, self._recent):
            for key, (offset, seq) in numbers.items():
                if self._keys.partition(key) in partitions:
                    yield key, offset, seq
