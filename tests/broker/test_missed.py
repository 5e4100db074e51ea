"""What a room's members missed is framed once, and only what is the same is given again."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker import missed
from broker.missed import MissedEvents
from broker.protocol import frames
from broker.protocol.events import TimeTexts, event_body
from storage.redis.entries import Entry, pack_entry, parse_entry

ROOMS = ("p/r", "p/other")


def entry_of(room: str, offset: int, content: str, epoch: str = "life1") -> bytes:
    data = b'{"content":"%b"}' % content.encode()
    entry = Entry(epoch, offset, offset, 1_700_000_000_000, "message.created", room, "a", 0, data)
    return pack_entry(entry)


def framed_anew(tail: list[bytes]) -> bytes:
    entries = [parse_entry(raw) for raw in tail]
    times = TimeTexts()
    return frames.json_array(
        event_body(e.event, e.offset, e.seq, e.ms, e.data, times) for e in entries
    )


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """Every entry that was framed, in order."""
    seen: list[bytes] = []
    original: Callable[[bytes], Entry] = parse_entry

    def note(raw: bytes) -> Entry:
        seen.append(raw)
        return original(raw)

    monkeypatch.setattr(missed, "parse_entry", note)
    return seen


def test_who_comes_back_from_the_same_place_costs_no_framing(parsed: list[bytes]) -> None:
    events = MissedEvents()
    tail = [entry_of("p/r", offset, "x") for offset in range(1, 21)]
    first = events.frame("p/r", tail, TimeTexts())
    again = events.frame("p/r", [bytes(raw) for raw in tail], TimeTexts())
    assert first == again == framed_anew(tail)
    assert parsed == tail


def test_a_tail_that_differs_in_anything_is_framed_anew() -> None:
    events = MissedEvents()
    tail = [entry_of("p/r", 1, "secret"), entry_of("p/r", 2, "x")]
    tails: tuple[list[bytes], ...] = (
        tail,
        [entry_of("p/r", 1, "other"), tail[1]],
        [entry_of("p/r", 1, "secret", "life2"), entry_of("p/r", 2, "x", "life2")],
        [tail[1], entry_of("p/r", 3, "y")],
        tail[1:],
        [],
        tail,
    )
    for one in tails:
        assert events.frame("p/r", one, TimeTexts()) == framed_anew(one)


@given(
    asked=st.lists(
        st.tuples(
            st.sampled_from(ROOMS), st.integers(0, 4), st.integers(0, 4), st.sampled_from("ab")
        ),
        max_size=30,
    )
)
def test_what_is_given_is_what_would_be_framed_and_what_is_kept_is_bounded(
    asked: list[tuple[str, int, int, str]],
) -> None:
    events = MissedEvents(bytes_max=1500)
    for room, since, count, content in asked:
        tail = [entry_of(room, since + 1 + place, content * 20) for place in range(count)]
        assert events.frame(room, tail, TimeTexts()) == framed_anew(tail)
        kept = events._kept.values()
        assert events.kept_bytes == sum(len(b"".join(raw)) + len(made) for raw, made in kept)
        assert events.kept_bytes <= 1500


def test_what_is_larger_than_all_that_may_be_kept_is_given_and_forgotten() -> None:
    events = MissedEvents(bytes_max=100)
    tail = [entry_of("p/r", 1, "x" * 200)]
    assert events.frame("p/r", tail, TimeTexts()) == framed_anew(tail)
    assert events.kept_bytes == 0
