"""The checker itself: silent about correct histories, and it finds each kind of breach."""

from dataclasses import replace

import pytest

from tests.support.checker import Attempt, History, Place, Row, Seen, Start, View, check_history

ROOM = "general"
COUNT = 5


def place(number: int) -> Place:
    return Place(f"m{number}", number, number)


def seen(number: int) -> Seen:
    return Seen(number, number, f"m{number}", f"c{number}")


def good() -> History:
    """Five messages, one sent twice after a lost answer; two clients, one of which resumed."""
    attempts = [
        Attempt(ROOM, "alice", f"c{number}", "ok", place(number)) for number in range(1, COUNT + 1)
    ]
    attempts.insert(2, Attempt(ROOM, "alice", "c3", "unknown"))
    rows = [Row(ROOM, place(number), f"c{number}", "alice") for number in range(1, COUNT + 1)]
    everything = [seen(number) for number in range(1, COUNT + 1)]
    stayed = View("alice", ROOM, [Start("e1", 0, True), *everything])
    resumed = View(
        "bob", ROOM, [Start("e1", 0, True), *everything[:2], Start("e1", 2, False), *everything[2:]]
    )
    return History(attempts, [stayed, resumed], rows)


def test_a_correct_history_is_silent():
    assert check_history(good()) == []


def test_a_hole_that_was_announced_is_correct():
    history = good()
    items = history.views[0].items
    history.views[0].items = [*items[:3], Start("e1", 4, True), items[5]]
    assert check_history(history) == []


def test_another_epoch_that_was_announced_is_correct():
    history = good()
    history.views[0].items += [Start("e2", 9, True), Seen(10, 8, "m8", "c8")]
    history.attempts.append(Attempt(ROOM, "bob", "c8", "ok", Place("m8", 8, 10)))
    assert history.rows is not None
    history.rows.append(Row(ROOM, Place("m8", 8, 10), "c8", "bob"))
    history.views[1].is_complete = False
    history.may_skip_seqs = True
    assert check_history(history) == []


def test_an_unknown_outcome_may_have_happened_or_not():
    history = good()
    history.attempts.append(Attempt(ROOM, "bob", "c9", "unknown"))
    assert check_history(history) == []
    history.attempts = [
        replaced if attempt.client_id == "c5" else attempt
        for attempt in history.attempts
        for replaced in [attempt._replace(outcome="unknown", place=None)]
    ]
    assert check_history(history) == []


def test_events_that_are_no_messages_take_offsets():
    history = good()
    for view in history.views:
        view.items.append(Seen(6, 5))
    assert check_history(history) == []


def drop_row(history: History) -> None:
    assert history.rows is not None
    del history.rows[-1]


def double_row(history: History) -> None:
    assert history.rows is not None
    history.rows.append(history.rows[-1])


def skip_seq(history: History) -> None:
    assert history.rows is not None
    del history.rows[2]
    history.attempts = [a for a in history.attempts if a.client_id != "c3"]
    history.attempts.append(Attempt(ROOM, "alice", "c3", "unknown"))


def lose_delivery(history: History) -> None:
    del history.views[0].items[-1]


def skip_event(history: History) -> None:
    del history.views[0].items[3]


def repeat_event(history: History) -> None:
    history.views[0].items.insert(3, seen(2))


def swap_events(history: History) -> None:
    items = history.views[0].items
    items[2], items[3] = items[3], items[2]


def resume_elsewhere(history: History) -> None:
    items = history.views[1].items
    items[3] = Start("e1", 3, False)
    del items[4]


def change_epoch_silently(history: History) -> None:
    history.views[1].items[3] = Start("e2", 2, False)


def see_without_subscription(history: History) -> None:
    del history.views[0].items[0]


def see_another_order(history: History) -> None:
    items = history.views[0].items
    items[4], items[5] = Seen(4, 5, "m5", "c5"), Seen(5, 4, "m4", "c4")


def share_seq(history: History) -> None:
    assert history.rows is not None
    history.rows[-1] = Row(ROOM, Place("m7", COUNT, 7), "c7", "bob")
    history.attempts.append(Attempt(ROOM, "bob", "c7", "unknown"))


def answer_other_id(history: History) -> None:
    attempt = history.attempts[0]
    history.attempts[0] = attempt._replace(place=Place("m0", 1, 1))


def answer_other_offset(history: History) -> None:
    attempt = history.attempts[0]
    history.attempts[0] = attempt._replace(place=Place("m1", 1, 2))


def double_message(history: History) -> None:
    """The repeat of c3 made a second message."""
    assert history.rows is not None
    history.rows.append(Row(ROOM, Place("m6", 6, 6), "c3", "alice"))


def invent(history: History) -> None:
    history.views[0].items.append(Seen(6, 6, "m6", "c6"))


def refuse_yet_do(history: History) -> None:
    history.attempts[-1] = history.attempts[-1]._replace(outcome="refused", place=None)


@pytest.mark.parametrize(
    ("breach", "sentence"),
    [
        (drop_row, "c5 was answered, but is lost"),
        (double_row, "stored twice"),
        (skip_seq, "holes in seq"),
        (lose_delivery, "answered but never delivered: ['m5']"),
        (skip_event, "a hole was not announced: 2 to 4"),
        (repeat_event, "offset 2 again or out of order, after 2"),
        (swap_events, "a hole was not announced: 1 to 3"),
        (swap_events, "offset 2 again or out of order, after 3"),
        (resume_elsewhere, "a hole was not announced: resumed at 3"),
        (change_epoch_silently, "a hole was not announced: resumed at 2 in e2"),
        (see_without_subscription, "offset 1 outside of a subscription"),
        (see_another_order, "two events"),
        (share_seq, "two messages: ['m5', 'm7']"),
        (answer_other_id, "c1 was answered with ['m0'], the event is m1"),
        (answer_other_offset, "two places"),
        (double_message, "one client_id"),
        (invent, "c6 was invented"),
        (refuse_yet_do, "c5 was refused, yet it happened"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_each_breach_is_found(breach, sentence):
    history = good()
    breach(history)
    assert any(sentence in problem for problem in check_history(history)), check_history(history)


def test_what_was_not_looked_at_is_not_judged():
    assert check_history(replace(good(), rows=None)) == []
    incomplete = good()
    for view in incomplete.views:
        view.items = view.items[:2]
        view.is_complete = False
    assert check_history(incomplete) == []
