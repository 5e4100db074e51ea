"""What a broker counts on its hot path: plain numbers, which the metrics take over once a second.

A prometheus counter costs a microsecond and a lock for each event; an attribute does not. Nothing
here awaits, and nobody but the broker's own tick reads it.
"""

from __future__ import annotations

import trio

from config.metrics import Metrics

LATENCY_SAMPLE = 16
"""One publish in so many is timed: enough for percentiles, and free for the others."""


class Counts:
    """Totals since the start, and what of them the metrics have already."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self.publishes = 0
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
        """When a publish began, if it is one that is timed; else 0."""
        self.publishes += 1
        return 0.0 if self.publishes % LATENCY_SAMPLE else trio.current_time()

    def end_publish(self, started_at: float) -> None:
        """A timed publish has been answered."""
        self._metrics.publish_seconds.observe(trio.current_time() - started_at)

    def tell(self) -> None:
        """Hand everything new to the metrics."""
        metrics = self._metrics
        metrics.events_received.inc(self.events_received - self._told_events)
        metrics.deliveries.inc(self.deliveries - self._told_deliveries)
        self._told_events, self._told_deliveries = self.events_received, self.deliveries
        for (command, code), number in self._commands.items():
            metrics.commands.labels(command, code).inc(number)
        self._commands.clear()
