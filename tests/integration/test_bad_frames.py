"""Bad frames, each with the one answer it must get; the connection goes on."""

import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from tests.support.deployment import Deployment
from tests.support.raw_socket import RawSocket, open_raw_socket
from tests.support.tokens import make_token

Name = Callable[[str], str]
Row = tuple[str, dict[str, Any], str, str | None]

ROOM = "ROOM"
"""Stands for the room that the user is a member of."""

TOO_LONG = "x" * 129
EMPTY_SINCE = {"epoch": "", "offset": 1}


def publish(code: str, field: str | None, **fields: Any) -> Row:
    given = {"room": ROOM, "content": "text"} | fields
    return (
        "publish",
        {name: value for name, value in given.items() if value is not ...},
        code,
        field,
    )


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = {"a": value}
    return value


def attachment(**fields: Any) -> dict[str, Any]:
    return {"url": "https://example.com/a", **fields}


ROWS: list[Row] = [
    # The frame itself.
    ("nonsense", {}, "unknown_type", "type"),
    ("Publish", {"room": ROOM, "content": "text"}, "unknown_type", "type"),
    ("", {}, "unknown_type", "type"),
    # Rooms.
    publish("bad_request", "room", room=...),
    *(
        publish("bad_request", "room", room=room)
        for room in (5, [], {}, True, "", ".", "..", "a/b", "a b", "ü", "a\n", "user:alice",
                     "user:", "default/general", TOO_LONG, "a@b", "a|b")
    ),
    publish("room_not_found", None, room="x" * 128),
    publish("room_not_found", None, room="...", content="text"),
    *(
        (type_, {"room": room}, "bad_request", "room")
        for type_ in ("subscribe", "unsubscribe", "history")
        for room in (5, "a/b", TOO_LONG)
    ),
    *((type_, {}, "bad_request", "room") for type_ in ("subscribe", "unsubscribe", "history")),
    # Content.
    publish("bad_request", "content", content=...),
    publish("bad_request", "content", content=""),
    publish("bad_request", "content", content="", attachments=[]),
    publish("bad_request", "content", content=5),
    publish("bad_request", "content", content=["text"]),
    publish("bad_request", "content", content="a\x00b"),
    publish("bad_request", "content", content="\ud800"),
    publish("too_large", "content", content="x" * 32_769),
    publish("too_large", "content", content="ü" * 16_385),
    # The first that applies: form before size, size before the room.
    publish("bad_request", "kind", content="x" * 32_769, kind="Text"),
    publish("too_large", "content", content="x" * 32_769, room="nowhere"),
    publish("bad_request", "client_id", client_id="", room="nowhere"),
    # Kind.
    *(publish("bad_request", "kind", kind=kind) for kind in ("", "Text", "a b", "x" * 33, 5, "ü")),
    publish("forbidden", "kind", kind="system"),
    # Metadata.
    *(publish("bad_request", "metadata", metadata=value) for value in ("x", [], 5, True)),
    publish("bad_request", "metadata", metadata={"a": float("nan")}),
    publish("bad_request", "metadata", metadata={"a": float("inf")}),
    publish("bad_request", "metadata", metadata={"a": [{"b": "\x00"}]}),
    publish("bad_request", "metadata", metadata={"a\x00": 1}),
    publish("bad_request", "metadata", metadata={"a": "\udfff"}),
    publish("bad_request", "metadata", metadata=nested(33)),
    publish("bad_request", "metadata", metadata={"a": 2**63}),
    publish("too_large", "metadata", metadata={"a": "x" * 8_192}),
    # Mentions.
    publish("bad_request", "mentions", mentions="bob"),
    publish("bad_request", "mentions", mentions=[5]),
    publish("bad_request", "mentions", mentions=["a b"]),
    publish("bad_request", "mentions", mentions=[f"u{n}" for n in range(21)]),
    # Attachments.
    publish("bad_request", "attachments", attachments="x"),
    publish("bad_request", "attachments", attachments=[{}]),
    publish("bad_request", "attachments", attachments=[{"url": 5}]),
    *(
        publish("bad_request", "attachments", attachments=[{"url": url}])
        for url in ("", "a", "/a", "//example.com/a", "javascript:alert(1)", "JavaScript:x",
                    "data:text/html,x", "vbscript:x", "java\nscript:x", "https://", "http:a")
    ),
    publish("bad_request", "attachments", attachments=[attachment(size=-1)]),
    publish("bad_request", "attachments", attachments=[attachment(name="x" * 257)]),
    publish("too_large", "attachments", attachments=[attachment(metadata={"a": "x" * 4_096})]),
    publish("too_large", "attachments", attachments=[attachment()] * 17),
    # What is answered.
    *(publish("bad_request", "reply_to", reply_to=value) for value in ("1", 1.5, [], True, 2**63)),
    *(publish("message_not_found", "reply_to", reply_to=value) for value in (-1, 0, 999, 2**53)),
    # The idempotency key.
    *(publish("bad_request", "client_id", client_id=value) for value in ("", "x" * 65, 5)),
    publish("bad_request", "client_id", client_id="a\x00"),
    # Subscribing.
    *(
        ("subscribe", {"room": ROOM, "since": since}, "bad_request", "since")
        for since in (5, "x", [], {}, {"epoch": "e"}, {"offset": 1}, EMPTY_SINCE,
                      {"epoch": "e", "offset": -1}, {"epoch": "e", "offset": "1"},
                      {"epoch": "e", "offset": 1.5}, {"epoch": 5, "offset": 1},
                      {"epoch": "x" * 65, "offset": 1}, {"epoch": "e", "offset": 2**63})
    ),
    *(
        ("subscribe", {"room": ROOM, "history": count}, "bad_request", "history")
        for count in (-1, 101, "5", 1.5, [])
    ),
    # Pages.
    *(
        ("history", {"room": ROOM, "limit": limit}, "bad_request", "limit")
        for limit in (0, -1, 101, "5", 1.5)
    ),
    *(
        ("history", {"room": ROOM, name: value}, "bad_request", name)
        for name in ("before", "after")
        for value in (-1, "5", 1.5, 2**63)
    ),
    ("history", {"room": ROOM, "before": 5, "after": 5}, "bad_request", "after"),
    # Tokens.
    *((type_, {}, "bad_request", "token") for type_ in ("auth", "refresh")),
    *((type_, {"token": 5}, "bad_request", "token") for type_ in ("auth", "refresh")),
    *((type_, {"token": "x.y.z"}, "unauthenticated", "token") for type_ in ("auth", "refresh")),
]  # fmt: skip

NO_OBJECTS = [
    "", " ", "hello", "{", "}", '{"type":"ping"', '{"type":"ping"}x', "{'type':'ping'}", "\x00",
    "[]", '[{"type":"ping"}]', "null", "true", "1", '"ping"', "NaN", "ping\n", "{}{}",
]  # fmt: skip

BAD_IDS: list[Any] = [None, 1.5, True, [], {}, "x" * 65, "ü" * 33, 2**63, "a\x00", "\ud800"]
GOOD_IDS: list[Any] = [0, -5, 2**63 - 1, "", "x" * 64, "ü" * 32, "a b/c"]


@pytest.fixture
async def room(shared: Deployment, name: Name) -> str:
    """A room with one message; its member is `alice` with the same suffix."""
    room = name("room")
    await shared.create_room(room, name("alice"))
    await shared.post(room, "first", name("alice"))
    return room


@pytest.fixture
async def socket(shared: Deployment, name: Name, room: str) -> AsyncIterator[RawSocket]:
    async with open_raw_socket(shared.brokers[0].url, make_token(name("alice"))) as opened:
        yield opened


def json_text(frame: dict[str, Any]) -> str:
    """As JSON, also of what no strict encoder would write; escaped only where it must be."""
    text = json.dumps(frame, ensure_ascii=False)
    return text if text.isprintable() else json.dumps(frame)


async def ask(socket: RawSocket, frame: dict[str, Any]) -> dict[str, Any]:
    answer: dict[str, Any] = json.loads(await socket.ask(json_text(frame)))
    return answer


def check_error(answer: dict[str, Any], frame_id: Any, code: str, field: str | None) -> None:
    assert list(answer) == ["type", "id", "code", "message", "retry_after", "field"]
    assert (answer["type"], answer["code"], answer["field"]) == ("error", code, field), answer
    assert answer["id"] == frame_id
    assert answer["retry_after"] is None
    assert answer["message"].endswith(".")


async def check_alive(socket: RawSocket) -> None:
    answer = await ask(socket, {"type": "ping", "id": "alive"})
    assert (answer["type"], answer["id"]) == ("reply", "alive")


async def test_each_frame_has_its_answer(socket: RawSocket, room: str) -> None:
    """All rows on one connection: no refusal costs the connection anything."""
    for number, (type_, fields, code, field) in enumerate(ROWS):
        given = {name: room if value == ROOM else value for name, value in fields.items()}
        answer = await ask(socket, {"type": type_, "id": number, **given})
        try:
            check_error(answer, number, code, field)
        except AssertionError as error:
            raise AssertionError(f"{type_} {str(given)[:200]}: {error}") from None
    await check_alive(socket)


async def test_without_an_id_only_failures_are_answered(socket: RawSocket, room: str) -> None:
    await socket.send({"type": "publish", "room": room, "content": "text"})
    await socket.send({"type": "ping"})
    answer = await ask(socket, {"type": "publish", "room": room})
    check_error(answer, None, "bad_request", "content")
    answer = await ask(socket, {"type": "publish", "room": "nowhere", "content": "text"})
    check_error(answer, None, "room_not_found", None)
    check_error(await ask(socket, {"type": "nonsense"}), None, "unknown_type", "type")
    check_error(await ask(socket, {}), None, "bad_request", "type")
    for type_ in (5, None, [], {}):
        check_error(await ask(socket, {"type": type_}), None, "bad_request", "type")
    await check_alive(socket)


async def test_ids(socket: RawSocket) -> None:
    for frame_id in BAD_IDS:
        answer = await ask(socket, {"type": "ping", "id": frame_id})
        check_error(answer, None, "bad_request", "id")
    for frame_id in GOOD_IDS:
        answer = await ask(socket, {"type": "ping", "id": frame_id})
        assert (answer["type"], answer["id"]) == ("reply", frame_id)
    for _ in range(2):
        await check_alive(socket)


async def test_unknown_fields_are_ignored(socket: RawSocket, room: str) -> None:
    answer = await ask(
        socket,
        {"type": "publish", "id": 1, "room": room, "content": "x", "later": {"a": [1]}, "seq": 9},
    )
    assert answer["result"]["seq"] == 2
    answer = await ask(socket, {"type": "history", "id": 2, "room": room, "before": None})
    assert len(answer["result"]["messages"]) == 2


@pytest.mark.parametrize("texts", [NO_OBJECTS[n : n + 3] for n in range(0, len(NO_OBJECTS), 3)])
async def test_what_is_no_object_three_times_ends_the_connection(
    shared: Deployment, name: Name, texts: list[str]
) -> None:
    token = make_token(name("alice"))
    async with open_raw_socket(shared.brokers[0].url, token) as socket:
        for text in texts[:2]:
            check_error(json.loads(await socket.ask(text)), None, "bad_request", None)
            await check_alive(socket)
        check_error(json.loads(await socket.ask(texts[2])), None, "bad_request", None)
        code, reason = await socket.wait_closed()
        assert code == 4400
        assert reason.endswith(".")


async def test_objects_with_forbidden_values_do_not_count_as_none(
    socket: RawSocket, room: str
) -> None:
    for _ in range(5):
        answer = await ask(socket, {"type": "publish", "id": 1, "room": room, "content": "\x00"})
        check_error(answer, 1, "bad_request", "content")
        answer = await ask(socket, {"type": "ping", "id": 2, "more": float("nan")})
        check_error(answer, 2, "bad_request", "more")
    await check_alive(socket)


async def test_nothing_bad_was_stored(shared: Deployment, socket: RawSocket, room: str) -> None:
    """What was refused left no trace, and what was accepted at the limits is archived."""
    accepted: list[dict[str, Any]] = [
        {"content": "x" * 32_768},
        {"content": "ü" * 16_384},
        {"metadata": {"a": "x" * 8_184}},
        {"metadata": nested(32)},
        {"kind": "x" * 32},
        {"client_id": "ü" * 32},
        {"mentions": [f"u{n}" for n in range(20)]},
        {"attachments": [attachment()] * 16},
        {"attachments": [attachment()], "content": ""},
        {"reply_to": 1},
        {"content": "\\u0000 is only text; so are \ufffe, 👍 and \u202e"},
    ]
    for fields in accepted:
        frame = {"type": "publish", "id": 1, "room": room, "content": "text", **fields}
        answer = await ask(socket, frame)
        assert answer["type"] == "reply", (fields, answer)
    for type_, fields, _code, _field in ROWS:
        given = {name: room if value == ROOM else value for name, value in fields.items()}
        await ask(socket, {"type": type_, "id": 2, **given})
    live = await shared.whole_history(room)
    assert len(live) == 1 + len(accepted)
    await shared.wait_archived()
    assert await shared.whole_history(room) == live
