"""Numbering: one place one message, one message one place, one request one message.

Never excused: what a loss of Redis took away keeps its seq for good. Only the repeat of a request
whose first message was lost may make another one, with another seq.
"""

from collections import defaultdict
from collections.abc import Iterator

from tests.faults.storm.checker.breaches import Breach, Kind
from tests.faults.storm.checker.knowledge import CREATED, Fact, Knowledge, identity_of


def check_places(known: Knowledge) -> Iterator[Breach]:
    for fact, other in known.clashes:
        yield Breach(
            Kind.SHARED_PLACE,
            f"{fact.room} {fact.epoch} offset {fact.offset}: {fact.event} and {str(other)[:200]}",
        )
    yield from _check_seqs(known)
    yield from _check_order(known)
    yield from _check_requests(known)


def _check_seqs(known: Knowledge) -> Iterator[Breach]:
    by_seq: dict[tuple[str, int], set[str]] = defaultdict(set)
    by_id: dict[str, set[tuple[str, int]]] = defaultdict(set)
    refused = set()
    if known.record.archive is not None:
        refused = {(letter.room, letter.seq) for letter in known.record.archive.dead_letters}
    for facts in known.ordered.values():
        for fact in facts:
            if fact.event == CREATED:
                by_seq[fact.room, fact.seq].add(fact.data["id"])
                by_id[fact.data["id"]].add((fact.room, fact.seq))
    for row in known.rows.values():
        # The placeholder of a row that PostgreSQL refused has an id of its own.
        if (row.room, row.seq) not in refused:
            by_seq[row.room, row.seq].add(row.id)
            by_id[row.id].add((row.room, row.seq))
    for operation in known.record.operations:
        if operation.kind == "publish" and operation.outcome == "ok":
            identity = identity_of(operation.room, operation.user, operation.asked)
            # What differs from the event of the same request is a wrong answer, not a place.
            if not known.real.get(identity):
                answer = operation.answer
                by_seq[operation.room, answer["seq"]].add(answer["message_id"])
    for (room, seq), ids in by_seq.items():
        if len(ids) > 1:
            yield Breach(Kind.SHARED_PLACE, f"{room} seq {seq}: {sorted(ids)}")
    for identity_, places in by_id.items():
        if len(places) > 1:
            yield Breach(Kind.SHARED_PLACE, f"{identity_}: {sorted(places)}")


def _check_order(known: Knowledge) -> Iterator[Breach]:
    """Within a room seq rises with the offset, through all epochs."""
    for room, facts in known.ordered.items():
        before: Fact | None = None
        for fact in facts:
            if fact.event != CREATED:
                continue
            if before is not None and fact.seq < before.seq:
                yield Breach(
                    Kind.REORDERED,
                    f"{room}: seq {fact.seq} at offset {fact.offset} of {fact.epoch} comes after "
                    f"seq {before.seq}",
                )
            before = fact


def _check_requests(known: Knowledge) -> Iterator[Breach]:
    """A `client_id` makes one message; without one, each request at most one."""
    for identity, ids in known.real.items():
        if len(ids) < 2:
            continue
        asked = known.asked.get(identity, [])
        may_make = 1 if identity[2] == "id" else sum(one.outcome != "failed" for one in asked)
        kept = ids
        if any(known.is_excused(operation) for operation in asked):
            kept = ids & (known.rows.keys() | known.buried.keys())
        if len(kept) > max(1, may_make):
            yield Breach(Kind.DUPLICATED, f"{identity}: {sorted(kept)}")
