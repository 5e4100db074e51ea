"""`parley archiver` that kills itself at a step: `python -m tests.faults.dying_archiver`.

A step is a statement sent to PostgreSQL or a command sent to Redis. CRASH_STEP names it, CRASH_WHEN
says whether it dies `before` the step is sent or `after` its answer has come. With CRASH_RECORD
the name of every step is written to that file instead. The archiver itself is the product's own,
started as it always is; only the lowest call of each storage is wrapped.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

import asyncpg
import hiredis

from parley.cli import main
from storage.redis.calls import OpenCall
from storage.redis.client import RedisClient
from storage.redis.script_loader import ScriptSet

STEP: Final = os.environ.get("CRASH_STEP", "")
WHEN: Final = os.environ.get("CRASH_WHEN", "before")
RECORD: Final = os.environ.get("CRASH_RECORD", "")
_NAME_CHARACTERS: Final = 60
_STATEMENTS: Final = ("execute", "fetch", "fetchrow", "fetchval")


class Steps:
    """Takes note of each step, and dies at the one that was asked for."""

    def __init__(self) -> None:
        self._seen: set[str] = set()
        self._scripts = {script.sha: script.name for script in ScriptSet.load().values()}

    def before(self, name: str) -> None:
        if RECORD and name not in self._seen:
            with Path(RECORD).open("a", encoding="utf-8") as file:
                file.write(f"{name}\n")
        self._seen.add(name)
        if name == STEP and WHEN == "before":
            os.kill(os.getpid(), signal.SIGKILL)

    def after(self, name: str) -> None:
        if name == STEP and WHEN == "after":
            os.kill(os.getpid(), signal.SIGKILL)

    def redis_name(self, packed: bytes) -> str:
        """`EVALSHA archived`, `XRANGE`."""
        reader = hiredis.Reader()
        reader.feed(packed)
        words: Any = reader.gets()
        name = words[0].decode()
        if name == "EVALSHA":
            name += f" {self._scripts[words[1].decode()]}"
        return f"redis: {name}"


def wrap_asyncpg(steps: Steps) -> None:
    """Make every statement of every connection a step."""

    def wrap(name: str) -> None:
        call: Callable[..., Awaitable[Any]] = getattr(asyncpg.Connection, name)

        async def step(self: Any, query: str, *args: Any, **more: Any) -> Any:
            words = " ".join(query.split()) if name in _STATEMENTS else f"COPY {query}"
            label = f"postgres: {words[:_NAME_CHARACTERS]}"
            steps.before(label)
            result = await call(self, query, *args, **more)
            steps.after(label)
            return result

        setattr(asyncpg.Connection, name, step)

    for name in (*_STATEMENTS, "copy_records_to_table"):
        wrap(name)


def wrap_redis(steps: Steps) -> None:
    """Make every command of the command connection a step."""
    submit = RedisClient.submit

    def step(
        self: RedisClient, packed: bytes | OpenCall, on_reply: Any, timeout: float | None = None
    ) -> None:
        assert isinstance(packed, bytes), "an archiver publishes nothing"
        label = steps.redis_name(packed)
        steps.before(label)

        def done(reply: Any) -> None:
            steps.after(label)
            on_reply(reply)

        submit(self, packed, done, timeout)

    RedisClient.submit = step  # type: ignore[method-assign]


if __name__ == "__main__":
    counted = Steps()
    wrap_asyncpg(counted)
    wrap_redis(counted)
    sys.argv = ["parley", "archiver"]
    main()
