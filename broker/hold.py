"""Events kept for one subscription between its script and its reply. Synchronous, bounded."""

from __future__ import annotations

from config import limits


class Hold:
    """Events kept for a subscription whose reply is on its way."""

    __slots__ = ("epoch", "events", "has_overflowed", "last", "reached", "size_bytes", "was_live")

    def __init__(self, *, was_live: bool, reached: int) -> None:
        self.events: list[tuple[int, bytes]] = []
        self.epoch: str | None = None
        """Of the events that were kept; None before the first, which ephemeral ones are not."""
        self.last = 0
        self.size_bytes = 0
        self.has_overflowed = False
        self.was_live = was_live
        self.reached = reached
        """How far a client that was live had come before the hold."""

    def keep(self, offset: int, frame: bytes, epoch: str) -> None:
        """Keep one event, once; beyond the limits, or of two epochs, nothing is kept and a resync
        will follow."""
        if offset and epoch != self.epoch:
            if self.epoch is not None:
                self.spoil()
            self.epoch = epoch
        if self.has_overflowed or 0 < offset <= self.last:
            return
        self.last = offset or self.last
        self.events.append((offset, frame))
        self.size_bytes += len(frame)
        if len(self.events) > limits.HELD_EVENTS_MAX or self.size_bytes > limits.HELD_BYTES_MAX:
            self.spoil()

    def spoil(self) -> None:
        """Something was lost, or may have been: a resync will follow."""
        self.has_overflowed = True
        self.events.clear()
