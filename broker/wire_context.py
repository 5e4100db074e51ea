"""What the connections of one listener share, as each of them sees it.

The listener is the only implementation of the product; everything here is called synchronously.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol

from broker.held_back import Holding
from broker.keepalive import Closing, Keepalive
from broker.readers import Readers


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

    def send_soon(self, outbox: Holding) -> None:
        """Call `outbox.send_held()` in a moment."""
        ...

    def count_slow_consumer(self) -> None:
        """One more connection was closed with 4508."""
        ...


class WireContext(OutboxContext, Protocol):
    """What all connections of a listener share."""

    keepalive: Keepalive
    readers: Readers

    @property
    def max_frame_bytes(self) -> int:
        """The largest message that a client may send."""
        ...

    async def wait_in_line(self) -> None:
        """Until those who sent as much before have had their turn; for who sends much at once."""
        ...
