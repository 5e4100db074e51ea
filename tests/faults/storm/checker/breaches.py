"""What can be wrong with a record. One word for each way to break a promise.

The words follow Jepsen's analysis of logs (jepsen-io/jepsen, `jepsen/tests/kafka.clj`, docstring):
an operation is ok, failed or unknown ("info"); a value whose writer *failed* but that was read is
an aborted read; two values at one offset are a divergence; an ok write at or below the highest
offset that anybody has read, and that nobody has read, is *lost*; one that is only not read yet is
*unseen*; *duplicates* and *nonmonotonic* or skipping polls are what they say. Parley promises more
than a log does (presence, receipts, membership, an archive), so there are more words here.
"""

from enum import StrEnum
from typing import NamedTuple


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


class Breach(NamedTuple):
    """One thing that is wrong."""

    kind: Kind
    text: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.text}"
