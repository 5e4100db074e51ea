"""What Redis answers: raw values, and the one table that turns its error replies into exceptions.

Law of this file: values stay raw (bytes, int, None, lists of those; RESP2, nothing decoded). An
error reply becomes
- `StorageUnavailable("not_done")` if the server cannot serve now: it refused before it did
  anything. `LifeInDoubt` is the kind that says "I am not the server you took me for" or "I have
  just lost or am loading my data": the connection that brought it is thrown away;
- redis-py's `NoScriptError`, `AuthenticationError`, ... or plain `ResponseError` otherwise.
Errors inside an array (of EXEC, or of a script's table) are values in the list.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias

import hiredis
from redis.exceptions import (
    AuthenticationError,
    ClusterCrossSlotError,
    ExecAbortError,
    NoPermissionError,
    NoScriptError,
    RedisError,
    ResponseError,
)

from storage.errors import StorageUnavailable

# Raw replies, never decoded. Lists hold replies (and, rarely, exceptions).
Reply: TypeAlias = bytes | int | list[Any] | None
# Called exactly once. Synchronous, and must not raise.
OnReply: TypeAlias = Callable[[Reply | Exception], None]


class LifeInDoubt(StorageUnavailable):
    """The server changed its role, lost or is loading its data: look at it anew before going on."""


# What a reader raises for bytes that no Redis sends: of RESP3, which is never asked for, a map
# whose keys are maps is a TypeError.
PROTOCOL_ERRORS: Final = (hiredis.ProtocolError, TypeError)
# Returned by a reader as long as a reply is incomplete; no reply is ever this object.
INCOMPLETE: Final = object()
# UNBLOCKED: what a blocked XREAD is told when its server becomes a replica.
_DOUBTFUL: Final = frozenset(
    {"READONLY", "LOADING", "MASTERDOWN", "CLUSTERDOWN", "MOVED", "UNBLOCKED"}
)
# Refused before the first write, and the server itself is as it was.
_CANNOT_NOW: Final = frozenset({"ASK", "BUSY", "MISCONF", "NOREPLICAS", "OOM", "TRYAGAIN"})
_REDIS_ERRORS: Final[Mapping[str, type[RedisError]]] = {
    "CROSSSLOT": ClusterCrossSlotError,
    "EXECABORT": ExecAbortError,
    "NOAUTH": AuthenticationError,
    "NOPERM": NoPermissionError,
    "NOSCRIPT": NoScriptError,
    "WRONGPASS": AuthenticationError,
}
# Redis 6.2 wraps what a command inside a script was told: "ERR Error running script (call to
# f_<sha>): @user_script:3: @user_script: 3: -READONLY You can't write against a read only replica".
_IN_SCRIPT: Final = re.compile(r"^ERR Error running script .*?: -([A-Z]+ .*)$", re.DOTALL)


def translate_error(text: str) -> Exception:
    """An error reply (without its leading `-`) as the exception that the caller gets."""
    inner = _IN_SCRIPT.match(text)
    if inner is not None:
        text = inner[1]
    code, _, rest = text.partition(" ")
    if code in _DOUBTFUL:
        return LifeInDoubt("redis", "not_done", text)
    if code in _CANNOT_NOW:
        return StorageUnavailable("redis", "not_done", text)
    error = _REDIS_ERRORS.get(code)
    return ResponseError(text) if error is None else error(rest)


def build_reader() -> hiredis.Reader:
    """A parser of one connection's replies: `feed`, then `gets` until INCOMPLETE."""
    return hiredis.Reader(replyError=translate_error, notEnoughData=INCOMPLETE)


def feed(reader: hiredis.Reader, buffer: bytearray, size: int) -> None:
    """Give a reader the first `size` bytes of `buffer`; it copies them."""
    reader.feed(buffer, 0, size)  # type: ignore[arg-type]


def pack(*args: bytes | str | int | float) -> bytes:
    """One command as Redis wants it on the wire. A name of several words is several arguments."""
    packed: bytes = hiredis.pack_command(args)  # type: ignore[arg-type]
    return packed
