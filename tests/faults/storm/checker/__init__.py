"""The judge of a run: pure, a record in, breaches out. An empty list is a correct history.

Each file holds the rules of one question and says in its first lines what they are; all of them ask
`knowledge`, which indexes the record once. To add a rule: a kind in `breaches`, a check in a file,
its name in `CHECKS`, and a way to spoil a good record in the tests of this package.
Everything is linear or n log n in the record.
"""

from collections.abc import Callable, Iterator

from tests.faults.storm.checker.answers import check_answers
from tests.faults.storm.checker.archive import check_archive
from tests.faults.storm.checker.breaches import PROMISES, Breach, Kind, Trouble
from tests.faults.storm.checker.deliveries import check_deliveries
from tests.faults.storm.checker.knowledge import Knowledge
from tests.faults.storm.checker.marks import check_marks
from tests.faults.storm.checker.membership import check_membership
from tests.faults.storm.checker.memory import check_memory
from tests.faults.storm.checker.origins import check_origins
from tests.faults.storm.checker.places import check_places
from tests.faults.storm.checker.presence import check_absences, check_presence
from tests.faults.storm.checker.reads import check_reads
from tests.faults.storm.record import Record

__all__ = ["PROMISES", "Breach", "Kind", "Trouble", "check"]

CHECKS: tuple[Callable[[Knowledge], Iterator[Breach]], ...] = (
    check_deliveries,
    check_places,
    check_answers,
    check_origins,
    check_archive,
    check_membership,
    check_presence,
    check_absences,
    check_marks,
    check_reads,
    check_memory,
)


def check(record: Record) -> list[Breach]:
    """Every breach of the promises that the record shows."""
    known = Knowledge(record)
    return [breach for check_one in CHECKS for breach in check_one(known)]
