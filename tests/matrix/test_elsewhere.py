"""Every cell of the table that is about no room, and frames about none."""

import json

import pytest

from tests.matrix.table import ANSWERS, CREDENTIALS, ELSEWHERE, STATUS, Elsewhere
from tests.matrix.test_rooms import outcome
from tests.matrix.world import World
from tests.support.raw_socket import open_raw_socket


def title(operation: Elsewhere) -> str:
    return f"{operation.method}{operation.path} {operation.what}".strip()


@pytest.mark.parametrize("operation", ELSEWHERE, ids=title)
async def test_route(world: World, operation: Elsewhere) -> None:
    wrong = []
    for column in CREDENTIALS:
        letter = operation.answer(column)
        if letter == ".":
            continue
        place = await world.place("group", column, fresh=operation.changes and letter == "+")
        path, body = place.path(operation.path), place.fill(operation.body)
        answer = await world.send(column, operation.method, path, body)
        found = "done"
        if answer.status not in operation.status:
            found = str(answer.json()["code"])
            assert answer.status == STATUS[found], (path, answer)
        if found != ANSWERS[letter]:
            wrong.append(f"{column}: {found} instead of {ANSWERS[letter]}")
    assert wrong == []


async def test_pages_for_everybody(world: World) -> None:
    for column in CREDENTIALS:
        for path in ("/openapi.json", "/asyncapi.yaml", "/docs"):
            assert (await world.send(column, "GET", path)).status == 200


@pytest.mark.parametrize("node", [0, 1])
async def test_frames_about_no_room(world: World, node: int) -> None:
    """`ping`, `auth` and `refresh`: by who is authenticated; of another user: forbidden."""
    url = world.shared.brokers[node].url
    mine, another = world.token("member"), world.token("admin")
    for column in ("member", "stranger", "banned", "join"):
        token = world.token(column)
        async with open_raw_socket(url, token) as socket:
            assert await outcome(socket, {"type": "ping", "id": 1}) == "done"
            for type_ in ("auth", "refresh"):
                frame = {"type": type_, "id": 2}
                assert await outcome(socket, frame | {"token": token}) == "done"
                assert await outcome(socket, frame | {"token": another}) == "forbidden"
                late = frame | {"token": world.token("expired")}
                assert await outcome(socket, late) == "token_expired"
    async with open_raw_socket(url) as socket:
        assert await outcome(socket, {"type": "ping", "id": 1}) == "unauthenticated"
        refresh = {"type": "refresh", "id": 2, "token": mine}
        assert await outcome(socket, refresh) == "unauthenticated"
        assert await outcome(socket, {"type": "auth", "id": 3, "token": mine}) == "done"
    for token, code in (
        (world.token("revoked"), 4403),
        (world.token("expired"), 4402),
        ("x", 4401),
    ):
        async with open_raw_socket(url) as socket:
            await socket.send({"type": "auth", "id": 1, "token": token})
            assert (await socket.wait_closed())[0] == code


async def test_the_same_user_of_another_project_is_somebody_else(world: World) -> None:
    """Ruling 4: two projects may use the same ids and never meet."""
    me = [json.loads((await world.send(c, "GET", "/v1/auth/verify")).body)
          for c in ("member", "stranger")]  # fmt: skip
    assert me[0]["user"] == me[1]["user"]
    assert [found["project"] for found in me] == ["default", "another"]
