"""What the connections of one listener share, as each of them sees it.

The listener is the only implementation of the product; everything here is called synchronously.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol

from broker.keepalive import Closing, Keepalive


class OutboxContext(Protocol):
    """What all outboxes of a listener share."""

    @property
    def send_queue_bytes(self) -> int:
        """Bytes kept for one connection before it counts as a slow consumer."""
        ...

    def start_task(self, run: Callable[[], Awaitable[None]]) -> None:
        """Run `run` in the background of the listener; it never raises."""
        ...

    def watch_closing(self, outbox: Closing, *, is_slow: bool = False) -> None:
        """Call `outbox.end()` when the time for an orderly close is over.

        A slow consumer gets more of it.
        """
        ...

    def count_slow_consumer(self) -> None:
        """One more connection was closed with 4508."""
        ...


class WireContext(OutboxContext, Protocol):
    """What all connections of a listener share."""

    keepalive: Keepalive

    @property
    def max_frame_bytes(self) -> int:
        """The largest message that a client may send."""
        ...

    async def wait_in_line(self) -> None:
        """Until those who sent as much before have had their turn; for who sends much at once."""
        ...
