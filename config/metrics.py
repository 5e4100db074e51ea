"""Metrics: what a process counts, and the page that Prometheus reads.

A composition root builds one `Metrics` and passes it down; nothing here is global, so two brokers
in one test do not share a counter. An attribute is a prometheus object; labels are few and
bounded: never a room, a user or a connection. A process type leaves what it does not use at zero.
"""

from __future__ import annotations

import platform
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from typing import Final

import trio
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.gc_collector import GCCollector
from prometheus_client.process_collector import ProcessCollector

from config import limits
from config.errors import ConfigError
from config.spans import Spans

# Seconds. A publish takes half a millisecond; whoever waits for ten seconds has gone.
_LATENCY_BUCKETS: Final = (
    0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0,
)  # fmt: skip
# One stage of a publish, or one round trip: from the twenty microseconds that a batch takes to be
# posted to COMMAND_TIMEOUT, after which the connection is given up.
_STAGE_BUCKETS: Final = (
    0.00005, 0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1.0, 5.0,
)  # fmt: skip
# A request has a label for its route: fewer buckets, from a point read to API_RESPONSE_TIMEOUT.
_REQUEST_BUCKETS: Final = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.5, 10.0)
# How late a due task runs: below a millisecond is the kernel's, above a second is an outage.
_LAG_BUCKETS: Final = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)
# Members hear of a message behind the archive: ARCHIVE_INTERVAL and NOTIFY_INTERVAL are the floor.
_NOTICE_BUCKETS: Final = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_BATCH_BUCKETS: Final = (1, 10, 50, 100, 500, 1000, 5000, 10_000)
_CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"


class Metrics:
    """The counters, gauges and histograms of one process, in a registry of their own."""

    def __init__(self, spans: Spans | None = None) -> None:
        """`spans`: where what is measured is told as traces too; None: nowhere."""
        self.spans = spans
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        GCCollector(registry=self.registry)
        self._add_process()
        self._add_broker()
        self._add_delivery()
        self._add_storage()
        self._add_archiver()
        self._add_api()

    def _add_process(self) -> None:
        build = self._gauge("build_info", "1; which version runs.", "version", "python")
        build.labels(_product_version(), platform.python_version()).set(1)
        self.draining = self._gauge("draining", "1 from SIGTERM until the process has ended.")
        self.tasks = self._gauge("tasks", "Tasks of the event loop.")
        self.event_loop_lag = self._histogram(
            "event_loop_lag_seconds", "How late a task runs that was due.", _LAG_BUCKETS
        )
        self.authentication_failures = self._counter(
            "authentication_failures", "Credentials that were not accepted.", "reason"
        )
        self.rate_limited = self._counter("rate_limited", "Frames and requests over their rate.")

    def _add_broker(self) -> None:
        gauge, counter = self._gauge, self._counter
        self.connections = gauge("connections", "Open WebSocket connections.")
        self.connections_opened = counter("connections_opened", "Connections ever opened.")
        self.connections_closed = counter(
            "connections_closed", "Connections ended, by close code.", "code"
        )
        self.handshakes_waiting = gauge("handshakes_waiting", "Connections that wait to be let in.")
        self.handshakes_refused = counter(
            "handshakes_refused", "Handshakes that were not done, by why.", "reason"
        )
        self.subscriptions = gauge("subscriptions", "Live subscriptions of this node.")
        self.rooms = gauge("rooms", "Rooms with a subscription on this node.")
        self.users = gauge("users", "Users with a connection to this node.")
        self.quiet_rooms = gauge("quiet_rooms", "Rooms of this node that count instead of naming.")
        self.typists = gauge("typists", "Users of this node who type just now, by room.")
        self.last_seen_waiting = gauge(
            "last_seen_waiting", "Users whose last_seen_at is not written yet."
        )
        self.subscriptions_ended = counter(
            "subscriptions_ended", "Subscriptions that the server ended, by code.", "code"
        )
        self.resumes = counter(
            "resumes", "Subscribes with `since`, by what came of them.", "outcome"
        )
        self.commands = counter("commands", "Frames handled, by type and outcome.", "type", "code")

    def _add_delivery(self) -> None:
        gauge, counter = self._gauge, self._counter
        self.events_received = counter("events_received", "Events read from this node's inbox.")
        self.deliveries = counter("deliveries", "Events posted to connections.")
        self.slow_consumers = counter("slow_consumers", "Connections closed with 4508.")
        self.gaps = counter("gaps", "Missing events found, by what became of it.", "outcome")
        self.incarnations = counter("incarnations", "Times this node had to take a new id.")
        self.outbox_bytes = gauge("outbox_bytes", "Bytes kept for clients that read slowly.")
        self.publish_seconds = self._histogram(
            "publish_seconds", "From the frame to its reply, in seconds."
        )
        self.publish_stage_seconds = self._histogram(
            "publish_stage_seconds", "What a publish's time goes to.", _STAGE_BUCKETS, "stage"
        )

    def _add_storage(self) -> None:
        gauge, counter = self._gauge, self._counter
        self.redis_connected = gauge("redis_connected", "1 while Redis answers.")
        self.redis_round_trip_seconds = self._histogram(
            "redis_round_trip_seconds", "From sending to the answer.", _STAGE_BUCKETS
        )
        self.redis_in_flight = gauge("redis_in_flight", "Commands that wait for an answer.")
        self.redis_clock_ahead = gauge(
            "redis_clock_ahead_seconds", "By how much the clock of Redis is ahead of this one."
        )
        self.postgres_connected = gauge("postgres_connected", "0 while PostgreSQL is known away.")
        self.postgres_connections = gauge("postgres_connections", "Open connections.", "state")
        self.postgres_waiting = gauge("postgres_waiting", "Calls that wait for a connection.")
        self.postgres_wait_seconds = self._histogram(
            "postgres_wait_seconds", "How long a call waited for a connection.", _STAGE_BUCKETS
        )
        self.postgres_query_seconds = self._histogram(
            "postgres_query_seconds", "Calls and transactions, waiting not counted."
        )
        self.fences = counter("fences", "New lives of a partition that this process saw.")
        self.late_floors = counter(
            "late_floors", "Rooms seeded below numbers given before, by what it led to.", "outcome"
        )

    def _add_archiver(self) -> None:
        gauge, counter = self._gauge, self._counter
        self.archived_events = counter("archived_events", "Events written to PostgreSQL.")
        self.archive_batches = counter("archive_batches", "Flushes, by outcome.", "outcome")
        self.archive_batch_events = self._histogram(
            "archive_batch_events", "Events in a flush.", _BATCH_BUCKETS
        )
        self.archive_batch_seconds = self._histogram(
            "archive_batch_seconds", "Duration of a flush in seconds."
        )
        self.archive_backlog = gauge("archive_backlog", "Events not archived yet.", "partition")
        self.archive_oldest_seconds = gauge(
            "archive_oldest_seconds", "Age of the oldest event that is not archived."
        )
        self.dead_letters = counter("dead_letters", "Events that PostgreSQL refused for good.")
        self.archive_missing_events = counter(
            "archive_missing_events", "Events that were archived once and are missing by now."
        )
        self.expired_messages = counter(
            "expired_messages", "Messages removed because of their room's retention_days."
        )
        self.announcements = counter("announcements", "Late announcements made.", "outcome")
        self.announcements_pending = gauge(
            "announcements_pending", "Committed changes that are not announced yet."
        )
        self.announcements_oldest_seconds = gauge(
            "announcements_oldest_seconds", "Age of the oldest of them."
        )
        self.notification_lag_seconds = self._histogram(
            "notification_lag_seconds", "From a message's commit to its notices.", _NOTICE_BUCKETS
        )

    def _add_api(self) -> None:
        self.requests = self._counter(
            "requests", "REST requests, by route and status.", "method", "route", "status"
        )
        self.request_seconds = self._histogram(
            "request_seconds", "Duration of REST requests.", _REQUEST_BUCKETS, "method", "route"
        )

    def render(self) -> bytes:
        """Return the page in Prometheus' text format."""
        return generate_latest(self.registry)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"parley_{name}", text, labels, registry=self.registry)

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(f"parley_{name}", text, labels, registry=self.registry)

    def _histogram(
        self, name: str, text: str, buckets: tuple[float, ...] = _LATENCY_BUCKETS, *labels: str
    ) -> Histogram:
        return Histogram(f"parley_{name}", text, labels, buckets=buckets, registry=self.registry)


def _product_version() -> str:
    try:
        return version("parley")
    except PackageNotFoundError:
        return "0"


async def serve_metrics(
    metrics: Metrics,
    host: str,
    port: int,
    *,
    task_status: trio.TaskStatus[int] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve `GET /metrics` until cancelled; reports the port (useful when `port` is 0).

    A composition root calls it only if METRICS_PORT is not 0. Raises ConfigError if the port can
    not be had. Nothing that a client of the page does can raise out of here.
    """
    try:
        listeners = await trio.open_tcp_listeners(port, host=host)
    except OSError as error:
        raise ConfigError(f"METRICS_PORT: can not listen on {host}:{port}: {error}") from None
    async with trio.open_nursery() as nursery:
        limiter = trio.CapacityLimiter(limits.METRICS_CONNECTIONS_MAX)
        await nursery.start(
            trio.serve_listeners, partial(_handle_connection, metrics, limiter), listeners
        )
        task_status.started(listeners[0].socket.getsockname()[1])


async def _handle_connection(
    metrics: Metrics, limiter: trio.CapacityLimiter, stream: trio.SocketStream
) -> None:
    try:
        with trio.move_on_after(limits.METRICS_REQUEST_TIMEOUT):
            async with limiter:
                await stream.send_all(_answer(metrics, await _read_head(stream)))
                await stream.send_eof()
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        pass
    finally:
        await trio.aclose_forcefully(stream)


async def _read_head(stream: trio.SocketStream) -> bytes:
    """Return the request up to its empty line, or as much as came or is allowed."""
    head = bytearray()
    while b"\r\n\r\n" not in head and len(head) < limits.METRICS_REQUEST_BYTES_MAX:
        chunk = await stream.receive_some()
        if not chunk:
            break
        head += chunk
    return bytes(head)


def _answer(metrics: Metrics, head: bytes) -> bytes:
    method, _, rest = head.partition(b"\r\n")[0].partition(b" ")
    path = rest.partition(b" ")[0].partition(b"?")[0]
    if path != b"/metrics":
        status, body = "404 Not Found", b"the metrics are at /metrics\n"
    elif method not in (b"GET", b"HEAD"):
        status, body = "405 Method Not Allowed", b"only GET\n"
    else:
        status, body = "200 OK", metrics.render()
    lines = (
        f"HTTP/1.1 {status}",
        f"Content-Type: {_CONTENT_TYPE}",
        f"Content-Length: {len(body)}",
        "Connection: close",
    )
    text = "\r\n".join(lines).encode() + b"\r\n\r\n"
    return text if method == b"HEAD" else text + body
