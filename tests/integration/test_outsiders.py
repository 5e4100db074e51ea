"""A room that one is not in and a room that there is not are answered alike, to the byte."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.support.deployment import Deployment, room_path
from tests.support.raw_socket import open_raw_socket
from tests.support.tokens import make_token

Name = Callable[[str], str]

FRAMES: list[dict[str, Any]] = [
    {"type": "subscribe", "id": 1},
    {"type": "subscribe", "id": 2, "history": 10},
    {"type": "subscribe", "id": 3, "since": {"epoch": "e", "offset": 1}},
    {"type": "publish", "id": 4, "content": "text"},
    {"type": "publish", "id": 5, "content": "text", "client_id": "c"},
    {"type": "publish", "id": 6, "content": "text", "reply_to": 1},
    {"type": "publish", "content": "no id"},
    {"type": "history", "id": "seven"},
    {"type": "history", "id": 8, "after": 0, "limit": 5},
    {"type": "unsubscribe", "id": 9},
]
REQUESTS: list[tuple[str, str, Any]] = [
    ("GET", "", None),
    ("GET", "/messages", None),
    ("GET", "/messages?page=1", None),
    ("GET", "/messages?around=1", None),
    ("GET", "/messages/1", None),
    ("GET", "/messages/01890a5d-ac96-774b-bcce-b302099a8057", None),
    ("POST", "/messages", {"content": "text"}),
    ("GET", "/members", None),
    ("POST", "/members", {"user": "somebody"}),
    ("PATCH", "/members/somebody", {"role": "reader"}),
    ("DELETE", "/members/somebody", None),
]
# They differ from one request to the next, whatever is asked.
PASSING = {"date", "x-request-id", "ratelimit-limit", "ratelimit-remaining", "ratelimit-reset"}


@pytest.fixture
async def rooms(shared: Deployment, name: Name) -> list[str]:
    """A missing room, then a group, a direct room and one with messages; names of one length."""
    missing, group, direct, busy = (name(prefix) for prefix in ("none", "grup", "dirc", "busy"))
    alice, bob = name("alice"), name("bob")
    await shared.create_room(group, alice, bob)
    await shared.create_room(direct, alice, bob, kind="direct")
    await shared.create_room(busy, alice, bob)
    await shared.post(busy, "secret", alice)
    return [missing, group, direct, busy]


@pytest.mark.parametrize("node", [0, 1])
async def test_over_the_websocket(
    shared: Deployment, name: Name, rooms: list[str], node: int
) -> None:
    token = make_token(name("mallory"))
    texts: dict[str, list[str]] = {}
    for room in rooms:
        async with open_raw_socket(shared.brokers[node].url, token) as socket:
            texts[room] = [await socket.ask({**frame, "room": room}) for frame in FRAMES]
    missing = rooms[0]
    assert all('"room_not_found"' in text for text in texts[missing][:-1])
    assert texts[missing][-1] == '{"type":"reply","id":9,"result":{}}'
    for room in rooms:
        assert texts[room] == texts[missing]
        assert room not in "".join(texts[room])


async def test_over_rest(shared: Deployment, name: Name, rooms: list[str]) -> None:
    mallory = name("mallory")
    answers: dict[str, list[Any]] = {}
    for room in rooms:
        answers[room] = []
        for method, path, body in REQUESTS:
            answer = await shared.send(method, room_path(room) + path, body, user=mallory)
            headers = {k: v for k, v in answer.headers.items() if k not in PASSING}
            answers[room].append((method, path, answer.status, headers, answer.body))
    missing = rooms[0]
    for _method, path, status, _headers, body in answers[missing]:
        assert status == 404, (path, body)
        assert b'"room_not_found"' in body
    for room in rooms:
        assert answers[room] == answers[missing]


async def test_bad_requests_say_nothing_about_the_room(
    shared: Deployment, name: Name, rooms: list[str]
) -> None:
    """What is wrong with the request itself comes first, whatever the room."""
    bad: list[tuple[str, str, Any, str]] = [
        ("POST", "/messages", {"content": ""}, "bad_request"),
        ("POST", "/messages", {"content": "x" * 40_000}, "too_large"),
        ("GET", "/messages?limit=500", None, "bad_request"),
        ("POST", "/members", {}, "bad_request"),
        ("PATCH", "/members/somebody", {"role": "king"}, "bad_request"),
        ("PATCH", "/members/somebody", {}, "bad_request"),
    ]
    mallory = name("mallory")
    for method, path, body, code in bad:
        found = []
        for room in rooms:
            answer = await shared.send(method, room_path(room) + path, body, user=mallory)
            found.append((answer.status, answer.body))
        assert f'"{code}"'.encode() in found[0][1], (path, found[0])
        assert found == [found[0]] * len(rooms)


async def test_another_projects_rooms_do_not_exist(
    shared: Deployment, name: Name, rooms: list[str]
) -> None:
    token = make_token(name("mallory"), project="another")
    capable = make_token(
        name("eve"), project="another", rooms={room: ["join", "publish"] for room in rooms}
    )
    for credential in (token, capable):
        async with open_raw_socket(shared.brokers[0].url, credential) as socket:
            for room in rooms:
                for frame in FRAMES[:-1]:
                    assert '"room_not_found"' in await socket.ask({**frame, "room": room})
