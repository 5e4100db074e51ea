"""Liveness of all connections of a listener, kept by one task.

The rules: a connection that was silent for at most `ping_interval` gets a ping; one from which no
byte came within `pong_timeout` after it is lost. A peer that we do not read (backpressure) is never
judged, nor one with unread bytes. An outbox that is closing is ended when its time is over.

Time here is counted in ticks, and a tick that comes late counts once: after this process was
stopped or busy, readers get their turn before anybody is judged. Connections spread over the
ticks: each is pinged after a random part of `ping_interval`, never less than half, so that many
that came together are not pinged together. A tick's work is done in slices.
"""

from __future__ import annotations

import random
from collections import deque
from typing import Final, Protocol

import trio

from broker.protocol import errors

LOST_REASON: Final = "The peer has not answered a ping."
_TICKS_PER_WAIT: Final = 8
_TICK_MIN: Final = 0.02
_TICK_MAX: Final = 1.0
_PATIENCE_MIN: Final = 0.5
_NOT_SINCE_PING: Final = -1.0
_SLICE: Final = 64  # connections judged between two checkpoints: about half a millisecond


class Closing(Protocol):
    """An outbox that may take only so long to close."""

    def end(self, code: int | None = None, reason: str = "") -> None: ...


class Watched(Closing, Protocol):
    """One connection as its keepalive sees it.

    `heard_at`: keepalive time when bytes last came; set below zero with each ping. `due_tick` is
    the keepalive's own note.
    """

    heard_at: float
    due_tick: int
    is_paused: bool
    is_closing: bool

    def ping(self) -> None: ...

    def has_unread(self) -> bool: ...


class Keepalive:
    """Watches connections; `now` is its clock in seconds since it was made.

    All times in seconds; `close_timeout` bounds an orderly close, `slow_close_timeout` that of a
    slow consumer. `lost` counts lost peers.
    """

    def __init__(
        self,
        *,
        ping_interval: float,
        pong_timeout: float,
        close_timeout: float,
        slow_close_timeout: float,
    ) -> None:
        shortest = min(ping_interval, pong_timeout, close_timeout)
        self.tick_seconds = min(max(shortest / _TICKS_PER_WAIT, _TICK_MIN), _TICK_MAX)
        self.now = 0.0
        self.lost = 0
        self._tick = 0
        self._ping_interval = ping_interval
        self._pong_timeout = pong_timeout
        self._close_timeout = close_timeout
        self._slow_close_timeout = slow_close_timeout
        self._due: dict[int, set[Watched]] = {}
        self._closing: deque[tuple[float, Closing]] = deque()
        self._closing_slowly: deque[tuple[float, Closing]] = deque()

    def watch(self, peer: Watched) -> None:
        """Begin to watch a connection; it counts as heard now."""
        peer.heard_at = self.now
        self._look_after(peer, self._patience())

    def forget(self, peer: Watched) -> None:
        """The connection has ended."""
        peers = self._due.get(peer.due_tick)
        if peers is not None:
            peers.discard(peer)

    def watch_closing(self, outbox: Closing, *, is_slow: bool = False) -> None:
        """Call `outbox.end()` after the close timeout."""
        if is_slow:
            self._closing_slowly.append((self.now + self._slow_close_timeout, outbox))
        else:
            self._closing.append((self.now + self._close_timeout, outbox))

    async def run(self) -> None:
        """Judge whoever is due, for ever."""
        next_at = trio.current_time()
        while True:
            next_at = max(next_at + self.tick_seconds, trio.current_time())
            await trio.sleep_until(next_at)
            for count, peer in enumerate(self.advance(), 1):
                self.judge(peer)
                if count % _SLICE == 0:
                    await trio.lowlevel.checkpoint()

    def advance(self) -> set[Watched]:
        """One tick later: end closings whose time is over; who is to be judged."""
        self._tick += 1
        self.now = self._tick * self.tick_seconds
        for closing in (self._closing, self._closing_slowly):
            while closing and closing[0][0] <= self.now:
                closing.popleft()[1].end()
        return self._due.pop(self._tick, set())

    def judge(self, peer: Watched) -> None:
        """Ping it, look again later, or find it lost."""
        if peer.is_closing:
            return
        if peer.is_paused or (peer.heard_at < 0.0 and peer.has_unread()):
            peer.heard_at = self.now
        silent = self.now - peer.heard_at
        if peer.heard_at < 0.0:
            self.lost += 1
            peer.end(errors.LOST, LOST_REASON)
        elif silent < self._ping_interval * _PATIENCE_MIN:
            self._look_after(peer, self._patience() - silent)
        else:
            peer.heard_at = _NOT_SINCE_PING
            peer.ping()
            self._look_after(peer, self._pong_timeout)

    def _patience(self) -> float:
        return self._ping_interval * random.uniform(_PATIENCE_MIN, 1.0)

    def _look_after(self, peer: Watched, delay: float) -> None:
        # At least one tick ahead, and rounded up: nobody is judged before the time is over.
        peer.due_tick = self._tick + int(delay / self.tick_seconds) + 1
        self._due.setdefault(peer.due_tick, set()).add(peer)
