"""Durations: what people type, and that text and value agree."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from config.durations import format_duration, parse_duration


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("500ms", 0.5),
        ("20s", 20.0),
        ("5m", 300.0),
        ("24h", 86_400.0),
        ("2d", 172_800.0),
        ("1.5s", 1.5),
        (" 20S ", 20.0),
        ("0", 0.0),
        ("0s", 0.0),
        ("0.1s", 0.1),
    ],
)
def test_what_people_type(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "text",
    ["", "20", "s", "20x", "20 s", "-5s", "+5s", "1e3s", "5ss", "\u0665s", "5s\n5s", "inf", "nan"],
)
def test_everything_else_is_refused_with_what_is_allowed(text: str) -> None:
    with pytest.raises(ValueError, match="500ms, 20s, 5m or 24h"):
        parse_duration(text)


@settings(deadline=None)
@given(st.integers(0, 10**12))
def test_formatting_and_parsing_agree(milliseconds: int) -> None:
    seconds = milliseconds / 1000
    assert parse_duration(format_duration(seconds)) == seconds


@settings(deadline=None)
@given(st.text())
def test_any_text_is_a_duration_or_a_value_error(text: str) -> None:
    try:
        seconds = parse_duration(text)
    except ValueError:
        return
    assert seconds >= 0
