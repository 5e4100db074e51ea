"""Pages that are kept: which are found again, for whom, and how many."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.domain.access import Access
from broker.domain.kept_pages import Asked, KeptPages, Mark, mark_of
from broker.domain.pages import Page, PageQuery
from config import page_limits
from storage.postgres.message_filters import MessageFilter

ACCESS = Access(1, "group", 0, "member", False, "member", None, -1, 0)
STILL = Mark(("life", 5, 2), b"stamp")
ASKED = Asked("p/r", PageQuery(limit=50), False, "alice", STILL, 100.0)


def page_of(*bodies: bytes) -> Page:
    return Page(list(bodies), list(range(len(bodies))), None, None)


class Room(NamedTuple):
    epoch: str = "life"
    offset: int = 5
    version: int = 2


def test_a_page_is_found_while_nothing_it_depends_on_moves():
    pages = KeptPages(600.0)
    page = page_of(b"{}")
    pages.keep(ASKED, page, ACCESS)
    found = pages.find(ASKED._replace(at=109.9))
    assert found is not None
    assert found.page is page
    assert found.access == {"alice": ACCESS}
    assert mark_of(Room(), b"stamp") == STILL


@pytest.mark.parametrize(
    "mark",
    [
        mark_of(Room(offset=6), b"stamp"),
        mark_of(Room(version=3), b"stamp"),
        mark_of(Room(epoch="other"), b"stamp"),
        mark_of(Room(), b"other"),
        mark_of(Room(), None),
        mark_of(None, b"stamp"),
    ],
)
def test_whatever_moves_ends_it(mark):
    pages = KeptPages(600.0)
    pages.keep(ASKED, page_of(b"{}"), ACCESS)
    assert pages.find(ASKED._replace(mark=mark)) is None
    assert pages.size == 0


@pytest.mark.parametrize(
    "asked",
    [
        ASKED._replace(key="p/other"),
        ASKED._replace(query=PageQuery(limit=49)),
        ASKED._replace(query=PageQuery(limit=50, before=7)),
        ASKED._replace(with_users=True),
    ],
)
def test_another_question_has_another_answer(asked):
    pages = KeptPages(600.0)
    pages.keep(ASKED, page_of(b"{}"), ACCESS)
    assert pages.find(asked) is None


def test_a_room_that_is_not_in_redis_can_not_have_come_and_gone_meanwhile():
    cold = ASKED._replace(mark=mark_of(None, None))
    for log_ttl, lasts in ((600.0, page_limits.KEPT_PAGE_SECONDS), (4.0, 2.0)):
        pages = KeptPages(log_ttl)
        pages.keep(cold, page_of(b"{}"), ACCESS)
        assert pages.find(cold._replace(at=cold.at + lasts - 0.01)) is not None
        assert pages.find(cold._replace(at=cold.at + lasts)) is None
    assert page_limits.PAGE_STAMP_SECONDS > page_limits.KEPT_PAGE_SECONDS


def test_only_a_page_with_reactions_is_its_viewers_alone():
    pages = KeptPages(600.0)
    pages.keep(ASKED, page_of(rb'{"content":"\"mine\" :"}'), ACCESS)
    assert pages.find(ASKED._replace(viewer="bob")) is not None
    assert pages.find(ASKED._replace(viewer=None)) is not None
    pages = KeptPages(600.0)
    pages.keep(ASKED, page_of(b'{"reactions":{"x":{"count":1,"mine":true}}}'), ACCESS)
    assert pages.find(ASKED) is not None
    assert pages.find(ASKED._replace(viewer="bob")) is None
    assert pages.find(ASKED._replace(viewer=None)) is None
    pages = KeptPages(600.0)
    # What the project sees says of nobody whether a reaction is theirs.
    pages.keep(ASKED._replace(viewer=None), page_of(b'{"reactions":{"x":{"count":1}}}'), ACCESS)
    assert pages.find(ASKED._replace(viewer=None)) is not None
    assert pages.find(ASKED) is None


@pytest.mark.parametrize(
    ("asked", "access", "body"),
    [
        (ASKED._replace(query=PageQuery(limit=50, skip=0)), ACCESS, b"{}"),
        (
            ASKED._replace(query=PageQuery(limit=50, chosen=MessageFilter(sender="bob"))),
            ACCESS,
            b"{}",
        ),
        (ASKED, replace(ACCESS, deleted=True), b"{}"),
        (ASKED, ACCESS, b"x" * page_limits.KEPT_PAGE_BYTES_MAX),
    ],
    ids=["numbered", "filtered", "deleted room", "large"],
)
def test_what_is_not_kept(asked, access, body):
    pages = KeptPages(600.0)
    pages.keep(asked, page_of(body), access)
    assert pages.find(asked) is None
    assert pages.size == 0


def test_rights_of_so_many_are_remembered_with_a_page():
    pages = KeptPages(600.0)
    pages.keep(ASKED, page_of(b"{}"), ACCESS)
    kept = pages.find(ASKED)
    assert kept is not None
    for number in range(2 * page_limits.KEPT_PAGE_VIEWERS):
        kept.admit(f"user{number}", ACCESS)
    assert len(kept.access) == page_limits.KEPT_PAGE_VIEWERS


def test_who_is_known_to_a_page_may_peek_at_it():
    pages = KeptPages(600.0)
    pages.keep(ASKED, page_of(b"{}"), ACCESS)
    kept = pages.peek("p/r", ASKED.query, "alice", 100.0)
    assert kept is not None
    assert kept is pages.find(ASKED)
    assert kept.is_right(STILL, 109.9)
    assert not kept.is_right(STILL, 110.0)
    assert not kept.is_right(STILL._replace(stamp=b"other"), 100.0)
    assert pages.peek("p/r", ASKED.query, "bob", 100.0) is None
    assert pages.peek("p/r", ASKED.query, "alice", 110.0) is None
    assert pages.peek("p/other", ASKED.query, "alice", 100.0) is None


def test_an_answer_counts_as_long_as_its_page_is_kept():
    pages = KeptPages(600.0, bytes_max=2 * page_limits.KEPT_PAGE_OVERHEAD)
    pages.keep(ASKED, page_of(b"{}"), ACCESS)
    kept, size = pages.find(ASKED), pages.size
    assert kept is not None
    pages.keep_answer(kept, b"x" * 2 * page_limits.KEPT_PAGE_OVERHEAD)
    assert kept.answer is None
    pages.keep_answer(kept, b"answer")
    assert pages.size == size + len(b"answer")
    pages.keep(ASKED, page_of(b"{}"), ACCESS)
    assert pages.size == size
    pages.keep_answer(kept, b"too late")
    assert pages.size == size


@settings(max_examples=100)
@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9), st.integers(0, 4)), max_size=60))
def test_as_many_bytes_as_allowed_and_nothing_out_of_date(steps):
    """Keeps and finds in any order: the size is what is there, and what is there is in date."""
    pages = KeptPages(600.0, bytes_max=5 * page_limits.KEPT_PAGE_OVERHEAD)
    kept_at: dict[int, float] = {}
    now = 0.0
    for room, size, wait in steps:
        now += wait
        asked = ASKED._replace(key=f"p/{room}", at=now)
        found = pages.find(asked)
        if found is None:
            pages.keep(asked, page_of(b"x" * size * 100), ACCESS)
            kept_at[room] = now
        else:
            assert now - kept_at[room] < page_limits.KEPT_PAGE_SECONDS
        left = list(pages._pages.values())
        assert pages.size == sum(kept.size for kept in left) <= 5 * page_limits.KEPT_PAGE_OVERHEAD
