"""The merge of archived rows and unarchived events, against a model that knows no archive.

The model applies events one by one to a list of messages. The page of a room must be the model's
page after all events, whatever part of them PostgreSQL has, and wherever the log read begins.
"""

from __future__ import annotations

import copy
import json
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.domain.history import PageQuery, load_message
from broker.domain.message_rows import reactions_in
from broker.domain.pages import merge_page, selection_of
from broker.protocol.events import iso_time
from storage.postgres.messages import ArchivedPage, ReactionsAsked, Selection
from storage.redis.entries import Entry

USERS = [f"user{n}" for n in range(14)]
BIRTH = 1_767_323_045_678


def new_message(seq: int, offset: int, sender: str, reply_to: int | None) -> dict[str, Any]:
    return {
        "id": f"id{seq}",
        "room": "r",
        "sender": sender,
        "kind": "text",
        "content": f"message {seq}",
        "metadata": {},
        "attachments": [],
        "mentions": [],
        "reply_to": reply_to,
        "forwarded_from": None,
        "client_id": None,
        "seq": seq,
        "created_at": iso_time(BIRTH + offset),
        "reply_count": 0,
        "edited_at": None,
        "deleted_at": None,
        "deleted_by": None,
        "reactions": {},
    }


@dataclass
class Model:
    """A room's messages after some events; `reactions` hold every user, in order."""

    messages: dict[int, dict[str, Any]] = field(default_factory=dict)
    entries: list[Entry] = field(default_factory=list)

    def add(self, event: str, data: dict[str, Any], *, seq_step: int = 0) -> None:
        offset = len(self.entries) + 1
        seq = max(self.messages, default=0) + seq_step
        sender = data.get("sender") or data.get("by") or data.get("user")
        self.entries.append(
            Entry(
                "e", offset, seq, BIRTH + offset, event, "p/r", sender, 0, json.dumps(data).encode()
            )
        )

    def create(self, sender: str, reply: int, hole: int) -> None:
        targets = [None, *self.messages]
        seq = max(self.messages, default=0) + 1 + hole
        offset = len(self.entries) + 1
        message = new_message(seq, offset, sender, targets[reply % len(targets)])
        stored = {key: message[key] for key in list(message)[: list(message).index("seq")]}
        self.add("message.created", stored, seq_step=1 + hole)
        self.messages[seq] = message
        if message["reply_to"] is not None:
            self.messages[message["reply_to"]]["reply_count"] += 1

    def pick(self, choice: int) -> dict[str, Any] | None:
        return list(self.messages.values())[choice % len(self.messages)] if self.messages else None

    def edit(self, choice: int, by: str) -> None:
        message = self.pick(choice)
        if message is None:
            return
        content = f"edited {len(self.entries)}"
        data = {
            "id": message["id"],
            "seq": message["seq"],
            "sender": message["sender"],
            "by": by,
            "content": content,
        }
        self.add("message.edited", data)
        if message["deleted_at"] is None:
            message["content"] = content
            message["edited_at"] = iso_time(BIRTH + len(self.entries))

    def delete(self, choice: int, by: str) -> None:
        message = self.pick(choice)
        if message is None:
            return
        data = {"id": message["id"], "seq": message["seq"], "sender": message["sender"], "by": by}
        self.add("message.deleted", data)
        if message["deleted_at"] is None:
            message["deleted_at"] = iso_time(BIRTH + len(self.entries))
            message["deleted_by"] = by

    def react(self, choice: int, user: str, reaction: str, added: bool) -> None:
        message = self.pick(choice)
        if message is None:
            return
        data = {
            "message_id": message["id"],
            "seq": message["seq"],
            "user": user,
            "reaction": reaction,
        }
        self.add("reaction.added" if added else "reaction.removed", data)
        if message["deleted_at"] is not None:
            return
        users = message["reactions"].setdefault(reaction, [])
        if added and user not in users:
            users.append(user)
        elif not added and user in users:
            users.remove(user)
        if not users:
            del message["reactions"][reaction]

    def shown(self, message: dict[str, Any], viewer: str | None, reveal: bool, users_max: int):
        shown = dict(message)
        deleted = message["deleted_at"] is not None
        shown["reactions"] = (
            {}
            if deleted
            else {
                name: {"count": len(users), "users": users[:users_max]}
                | ({} if viewer is None else {"mine": viewer in users})
                for name, users in message["reactions"].items()
            }
        )
        if deleted and not reveal:
            shown.update(content=None, metadata={}, attachments=[], mentions=[])
        return shown

    def page(self, query: PageQuery) -> list[int]:
        """The contract's words, with every message at hand."""
        seqs = sorted(self.messages)
        if query.after is not None:
            return [seq for seq in seqs if seq > query.after][: query.limit]
        if query.around is not None:
            half = query.limit // 2
            older = [seq for seq in seqs if seq < query.around]
            newer = [seq for seq in seqs if seq >= query.around][: query.limit - half]
            return older[len(older) - min(half, len(older)) :] + newer
        if query.skip is not None:
            end = max(0, len(seqs) - query.skip)
            return seqs[max(0, end - query.limit) : end]
        below = [seq for seq in seqs if query.before is None or seq < query.before]
        return below[max(0, len(below) - query.limit) :]

    def archive(
        self,
        selection: Selection,
        watermark: int,
        asked: ReactionsAsked,
        viewer: str | None,
        reveal: bool,
    ) -> ArchivedPage:
        """What the statement of PostgreSQL would give in this state."""
        seqs = sorted(self.messages)
        arguments: tuple[Any, ...] = selection.arguments
        first = arguments[0]
        chosen: list[int]
        if selection.name == "before":
            chosen = [seq for seq in seqs if seq < first][-arguments[1] :]
        elif selection.name == "after":
            chosen = [seq for seq in seqs if seq > first][: arguments[1]]
        elif selection.name == "around":
            older = [seq for seq in seqs if seq < first]
            half = arguments[1]
            newer = [seq for seq in seqs if seq >= first][: arguments[2]]
            chosen = (older[-half:] if half else []) + newer
        else:
            tail = sum(offset > watermark for offset in arguments[2])
            end = max(0, len(seqs) - max(0, first - tail))
            chosen = seqs[max(0, end - arguments[1]) : end]
        more = len(asked.seqs)
        bodies = [
            json.dumps(
                self.shown(
                    self.messages[seq], viewer, reveal, 10 + (more if seq in asked.seqs else 0)
                )
            ).encode()
            for seq in chosen
        ]
        present = [
            seq in self.messages and user in self.messages[seq]["reactions"].get(name, ())
            for seq, name, user in zip(asked.seqs, asked.reactions, asked.users, strict=True)
        ]
        return ArchivedPage(
            archived_offset=watermark,
            seq=max(seqs, default=0),
            seqs=chosen,
            bodies=bodies,
            oldest=min(seqs, default=None),
            newest=max(seqs, default=None),
            total=len(seqs) if selection.name == "skip" else None,
            present=present,
        )


# Few targets, so that the same message is often edited, deleted and reacted on.
choice = st.integers(0, 1)
user = st.sampled_from(USERS)
reaction = st.sampled_from(["👍", "no"])
events = st.lists(
    st.one_of(
        st.tuples(st.just("create"), user, choice, st.sampled_from([0, 0, 0, 0, 3])),
        st.tuples(st.just("edit"), choice, user),
        st.tuples(st.just("delete"), choice, user),
        st.tuples(st.just("react"), choice, st.sampled_from(USERS[:2]), reaction, st.booleans()),
        st.tuples(st.just("react"), st.just(0), user, st.just("👍"), st.just(True)),
    ),
    max_size=60,
)


def asked_for(**given: Any) -> PageQuery:
    """Only what is given: left to itself, hypothesis would think of filters, too."""
    return PageQuery(**given)


limits = st.integers(1, 12)
bounds = st.integers(0, 70)
queries = st.one_of(
    st.builds(asked_for, limit=limits),
    st.builds(asked_for, limit=limits, before=bounds),
    st.builds(asked_for, limit=limits, after=bounds),
    st.builds(asked_for, limit=limits, around=bounds),
    st.builds(asked_for, limit=limits, skip=bounds),
)


@settings(max_examples=300)
@given(
    events=events,
    query=queries,
    viewer=st.none() | user,
    reveal=st.booleans(),
    cuts=st.tuples(st.integers(0, 60), st.integers(0, 60), st.integers(0, 60)),
)
def test_a_page_is_the_models_wherever_the_archive_stands(events, query, viewer, reveal, cuts):
    low, mark, high = sorted(cuts)
    states = [Model()]
    for name, *arguments in events:
        following = copy.deepcopy(states[-1])
        getattr(following, name)(*arguments)
        if len(following.entries) > len(states[-1].entries):
            states.append(following)
    last = len(states) - 1
    # The log is read first: it begins at `low` (archived then) and ends at `end`; PostgreSQL is
    # read when it has `mark`, which may be less or more than the log's end.
    low, mark, high = min(low, last), min(mark, last), min(high, last)
    for end, watermark in ((high, mark), (mark, high), (last, mark)):
        log = states[end].entries[low:end]
        asked = reactions_in(log)
        created = [entry.offset for entry in log if entry.event == "message.created"]
        archive = states[watermark].archive(
            selection_of(query, created), watermark, asked, viewer, reveal
        )
        page = merge_page(query, archive, log, asked, viewer=viewer, reveal=reveal)
        truth = states[max(end, watermark)]
        expected = truth.page(query)
        assert page.seqs == expected
        assert json.loads(page.items) == [
            truth.shown(truth.messages[seq], viewer, reveal, 10) for seq in expected
        ]
        check_neighbours(truth, query, page)
        if query.skip is not None:
            assert page.total == len(truth.messages)


def check_neighbours(truth: Model, query: PageQuery, page) -> None:
    seqs = sorted(truth.messages)
    shown = page.seqs
    if shown:
        assert page.has_more_after == any(seq > shown[-1] for seq in seqs)
        assert page.has_more_before == any(seq < shown[0] for seq in seqs)
    if query.skip is not None and not shown:
        return
    if page.newer_after is not None:
        following = truth.page(PageQuery(limit=1, after=page.newer_after))
        assert following == [min(s for s in seqs if not shown or s > shown[-1])] or not shown
        assert following
    if page.older_before is not None:
        assert truth.page(PageQuery(limit=1, before=page.older_before))


@given(events=events, limit=limits)
def test_walking_back_and_forth_and_by_pages_gives_the_same_messages(events, limit):
    model = Model()
    for name, *arguments in events:
        getattr(model, name)(*arguments)
    everything = sorted(model.messages)

    def load(query: PageQuery):
        created = [e.offset for e in model.entries if e.event == "message.created"]
        nothing = Model().archive(selection_of(query, created), 0, ReactionsAsked(), None, False)
        return merge_page(query, nothing, model.entries)

    back: list[int] = []
    page = load(PageQuery(limit=limit))
    back[:0] = page.seqs
    while page.older_before is not None:
        page = load(PageQuery(limit=limit, before=page.older_before))
        back[:0] = page.seqs
    forth: list[int] = []
    page = load(PageQuery(limit=limit, after=0))
    forth += page.seqs
    while page.newer_after is not None:
        page = load(PageQuery(limit=limit, after=page.newer_after))
        forth += page.seqs
    paged: list[int] = []
    for number in range(len(everything) // limit + 1):
        paged[:0] = load(PageQuery(limit=limit, skip=number * limit)).seqs
    assert back == forth == paged == everything


@given(
    sizes=st.lists(st.integers(1, 400), min_size=1, max_size=30),
    bytes_max=st.integers(50, 4000),
    query=queries,
)
def test_a_page_ends_early_rather_than_exceed_its_bytes(sizes, bytes_max, query):
    bodies = {seq: b'"' + b"x" * size + b'"' for seq, size in enumerate(sizes, 1)}
    model = Model(messages={seq: {} for seq in bodies})
    full = model.page(query)
    archive = ArchivedPage(0, len(sizes), full, [bodies[s] for s in full], 1, len(sizes))
    bounded = PageQuery(
        limit=query.limit,
        before=query.before,
        after=query.after,
        around=query.around,
        skip=query.skip,
        bytes_max=bytes_max,
    )
    page = merge_page(bounded, archive, [])
    if query.skip is not None:
        assert page.seqs == full
        return
    start = 0
    if page.seqs:
        start = full.index(page.seqs[0])
    assert page.seqs == full[start : start + len(page.seqs)]
    assert len(page.items) <= bytes_max or len(page.seqs) == 1
    assert bool(page.seqs) == bool(full)
    if len(page.seqs) < len(full):
        if query.after is not None:
            assert start == 0
            assert page.has_more_after
        elif query.around is not None:
            assert query.around in page.seqs or query.around > len(sizes) or query.around < 1
        else:
            assert start + len(page.seqs) == len(full)
            assert page.has_more_before


def test_an_untouched_message_is_passed_on_byte_for_byte():
    odd = b'{"seq": 1,   "anything": "the row as PostgreSQL wrote it"}'
    page = merge_page(PageQuery(limit=5), ArchivedPage(3, 1, [1], [odd], 1, 1), [])
    assert page.items == b"[" + odd + b"]"


@pytest.mark.parametrize("seq", [1, 2, 3])
async def test_one_message_by_seq_or_id_is_found_in_the_log(seq):
    model = Model()
    model.create("alice", 0, 0)
    model.create("bob", 1, 0)
    model.edit(0, "alice")
    model.delete(1, "bob")

    class Rooms:
        async def unarchived(self, key):
            return type("Tail", (), {"offset": 9, "seq": 2, "entries": model.entries})

    class NoArchive:
        async def fetchrow(self, *_):
            return {
                "archived_offset": 0,
                "seq": 0,
                "seqs": [],
                "bodies": [],
                "oldest": None,
                "newest": None,
                "total": None,
                "present": [],
                "users": None,
            }

    for wanted in (seq, f"id{seq}"):
        found = await load_message(NoArchive(), Rooms(), "p/r", room_pk=1, wanted=wanted)  # type: ignore[arg-type]
        if seq == 3:
            assert found is None
        else:
            assert found is not None
            assert json.loads(found) == model.shown(model.messages[seq], None, False, 10)


def edited(model: Model, seq: int, **fields: Any) -> Entry:
    model.add("message.edited", {"id": "x", "seq": seq, "sender": "a", "by": "a", **fields})
    return model.entries[-1]


def reacted(model: Model, seq: int, user: str, *, added: bool) -> Entry:
    event = "reaction.added" if added else "reaction.removed"
    model.add(event, {"message_id": "x", "seq": seq, "user": user, "reaction": "+"})
    return model.entries[-1]


def merged(archived: dict[str, Any], entries: list[Entry], present: list[bool], **options: Any):
    page = ArchivedPage(0, 1, [1], [json.dumps(archived).encode()], 1, 1, present=present)
    found = merge_page(PageQuery(limit=1), page, entries, reactions_in(entries), **options)
    return json.loads(found.items)[0]


def test_nothing_changes_a_deleted_message():
    model = Model()
    deleted = new_message(1, 1, "a", None) | {"content": None, "deleted_at": iso_time(5)}
    entries = [
        edited(model, 1, content="back again"),
        reacted(model, 1, "bob", added=True),
    ]
    model.add("message.deleted", {"id": "x", "seq": 1, "sender": "a", "by": "second"})
    assert merged(deleted, [*entries, model.entries[-1]], [False]) == deleted


def test_an_edit_replaces_only_what_it_carries():
    message = new_message(1, 1, "a", None) | {"metadata": {"old": 1, "kept": 2}}
    model = Model()
    shown = merged(message, [edited(model, 1, metadata={"new": 3})], [])
    assert shown == message | {"metadata": {"new": 3}, "edited_at": iso_time(BIRTH + 1)}


def test_a_reaction_that_is_archived_already_is_not_counted_twice():
    """Two nodes let the same reaction pass; the archive is a set, and so is the page."""
    message = new_message(1, 1, "a", None)
    message["reactions"] = {"+": {"count": 1, "users": ["bob"], "mine": True}}
    model = Model()
    again = reacted(model, 1, "bob", added=True)
    assert merged(message, [again], [True], viewer="bob") == message
    gone = reacted(model, 1, "bob", added=False)
    assert merged(message, [again, gone, gone], [True], viewer="bob")["reactions"] == {}
    stranger = reacted(model, 1, "eve", added=False)
    assert merged(message, [stranger], [False], viewer="bob") == message


def test_the_eleventh_user_moves_up_when_one_of_ten_takes_its_reaction_back():
    users = [f"u{number:02}" for number in range(12)]
    message = new_message(1, 1, "a", None)
    message["reactions"] = {"+": {"count": 12, "users": users, "mine": False}}
    model = Model()
    entries = [reacted(model, 1, "u03", added=False), reacted(model, 1, "new", added=True)]
    shown = merged(message, entries, [True, False], viewer="eve")
    assert shown["reactions"]["+"] == {
        "count": 12,
        "users": [user for user in users if user != "u03"][:10],
        "mine": False,
    }
    untouched = merged(message, [], [], viewer="eve")
    assert untouched == message
