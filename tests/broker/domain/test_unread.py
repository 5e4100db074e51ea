"""The unread count against a plain recount, for any history, watermark, mark and reader."""

import json
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.domain.unread import Reader, UnreadSoFar, add_tail, parse_tail
from storage.postgres.unread import UNREAD_MAX, ArchivedUnread, UnreadAsked
from storage.redis.entries import Entry, pack_entry

USERS = ["alice", "bob", None]


class Message(NamedTuple):
    seq: int
    offset: int
    sender: str | None
    kind: str
    deleted_at: int


operations = st.lists(
    st.tuples(
        st.sampled_from(["create", "create", "create", "system", "delete", "edit", "member"]),
        st.integers(0, 1000),
    ),
    max_size=60,
)


class History:
    """A room's events, and what a PostgreSQL that has archived the first of them would count."""

    def __init__(self, steps: list[tuple[str, int]]) -> None:
        self.entries: list[Entry] = []
        self.messages: dict[int, Message] = {}
        for name, number in steps:
            getattr(self, f"do_{name}")(number)

    @property
    def seq(self) -> int:
        return len(self.messages)

    def add(self, event: str, sender: str | None, data: dict[str, Any]) -> None:
        offset = len(self.entries) + 1
        raw = json.dumps(data, separators=(",", ":")).encode()
        self.entries.append(Entry("e", offset, self.seq, 1, event, "p/r", sender, 0, raw))

    def do_create(self, number: int, kind: str = "text") -> None:
        sender = USERS[number % 3]
        seq, offset = self.seq + 1, len(self.entries) + 1
        self.messages[seq] = Message(seq, offset, sender, kind, 0)
        self.add("message.created", sender, {"id": "x", "kind": kind, "content": "c"})

    def do_system(self, number: int) -> None:
        self.do_create(number, "system")

    def do_delete(self, number: int) -> None:
        living = [message for message in self.messages.values() if not message.deleted_at]
        if living:
            message = living[number % len(living)]
            at = len(self.entries) + 1
            self.messages[message.seq] = message._replace(deleted_at=at)
            self.add("message.deleted", "alice", {"id": "x", "seq": message.seq, "by": "alice"})

    def do_edit(self, number: int) -> None:
        if self.messages:
            seq = number % self.seq + 1
            self.add("message.edited", "alice", {"id": "x", "seq": seq, "content": "seq"})

    def do_member(self, number: int) -> None:
        self.add("member.added", None, {"user": "carol"})

    def lag(self, above: int) -> list[bytes]:
        return [pack_entry(entry) for entry in self.entries if entry.offset > above]

    def archived(self, upto: int, user: str, read_seq: int, gone: set[int]) -> ArchivedUnread:
        """What the statement says when the first `upto` events are archived."""
        known = [message for message in self.messages.values() if message.offset <= upto]
        count = sum(
            message.seq > read_seq
            and not 0 < message.deleted_at <= upto
            and message.sender != user
            and message.kind != "system"
            and message.seq not in gone
            for message in known
        )
        newest = max((message.seq for message in known), default=0)
        return ArchivedUnread(upto, newest, read_seq, min(count, UNREAD_MAX))

    def recount(self, user: str, read_seq: int) -> int:
        return self.archived(len(self.entries), user, read_seq, set()).unread


class Later:
    """PostgreSQL, which has everything by the time it is asked again."""

    def __init__(self, history: History, read_seq: int) -> None:
        self.history = history
        self.read_seq = read_seq

    async def gather(self, statement: Any, asked: UnreadAsked) -> Any:
        return (await statement(self, [asked]))[0]

    async def fetch(self, _query: str, *args: Any) -> list[dict[str, Any]]:
        (_pk,), (user,), (mark,), (until,), (gone,), _limit = args
        deleted = {int(seq) for seq in gone[1:-1].split(",") if seq}
        total = len(self.history.entries)
        found = self.history.archived(total, user, max(mark, self.read_seq), deleted)
        assert until == self.history.seq
        return [found._asdict() | {"place": 1}]


@given(operations, st.integers(0, 60), st.integers(0, 60), st.integers(0, 60))
def test_a_count_put_together_is_the_recount(steps, first, second, read_seq):
    """Ruling 27, wherever the log read began and the archiver was when PostgreSQL counted."""
    history = History(steps)
    total = len(history.entries)
    log_from, archived_offset = sorted((min(first, total), min(second, total)))
    tail = parse_tail(history.lag(log_from), offset=total, seq=history.seq)
    archived = history.archived(archived_offset, "bob", read_seq, tail.gone)
    assert add_tail(archived, tail, "bob") == history.recount("bob", read_seq)


PLACES = st.integers(0, 60)


@given(operations, PLACES, PLACES, PLACES, PLACES)
async def test_a_count_in_two_halves_is_the_recount(steps, first, read_seq, read_later, trimmed):
    """Subscribing: PostgreSQL counts first, then things happen, then the script takes its look, by
    when more is archived and the log may have been trimmed up to there."""
    history = History(steps)
    total = len(history.entries)
    archived_offset = min(first, total)
    so_far = UnreadSoFar(
        Reader("p/r", 1, "bob"), history.archived(archived_offset, "bob", read_seq, set())
    )

    unread = await so_far.finish(
        Later(history, read_seq),  # type: ignore[arg-type]
        history.lag(max(archived_offset, min(trimmed, total))),
        offset=total,
        seq=history.seq,
        read_seq=read_later,
    )
    assert unread.read_seq == max(read_seq, read_later)
    assert unread.unread == history.recount("bob", unread.read_seq)


@pytest.mark.parametrize("trimmed", [11, 20, 30])
async def test_what_was_trimmed_between_the_halves_is_counted_again(trimmed):
    """An archiver that catches up trims a log that is longer than it may be."""
    history = History([("create", 0)] * 30)
    so_far = UnreadSoFar(Reader("p/r", 1, "bob"), history.archived(10, "bob", 3, set()))
    unread = await so_far.finish(
        Later(history, 3),  # type: ignore[arg-type]
        history.lag(trimmed),
        offset=30,
        seq=30,
        read_seq=-1,
    )
    assert unread.unread == 27


def test_what_lies_beyond_a_long_backlog_counts_as_unread():
    history = History([("create", 0)] * 30)
    lag = history.lag(10)[:5]
    tail = parse_tail(lag, offset=30, seq=30)
    assert tail.reached == 15
    assert add_tail(history.archived(10, "bob", 3, set()), tail, "bob") == 27


def test_numbers_that_were_skipped_are_no_messages():
    """After a failover the newest seq lies ten thousand higher; there are not more messages."""
    history = History([("create", 0)] * 30)
    tail = parse_tail(history.lag(10)[:5], offset=30, seq=10_030)
    assert add_tail(history.archived(10, "bob", 3, set()), tail, "bob") == 27


def test_a_room_that_redis_does_not_know_is_all_archived():
    history = History([("create", 0)] * 4)
    tail = parse_tail([], offset=-1, seq=-1)
    assert add_tail(history.archived(4, "bob", 1, set()), tail, "bob") == 3
