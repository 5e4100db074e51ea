"""Many publishes from one connection, as preparation: pipelined, every answer checked."""

import select
import time
from collections.abc import Sequence
from typing import Final

from bench import checks
from bench.connection import OPEN_TIMEOUT, BenchError, Connection, open_connections
from bench.dialect import Kind, content_of
from bench.target import Target

IN_FLIGHT: Final = 200  # publishes sent and not answered


class _Publisher:
    """What is on its way, and where the rooms are."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._run = f"{time.time_ns():x}"
        self._unanswered: dict[int, str] = {}
        self._offsets: dict[str, int] = {}
        self._poll = select.poll()
        self._poll.register(connection.fd, select.POLLIN)

    def publish(self, number: int, room: str) -> None:
        """Send one when few enough are on their way."""
        while len(self._unanswered) >= IN_FLIGHT:
            self._take()
        connection = self._connection
        self._unanswered[number] = room
        connection.send(connection.dialect.publish(number, room, connection.user, self._run))

    def finish(self) -> None:
        """Wait for the last answer."""
        while self._unanswered:
            self._take()

    def _take(self) -> None:
        connection = self._connection
        if not self._poll.poll(OPEN_TIMEOUT * 1000):
            raise checks.CheckFailed(f"{len(self._unanswered)} publishes not answered")
        for frame, payload in connection.take_frames():
            if frame.kind != Kind.ANSWER:
                connection.take_other(frame.kind, payload)
                continue
            room = self._unanswered.pop(frame.number, None)
            if room is None:
                raise BenchError(f"an answer to nothing: {payload[:300]!r}")
            expected = self._offsets.get(room, frame.offset - 1) + 1
            if frame.offset != expected:
                raise checks.CheckFailed(checks.describe_offset(room, expected, frame.offset))
            self._offsets[room] = frame.offset


def publish_many(
    target: Target, writer: str, rooms: Sequence[str], each: int
) -> dict[str, list[str]]:
    """Publish `each` messages into each of `rooms`, in turn; what each room got, in order.

    `writer` is a member of all and subscribes none. Raises CheckFailed for a wrong answer.
    """
    (connection,) = open_connections(target, [writer], rooms[:1])
    written: dict[str, list[str]] = {room: [] for room in rooms}
    try:
        connection.sock.setblocking(False)
        publisher = _Publisher(connection)
        number = 0
        for _ in range(each):
            for room in rooms:
                number += 1
                written[room].append(content_of(writer, number))
                publisher.publish(number, room)
        publisher.finish()
    finally:
        connection.close()
    return written
