"""What the test client keeps of what it has seen, and the errors it raises."""

from dataclasses import dataclass, field
from typing import Any


class ChatError(Exception):
    """An `error` frame: `code`, `message`, `retry_after`, `field`."""

    def __init__(self, frame: dict[str, Any]) -> None:
        super().__init__(f"{frame.get('code')}: {frame.get('message')} ({frame.get('field')})")
        self.frame = frame
        self.code: str = frame["code"]
        self.message: str = frame["message"]
        self.retry_after: float | None = frame.get("retry_after")
        self.field: str | None = frame.get("field")


class ConnectionEnded(Exception):
    """The connection ended before the answer came: the outcome is unknown."""

    def __init__(self, code: int | None, reason: str | None) -> None:
        super().__init__(f"connection ended: {code} {reason}")
        self.code = code
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Event:
    """One event of a room; `offset` is None for an ephemeral one."""

    event: str
    room: str
    offset: int | None
    time: str
    data: dict[str, Any]


@dataclass(slots=True)
class Position:
    """Where a client is in a room: what `since` takes."""

    epoch: str
    offset: int

    def as_since(self) -> dict[str, Any]:
        return {"epoch": self.epoch, "offset": self.offset}


@dataclass(slots=True)
class RoomView:
    """What a client has seen of one room."""

    events: list[Event] = field(default_factory=list)
    position: Position | None = None
    is_subscribed: bool = False
