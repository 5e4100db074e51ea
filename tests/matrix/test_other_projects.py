"""What is another project's is answered, to the byte, like what there is not (promise 7)."""

import dataclasses
import json

import pytest

from tests.matrix.table import COMMANDS, ELSEWHERE, OPERATIONS, Command, Elsewhere, Operation
from tests.matrix.test_rooms import frame_of
from tests.matrix.test_rooms import title as title_of_room
from tests.matrix.world import Place, World
from tests.support.raw_socket import open_raw_socket

NAMES = ("room", "own_id", "other_id", "victim", "owner", "self", "newcomer")
# They differ from one request to the next, whatever is asked.
PASSING = {"date", "x-request-id", "ratelimit-limit", "ratelimit-remaining", "ratelimit-reset"}
ABOUT_USERS = [item for item in ELSEWHERE if "{victim}" in item.path]


def imagined(place: Place) -> Place:
    """The same place with ids that nobody ever had, as long as the real ones."""
    changed = {name: getattr(place, name)[:-4] + "0000" for name in NAMES}
    return dataclasses.replace(place, **changed)


def without_ids(place: Place, text: str) -> str:
    for name in NAMES:
        text = text.replace(getattr(place, name), f"<{name}>")
    return text


def title(operation: Operation | Elsewhere) -> str:
    return f"{operation.method}{operation.path} {operation.what}".strip()


@pytest.mark.parametrize("column", ["stranger", "other_key"])
@pytest.mark.parametrize("operation", [*OPERATIONS, *ABOUT_USERS], ids=title)
async def test_route(world: World, operation: Operation | Elsewhere, column: str) -> None:
    kinds = operation.right.kinds if isinstance(operation, Operation) else ["group"]
    for kind in kinds:
        real = await world.place(kind, "member")
        found = []
        for place in (real, imagined(real)):
            path, body = place.path(operation.path), place.fill(operation.body)
            answer = await world.send(column, operation.method, path, body, room=place.room)
            headers = {n: v for n, v in answer.headers.items() if n not in PASSING}
            found.append((answer.status, headers, without_ids(place, answer.body.decode())))
        assert found[0] == found[1]


@pytest.mark.parametrize("command", COMMANDS, ids=title_of_room)
async def test_frame(world: World, command: Command) -> None:
    token = world.token("stranger")
    for kind in command.right.kinds:
        real = await world.place(kind, "member")
        found = []
        for place in (real, imagined(real)):
            async with open_raw_socket(world.shared.brokers[0].url, token) as socket:
                found.append(without_ids(place, await socket.ask(frame_of(command, place))))
        assert found[0] == found[1]
        assert json.loads(found[0])["type"] in ("error", "reply")
