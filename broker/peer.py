"""The seam between the wire and the application: who calls whom with what.

The application gets a `Peer` for every open WebSocket and gives back a `Receiver`. All calls are
synchronous in both directions; neither side ever waits for the other.
"""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import Final, Protocol

from broker.handshake import Handshake

TOO_MANY_AT_ONCE: Final = "Too many connect at once; connect again."
"""What a handshake is answered that would have to wait for too long, or has."""


class Peer(Protocol):
    """One WebSocket as the application sees it."""

    id: str
    handshake: Handshake

    def post(self, frame: bytes) -> None:
        """Send one whole WebSocket frame, or several joined ones; never blocks, never raises."""
        ...

    def post_soon(self, frame: bytes) -> None:
        """The same for a frame that another is about to follow: it waits a moment, and they leave
        together."""
        ...

    def disconnect(self, code: int, reason: str = "") -> None:
        """Close after what is kept; later posts are dropped; bounded by the close timeout."""
        ...

    def pause(self) -> None:
        """Stop reading from this connection (backpressure); the peer is not judged dead."""
        ...

    def resume(self) -> None:
        """Read again."""
        ...


class Receiver(Protocol):
    """What the application does with one connection."""

    def handle_text(self, text: str) -> None:
        """One complete text message, in order. Synchronous."""
        ...

    def handle_closed(self, code: int) -> None:
        """The connection has ended; called exactly once. `code`: ours, the peer's, or 1006."""
        ...


class Application(Protocol):
    """What a listener serves."""

    def open_connection(self, peer: Peer) -> Receiver:
        """A handshake has succeeded. The peer may be posted to at once."""
        ...

    def refusal(self) -> str | None:
        """Why no further WebSocket is welcome now, as a sentence; None if it is."""
        ...

    def turn(self) -> AbstractAsyncContextManager[None]:
        """Wait for the turn to do a handshake, and have it for the block.

        Raises TooSlowError after a long wait.
        """
        ...

    def readiness(self) -> dict[str, object]:
        """The body of /readyz; `ready` decides between 200 and 503."""
        ...
