"""The session in `docs/protocol.md`, replayed against a real system, line by line.

A fenced block there is one connection of Alice's. `>` lines are sent, `<` lines must come: those
between two `>` lines in any order, since a reply and the event that its command caused have none.
What differs from run to run (ids, times, epochs, tokens) is bound at its first sight: where the
page says the same twice, the system must too, and what the page sends is the system's own value.
"""

import json
import re
from typing import Any

import pytest

from tests.integration.conftest import Start
from tests.support.deployment import Deployment
from tests.support.raw_socket import RawSocket, open_raw_socket
from tests.support.sources import ROOT
from tests.support.tokens import make_token

_BLOCK = re.compile(r"^```\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"
_UUID = r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"
# By the form of the text: a time, a message's id, an epoch, a connection's or node's id, a token.
_VARIABLE = re.compile(rf"{_TIME}|{_UUID}|[0-9a-f]{{32}}|[0-9a-f]{{16}}|[0-9a-f]{{12}}|eyJ.*…")


class Bindings:
    """What the page's variable texts are in this run."""

    def __init__(self, token: str) -> None:
        self.values: dict[str, str] = {}
        self._token = token

    def bind(self, said: str, real: Any) -> bool:
        """Whether `real` can be what the page says by `said`."""
        if not isinstance(real, str):
            return False
        if _VARIABLE.fullmatch(said) is None:
            return said == real
        if re.fullmatch(_TIME, said) and not re.fullmatch(_TIME, real):
            return False
        return self.values.setdefault(said, real) == real

    def fill(self, text: str) -> str:
        """A text to send, with this run's values."""
        return _VARIABLE.sub(self._value, text)

    def _value(self, hit: re.Match[str]) -> str:
        return self._token if hit.group().startswith("eyJ") else self.values[hit.group()]


def differs(said: Any, real: Any, bindings: Bindings, place: str = "frame") -> str | None:
    """Where a frame is not what the page says; None if it is."""
    if isinstance(said, dict) and isinstance(real, dict):
        if said.keys() != real.keys():
            return f"{place} has {sorted(real)}, not {sorted(said)}"
        parts = [(f"{place}.{key}", value, real[key]) for key, value in said.items()]
    elif isinstance(said, list) and isinstance(real, list) and len(said) == len(real):
        parts = [(f"{place}[{n}]", value, real[n]) for n, value in enumerate(said)]
    elif isinstance(said, str):
        return None if bindings.bind(said, real) else f"{place} is {real!r}, not {said!r}"
    else:
        return None if said == real else f"{place} is {real!r}, not {said!r}"
    return next(
        (found for part in parts if (found := differs(part[1], part[2], bindings, part[0]))), None
    )


def session() -> list[list[str]]:
    """The lines of the blocks."""
    page = (ROOT / "docs" / "protocol.md").read_text(encoding="utf-8")
    section = page.partition("## A session\n")[2].partition("\n## ")[0]
    return [block.splitlines() for block in _BLOCK.findall(section)]


def turns(lines: list[str]) -> list[tuple[str | None, list[dict[str, Any]]]]:
    """What is sent, and what comes before the next is sent. First what comes unasked."""
    found: list[tuple[str | None, list[dict[str, Any]]]] = [(None, [])]
    for line in lines:
        if line.startswith("> "):
            found.append((line[2:], []))
        elif line.startswith("< "):
            found[-1][1].append(json.loads(line[2:]))
    return found


def kind_of(frame: dict[str, Any]) -> tuple[Any, ...]:
    """What tells the frames of one turn apart."""
    return frame["type"], frame.get("id"), frame.get("event")


async def next_frame(socket: RawSocket) -> dict[str, Any]:
    """The next frame but for notifications, which come in their own time, not on the page."""
    while True:
        frame: dict[str, Any] = json.loads(await socket.receive())
        if not str(frame.get("event")).startswith("notification."):
            return frame


async def replay(socket: RawSocket, lines: list[str], bindings: Bindings) -> None:
    """One connection, up to the first line in parentheses."""
    for sent, expected in turns(lines):
        if sent is not None:
            await socket.send(bindings.fill(sent))
        received = [await next_frame(socket) for _ in expected]
        by_kind = {kind_of(frame): frame for frame in received}
        for said in expected:
            real = by_kind.get(kind_of(said))
            assert real is not None, f"after {sent}: {kind_of(said)} is not among {list(by_kind)}"
            assert (fault := differs(said, real, bindings)) is None, f"after {sent}: {fault}"


async def prepare(start: Start) -> Deployment:
    """What the page says of the room before Alice comes."""
    system = await start(brokers=1, PRESENCE_GRACE="14s")
    await system.create_room("lunch", "bob", created_by="alice")
    return system


@pytest.mark.slow
async def test_the_session_of_the_page_is_what_happens(start: Start) -> None:
    system = await prepare(start)
    url, token = system.brokers[0].url, make_token("alice")
    bindings = Bindings(token)
    first, second = session()
    async with system.connect("bob") as bob:
        await bob.subscribe("lunch")
        async with open_raw_socket(url) as socket:
            await replay(socket, first, bindings)
        await bob.publish("lunch", "At one.")
        async with open_raw_socket(url, token, wait_hello=False) as socket:
            drain = next(n for n, line in enumerate(second) if '"drain"' in line)
            await replay(socket, second[:drain], bindings)
            system.brokers[0].terminate()
            await replay(socket, second[drain:], bindings)
            ending = second[-1]
            code, reason = await socket.wait_closed()
            assert f"closed by the server with {code}, “{reason}”" in ending


def test_a_page_that_says_something_else_would_be_noticed() -> None:
    said = {"id": 1, "time": "2026-01-02T03:04:05.678Z", "users": ["alice"], "count": 2}
    changes: list[dict[str, Any]] = [
        {"id": 2}, {"time": "now"}, {"users": []}, {"users": ["bob"]}, {"count": None},
    ]  # fmt: skip
    for change in changes:
        assert differs(said, said | change, Bindings(""))
    assert differs(said, said | {"more": 1}, Bindings(""))
    bindings = Bindings("")
    assert differs(said, said | {"time": "2027-01-02T03:04:05.678Z"}, bindings) is None
    assert differs(said, said, bindings)
