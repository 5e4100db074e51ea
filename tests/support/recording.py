"""What the clients of a test have asked and seen, as a record for the judge of the storms.

The judge is `tests/faults/storm/checker`; `tests/faults/storm/record.py` says what a record is. A
`ChatClient` keeps its frames, and `Recorder` makes a connection of them; a publish is an operation.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import trio

from tests.faults.storm.reading import read_archive
from tests.faults.storm.record import (
    Archive,
    Circumstances,
    Connection,
    Operation,
    Outcome,
    Record,
    Window,
    frame_of,
)
from tests.support.client import ChatClient

ALWAYS = Window(float("-inf"), float("inf"))
"""Redis may have lost anything that was not archived, at any time."""


class Recorder:
    """The frames of one client, as far as they came."""

    def __init__(self, client: ChatClient, name: str, user: str) -> None:
        self._client = client
        self._done = 0
        self.connection = Connection(name, user, "", trio.current_time())

    def take(self) -> None:
        """Take what has come since the last time."""
        frames = self._client.frames
        for frame in frames[self._done :]:
            command = self._client.commands.get(frame.get("id"))
            told = frame_of(trio.current_time(), frame, command)
            if told is not None:
                self.connection.frames.append(told)
        self._done = len(frames)

    def end(self) -> None:
        """The connection is over."""
        self.take()
        self.connection.closed = trio.current_time()
        self.connection.close_code = self._client.close_code


def publish_of(
    room: str,
    user: str,
    content: str,
    *,
    client_id: str,
    outcome: Outcome,
    begun: float,
    answer: dict[str, Any] | None = None,
    code: str = "",
) -> Operation:
    """One publish that is over, or whose answer is not awaited any more."""
    ended = None if outcome == "unknown" else trio.current_time()
    asked = {"content": content, "client_id": client_id}
    return Operation(
        "publish", user, room, begun, ended, outcome, code=code, asked=asked, answer=answer or {}
    )


def record_of(
    operations: Iterable[Operation],
    connections: Iterable[Connection],
    *,
    database_url: str,
    members: dict[str, Sequence[str]],
    settled_at: float | None = None,
    may_have_lost: Sequence[Window] = (),
) -> Record:
    """The record of these rooms, with what PostgreSQL holds of them now."""
    whole = read_archive(database_url)
    return Record(
        operations=list(operations),
        connections=list(connections),
        archive=Archive(
            messages=[row for row in whole.messages if row.room in members],
            reactions=[row for row in whole.reactions if row.room in members],
            members=[row for row in whole.members if row.room in members],
            rooms=[row for row in whole.rooms if row.room in members],
            dead_letters=[row for row in whole.dead_letters if row.room in members],
        ),
        circumstances=Circumstances(
            members={room: dict.fromkeys(users, "member") for room, users in members.items()},
            settled_at=settled_at,
            may_have_lost=may_have_lost,
        ),
    )
