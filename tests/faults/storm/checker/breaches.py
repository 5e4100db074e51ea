"""What can be wrong with a record. One word for each way to break a promise.

The words follow Jepsen's analysis of logs (jepsen-io/jepsen, `jepsen/tests/kafka.clj`, docstring):
an operation is ok, failed or unknown ("info"); a value whose writer *failed* but that was read is
an aborted read; two values at one offset are a divergence; an ok write at or below the highest
offset that anybody has read, and that nobody has read, is *lost*; one that is only not read yet is
*unseen*; *duplicates* and *nonmonotonic* or skipping polls are what they say. Parley promises more
than a log does (presence, receipts, membership, an archive), so there are more words here.
"""

from enum import StrEnum
from typing import Final, NamedTuple


class Kind(StrEnum):
    """A way to be wrong."""

    LOST = "answered but lost"
    DOUBLED = "delivered twice to a connection"
    REORDERED = "out of order"
    SILENT_HOLE = "a hole that was not announced"
    UNSEEN = "a subscribed connection never got the newest events"
    UNASKED = "an event outside of a subscription"
    INVENTED = "an event that nobody caused"
    SHARED_PLACE = "one place with two messages, or one message at two places"
    WRONG_ANSWER = "an answer that differs from the event"
    DUPLICATED = "one request made two messages"
    FALSE_RECOVERY = "recovered, as was told, but it was not"
    REFUSED_YET_DONE = "refused, yet it happened"
    WITHOUT_EFFECT = "a change that was answered has no effect"
    WRONG_ARCHIVE = "the archive differs from the events"
    STALE_READ = "a read older than a write that was answered before it"
    SEEN_BY_OUTSIDER = "seen by somebody who was no member"
    WRONG_PRESENCE = "presence differs from who is connected"
    WRONG_UNREAD = "unread differs from a recount"
    MARK_WENT_BACK = "a receipt went back"
    FLAPPED = "presence told of a reconnect within the grace"
    UNBOUNDED = "Redis keeps what nobody needs"


class Trouble(StrEnum):
    """What a run itself found wrong, beside what its record shows."""

    ENDED = "a process ended by itself"
    TRACEBACK = "a process wrote a traceback"
    NEVER_BACK = "a client is not back, or without its answers"
    NOT_ARCHIVED = "the archive never caught up"
    NOT_DELIVERED = "a subscribed client never caught up"
    GHOST = "presence differs from who is connected, 20 s after the last fault"
    SLOW_DRAIN = "SIGTERM did not end a process in its time"
    INVARIANT = "Redis breaks an invariant"
    LEAK = "descriptors leak"


PROMISES: Final[dict[Kind | Trouble, int]] = {
    Kind.LOST: 1,
    Kind.DOUBLED: 1,
    Kind.REORDERED: 1,
    Kind.UNASKED: 1,
    Kind.INVENTED: 1,
    Kind.SHARED_PLACE: 1,
    Kind.WRONG_ANSWER: 1,
    Kind.WITHOUT_EFFECT: 1,
    Kind.WRONG_ARCHIVE: 1,
    Kind.STALE_READ: 1,
    Kind.WRONG_UNREAD: 1,
    Kind.MARK_WENT_BACK: 1,
    Trouble.NOT_ARCHIVED: 1,
    Kind.SILENT_HOLE: 2,
    Kind.UNSEEN: 2,
    Kind.FALSE_RECOVERY: 2,
    Trouble.NEVER_BACK: 2,
    Trouble.NOT_DELIVERED: 2,
    Kind.DUPLICATED: 3,
    Kind.REFUSED_YET_DONE: 3,
    Kind.WRONG_PRESENCE: 5,
    Kind.FLAPPED: 5,
    Trouble.GHOST: 5,
    Trouble.SLOW_DRAIN: 6,
    Kind.SEEN_BY_OUTSIDER: 7,
    Kind.UNBOUNDED: 8,
    Trouble.INVARIANT: 8,
    Trouble.LEAK: 8,
    Trouble.ENDED: 0,
    Trouble.TRACEBACK: 0,
}
"""The promise (docs/reliability.md) that each breaks; 0: none, and wrong all the same."""


class Breach(NamedTuple):
    """One thing that is wrong."""

    kind: Kind | Trouble
    text: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.text}"
