"""What the clients write down while they run: every operation and every frame, with times.

`reading` makes the checker's record of it, with the same names.
"""

from dataclasses import dataclass, field
from typing import Any

import trio

from tests.faults.storm.record import Data, frame_of
from tests.faults.storm.record import Frame as Told
from tests.faults.storm.wire import Answer, Frame

# Answers after which nobody knows whether it happened.
_UNKNOWN = {"unavailable", "internal"}


@dataclass
class Note:
    """One operation; *refused*: it was answered that it did not happen."""

    kind: str
    user: str | None
    room: str
    asked: Data
    begun: float
    connection: str = ""
    ended: float | None = None
    outcome: str = "unknown"
    code: str = ""
    result: Any = None

    @property
    def is_to_repeat(self) -> bool:
        """It may or may not have happened, or would later."""
        return self.outcome == "unknown" or self.code in ("overloaded", "rate_limited")


@dataclass
class Line:
    """One connection: what was told over it, in order."""

    name: str
    user: str
    node: str
    opened: float
    frames: list[Told] = field(default_factory=list)
    closed: float | None = None
    close_code: int | None = None
    is_reading: bool = True
    commands: dict[int, Frame] = field(default_factory=dict)
    """What was asked, by the ids of the frames, until it is answered."""

    def take(self, frame: Frame) -> None:
        """Write a frame down."""
        command = None
        if frame["type"] in ("reply", "error"):
            command = self.commands.pop(frame.get("id") or 0, None)
        told = frame_of(trio.current_time(), frame, command)
        if told is not None:
            self.frames.append(told)


class Notes:
    """Everything that was written down in a run."""

    def __init__(self) -> None:
        self.operations: list[Note] = []
        self.lines: list[Line] = []
        self.events = 0
        """Durable events that were answered for."""

    def begin(
        self, kind: str, user: str | None, room: str, asked: Data, *, connection: str = ""
    ) -> Note:
        note = Note(kind, user, room, asked, trio.current_time(), connection)
        self.operations.append(note)
        return note

    def end_frame(self, note: Note, frame: Frame | None) -> None:
        """The answer to a command; None: there was none."""
        if frame is None:
            return
        note.ended = trio.current_time()
        if frame["type"] == "reply":
            note.outcome = "ok"
            note.result = frame["result"]
            self._count(note)
        else:
            note.code = frame["code"]
            note.outcome = "unknown" if note.code in _UNKNOWN else "refused"

    def end_rest(self, note: Note, answer: Answer | None) -> None:
        """The answer to a request; None: there was none."""
        if answer is None:
            return
        note.ended = trio.current_time()
        if answer.status < 300:
            note.outcome = "ok"
            note.result = answer.body
            self._count(note)
        else:
            note.code = (answer.body or {}).get("code", str(answer.status))
            note.outcome = "unknown" if note.code in _UNKNOWN else "refused"

    def _count(self, note: Note) -> None:
        result = note.result if isinstance(note.result, dict) else {}
        is_new = result.get("offset") is not None and not result.get("duplicate")
        if note.kind in ("add", "remove") or (is_new and note.kind != "subscribe"):
            self.events += 1
