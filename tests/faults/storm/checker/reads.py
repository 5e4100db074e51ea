"""Who asks after a write was answered sees it: on pages of history, in a subscription's snapshot.

Real time counts: a write whose answer came before the request was sent. What is concurrent may be
seen or not.
"""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs

from tests.faults.storm.checker.breaches import Breach, Kind
from tests.faults.storm.checker.knowledge import EDITED, Fact, Knowledge
from tests.faults.storm.record import Data, Operation

_USERS_SHOWN = 10
_BOUNDS = ("before", "after", "around")


class _Highest:
    """The highest number that was answered before a time."""

    def __init__(self) -> None:
        self._answers: list[tuple[float, int]] = []
        self._best: list[int] = []

    def add(self, ended: float, number: int) -> None:
        self._answers.append((ended, number))

    def before(self, time: float) -> int:
        if len(self._best) < len(self._answers):
            self._answers.sort()
            best = 0
            self._best = [best := max(best, number) for _, number in self._answers]
        place = bisect_left(self._answers, (time, -1))
        return self._best[place - 1] if place else 0


class _Answered:
    """The writes that were answered and cannot have been lost."""

    def __init__(self, known: Knowledge) -> None:
        self.known = known
        self.seqs: dict[str, _Highest] = defaultdict(_Highest)
        self.offsets: dict[tuple[str, str], _Highest] = defaultdict(_Highest)
        self.publishes: dict[tuple[str, int], float] = {}
        self.changes: dict[tuple[str, int], list[Operation]] = defaultdict(list)
        self.edits: dict[tuple[str, int], list[Fact]] = defaultdict(list)
        for operation in known.record.operations:
            if operation.kind in ("edit", "delete", "react", "unreact"):
                if operation.outcome != "failed":
                    self.changes[operation.room, operation.asked["seq"]].append(operation)
            elif operation.kind == "publish" and operation.outcome == "ok":
                # A wrong answer is reported as such.
                fact = known.created.get(operation.answer["message_id"])
                is_right = fact is None or fact.seq == operation.answer["seq"]
                is_kept = fact is not None or operation.answer["message_id"] in known.rows
                if is_right and is_kept and not known.is_excused(operation):
                    self._add(known, operation)
        for facts in known.ordered.values():
            for fact in facts:
                if fact.event == EDITED:
                    self.edits[fact.room, fact.seq].append(fact)

    def _add(self, known: Knowledge, operation: Operation) -> None:
        if operation.ended is None:
            return
        answer = operation.answer
        place = (operation.room, answer["seq"])
        earlier = self.publishes.get(place, operation.ended)
        self.publishes[place] = min(operation.ended, earlier)
        self.seqs[operation.room].add(operation.ended, answer["seq"])
        fact = known.created.get(answer["message_id"])
        if fact is not None and fact.offset == answer["offset"]:
            self.offsets[operation.room, fact.epoch].add(operation.ended, fact.offset)


def check_reads(known: Knowledge) -> Iterator[Breach]:
    answered = _Answered(known)
    for operation in known.record.operations:
        if operation.outcome != "ok":
            continue
        if operation.kind == "subscribe" and "epoch" in operation.answer:
            place = (operation.room, operation.answer["epoch"])
            offset = answered.offsets[place].before(operation.begun)
            if offset > operation.answer["offset"]:
                yield _stale(operation, f"snapshot {operation.answer['offset']} before {offset}")
        elif operation.kind == "history" and "messages" in operation.answer:
            yield from _check_page(answered, operation)


def _stale(operation: Operation, text: str) -> Breach:
    name = f"{operation.room}: {operation.kind} of {operation.user} at {operation.begun:.3f}"
    return Breach(Kind.STALE_READ, f"{name}: {text}")


def _bounds(asked: Data) -> dict[str, int]:
    found = {name: asked[name] for name in _BOUNDS if name in asked}
    query = parse_qs(asked.get("query", ""))
    return found | {name: int(query[name][0]) for name in query if name in _BOUNDS}


def _check_page(answered: _Answered, page: Operation) -> Iterator[Breach]:
    messages: list[dict[str, Any]] = page.answer["messages"]
    bounds = _bounds(page.asked)
    seqs = {message["seq"] for message in messages}
    if not bounds and "page" not in page.asked and "skip" not in page.asked:
        newest = answered.seqs[page.room].before(page.begun)
        if newest > max(seqs, default=0):
            yield _stale(page, f"ends at {max(seqs, default=0)}, {newest} was answered before")
    low = min(seqs, default=bounds.get("before", 1))
    high = max(seqs, default=0)
    if "before" in bounds:
        high = max(high, bounds["before"] - 1)
    if "after" in bounds and page.answer.get("has_more") is False:
        high = max(high, answered.seqs[page.room].before(page.begun))
        low = bounds["after"] + 1
    for seq in range(low, high + 1):
        ended = answered.publishes.get((page.room, seq))
        if seq not in seqs and ended is not None and ended <= page.begun:
            yield _stale(page, f"without seq {seq}")
    for message in messages:
        yield from _check_message(answered, page, message)


def _check_message(
    answered: _Answered, page: Operation, message: dict[str, Any]
) -> Iterator[Breach]:
    changes = answered.changes.get((page.room, message["seq"]))
    if not changes or message["deleted_at"] is not None:
        return
    before = [
        one
        for one in changes
        if one.outcome == "ok"
        and one.answer.get("offset") is not None
        and one.ended is not None
        and one.ended <= page.begun
        and not answered.known.is_excused(one)
    ]
    if any(one.kind == "delete" for one in before):
        yield _stale(page, f"seq {message['seq']} was deleted before")
    edits = [one.answer["offset"] for one in before if one.kind == "edit"]
    every = [one for one in changes if one.kind == "edit"]
    if edits and all("content" in one.asked for one in every):
        newest = max(edits)
        allowed = {
            one.asked["content"] for one in every if one.answer.get("offset", newest) >= newest
        }
        facts = answered.edits.get((page.room, message["seq"]), ())
        allowed |= {fact.data.get("content") for fact in facts if fact.offset >= newest}
        if message["content"] not in allowed:
            yield _stale(page, f"seq {message['seq']} as it was before an edit at {newest}")
    yield from _check_reactions(page, message, changes, before)


def _check_reactions(
    page: Operation, message: dict[str, Any], changes: list[Operation], before: list[Operation]
) -> Iterator[Breach]:
    undone = {(o.user, o.asked["reaction"]) for o in changes if o.kind == "unreact"}
    for one in before:
        if one.kind != "react" or (one.user, one.asked["reaction"]) in undone:
            continue
        shown = message["reactions"].get(one.asked["reaction"], {"count": 0, "users": []})
        if shown["count"] <= _USERS_SHOWN and one.user not in shown["users"]:
            yield _stale(
                page, f"seq {message['seq']} without {one.asked['reaction']} of {one.user}"
            )
