"""`parley demo`: the composition root. Users and membership over REST, the talking over WebSockets.

It ends by itself when the script is over or the time is up, whichever comes first; Ctrl-C ends it
at once. What was said stays in the room, as anything that is said there.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import trio

from config.errors import ConfigError
from workers.demo.script import STEPS, USERS, Step
from workers.demo.visitor import DemoFailed, Visitor
from workers.supervisor.rest import Rest, RestFailed

__all__ = ["DemoFailed", "DemoOptions", "read_env_file", "run_demo"]

_NEEDED: Final = ("API_URL", "API_KEY", "BROKER_URL", "ROOM")
# People: so many seconds to type a character, and between two things that they do.
_TYPING_PACE: Final = 0.045
_PAUSE: Final = 0.7
_TYPING_MAX: Final = 3.0
_READING: Final = 0.6


@dataclass(frozen=True, slots=True)
class DemoOptions:
    """The options of the command."""

    variables: dict[str, str]
    room: str | None = None
    seconds: float = 90.0
    pace: float = 1.0
    """How fast: 2 is twice as fast."""


def read_env_file(path: Path) -> dict[str, str]:
    """The lines of what `parley up --env-file` has written. Raises ConfigError."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        problem = (
            f"can not read {path} ({error.strerror}); "
            f'it is written by: make up ARGS="--env-file {path}"'
        )
        raise ConfigError("--env-file", problem) from None
    variables = dict(line.split("=", 1) for line in lines if "=" in line)
    missing = [name for name in _NEEDED if not variables.get(name)]
    if missing:
        raise ConfigError("--env-file", f"{path} does not hold {missing[0]}")
    return variables


def run_demo(options: DemoOptions, say: Callable[[str], None]) -> int:
    """Let them talk; the exit status. `say` is told what happens, line by line."""
    failures: list[BaseException] = []
    try:
        trio.run(partial(_run, options, say))
    except* (DemoFailed, RestFailed) as group:
        failures.append(group)
    for failure in failures:
        error = failure
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        say(f"parley demo: {error}")
    return 1 if failures else 0


async def _run(options: DemoOptions, say: Callable[[str], None]) -> None:
    variables = options.variables
    room = options.room or variables["ROOM"]
    rest = Rest(variables["API_URL"], variables["API_KEY"])
    tokens = await _enter(rest, room)
    visitors = {user: Visitor(variables["BROKER_URL"], tokens[user], room) for user in USERS}
    names = ", ".join(name.partition(" ")[0] for name in USERS.values())
    say(f"{names} talk in the room {room}. Watch them at {variables['API_URL']}/#/{room}")
    say(f"It takes at most {options.seconds:g} s; Ctrl-C ends it.")
    async with trio.open_nursery() as nursery:
        for visitor in visitors.values():
            nursery.start_soon(visitor.run)
        with trio.move_on_after(options.seconds):
            await _play(visitors, STEPS, options.pace)
        nursery.cancel_scope.cancel()
    say("That was it. What they said stays in the room.")


async def _enter(rest: Rest, room: str) -> dict[str, str]:
    """Make the users and members of the room where they are missing; a token for each."""
    for user, name in USERS.items():
        profile = {"id": user, "display_name": name}
        await rest.call("POST", "/v1/users", profile, accept=(409,))
    await rest.call("POST", f"/v1/rooms/{room}/members", {"users": list(USERS)})
    tokens = {}
    for user in USERS:
        _, answer = await rest.call("POST", f"/v1/users/{user}/token", {"ttl": "1h"})
        tokens[user] = answer["token"]
    return tokens


async def _play(visitors: dict[str, Visitor], steps: Iterable[Step], pace: float) -> None:
    seqs: dict[str, int] = {}
    newest = 0
    for step in steps:
        visitor = visitors[step.user]
        await trio.sleep(_PAUSE / pace)
        if step.react:
            await visitor.call("react", seq=seqs[step.to], reaction=step.react)
        elif step.edit:
            await visitor.call("edit", seq=seqs[step.to], content=step.edit)
        elif step.delete:
            await visitor.call("delete", seq=seqs[step.to])
        else:
            newest = await _say(visitor, step, seqs, pace)
            if step.key:
                seqs[step.key] = newest
            await trio.sleep(_READING / pace)
            async with trio.open_nursery() as nursery:
                for user, other in visitors.items():
                    if user != step.user:
                        nursery.start_soon(partial(other.call, "read", seq=newest))


async def _say(visitor: Visitor, step: Step, seqs: dict[str, int], pace: float) -> int:
    """Type for a while, then publish; the message's seq."""
    await visitor.call("typing", active=True)
    await trio.sleep(min(len(step.say) * _TYPING_PACE, _TYPING_MAX) / pace)
    message: dict[str, object] = {"content": step.say, "client_id": uuid.uuid4().hex}
    if step.to:
        message["reply_to"] = seqs[step.to]
    if step.link:
        message["attachments"] = [{"url": step.link, "name": step.link.rpartition("/")[2]}]
    answer = await visitor.call("publish", **message)
    seq: int = answer["seq"]
    return seq
