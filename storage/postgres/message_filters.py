"""Which messages of a room a page is made of: conditions by shape, each with its index.

A filter never concerns what an edit can change. Its shape (which parts are given) names a piece of
SQL, so that every shape is a statement of its own with the plan that suits it.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final, NamedTuple

TEXT: Final = "text"
CLOCK_SLACK: Final = 1000
"""Messages on each side of a time bound whose order a clock that was set back may have upset."""

_EARLIEST: Final = datetime(1, 1, 1, tzinfo=UTC)
_LATEST: Final = datetime(9999, 1, 1, tzinfo=UTC)

# $a, $b stand for the numbers of the arguments that a part takes.
_PARTS: Final = {
    "sender": ("sender = $a", 1),
    "text": ("kind = 'text'", 0),
    # Said twice, so that the planner sees that the partial index will do.
    "kind": ("kind = $a AND kind <> 'text'", 1),
    "time": (
        f"seq BETWEEN message_seq_at($1, $a) - {CLOCK_SLACK} "
        f"AND message_seq_at($1, $b) + {CLOCK_SLACK} AND created_at BETWEEN $a AND $b",
        2,
    ),
    "replies": ("reply_to = $a", 1),
}
PLACES: Final = {part: count for part, (_text, count) in _PARTS.items()}
"""How many arguments each part of a shape takes."""
SHAPES: Final = (
    "",
    *(
        " ".join(part for part in (sender, kind, time) if part)
        for sender in ("", "sender")
        for kind in ("", "text", "kind")
        for time in ("", "time")
        if sender or kind or time
    ),
    "replies",
)
"""The parts of a filter, in the order of their arguments."""


class MessageFilter(NamedTuple):
    """What messages must have in common; None: anything. Times are inclusive.

    `reply_to` goes with no other part.
    """

    sender: str | None = None
    kind: str | None = None
    earliest: datetime | None = None
    latest: datetime | None = None
    reply_to: int | None = None

    @property
    def shape(self) -> str:
        """One of SHAPES."""
        if self.reply_to is not None:
            return "replies"
        parts = []
        if self.sender is not None:
            parts.append("sender")
        if self.kind is not None:
            parts.append("text" if self.kind == TEXT else "kind")
        if self.earliest is not None or self.latest is not None:
            parts.append("time")
        return " ".join(parts)

    @property
    def arguments(self) -> tuple[object, ...]:
        """The values of the shape's arguments."""
        if self.reply_to is not None:
            return (self.reply_to,)
        found: list[object] = []
        if self.sender is not None:
            found.append(self.sender)
        if self.kind not in (None, TEXT):
            found.append(self.kind)
        if self.earliest is not None or self.latest is not None:
            found += [self.earliest or _EARLIEST, self.latest or _LATEST]
        return tuple(found)

    def admits(self, sender: str | None, kind: str, at: datetime, reply_to: int | None) -> bool:
        """Whether such a message is one of these."""
        return (
            (self.sender is None or self.sender == sender)
            and (self.kind is None or self.kind == kind)
            and (self.earliest is None or self.earliest <= at)
            and (self.latest is None or at <= self.latest)
            and (self.reply_to is None or self.reply_to == reply_to)
        )


NO_FILTER: Final = MessageFilter()


def conditions(shape: str, first: int) -> str:
    """SQL to put behind `room_pk = $1`; the arguments begin at number `first`."""
    found = ""
    for part in shape.split():
        text, count = _PARTS[part]
        found += " AND " + text.replace("$a", f"${first}").replace("$b", f"${first + 1}")
        first += count
    return found
