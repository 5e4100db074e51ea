"""Every cell of the table that is about a room, tried on a running system.

Rulings 9, 29, 31, 39 to 42, 45 and 54: what is refused is refused with the table's code and leaves
nothing behind, what is allowed is done. Frames go to both brokers.
"""

import contextlib
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio
import trio_websocket

from tests.matrix.table import (
    ANSWERS,
    COMMANDS,
    KEYS,
    KINDS,
    OPERATIONS,
    STATUS,
    Command,
    Operation,
)
from tests.matrix.world import Place, World, limiter
from tests.support.raw_socket import RawSocket, open_raw_socket

Cell = tuple[str, str, str]
"""Kind of room, column, answer's letter."""
Try = Callable[[str, str, str], Awaitable[str]]


def title(operation: Command | Operation) -> str:
    name = operation.type if isinstance(operation, Command) else operation.method + operation.path
    return f"{name} {operation.what}".strip()


def cells_of(operation: Command | Operation) -> list[Cell]:
    """Every cell that can be tried."""
    answer = operation.answer if isinstance(operation, Operation) else operation.right.answer
    cells = [
        (kind, column, answer(kind, column))
        for kind in operation.right.kinds
        for column in KINDS[kind]
        if not (isinstance(operation, Command) and column in KEYS)
    ]
    return [cell for cell in cells if cell[2] != "."]


async def try_all(cells: list[Cell], one: Try) -> list[str]:
    """What is not as the table says."""
    wrong: list[str] = []
    together = limiter()

    async def look(kind: str, column: str, letter: str) -> None:
        async with together:
            found = await one(kind, column, letter)
        if found != ANSWERS[letter]:
            wrong.append(f"{kind}, {column}: {found} instead of {ANSWERS[letter]}")

    async with trio.open_nursery() as nursery:
        for cell in cells:
            nursery.start_soon(look, *cell)
    return sorted(wrong)


@pytest.mark.parametrize("operation", OPERATIONS, ids=title)
async def test_route(world: World, operation: Operation) -> None:
    async def one(kind: str, column: str, letter: str) -> str:
        fresh = operation.changes and letter == "+"
        place = await world.place(kind, column, fresh=fresh)
        before = world.state(place)
        path, body = place.path(operation.path), place.fill(operation.body)
        answer = await world.send(column, operation.method, path, body, room=place.room)
        if answer.status in operation.status:
            return "done"
        problem = answer.json()
        code = str(problem["code"])
        assert answer.status == STATUS[code] == problem["status"], (path, problem)
        assert world.state(place) == before, "a refusal leaves nothing behind"
        return code

    assert await try_all(cells_of(operation), one) == []


@pytest.mark.parametrize("node", [0, 1])
@pytest.mark.parametrize("command", COMMANDS, ids=title)
async def test_frame(world: World, command: Command, node: int) -> None:
    async def one(kind: str, column: str, letter: str) -> str:
        fresh = command.changes and letter == "+"
        place = await world.place(kind, column, fresh=fresh)
        before = world.state(place)
        answer = await ask(world, node, place, frame_of(command, place))
        assert answer == "done" or world.state(place) == before, "a refusal leaves nothing behind"
        return answer

    cells = [cell for cell in cells_of(command) if cell[1] not in ("revoked", "expired", "nobody")]
    assert await try_all(cells, one) == []


def frame_of(command: Command, place: Place) -> dict[str, Any]:
    fields: dict[str, Any] = place.fill(command.fields)
    return {"type": command.type, "id": 1, "room": place.room} | fields


async def ask(world: World, node: int, place: Place, frame: dict[str, Any]) -> str:
    """The outcome of a frame by the place's user: `done` or an error's code."""
    token = world.token(place.column, place.room)
    async with open_raw_socket(world.shared.brokers[node].url, token) as socket:
        return await outcome(socket, frame)


async def outcome(socket: RawSocket, frame: dict[str, Any]) -> str:
    """`done` or the error's code; events are passed over."""
    await socket.send(frame)
    while True:
        answer = json.loads(await socket.receive())
        if answer["type"] in ("reply", "error"):
            assert answer["id"] == frame["id"]
            return "done" if answer["type"] == "reply" else str(answer["code"])


@pytest.mark.parametrize("node", [0, 1])
@pytest.mark.parametrize("command", COMMANDS, ids=title)
async def test_frame_with_a_void_token_or_none(world: World, command: Command, node: int) -> None:
    """Closed after the handshake, never in it, and the frame behind the token is not executed."""
    url = world.shared.brokers[node].url
    for kind in command.right.kinds:
        for column, code in (("revoked", 4403), ("expired", 4402)):
            place = await world.place(kind, column)
            before = world.state(place)
            token = world.token(column)
            async with open_raw_socket(url) as socket:
                await socket.send({"type": "auth", "token": token})
                with contextlib.suppress(trio_websocket.ConnectionClosed):  # it may be so already
                    await socket.send(frame_of(command, place))
                assert (await socket.wait_closed())[0] == code
            assert world.state(place) == before
        place = await world.place(kind, "nobody")
        async with open_raw_socket(url) as socket:
            assert await outcome(socket, frame_of(command, place)) == "unauthenticated"
