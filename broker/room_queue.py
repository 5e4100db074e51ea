"""One command of a room at a time, per connection: how frames of one room keep their order.

The rules: synchronous. A command that ends at once makes room for the next in the same turn,
without recursion; another calls `advance` when it is done. Commands that wait are counted over all
rooms: too many of them, and the peer is not read any more until half of them are done.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Protocol

from broker.protocol.commands import Command
from config import limits


class Pausable(Protocol):
    """What is read from."""

    def pause(self) -> None:
        """Read no more for now."""
        ...

    def resume(self) -> None:
        """Read again."""
        ...


class RoomQueue:
    """The commands of one connection that are under way or wait for one of the same room."""

    __slots__ = ("_begin", "_busy", "_is_paused", "_peer", "_waiting_count")

    def __init__(self, peer: Pausable, begin: Callable[[str, Command], bool]) -> None:
        """`begin(key, command)` starts a command; True if it is done already."""
        self._peer = peer
        self._begin = begin
        self._busy: dict[str, deque[Command] | None] = {}
        self._waiting_count = 0
        self._is_paused = False

    @property
    def is_busy(self) -> bool:
        """Whether a command is under way."""
        return bool(self._busy)

    def add(self, key: str, command: Command) -> None:
        """Begin the command, or put it behind the one of the same room that is under way."""
        busy = self._busy
        if key not in busy:
            busy[key] = None
            if self._begin(key, command):
                self.advance(key)
            return
        queue = busy[key]
        if queue is None:
            queue = busy[key] = deque()
        queue.append(command)
        self.count_waiting(1)

    def advance(self, key: str) -> None:
        """The room's command is done: begin those behind it, as long as they end at once."""
        busy = self._busy
        while key in busy:
            queue = busy[key]
            if not queue:
                del busy[key]
                return
            command = queue.popleft()
            self.count_waiting(-1)
            if not self._begin(key, command):
                return

    def clear(self) -> None:
        """The connection has ended: nothing that waits is begun any more."""
        self._busy.clear()
        self._begin = _begin_nothing  # or the connection and this would hold each other for ever

    def count_waiting(self, step: int) -> None:
        """One command more or less waits, here or for something else of the connection's."""
        self._waiting_count += step
        if self._is_paused:
            if self._waiting_count < limits.COMMANDS_WAITING_MAX // 2:
                self._is_paused = False
                self._peer.resume()
        elif self._waiting_count >= limits.COMMANDS_WAITING_MAX:
            self._is_paused = True
            self._peer.pause()


def _begin_nothing(_key: str, _command: Command) -> bool:
    return False
