"""Pieces of SQL for JSON that PostgreSQL builds: the contract's spelling of times.

Only names written in this package's own SQL come here, never a value of a caller.
"""

from __future__ import annotations

_TIME = """to_char(NAME AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')"""


def time_text(column: str) -> str:
    """SQL for a timestamptz column as `2026-01-02T03:04:05.678Z` (null stays null)."""
    return _TIME.replace("NAME", column)


def with_times(statement: str, **columns: str) -> str:
    """Replace each `{{name}}` of a statement by the time text of the given column."""
    for name, column in columns.items():
        statement = statement.replace("{{" + name + "}}", time_text(column))
    return statement
