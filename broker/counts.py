"""What a broker counts on its hot path: plain numbers, which the metrics take over once a second.

A prometheus counter costs a microsecond and a lock for each event; an attribute does not. Nothing
here awaits, and nobody but the broker's own tick reads it.
"""

from __future__ import annotations

import time

import trio

from config.metrics import Metrics
from storage.redis.clock import RedisClock

LATENCY_SAMPLE = 16
"""One publish in so many is timed: enough for percentiles, and free for the others."""

BATCH_SAMPLE = 16
"""One read of the inbox in so many is timed, for the same reason."""


class Counts:
    """Totals since the start, and what of them the metrics have already."""

    def __init__(self, metrics: Metrics, clock: RedisClock | None = None) -> None:
        """Without a clock the one of Redis is taken to be this machine's."""
        self._metrics = metrics
        self._clock = clock or RedisClock()
        stage = metrics.publish_stage_seconds
        self._begin, self._script = stage.labels("begin"), stage.labels("script")
        self._inbox, self._post = stage.labels("inbox"), stage.labels("post")
        self.publishes = 0
        self.batches = 0
        self.events_received = 0
        self.deliveries = 0
        self._commands: dict[tuple[str, str], int] = {}
        self._told_events = 0
        self._told_deliveries = 0

    def count(self, command: str, code: str) -> None:
        """One command has been answered; `code` is `ok` or the error's."""
        place = (command, code)
        self._commands[place] = self._commands.get(place, 0) + 1

    def start_publish(self) -> float:
        """When the script of a publish is queued, if it is one that is timed; else 0."""
        self.publishes += 1
        return 0.0 if self.publishes % LATENCY_SAMPLE else trio.current_time()

    def end_publish(self, started_at: float, heard_at: float) -> None:
        """A timed publish has been answered, whose frame was heard then."""
        now = trio.current_time()
        self._metrics.publish_seconds.observe(now - heard_at)
        self._begin.observe(started_at - heard_at)
        self._script.observe(now - started_at)
        if self._metrics.spans is not None:
            stages = {"parley.begin_s": started_at - heard_at, "parley.script_s": now - started_at}
            self._metrics.spans.record("publish", now - heard_at, stages, kind="server")

    def start_batch(self) -> float:
        """When an inbox was read, if the reading is one that is timed; else 0."""
        self.batches += 1
        return 0.0 if self.batches % BATCH_SAMPLE else trio.current_time()

    def end_batch(self, read_at: float, appended_ms: int) -> None:
        """What a timed reading brought has been posted; its last event is of this time of Redis."""
        now = trio.current_time()
        self._post.observe(now - read_at)
        lag = time.time() - (now - read_at) + self._clock.ahead - appended_ms / 1000
        self._inbox.observe(max(0.0, lag))

    def tell(self) -> None:
        """Hand everything new to the metrics."""
        metrics = self._metrics
        metrics.events_received.inc(self.events_received - self._told_events)
        metrics.deliveries.inc(self.deliveries - self._told_deliveries)
        self._told_events, self._told_deliveries = self.events_received, self.deliveries
        for (command, code), number in self._commands.items():
            metrics.commands.labels(command, code).inc(number)
        self._commands.clear()
