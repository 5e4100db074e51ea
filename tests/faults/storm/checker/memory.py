"""Redis at rest holds what its rooms, nodes and the last ten minutes need, and nothing else.

Everything is archived by then: so archive streams are empty, a room's log is no longer than
ROOM_LOG_LENGTH (in whole nodes of a stream, as Redis trims), what rooms keep will expire, and there
is an idempotency key for at most each publish that may have happened.
"""

from collections import Counter
from collections.abc import Iterator

from tests.faults.storm.checker.breaches import Breach, Kind
from tests.faults.storm.checker.knowledge import Knowledge
from tests.faults.storm.record import KeyOfRedis

_STREAM_NODE = 100
"""Entries of a node of a stream: trimming with `~` leaves at most two that are not full."""
_NODES = 3
_OF_ROOMS = {"room", "log", "nodes", "presence", "reads", "told"}
_OF_PARTITIONS = {"life", "archive", "floors"}
_OF_NODES = {"inbox", "rooms-of"}
_EXPIRING = {"room", "log", "reads", "sent", "inbox", "typing"}
_OTHERS = {"deployment", "leases", "sent", "where", "typing"}


def check_memory(known: Knowledge) -> Iterator[Breach]:
    archive = known.record.archive
    if archive is None:
        return
    rooms = {row.room for row in archive.rooms}
    counts: Counter[str] = Counter()
    for key in known.record.keys:
        counts[key.kind] += key.size if key.kind == "sent" else 1
        yield from _check_key(known, rooms, key)
    asked = sum(
        1 for one in known.record.operations
        if one.kind == "publish" and one.asked.get("client_id")
    )  # fmt: skip
    if counts["sent"] > asked:
        yield Breach(Kind.UNBOUNDED, f"{counts['sent']} idempotency keys of {asked} publishes")
    for kind in _OF_NODES:
        if counts[kind] > _NODES:
            yield Breach(Kind.UNBOUNDED, f"{counts[kind]} keys {kind} of {_NODES} nodes")


def _check_key(known: Knowledge, rooms: set[str], key: KeyOfRedis) -> Iterator[Breach]:
    name = f"{key.kind}:{key.name} with {key.size}"
    if key.kind not in _OF_ROOMS | _OF_PARTITIONS | _OF_NODES | _OTHERS:
        yield Breach(Kind.UNBOUNDED, f"{name}: nobody knows what it is")
    if key.kind in _OF_ROOMS and key.name not in rooms and not key.name.startswith("/"):
        yield Breach(Kind.UNBOUNDED, f"{name}: there is no such room")
    if key.kind in _EXPIRING and key.expires_in is None:
        yield Breach(Kind.UNBOUNDED, f"{name}: it never expires")
    if key.kind == "archive" and key.size:
        yield Breach(Kind.UNBOUNDED, f"{name}: everything is archived")
    if key.kind == "log" and key.size > known.circumstances.log_length + 2 * _STREAM_NODE:
        yield Breach(Kind.UNBOUNDED, f"{name}: {known.circumstances.log_length} were to be kept")
    if key.kind == "leases" and key.size > _NODES:
        yield Breach(Kind.UNBOUNDED, f"{name}: leases of {_NODES} nodes")
    if key.kind == "floors" and key.size > 2 * len(rooms):
        yield Breach(Kind.UNBOUNDED, f"{name}: floors of {len(rooms)} rooms")
