"""The table itself: complete, well-formed, and what the page says."""

import re
from typing import Any

from api.app import _RESOURCES
from broker.protocol.commands import COMMANDS as FRAMES
from broker.protocol.errors import ERRORS
from tests.matrix.pages import PAGE, page, plain
from tests.matrix.table import (
    ANSWERS,
    COLUMNS,
    COMMANDS,
    CREDENTIALS,
    ELSEWHERE,
    KEYS,
    KINDS,
    OPERATIONS,
    RIGHTS,
    STATUS,
)

ABOUT_NO_ROOM = {"auth", "refresh", "ping"}


def test_every_route_of_the_api_is_in_the_table_and_no_other() -> None:
    services: Any = _Anything()
    routes = {
        (route.method, re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", route.path))
        for make in _RESOURCES
        for route in make(services).routes()
    }
    known = {(row.method, plain(row.path)) for row in (*OPERATIONS, *ELSEWHERE)}
    assert routes - known == set(), "routes that the table does not have"
    assert known - routes == set(), "routes that the API does not have"


def test_every_frame_of_the_broker_is_in_the_table_and_no_other() -> None:
    assert {command.type for command in COMMANDS} | ABOUT_NO_ROOM == set(FRAMES)


def test_every_row_has_a_letter_for_every_column() -> None:
    for right in RIGHTS:
        assert right.kinds, right.name
        for kind in right.kinds:
            letters = getattr(right, kind).replace(" ", "") + right.strangers
            assert len(letters) == len(KINDS[kind]) - 3, (right.name, kind)
            assert set(letters) <= set(ANSWERS), (right.name, kind)
    for row in ELSEWHERE:
        assert len(row.answers) == len(CREDENTIALS) - 3, row
        assert set(row.answers) <= set(ANSWERS), row
    assert {row.right.name for row in (*OPERATIONS, *COMMANDS)} == {r.name for r in RIGHTS}
    assert set().union(*KINDS.values()) == set(COLUMNS)
    assert set(COLUMNS) >= KEYS


def test_each_answer_has_its_status() -> None:
    """Ruling 49."""
    known = {row.code: row.status for row in ERRORS}
    assert {code: known[code] for code in STATUS} == dict(STATUS)
    assert set(STATUS) == set(ANSWERS.values()) - {"done", ""}


def test_more_is_never_less() -> None:
    """Ruling 41: capabilities add; and each role may what the one below it may."""
    for right in RIGHTS:
        for kind in right.kinds:
            may = {column: right.answer(kind, column) == "+" for column in KINDS[kind]}
            if kind != "direct" and right.name not in ("leave", "end one's own membership"):
                ranks = [may[column] for column in ("reader", "member", "admin", "owner")]
                assert ranks == sorted(ranks), right.name
            assert may["publish"] >= may["join"], right.name


def test_the_page_says_what_the_table_says() -> None:
    """`python -m tests.matrix.pages` writes it."""
    assert PAGE.read_text(encoding="utf-8") == page()


class _Anything:
    """Stands for services that only a request would use."""

    def __getattr__(self, name: str) -> Any:
        return _Anything()
