"""The frame walker alone: what is text, what goes up, what is held; cuts change nothing."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.frame_walker import FrameWalker, Step, unmask
from tests.broker.wires import BINARY, CLOSE, PING, PONG, TEXT, frame, text

LIMIT = 300
CONTINUATION = 0x0


def walked(*parts: bytes, limit: int = LIMIT) -> list[Step]:
    walker = FrameWalker(limit)
    return [step for part in parts for step in walker.walk(part)]


@pytest.mark.parametrize("length", [0, 1, 3, 125, 126, 127, 300])
def test_whole_text_frames_of_every_header_size_are_text(length):
    content = "x" * length
    assert walked(text(content)) == [content]
    assert walked(text(content) + text("next")) == [content, "next"]


def test_text_is_decoded_and_a_mask_of_zeros_is_a_mask():
    assert walked(frame(TEXT, "hé 😀".encode(), mask=b"\0\0\0\0")) == ["hé 😀"]


def test_the_largest_frames():
    content = "x" * 70_000
    assert walked(text(content), limit=70_000) == [content]
    assert walked(text(content), limit=69_999) == [1009]


@pytest.mark.parametrize(
    "odd",
    [
        frame(TEXT, b"x", mask=None),
        frame(TEXT, b"x", rsv=4),
        frame(TEXT, b"x", rsv=1),
        frame(0x3, b"x"),
        frame(0xB, b"x"),
        frame(CONTINUATION, b"x"),
        frame(PING, b"x", fin=False),
        frame(PING, b"x" * 126),
        frame(PONG, b"x", fin=False),
        frame(PONG, b"x", rsv=2),
        frame(PONG, b"x", mask=None),
        frame(TEXT, b"\xff"),
        frame(TEXT, b"\xed\xa0\x80"),
        b"\x81\xfe\x00\x05" + b"\0" * 9,  # two bytes of length where one would do
        b"\x81\xff" + (5).to_bytes(8, "big") + b"\0" * 9,
        b"\x81\xff" + (2**63 + 1).to_bytes(8, "big") + b"\0" * 9,
    ],
)
def test_broken_frames_go_up_and_so_does_all_that_follows(odd):
    rest = text("later") + frame(PING)
    steps = walked(text("first") + odd + rest)
    assert steps[0] == "first"
    upward = steps[1:]
    assert all(isinstance(step, bytes) for step in upward)
    assert b"".join(step for step in upward if isinstance(step, bytes)) == odd + rest


def test_control_frames_go_up_between_texts():
    ping, close = frame(PING, b"a"), frame(CLOSE)
    assert walked(text("1") + ping + text("2") + close) == ["1", ping, "2", close]


def test_pongs_are_counted_and_dropped():
    walker = FrameWalker(LIMIT)
    begin, end = frame(TEXT, b"a", fin=False), frame(CONTINUATION, b"b")
    pongs = frame(PONG) + frame(PONG, b"x" * 125)
    assert walker.walk(text("1") + pongs + begin + frame(PONG) + end) == [
        "1", b"", b"", begin, b"", end
    ]  # fmt: skip
    assert (walker.controls, walker.fragments, walker.messages_up) == (3, 2, 1)


def test_pongs_behind_a_broken_frame_are_not_looked_at():
    broken = frame(PONG, b"x" * 126)
    assert walked(frame(PONG) + broken + frame(PONG)) == [b"", broken + frame(PONG)]


def test_a_text_does_not_overtake_a_message_that_went_up():
    walker = FrameWalker(LIMIT)
    begin, between, last = frame(TEXT, b"a", fin=False), frame(PING), frame(CONTINUATION, b"b")
    assert walker.walk(begin + between + last + text("later")) == [
        begin, between, last, text("later")
    ]  # fmt: skip
    assert walker.messages_up == 2
    walker.messages_up -= 1
    assert walker.walk(text("x")) == [text("x")]
    walker.messages_up -= 2
    assert walker.walk(text("x")) == ["x"]


def test_a_text_inside_a_fragmented_message_is_broken():
    begin = frame(TEXT, b"a", fin=False)
    assert walked(begin + text("x") + text("y")) == [begin, text("x") + text("y")]


def test_after_a_close_frame_nothing_is_text():
    close = frame(CLOSE, b"\x03\xe8")
    walker = FrameWalker(LIMIT)
    assert walker.walk(close + text("x")) == [close, text("x")]
    assert walker.has_seen_close


def test_a_message_over_the_limit_is_refused_at_its_header():
    header = text("x" * (LIMIT + 1))[:8]
    assert walked(header[:3]) == []
    assert walked(header) == [1009]
    assert walked(header, text("later")) == [1009]
    assert walked(frame(BINARY, b"x" * (LIMIT + 1))) == [1009]


def test_fragments_together_are_limited_and_empty_ones_count():
    first = frame(TEXT, b"x" * 200, fin=False)
    assert walked(first, frame(CONTINUATION, b"x" * 100)) == [
        first,
        frame(CONTINUATION, b"x" * 100),
    ]
    assert walked(first, frame(CONTINUATION, b"x" * 101)) == [first, 1009]
    empty = frame(CONTINUATION, fin=False)
    steps = walked(first + empty * 101)
    assert steps == [first, *[empty] * 100, 1009]


def test_what_is_held_is_one_partial_frame():
    walker = FrameWalker(LIMIT)
    whole = text("x" * LIMIT)
    for byte in whole[:-1]:
        assert walker.walk(bytes([byte])) == []
    assert walker.held_bytes == len(whole) - 1
    assert walker.end() == whole[:-1]
    assert walker.held_bytes == 0


@given(st.binary(max_size=700), st.binary(min_size=4, max_size=4))
def test_unmasking_is_xor(payload, mask):
    expected = bytes(byte ^ mask[place % 4] for place, byte in enumerate(payload))
    assert unmask(payload, mask) == expected


frames = st.builds(
    frame,
    st.sampled_from([TEXT, TEXT, TEXT, CONTINUATION, BINARY, PING, PONG, CLOSE, 0x5]),
    st.binary(max_size=8) | st.text(max_size=4).map(str.encode) | st.just(b"x" * 301),
    fin=st.sampled_from([True, True, False]),
    rsv=st.sampled_from([0, 0, 0, 0, 2]),
    mask=st.sampled_from([b"\0\0\0\0", b"abcd", b"abcd", None]),
)
streams = st.lists(frames, max_size=8).map(b"".join) | st.binary(max_size=60)


@given(streams, st.lists(st.integers(0, 400), max_size=6))
def test_cuts_change_nothing(stream, cuts):
    walker = FrameWalker(LIMIT)
    places = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    steps = [step for begin, end in pairwise(places) for step in walker.walk(stream[begin:end])]
    assert joined([*steps, walker.end()]) == joined([*walked(stream), tail(stream)])


@given(streams)
def test_nothing_is_lost_or_invented(stream):
    """Texts framed again, pongs and the frames that went up are the stream, up to a 1009."""
    walker = FrameWalker(LIMIT)
    steps = [*walker.walk(stream), walker.end()]
    left = stream
    for step in steps:
        if isinstance(step, int):
            return
        if isinstance(step, str):
            length = len(step.encode())
            size = length + (6 if length < 126 else 8)
            assert unmask(left[size - length : size], left[size - length - 4 : size - length]) == (
                step.encode()
            )
        elif step == b"" and left:
            assert left[0] == 0x80 | PONG
            size = 6 + (left[1] & 0x7F)
        else:
            size = len(step)
            assert left[:size] == step
        left = left[size:]
    assert left == b""


def joined(steps: list[Step]) -> list[Step]:
    """Steps with neighbouring upward bytes in one piece."""
    result: list[Step] = []
    for step in steps:
        if isinstance(step, bytes) and result and isinstance(result[-1], bytes):
            result[-1] += step
        elif step != b"":
            result.append(step)
    return result


def tail(stream: bytes) -> bytes:
    walker = FrameWalker(LIMIT)
    walker.walk(stream)
    return walker.end()
