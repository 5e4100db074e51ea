"""One room with many receivers and few senders: deliveries per server CPU second.

Rules: every connection of the room receives everything, senders too. A sender publishes again
when the room's window allows: one publish not yet answered and seen by the first sender
(`in_flight` 1: the server has nothing to join) or several (events that arrive together may share
a send). Receivers are emptied fifty times a second, as those of a network would be found with
several events, and what they received is compared byte by byte with what the first of them
received and checked.

An interval begins and ends with everything delivered, so CPU and deliveries belong together.
"""

import contextlib
import select
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from bench import accounting, checks, figures, wire
from bench.connection import (
    RECEIVE_BYTES,
    BenchError,
    Connection,
    close_all,
    open_connections,
    other_frames,
    subscribe_all,
)
from bench.dialect import Frame, Kind
from bench.target import Target

EMPTY_INTERVAL: Final = 0.02  # seconds between two looks at the receivers


@dataclass(frozen=True, kw_only=True)
class FanoutOptions:
    """Sizes of the scenario."""

    receivers: int = 1000
    senders: int = 2
    in_flight: int = 1  # publishes of the room not answered and seen, all senders together
    seconds: float = 5.0
    warm_up: float = 1.0
    patience: float = 20.0  # seconds that the last deliveries may take


class _Sender:
    """A connection that publishes and also receives."""

    def __init__(self, connection: Connection, room: "Room", reference: checks.Reference) -> None:
        self.connection = connection
        self.reader = checks.ReferenceReader(connection.user, reference, self._take_other)
        self._room = room
        self._number = 0
        self._unanswered: set[int] = set()

    def publish(self) -> None:
        self._number += 1
        self._unanswered.add(self._number)
        user = self.connection.user
        dialect = self.connection.dialect
        self.connection.send(dialect.publish(self._number, self._room.name, user, self._room.run))
        if not dialect.answers_publishes:
            self._unanswered.remove(self._number)
            self._room.answered += 1

    def receive(self) -> None:
        data = self.connection.receive()
        if data:
            self.reader.take(data)

    def _take_other(self, opcode: int, frame: Frame, payload: bytes) -> None:
        connection = self.connection
        if opcode & wire.CONTROL:
            connection.answer_control(opcode, payload)
            return
        if frame.kind != Kind.ANSWER or frame.number not in self._unanswered:
            connection.take_other(frame.kind, payload)
            return
        self._unanswered.remove(frame.number)
        result = connection.dialect.result(payload)
        self._room.answers.take_reply(connection.user, frame.number, result)
        self._room.answered += 1


class Room:
    """The room's connections and what is on its way."""

    def __init__(
        self,
        name: str,
        connections: Sequence[Connection],
        offset: int,
        target: Target,
        options: FanoutOptions,
    ) -> None:
        self.name = name
        self.run = f"{time.time_ns():x}"
        self.answers = checks.Answers(checks_content=target.checks_content)
        self.published = 0
        self.answered = 0
        self._in_flight = options.in_flight
        self._patience = options.patience
        reference = checks.Reference(offset + 1, self.answers, target.dialect)
        self.senders = [_Sender(one, self, reference) for one in connections[: options.senders]]
        self._receivers = {
            one.fd: (one, checks.ReferenceReader(one.user, reference, other_frames(one)))
            for one in connections[options.senders :]
        }
        self._by_fd = {one.connection.fd: one for one in self.senders}
        self._fast = select.epoll()
        self._slow = select.epoll()
        for fd in self._by_fd:
            self._fast.register(fd, select.EPOLLIN)
        for fd in self._receivers:
            self._slow.register(fd, select.EPOLLIN)
        for one in self.senders:
            one.reader.take(one.connection.rest)
        for connection, reader in self._receivers.values():
            reader.take(connection.rest)  # what came behind the answer to the subscribe

    def _finished(self) -> int:
        """Publishes that were answered and whose event the first sender has."""
        return min(self.answered, self.senders[0].reader.delivered)

    def run_until(self, end: float) -> None:
        """Publish until `end` on the performance counter, then wait until all is delivered."""
        empty_at = 0.0
        turn = 0
        while (now := time.perf_counter()) < end:
            while self.published - self._finished() < self._in_flight:
                self.senders[turn].publish()
                self.published += 1
                turn = (turn + 1) % len(self.senders)
            if now >= empty_at:
                self.empty_receivers()
                empty_at = time.perf_counter() + EMPTY_INTERVAL
            for fd, _ in self._fast.poll(EMPTY_INTERVAL):
                self._by_fd[fd].receive()
        self._drain(end + self._patience)
        self.answers.verify()

    def empty_receivers(self) -> None:
        """Take all that the receivers hold."""
        receivers = self._receivers
        for fd, _ in self._slow.poll(0, len(receivers) + 1):
            connection, reader = receivers[fd]
            size = RECEIVE_BYTES
            while size == RECEIVE_BYTES:
                data = connection.receive()
                size = len(data)
                reader.take(data)

    def _readers(self) -> list[checks.ReferenceReader]:
        return [one.reader for one in self.senders] + [
            reader for _, reader in self._receivers.values()
        ]

    def _drain(self, deadline: float) -> None:
        readers = self._readers()
        while time.perf_counter() < deadline:
            for fd, _ in self._fast.poll(EMPTY_INTERVAL):
                self._by_fd[fd].receive()
            self.empty_receivers()
            if self.answered == self.published and all(
                one.delivered >= self.published for one in readers
            ):
                return
        if self.answered != self.published:
            raise checks.CheckFailed(
                f"{self.published - self.answered} of {self.published} publishes not answered"
            )
        slow = next(one for one in readers if one.delivered < self.published)
        raise checks.CheckFailed(
            f"{slow.label}: {self.published - slow.delivered} of {self.published} events "
            "answered but not delivered"
        )


@contextlib.contextmanager
def open_room(
    target: Target, room: str, users: Sequence[str], options: FanoutOptions
) -> Iterator[Room]:
    """The room with everybody in it, warmed up; closed with the block."""
    connections = open_connections(target, users, [room] * len(users))
    try:
        offsets = subscribe_all(connections, [room] * len(users))
        if len(set(offsets)) != 1:
            raise BenchError(f"{room}: the room was not quiet while its members subscribed")
        state = Room(room, connections, offsets[0], target, options)
        state.run_until(time.perf_counter() + options.warm_up)
        yield state
    finally:
        close_all(connections)


def run_fanout(
    target: Target, room: str, users: Sequence[str], options: FanoutOptions
) -> figures.Round:
    """One turn of `target`. `users` are as many as `receivers`."""
    with open_room(target, room, users, options) as state:
        meter = target.meter()
        published = state.published
        before = meter.read()
        state.run_until(time.perf_counter() + options.seconds)
        usage = accounting.between(before, meter.read())
    count = state.published - published
    deliveries = count * len(users)
    details = {
        "deliveries": float(deliveries),
        "deliveries_per_second": deliveries / usage.wall,
        "publishes_per_second": count / usage.wall,
        **figures.redis_details(deliveries, count, usage),
    }
    return figures.Round(
        target=target.name,
        figure=figures.per_cpu_second(deliveries, usage.server_cpu),
        usage=usage,
        details=details,
        refused=figures.saturation(usage),
    )
