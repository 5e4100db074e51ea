"""How a signal ends a nest of blocks from the inside out.

Cancelling the outermost scope would end everything at once. So each block that must outlive what
is inside of it opens a scope of its own, and a stop cancels the innermost one only: its block
ends, and the blocks around it end because there is nothing left in them to do.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import trio


class Stop:
    """The request to stop, and how urgent it is."""

    def __init__(self) -> None:
        self._scopes: list[trio.CancelScope] = []
        self.is_requested = False
        self.hurry = trio.Event()
        """Set by a second request: whoever still waits for a polite end should not."""

    @contextmanager
    def scope(self) -> Iterator[None]:
        """A block that a stop ends silently, unless a scope further in takes it."""
        with trio.CancelScope() as scope:
            self._scopes.append(scope)
            try:
                yield
            finally:
                self._scopes.remove(scope)

    def request(self) -> None:
        """Ask to stop; asked again: to hurry."""
        if self.is_requested:
            self.hurry.set()
            return
        self.is_requested = True
        if self._scopes:
            self._scopes[-1].cancel()
