"""What was answered: it happened, exactly as the answer says, and it is kept.

Jepsen calls an ok write that nobody can read any more lost. Here the place where it must be
readable in the end is PostgreSQL; where that was not looked at, the events.
"""

from collections import defaultdict
from collections.abc import Iterator

from tests.faults.storm.checker.breaches import Breach, Kind
from tests.faults.storm.checker.knowledge import CHANGES, DELETED, Fact, Knowledge, identity_of
from tests.faults.storm.record import MessageRow, Operation


def check_answers(known: Knowledge) -> Iterator[Breach]:
    rows: dict[tuple[str, int], MessageRow] = {(r.room, r.seq): r for r in known.rows.values()}
    direct: dict[frozenset[str], set[str]] = defaultdict(set)
    reactions = set()
    if known.record.archive is not None:
        reactions = {(r.room, r.seq, r.reaction, r.user) for r in known.record.archive.reactions}
    for operation in known.record.operations:
        if operation.outcome != "ok":
            continue
        if operation.kind == "publish":
            yield from _check_publish(known, operation)
        elif operation.kind in CHANGES and operation.answer.get("offset") is not None:
            row = rows.get((operation.room, operation.asked["seq"]))
            yield from _check_change(known, operation, row, reactions)
        elif operation.kind == "create" and operation.asked.get("kind") == "direct":
            pair = frozenset(operation.asked["members"])
            direct[pair].add(operation.answer["id"])
    for pair, rooms in direct.items():
        if len(rooms) > 1:
            yield Breach(Kind.DUPLICATED, f"direct rooms of {sorted(pair)}: {sorted(rooms)}")


def _check_publish(known: Knowledge, operation: Operation) -> Iterator[Breach]:
    answer = operation.answer
    message_id = answer["message_id"]
    name = f"{operation.room}: {identity_of(operation.room, operation.user, operation.asked)[1:]}"
    real = known.real.get(identity_of(operation.room, operation.user, operation.asked), set())
    row, fact = known.rows.get(message_id), known.created.get(message_id)
    if real and message_id not in real:
        if not known.is_excused(operation):
            yield Breach(Kind.WRONG_ANSWER, f"{name}: answered {message_id}, made {sorted(real)}")
        return
    told = (operation.room, answer["seq"], answer["offset"])
    if fact is not None and told != (fact.room, fact.seq, fact.offset):
        yield Breach(Kind.WRONG_ANSWER, f"{name}: {told}, event {fact.seq} at {fact.offset}")
    elif row is not None and told != (row.room, row.seq, row.event_offset):
        yield Breach(Kind.WRONG_ANSWER, f"{name}: {told}, row {row.seq} at {row.event_offset}")
    is_kept = fact is not None if known.record.archive is None else row is not None
    # What PostgreSQL refuses is kept as a dead letter; `archive` judges whether it may be one.
    is_kept = is_kept or message_id in known.buried
    if not is_kept and not known.is_excused(operation):
        yield Breach(Kind.LOST, f"{name}: seq {answer['seq']} at {answer['offset']}, {message_id}")


def _check_change(
    known: Knowledge,
    operation: Operation,
    row: MessageRow | None,
    reactions: set[tuple[str, int, str, str]],
) -> Iterator[Breach]:
    offset, target = operation.answer["offset"], (operation.room, operation.asked["seq"])
    found = known.at_offset(operation.room, offset)
    if any(_is_of(operation, fact) for fact in found) or known.is_excused(operation):
        return
    name = (
        f"{operation.room}: {operation.kind} of seq {operation.asked['seq']} "
        f"by {operation.user} at {offset}"
    )
    if found:
        yield Breach(Kind.WRONG_ANSWER, f"{name}: there is {found[0].event} of {found[0].seq}")
        return
    if any((one.room, one.seq) == target for one in known.buried.values()):
        return  # of a dead letter nothing is kept that could show it
    if row is None or known.record.archive is None:
        yield Breach(Kind.WITHOUT_EFFECT, f"{name}: nobody has seen it")
        return
    # Nobody saw it and the log is trimmed: the row shows it.
    if row.is_deleted or operation.kind == "delete":
        shows = row.is_deleted
    elif operation.kind == "edit":
        shows = row.last_offset >= offset
    else:
        mark = (operation.room, row.seq, operation.asked["reaction"], operation.user or "")
        shows = operation.kind == "unreact" or mark in reactions or _was_undone(known, operation)
    if not shows:
        yield Breach(Kind.WITHOUT_EFFECT, f"{name}: neither an event nor the row shows it")


def _is_of(operation: Operation, fact: Fact) -> bool:
    if fact.event != CHANGES[operation.kind] or fact.seq != operation.asked["seq"]:
        return False
    by = fact.data.get("user") if "reaction" in operation.asked else fact.data.get("by")
    if by != operation.user or fact.data.get("reaction") != operation.asked.get("reaction"):
        return False
    return fact.event == DELETED or fact.data.get("content") == operation.asked.get("content")


def _was_undone(known: Knowledge, operation: Operation) -> bool:
    return any(
        other.kind == "unreact"
        and other.outcome != "failed"
        and (other.room, other.user, other.asked["seq"], other.asked["reaction"])
        == (operation.room, operation.user, operation.asked["seq"], operation.asked["reaction"])
        for other in known.record.operations
    )
