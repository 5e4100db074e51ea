"""PostgreSQL against the events: a model replays them, and every row must be what comes out.

The rules of the model are the contract's: an edit replaces the fields that it gives, nothing
changes a deleted message, reactions are a set. An event that nobody saw (its request's outcome is
unknown, or nobody was subscribed) shows in the row by an offset above all that are known; then it
must be one that somebody asked for.
"""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tests.faults.storm.checker.breaches import Breach, Kind
from tests.faults.storm.checker.knowledge import (
    CREATED,
    DELETED,
    EDITED,
    Fact,
    Knowledge,
    identity_of,
)
from tests.faults.storm.record import Archive, MessageRow, Operation

_OF_AN_ENDED_LIFE = "late_epoch"
_FIELDS = ("content", "metadata", "attachments")
Reaction = tuple[str, int, str, str]


@dataclass(slots=True)
class _Message:
    """What events make of a message."""

    fields: dict[str, Any]
    last_offset: int
    is_edited: bool = False
    is_deleted: bool = False
    deleted_by: str | None = None

    def apply(self, fact: Fact) -> None:
        if self.is_deleted:
            return
        self.last_offset = fact.offset
        if fact.event == DELETED:
            self.is_deleted, self.deleted_by = True, fact.data.get("by")
        else:
            self.is_edited = True
            self.fields |= {name: fact.data[name] for name in _FIELDS if name in fact.data}


def check_archive(known: Knowledge) -> Iterator[Breach]:
    archive = known.record.archive
    if archive is None:
        return
    changes, unknown = _changes_by_message(known)
    for row in archive.messages:
        created = known.created.get(row.id)
        if created is not None:
            key = (row.room, row.seq)
            yield from _check_row(known, row, created, changes[key], unknown[key])
    answered = {
        operation.answer["message_id"]
        for operation in known.record.operations
        if operation.kind == "publish" and operation.outcome == "ok"
    }
    for identity, fact in known.created.items():
        # One that was answered is reported as lost.
        is_stored = identity in known.rows or identity in answered or identity in known.buried
        if not is_stored and not known.is_fact_excused(fact):
            yield _wrong(f"{fact.room}: no row of seq {fact.seq}, which was seen")
    yield from _check_reactions(known, archive)
    yield from _check_rooms(known, archive)
    yield from _check_letters(known, archive)


def _wrong(text: str) -> Breach:
    return Breach(Kind.WRONG_ARCHIVE, text)


def _changes_by_message(
    known: Knowledge,
) -> tuple[dict[tuple[str, int], list[Fact]], dict[tuple[str, int], list[Operation]]]:
    """Edits and deletions of each message in their order, and those that may have happened."""
    changes: dict[tuple[str, int], list[Fact]] = defaultdict(list)
    unseen: dict[tuple[str, int], list[Operation]] = defaultdict(list)
    for room, facts in known.ordered.items():
        for fact in facts:
            if fact.event in (EDITED, DELETED):
                changes[room, fact.seq].append(fact)
    for operation in known.record.operations:
        if operation.kind in ("edit", "delete") and operation.outcome != "failed":
            unseen[operation.room, operation.asked["seq"]].append(operation)
    return changes, unseen


def _check_row(
    known: Knowledge,
    row: MessageRow,
    created: Fact,
    changes: list[Fact],
    possible: list[Operation],
) -> Iterator[Breach]:
    name = f"{row.room}: row of seq {row.seq}"
    model = _Message({f: created.data.get(f) for f in _FIELDS}, created.offset)
    for change in changes:
        # What Redis may have lost counts as far as the row says that it was kept.
        if change.offset <= row.last_offset or not known.is_fact_excused(change):
            model.apply(change)
    fixed = ("sender", "kind", "client_id", "reply_to")
    differ = [f for f in fixed if getattr(row, f) != created.data.get(f, getattr(row, f))]
    if row.event_offset != created.offset:
        differ.append("event_offset")
    if model.last_offset > row.last_offset:
        if any(known.is_excused(o) for o in possible if o.answer.get("offset", 0)):
            return
        yield _wrong(f"{name} ends at {row.last_offset}, events at {model.last_offset}")
        return
    if model.last_offset < row.last_offset:
        if not any(_may_have_made(operation, row) for operation in possible):
            yield _wrong(f"{name} ends at {row.last_offset}, events at {model.last_offset}")
    else:
        said = [f for f in _FIELDS if (getattr(row, f) or None) != (model.fields[f] or None)]
        if row.is_edited != model.is_edited:
            said.append("is_edited")
        # An edit that nobody saw may lie between those that were seen.
        is_possible = any(o.kind == "edit" and _may_have_made(o, row) for o in possible)
        if said and (not is_possible or all(_is_seen(known, o) for o in possible)):
            differ += said
        differ += [f for f in ("is_deleted", "deleted_by") if getattr(row, f) != getattr(model, f)]
    if differ:
        yield _wrong(f"{name} differs from its events in {', '.join(differ)}")


def _may_have_made(operation: Operation, row: MessageRow) -> bool:
    if operation.kind == "delete":
        return row.is_deleted
    return all(
        operation.asked[name] == (getattr(row, name) or operation.asked[name].__class__())
        for name in _FIELDS
        if operation.asked.get(name) is not None
    )


def _is_seen(known: Knowledge, operation: Operation) -> bool:
    """It was answered, and its event is known (or it made none)."""
    if operation.outcome != "ok":
        return False
    offset = operation.answer.get("offset")
    return offset is None or bool(known.at_offset(operation.room, offset))


def _check_reactions(known: Knowledge, archive: Archive) -> Iterator[Breach]:
    state: dict[Reaction, bool] = {}
    open_to_doubt: set[Reaction] = set()
    deleted: set[tuple[str, int]] = {(r.room, r.seq) for r in archive.messages if r.is_deleted}
    for room, facts in known.ordered.items():
        for fact in facts:
            if fact.event.startswith("reaction."):
                key = (room, fact.seq, fact.data["reaction"], fact.data["user"])
                state[key] = fact.event == "reaction.added"
                if known.is_fact_excused(fact):
                    open_to_doubt.add(key)
    for operation in known.record.operations:
        if operation.kind not in ("react", "unreact") or operation.outcome == "failed":
            continue
        offset = operation.answer.get("offset")
        if operation.outcome == "ok" and offset is None:
            continue
        is_seen = offset is not None and known.at_offset(operation.room, offset)
        if not is_seen or known.is_excused(operation):
            asked = operation.asked
            key = (operation.room, asked["seq"], asked["reaction"], operation.user or "")
            open_to_doubt.add(key)
    stored = {(r.room, r.seq, r.reaction, r.user) for r in archive.reactions}
    for key in stored ^ {key for key, is_there in state.items() if is_there}:
        if key not in open_to_doubt and key[:2] not in deleted:
            way = "without an event" if key in stored else "is missing"
            yield _wrong(f"{key[0]}: reaction {key[2]} of {key[3]} on seq {key[1]} {way}")


def _check_rooms(known: Knowledge, archive: Archive) -> Iterator[Breach]:
    rows = {row.room: row for row in archive.rooms}
    for log in known.record.logs:
        offsets = [entry.offset for entry in log.entries if entry.epoch == log.epoch]
        if offsets and offsets != list(range(log.offset - len(offsets) + 1, log.offset + 1)):
            yield _wrong(f"{log.room}: the log has holes or ends before {log.offset}")
        row = rows.get(log.room)
        # After a loss a room begins above whatever anybody had seen: there need not be an event.
        is_begun = not known.circumstances.may_have_lost or bool(offsets)
        if row is not None and row.archived_offset < log.offset and is_begun:
            yield _wrong(f"{log.room}: archived to {row.archived_offset}, events to {log.offset}")


def _check_letters(known: Knowledge, archive: Archive) -> Iterator[Breach]:
    """Only what PostgreSQL was made to refuse is a dead letter, and its seq has a placeholder;
    after a loss of Redis so is what comes from the life that ended."""
    places = {(row.room, row.seq) for row in archive.messages}
    unstorable = known.circumstances.unstorable
    for letter in archive.dead_letters:
        name = f"{letter.room}: dead letter at {letter.offset}: {letter.reason}"
        is_late = letter.reason == _OF_AN_ENDED_LIFE and bool(known.circumstances.may_have_lost)
        is_refused = letter.event == CREATED and unstorable in (letter.data.get("content") or "")
        if not (is_late or (unstorable and is_refused)):
            yield _wrong(name)
        elif not is_late and (letter.room, letter.seq) not in places:
            yield _wrong(f"{name}, and nothing in its place")
    seqs: dict[str, list[int]] = defaultdict(list)
    for message in archive.messages:
        seqs[message.room].append(message.seq)
    bases = {row.room: row.base_seq for row in archive.rooms}
    for room, found in seqs.items():
        # Another epoch may skip numbers. The clients may have seen the last one only; then the
        # room's row says where it began.
        base = bases.get(room, 0)
        halves = ([seq for seq in found if seq <= base], [seq for seq in found if seq > base])
        if all(map(_is_dense, halves)) or len(known.epochs.get(room, ())) >= 2:
            continue
        if not _has_lost(known, room):
            yield _wrong(f"{room}: rows have holes in seq")


def _is_dense(numbers: list[int]) -> bool:
    return not numbers or len(set(numbers)) == max(numbers) - min(numbers) + 1


def _has_lost(known: Knowledge, room: str) -> bool:
    """A hole that is reported as a lost message is not reported again."""
    for fact in known.ordered.get(room, ()):
        if fact.event == CREATED and fact.data["id"] not in known.rows:
            return True
    return any(
        one.kind == "publish"
        and one.room == room
        and one.outcome == "ok"
        and one.answer["message_id"] not in known.rows
        and identity_of(room, one.user, one.asked) not in known.real
        for one in known.record.operations
    )
