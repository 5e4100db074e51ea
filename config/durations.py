"""Durations as people type them: a number and a unit, `500ms`, `20s`, `5m`, `24h`, `7d`.

`parse_duration` turns text into seconds or raises ValueError with one sentence;
`format_duration` writes the shortest text that parses to the same value. Nothing else is here:
limits of a single variable are its own.
"""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Final

_UNIT_MILLISECONDS: Final = {
    "ms": 1,
    "s": 1_000,
    "m": 60_000,
    "h": 3_600_000,
    "d": 86_400_000,
}
_DURATION: Final = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,6})?)([a-z]*)", re.ASCII)
DURATION_HELP: Final = "a number and a unit of ms, s, m, h or d, such as 500ms, 20s, 5m or 24h"


def parse_duration(text: str) -> float:
    """Return the seconds that `text` means; a number without a unit is refused (0 is allowed).

    Raises ValueError, its message being one sentence without the name of the variable.
    """
    found = _DURATION.fullmatch(text.strip().lower())
    if found is None:
        raise ValueError(f"{text!r} is not a duration; allowed: {DURATION_HELP}")
    number, unit = found.groups()
    if not unit:
        if Decimal(number) == 0:
            return 0.0
        raise ValueError(f"{text!r} has no unit; allowed: {DURATION_HELP}")
    if unit not in _UNIT_MILLISECONDS:
        raise ValueError(f"{text!r} has the unknown unit {unit!r}; allowed: {DURATION_HELP}")
    return float(Decimal(number) * _UNIT_MILLISECONDS[unit] / 1000)


def format_duration(seconds: float) -> str:
    """Return the shortest text for `seconds`, rounded to whole milliseconds."""
    milliseconds = round(seconds * 1000)
    for unit, size in reversed(_UNIT_MILLISECONDS.items()):
        is_one_day = unit == "d" and milliseconds == size  # people say 24h
        if milliseconds and milliseconds % size == 0 and not is_one_day:
            return f"{milliseconds // size}{unit}"
    return "0s"
