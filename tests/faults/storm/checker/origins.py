"""What was seen was asked for: nothing is invented, and what was refused did not happen.

Jepsen: an observed value whose writer failed is an aborted read. An unknown writer may have
written. Events of rooms and members are not judged: what founded a room lies before the record.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from tests.faults.storm.checker.breaches import Breach, Kind
from tests.faults.storm.checker.knowledge import (
    CHANGES,
    CREATED,
    Fact,
    Knowledge,
    change_of_fact,
    identity_of,
)
from tests.faults.storm.record import Operation

_CHANGED_FIELDS = ("content", "metadata", "attachments")
_SAID_FIELDS = ("content", "kind", "metadata", "attachments", "mentions", "reply_to")


def check_origins(known: Knowledge) -> Iterator[Breach]:
    for facts in known.ordered.values():
        for fact in facts:
            if fact.event == CREATED:
                identity = identity_of(fact.room, fact.data["sender"], fact.data)
                asked = known.asked.get(identity, ())
                yield from _judge(_name(fact), fact.data, _SAID_FIELDS, asked)
            elif fact.event in CHANGES.values():
                asked = known.changes.get(change_of_fact(fact), ())
                yield from _judge(_name(fact), fact.data, _CHANGED_FIELDS, asked)
    for row in known.rows.values():
        # A message that nobody saw; after an edit nobody knows what it said first.
        if row.id not in known.created and not row.is_edited and row.sender is not None:
            data = {"content": row.content, "client_id": row.client_id}
            asked = known.asked.get(identity_of(row.room, row.sender, data), ())
            yield from _judge(f"{row.room}: row of seq {row.seq}", data, ("content",), asked)


def _name(fact: Fact) -> str:
    return f"{fact.room}: {fact.event} at offset {fact.offset} of {fact.epoch}"


def _judge(
    name: str, data: Mapping[str, Any], fields: Iterable[str], asked: Iterable[Operation]
) -> Iterator[Breach]:
    fitting = [one for one in asked if _fits(data, one.asked, fields)]
    if not fitting:
        yield Breach(Kind.INVENTED, name)
    elif all(one.outcome == "failed" for one in fitting):
        codes = sorted({one.code for one in fitting})
        yield Breach(Kind.REFUSED_YET_DONE, f"{name}: {', '.join(codes)}")


def _fits(data: Mapping[str, Any], asked: Mapping[str, Any], fields: Iterable[str]) -> bool:
    """Every field that was asked for is there as it was asked for."""
    return all(asked[name] == data.get(name) for name in fields if asked.get(name))
