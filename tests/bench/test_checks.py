"""The checks see what is lost, doubled, reordered or changed, and nothing else."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench import checks, wire
from bench.dialect import CONTENT_BYTES, Frame, content_of
from bench.product import ParleyDialect, offset_in, parse_frame


def event(offset: int, content: str = "hello", *, spaced: bool = False) -> bytes:
    frame = {
        "type": "event",
        "event": "message.created",
        "room": "r",
        "offset": offset,
        "time": "2026-01-02T03:04:05.678Z",
        "data": {"seq": offset, "content": content},
    }
    separators = (", ", ": ") if spaced else (",", ":")
    return wire.server_frame(json.dumps(frame, separators=separators).encode())


def readers(count: int, *, checks_content: bool = False):
    answers = checks.Answers(checks_content=checks_content)
    reference = checks.Reference(1, answers, ParleyDialect())
    others: list[tuple[int, Frame, bytes]] = []
    made = [
        checks.ReferenceReader(f"user {number}", reference, lambda *one: others.append(one))
        for number in range(count)
    ]
    return made, answers, others


STREAM = b"".join(event(offset) for offset in range(1, 8))


@given(st.lists(st.tuples(st.booleans(), st.integers(1, 300))))
def test_any_receiver_ahead_in_any_pieces_gives_the_same_count(pieces: list[tuple[bool, int]]):
    (first, second), _, others = readers(2)
    left = {first: STREAM, second: STREAM}
    finish = [(True, len(STREAM)), (False, len(STREAM))]
    for is_first, size in pieces + finish:
        reader = first if is_first else second
        reader.take(left[reader][:size])
        left[reader] = left[reader][size:]
    assert first.delivered == second.delivered == 7
    assert others == []


@pytest.mark.parametrize(
    ("offsets", "words"),
    [
        ([1, 2, 4], "1 lost"),
        ([1, 2, 2], "again or late"),
        ([2, 1, 3], "1 lost"),
        ([3], "2 lost"),
        ([1, 2, 3, 1], "again or late"),
    ],
)
@pytest.mark.parametrize("is_first", [True, False])
def test_a_wrong_order_is_found_at_every_receiver(offsets: list[int], words: str, is_first: bool):
    (first, second), _, _ = readers(2)
    if not is_first:
        first.take(STREAM)
    with pytest.raises(checks.CheckFailed, match=words):
        second.take(b"".join(map(event, offsets)))


def test_an_event_changed_for_one_receiver_is_found():
    (first, second), _, _ = readers(2)
    first.take(event(1))
    with pytest.raises(checks.CheckFailed, match="differs"):
        second.take(event(1, "hallo"))


def test_another_spelling_of_the_same_event_is_no_fault():
    (first, second), _, _ = readers(2)
    first.take(event(1) + event(2))
    second.take(event(1, spaced=True) + event(2))
    assert second.delivered == 2


@pytest.mark.parametrize("is_first", [True, False])
def test_frames_between_events_are_handed_out_in_pieces_of_any_size(is_first: bool):
    (first, second), _, others = readers(2)
    if not is_first:
        first.take(STREAM)
    ping = wire.server_frame(b"hi", wire.PING)
    presence = wire.server_frame(b'{"type":"event","event":"presence.joined","data":{}}')
    for byte in event(1) + ping + event(2) + presence + event(3):
        second.take(bytes([byte]))
    assert second.delivered == 3
    assert [opcode for opcode, _, _ in others] == [wire.PING, wire.TEXT]


def test_offsets_of_one_connection_rise_by_one():
    check = checks.OffsetCheck("a", 5)
    check.take(5)
    check.take(6)
    with pytest.raises(checks.CheckFailed, match="2 lost"):
        check.take(9)


def answer(offset: int, *, duplicate: bool = False) -> dict[str, object]:
    return {"offset": offset, "seq": offset, "duplicate": duplicate}


def test_an_event_has_the_place_and_the_content_of_its_answer():
    (reader,), answers, _ = readers(1, checks_content=True)
    answers.take_reply("ann", 1, answer(2))
    answers.take_reply("bob", 1, answer(1))
    reader.take(event(1, content_of("bob", 1)) + event(2, content_of("ann", 1)))
    answers.verify()


def test_an_event_at_another_place_than_answered_is_found():
    (reader,), answers, _ = readers(1, checks_content=True)
    answers.take_reply("ann", 1, answer(2))
    reader.take(event(1, content_of("ann", 1)))
    with pytest.raises(checks.CheckFailed, match="which was answered"):
        answers.verify()


def test_answers_that_cannot_be_are_found():
    answers = checks.Answers(checks_content=True)
    answers.take_reply("ann", 1, answer(1))
    with pytest.raises(checks.CheckFailed, match="two publishes"):
        answers.take_reply("ann", 2, answer(1))
    with pytest.raises(checks.CheckFailed, match="duplicate"):
        answers.take_reply("ann", 3, answer(2, duplicate=True))


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        (b'{"type":"event","offset":17,"x":1}', 17),
        (b'{"type":"event","offset":      17,"x":1}', 17),
        (b'{"type":"event","offset":17}', 17),
        (b'{"type":"event"}', -1),
        (b'{"offset":null,"x":1}', -1),
    ],
)
def test_an_offset_is_found_by_its_name(payload: bytes, expected: int):
    assert offset_in(payload, 0, len(payload)) == expected


def test_every_publish_has_its_own_content_of_the_same_length():
    contents = {content_of(user, number) for user in "ab" for number in range(2000)}
    assert len(contents) == 4000
    assert {len(content) for content in contents} == {CONTENT_BYTES}


@pytest.mark.parametrize("payload", [b"nonsense", b"[]", b"{}", b'{"type":1}', b"\xff"])
def test_what_is_no_frame_is_a_wire_error(payload: bytes):
    with pytest.raises(wire.WireError):
        parse_frame(payload)
