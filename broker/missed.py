"""What members of a room missed, framed once for all of them who come back together.

The rules: synchronous. Whoever resumes from the same place gets the same entries, and the same
entries are the same bytes of JSON; so what was made of a room's last tails is kept, beside the
entries it was made of. It is used for exactly those entries and no others, whatever may have
happened to the log in between: nothing here has to be told of edits, trims or new lives. Bounded
in bytes; what was used longest ago goes first.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from broker.protocol import frames
from broker.protocol.events import TimeTexts, event_body
from storage.redis.entries import parse_entry

MISSED_BYTES_MAX = 4 * 1024 * 1024
"""Entries and what was made of them, over all rooms: those of some hundred rooms with 20 missed
messages each. A few of the largest tails fit too, and one process has this once."""

_Place = tuple[str, int]


class MissedEvents:
    """The tails that were framed last, by room and number of events."""

    def __init__(self, bytes_max: int = MISSED_BYTES_MAX) -> None:
        self._bytes_max = bytes_max
        self._kept: OrderedDict[_Place, tuple[Sequence[bytes], bytes]] = OrderedDict()
        self.kept_bytes = 0
        """What is kept now."""

    def frame(self, key: str, tail: Sequence[bytes], times: TimeTexts) -> bytes:
        """The JSON array of the events in a tail of the room `key` (R)."""
        if not tail:
            return b"[]"
        place = (key, len(tail))
        kept = self._kept.get(place)
        if kept is not None and kept[0] == tail:
            self._kept.move_to_end(place)
            return kept[1]
        framed = frames.json_array(
            event_body(entry.event, entry.offset, entry.seq, entry.ms, entry.data, times)
            for entry in map(parse_entry, tail)
        )
        self._keep(place, tail, framed)
        return framed

    def _keep(self, place: _Place, tail: Sequence[bytes], framed: bytes) -> None:
        replaced = self._kept.pop(place, None)
        if replaced is not None:
            self.kept_bytes -= _size_of(*replaced)
        self._kept[place] = (tail, framed)
        self.kept_bytes += _size_of(tail, framed)
        while self.kept_bytes > self._bytes_max:
            _, oldest = self._kept.popitem(last=False)
            self.kept_bytes -= _size_of(*oldest)


def _size_of(tail: Sequence[bytes], framed: bytes) -> int:
    return sum(map(len, tail)) + len(framed)
