"""The one shape in which an event lies in the room log, the archive stream and the inboxes.

An entry has a single field: a header line and the event's JSON, so that the same string serves all
three streams and reaches the sockets without being rebuilt::

    <epoch> <offset> <seq> <ms> <event> <R> <sender> <ver>\\n<data>

``offset`` 0 is an ephemeral event, or a receipt, which goes through the archive stream too: it has
no epoch, and in its place stands the connection that the event is not sent back to, or ``/``.
``seq`` is the room's message counter after the event (of a receipt: the seq that ``sender`` has
marked). ``ver`` is the version of an announced change, else 0. ``/`` stands for no sender, since no
id holds it; a notification has in that place the room that it is about. What only the script knows
(seq, times) is not in ``data``; whoever frames it stamps it from the header.
"""

from __future__ import annotations

from typing import Final, NamedTuple

NOBODY = "/"
"""Sender of what the project itself did, and epoch of what belongs to no numbering."""

_new: Final = tuple.__new__


class Entry(NamedTuple):
    """One event as stored."""

    epoch: str
    offset: int
    seq: int
    ms: int
    event: str
    room: str
    """R: ``<project>/<room>``."""
    sender: str | None
    ver: int
    data: bytes


def parse_entry(raw: bytes) -> Entry:
    """The event in a stream field; ``ValueError`` if it is none of ours."""
    head, _, data = raw.partition(b"\n")
    epoch, offset, seq, ms, event, room, sender, ver = head.decode().split(" ")
    # Past the class's own __new__, which is written in Python: half of what a tuple costs.
    return _new(
        Entry,
        (
            epoch,
            int(offset),
            int(seq),
            int(ms),
            event,
            room,
            None if sender == NOBODY else sender,
            int(ver),
            data,
        ),
    )


def behind(entry_id: str | bytes) -> str:
    """The stream id right behind an entry's."""
    text = entry_id.decode() if isinstance(entry_id, bytes) else entry_id
    ms, _, number = text.partition("-")
    return f"{ms}-{int(number) + 1}"


def pack_entry(entry: Entry) -> bytes:
    """The inverse of `parse_entry`; the scripts do the same in Lua."""
    head = (
        f"{entry.epoch} {entry.offset} {entry.seq} {entry.ms} {entry.event} {entry.room} "
        f"{entry.sender or NOBODY} {entry.ver}\n"
    )
    return head.encode() + entry.data
