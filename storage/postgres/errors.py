"""Translation of asyncpg's errors into the two that callers of storage see.

One table, by SQLSTATE class: what may go away by waiting is StorageUnavailable, what repeating
cannot mend is StorageRefused. asyncpg's own exceptions never leave this package. `outcome` says
what a caller may assume: `not_done` only where the server cannot have committed anything.
"""

from __future__ import annotations

import asyncio
from typing import Final

import asyncpg

from storage.errors import StorageRefused, StorageUnavailable

# Classes of SQLSTATE that mean "the server cannot at the moment", not "you asked for nonsense".
# 08 connection, 25 transaction timeouts and read-only standbys, 40 rolled back by the server,
# 53 resources (disk, memory, connections), 55 object in use or locked, 57 shutdown, cancel and
# timeouts, 58 system and I/O, XX internal; 28 and 3D are a login or a database that is not there
# (yet). Missing tables (42) are not in it: that is a fault of ours, which waiting does not mend.
_TRANSIENT_CLASSES: Final = frozenset({"08", "25", "28", "3D", "40", "53", "55", "57", "58", "XX"})

# The content of one row was refused: data exception, integrity constraint violation.
_CONTENT_CLASSES: Final = frozenset({"22", "23"})

# `_base.DataError` (a wrong type for a parameter) is another class than `asyncpg.DataError`
# (SQLSTATE 22000); it is the only InterfaceError that is also a ValueError.
_ENCODE_ERRORS: Final = (UnicodeEncodeError, OverflowError, asyncpg.exceptions._base.DataError)

_RETRIED_STATES: Final = frozenset({"40001", "40P01"})


def is_content_error(error: BaseException) -> bool:
    """Whether PostgreSQL refused a statement for the values in it, and only for them."""
    if isinstance(error, asyncpg.PostgresError):
        return _state(error)[:2] in _CONTENT_CLASSES
    # asyncpg refuses some values itself, before the server sees them.
    return isinstance(error, _ENCODE_ERRORS)


def is_retried(error: BaseException) -> bool:
    """Whether the whole transaction may be run again: serialization failure or deadlock."""
    return isinstance(error, asyncpg.PostgresError) and _state(error) in _RETRIED_STATES


def is_lost_connection(error: BaseException) -> bool:
    """Whether the error says that no server answered or that the connection broke."""
    if isinstance(error, asyncpg.PostgresError):
        return _state(error)[:2] in {"08", "57"} and _state(error) != "57014"
    return isinstance(error, OSError | EOFError | TimeoutError | asyncio.IncompleteReadError) or (
        # InternalClientError: a reply was broken off in the middle of the protocol.
        isinstance(error, asyncpg.InterfaceError | asyncpg.InternalClientError)
        and not isinstance(error, _ENCODE_ERRORS)
    )


def translate(error: BaseException, *, sent: bool) -> Exception | None:
    """Return what the caller shall see instead of `error`, None for what is not ours to judge.

    `sent`: whether something may have reached the server, which makes a lost connection's outcome
    unknown. Any other error that the server reported has rolled the work back: not done.
    """
    if isinstance(error, asyncpg.PostgresError):
        state = _state(error)
        if state[:2] in _TRANSIENT_CLASSES or not state:
            unknown = sent and is_lost_connection(error)
            return StorageUnavailable(
                "postgres", "unknown" if unknown else "not_done", _one_line(error)
            )
        constraint = getattr(error, "constraint_name", None)
        return StorageRefused(
            "postgres",
            _one_line(error),
            sqlstate=state,
            constraint=str(constraint) if constraint else None,
        )
    if is_content_error(error):
        return StorageRefused("postgres", _one_line(error), sqlstate="22000")
    if is_lost_connection(error):
        return StorageUnavailable("postgres", "unknown" if sent else "not_done", _one_line(error))
    return None


def _state(error: asyncpg.PostgresError) -> str:
    return str(getattr(error, "sqlstate", None) or "")


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
