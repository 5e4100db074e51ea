"""From publish to event: percentiles, open loop.

Rules: publishes leave by a schedule of random gaps that nothing delays: a slow answer does not
hold back the next publish, and time counts from the moment at which a publish was due, not from
the moment at which the generator got round to it (no coordinated omission). Counted are the
events at all receivers but the sender.

The generator waits in `select` on its epoll object, whose deadline is exact to some microseconds;
epoll's own is exact to a millisecond only.
"""

import random
import select
import time
from collections.abc import Sequence
from dataclasses import dataclass

from bench import accounting, checks, figures, wire
from bench.connection import (
    BenchError,
    Connection,
    close_all,
    open_connections,
    subscribe_all,
)
from bench.dialect import Kind, written_in
from bench.target import Target


@dataclass(frozen=True, kw_only=True)
class LatencyOptions:
    """Sizes of the scenario."""

    receivers: int = 100  # with the sender
    rate: float = 100.0  # publishes a second
    seconds: float = 5.0
    warm_up: float = 1.0
    patience: float = 10.0
    beside: int = 0  # receivers of a second room that is under load meanwhile


def schedule(rate: float, seconds: float, seed: int) -> list[float]:
    """Due times from 0 on: gaps as of independent people, `rate` a second in the mean."""
    source = random.Random(seed)
    due: list[float] = []
    at = source.expovariate(rate)
    while at < seconds:
        due.append(at)
        at += source.expovariate(rate)
    return due


class _Latency:
    """One sender, its receivers, and the times."""

    def __init__(self, connections: Sequence[Connection], room: str, offset: int) -> None:
        self._room = room
        self._run = f"{time.time_ns():x}"
        self._sender = connections[0]
        self._dialect = self._sender.dialect
        self._connections = {one.fd: one for one in connections}
        self._checks = {
            one.fd: checks.OffsetCheck(f"{one.user} in {room}", offset + 1) for one in connections
        }
        self._first_offset = offset + 1
        self._due: list[float] = []  # by publish, absolute
        self._answers = 0
        self._events = 0
        self.event_times: list[float] = []
        self.answer_times: list[float] = []
        self._epoll = select.epoll()
        for fd in self._connections:
            self._epoll.register(fd, select.EPOLLIN)

    def run(self, due: Sequence[float], patience: float) -> None:
        """Publish at the due times and wait for everything that follows from it."""
        self.event_times.clear()
        self.answer_times.clear()
        start = time.perf_counter()
        pending = [start + at for at in reversed(due)]
        deadline = start + (due[-1] if due else 0.0) + patience
        while pending or self._is_waiting():
            now = time.perf_counter()
            if now > deadline:
                raise checks.CheckFailed(self._describe_missing())
            while pending and pending[-1] <= now:
                self._publish(pending.pop())
            wait = (pending[-1] if pending else deadline) - time.perf_counter()
            if wait > 0:
                select.select([self._epoll], [], [], wait)
            for fd, _ in self._epoll.poll(0):
                self._take(fd)

    def _is_waiting(self) -> bool:
        published = len(self._due)
        return self._answers < published or self._events < published * len(self._connections)

    def _publish(self, due: float) -> None:
        self._due.append(due)
        number = len(self._due)
        frame = self._dialect.publish(number, self._room, self._sender.user, self._run)
        self._sender.send(frame)
        if not self._dialect.answers_publishes:
            self._answers += 1

    def _take(self, fd: int) -> None:
        connection = self._connections[fd]
        data = connection.rest + connection.receive()
        now = time.perf_counter()
        places, rest_at = wire.walk_frames(data)
        connection.rest = data[rest_at:]
        for opcode, start, end in places:
            if opcode & wire.CONTROL:
                connection.answer_control(opcode, data[start:end])
                continue
            frame = self._dialect.classify(data, start, end)
            if frame.kind == Kind.ANSWER and 0 < frame.number <= len(self._due):
                self._answers += 1
                self.answer_times.append(now - self._due[frame.number - 1])
            elif frame.kind != Kind.MESSAGE:
                connection.take_other(frame.kind, data[start:end])
            elif self._dialect.numbers_events:
                self._take_event(fd, frame.number, now)
            else:
                _, number = written_in(data, start, end)
                self._take_event(fd, self._first_offset + number - 1, now)

    def _take_event(self, fd: int, offset: int, now: float) -> None:
        self._checks[fd].take(offset)
        index = offset - self._first_offset
        if index >= len(self._due):
            raise checks.CheckFailed(f"{self._room}: offset {offset} was never published")
        self._events += 1
        if fd != self._sender.fd:
            self.event_times.append(now - self._due[index])

    def _describe_missing(self) -> str:
        published = len(self._due)
        expected = published * len(self._connections)
        return (
            f"{self._room}: {published - self._answers} answers and "
            f"{expected - self._events} events of {published} publishes did not come"
        )


def run_latency(
    target: Target, room: str, users: Sequence[str], options: LatencyOptions
) -> figures.Round:
    """One turn of `target`. `users` are as many as `receivers`. The figure is p50 in ms."""
    connections = open_connections(target, users, [room] * len(users))
    try:
        offsets = subscribe_all(connections, [room] * len(users))
        if len(set(offsets)) != 1:
            raise BenchError(f"{room}: the room was not quiet while its members subscribed")
        state = _Latency(connections, room, offsets[0])
        state.run(schedule(options.rate, options.warm_up, seed=1), options.patience)
        meter = target.meter()
        before = meter.read()
        state.run(schedule(options.rate, options.seconds, seed=2), options.patience)
        usage = accounting.between(before, meter.read())
    finally:
        close_all(connections)
    times = sorted(state.event_times)
    answers = sorted(state.answer_times)
    details = {
        "events": float(len(times)),
        "p50_ms": figures.percentile(times, 0.5) * 1e3,
        "p99_ms": figures.percentile(times, 0.99) * 1e3,
        "p999_ms": figures.percentile(times, 0.999) * 1e3,
    }
    if answers:
        details["answer_p50_ms"] = figures.percentile(answers, 0.5) * 1e3
        details["answer_p99_ms"] = figures.percentile(answers, 0.99) * 1e3
    return figures.Round(
        target=target.name,
        figure=details["p50_ms"],
        usage=usage,
        details=details,
        refused=figures.saturation(usage),
    )
