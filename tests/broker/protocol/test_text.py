"""Lengths in UTF-8 and refused code points."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from broker.protocol.text import cut_utf8, fits_utf8, has_control, has_forbidden, utf8_length


@given(st.text(), st.integers(0, 40))
def test_lengths_are_those_of_the_encoded_text(text, limit):
    assert utf8_length(text) == len(text.encode())
    assert fits_utf8(text, limit) == (len(text.encode()) <= limit)


@given(st.text(), st.integers(0, 40))
def test_cutting_keeps_a_beginning_that_fits_and_no_half_character(text, limit):
    cut = cut_utf8(text, limit)
    assert text.startswith(cut)
    assert len(cut.encode()) <= limit
    if cut != text:
        assert len(cut.encode()) > limit - 4


def test_nul_and_lone_surrogates_are_forbidden():
    assert has_forbidden("a\x00b")
    assert has_forbidden("a\ud800")
    assert has_forbidden("\udfff")
    assert not has_forbidden("a\x01 é 😀")


def test_control_characters():
    assert has_control("a\nb")
    assert has_control("\x9f")
    assert not has_control("a b é")
