"""Bad frames, each with the one answer it must get; the connection goes on."""

import json
from collections.abc import AsyncIterator, Callable, Iterable
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


ANYTHING_ELSE: list[Any] = ["x", [], 5, True]
BAD_ROOMS: list[Any] = [
    5, [], {}, True, "", ".", "..", "a/b", "a b", "ü", "a\n", "user:alice", "user:",
    "default/general", TOO_LONG, "a@b", "a|b",
]  # fmt: skip
BAD_URLS = [
    "", "a", "/a", "//example.com/a", "javascript:alert(1)", "JavaScript:x", "data:text/html,x",
    "vbscript:x", "java\nscript:x", "https://", "http:a",
]  # fmt: skip
BAD_SINCE: list[Any] = [
    5, "x", [], {}, {"epoch": "e"}, {"offset": 1}, {"epoch": "", "offset": 1},
    {"epoch": "e", "offset": -1}, {"epoch": "e", "offset": "1"}, {"epoch": "e", "offset": 1.5},
    {"epoch": 5, "offset": 1}, {"epoch": "x" * 65, "offset": 1}, {"epoch": "e", "offset": 2**63},
]  # fmt: skip
NO_SEQS: list[Any] = [-1, "5", 1.5, 2**63]
NO_COUNTS: list[Any] = [-1, 101, "5", 1.5]


def publish(code: str, field: str | None, **fields: Any) -> Row:
    """A publish that is well but for these fields; one given as `...` is left out."""
    given = {"room": ROOM, "content": "text"} | fields
    return (
        "publish",
        {name: value for name, value in given.items() if value is not ...},
        code,
        field,
    )


def publish_each(code: str, field: str, values: Iterable[Any]) -> list[Row]:
    """A publish for each bad value of the field."""
    return [publish(code, field, **{field: value}) for value in values]


def each(type_: str, field: str, values: Iterable[Any], code: str = "bad_request") -> list[Row]:
    """A command of another type for each bad value of the field."""
    room = {} if field == "token" else {"room": ROOM}
    return [(type_, room | {field: value}, code, field) for value in values]


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = {"a": value}
    return value


def attachment(**fields: Any) -> dict[str, Any]:
    return {"url": "https://example.com/a", **fields}


def bad_edits(code: str, field: str, values: Iterable[Any]) -> list[Row]:
    """An edit of the first message, well but for the field; alone in it unless it is `seq`."""
    good = {"content": "new"} if field == "seq" else {}
    return [
        ("edit", {"room": ROOM, "seq": 1} | good | {field: value}, code, field) for value in values
    ]


def bad_reactions(type_: str) -> list[Row]:
    """`react` or `unreact` with each kind of fault."""
    bad: list[Any] = [5, None, "", "a/b", "a\n", "a\x00", "\x7f", "\ud83d", "x" * 65, "ü" * 33]
    given: dict[str, Any] = {"room": ROOM, "seq": 1}
    return [
        *((type_, given | {"reaction": value}, "bad_request", "reaction") for value in bad),
        (type_, {"room": ROOM, "reaction": "x"}, "bad_request", "seq"),
        (type_, {"room": ROOM, "seq": 999, "reaction": "x"}, "message_not_found", "seq"),
        (type_, {"room": "nowhere", "seq": 1, "reaction": "x"}, "room_not_found", None),
    ]


ROWS: list[Row] = [
    # The frame itself.
    ("nonsense", {}, "unknown_type", "type"),
    ("Publish", {"room": ROOM, "content": "text"}, "unknown_type", "type"),
    ("", {}, "unknown_type", "type"),
    # Rooms.
    publish("bad_request", "room", room=...),
    *publish_each("bad_request", "room", BAD_ROOMS),
    publish("room_not_found", None, room="x" * 128),
    publish("room_not_found", None, room="..."),
    *each("subscribe", "room", BAD_ROOMS),
    *each("unsubscribe", "room", BAD_ROOMS),
    *each("history", "room", BAD_ROOMS),
    ("subscribe", {}, "bad_request", "room"),
    ("unsubscribe", {}, "bad_request", "room"),
    ("history", {}, "bad_request", "room"),
    # Content.
    publish("bad_request", "content", content=...),
    publish("bad_request", "content", content="", attachments=[]),
    *publish_each("bad_request", "content", ["", 5, ["text"], "a\x00b", "\ud800"]),
    *publish_each("too_large", "content", ["x" * 32_769, "ü" * 16_385]),
    # The first that applies: form before size, size before the room.
    publish("bad_request", "kind", content="x" * 32_769, kind="Text"),
    publish("too_large", "content", content="x" * 32_769, room="nowhere"),
    publish("bad_request", "client_id", client_id="", room="nowhere"),
    # Kind.
    *publish_each("bad_request", "kind", ["", "Text", "a b", "x" * 33, 5, "ü"]),
    publish("forbidden", "kind", kind="system"),
    # Metadata.
    *publish_each("bad_request", "metadata", ANYTHING_ELSE),
    *publish_each("bad_request", "metadata", [{"a": float("nan")}, {"a": float("inf")}]),
    *publish_each("bad_request", "metadata", [{"a": [{"b": "\x00"}]}, {"a\x00": 1}]),
    *publish_each("bad_request", "metadata", [{"a": "\udfff"}, nested(33), {"a": 2**63}]),
    publish("too_large", "metadata", metadata={"a": "x" * 8_192}),
    # Mentions.
    *publish_each("bad_request", "mentions", ["bob", [5], ["a b"], [f"u{n}" for n in range(21)]]),
    # Attachments.
    *publish_each("bad_request", "attachments", ["x", [{}], [{"url": 5}]]),
    *publish_each("bad_request", "attachments", [[{"url": url}] for url in BAD_URLS]),
    publish("bad_request", "attachments", attachments=[attachment(size=-1)]),
    publish("bad_request", "attachments", attachments=[attachment(name="x" * 257)]),
    publish("too_large", "attachments", attachments=[attachment(metadata={"a": "x" * 4_096})]),
    publish("too_large", "attachments", attachments=[attachment()] * 17),
    # What is answered.
    *publish_each("bad_request", "reply_to", ["1", 1.5, [], True, 2**63]),
    *publish_each("message_not_found", "reply_to", [-1, 0, 999, 2**53]),
    # The idempotency key.
    *publish_each("bad_request", "client_id", ["", "x" * 65, 5, "a\x00"]),
    # Subscribing.
    *each("subscribe", "since", BAD_SINCE),
    *each("subscribe", "history", NO_COUNTS),
    # Changes of messages.
    *each("delete", "seq", ["x", [], True, *NO_SEQS, None]),
    *(row for type_ in ("react", "unreact") for row in bad_reactions(type_)),
    *bad_edits("bad_request", "seq", ["x", [], True, *NO_SEQS]),
    *bad_edits("bad_request", "content", [5, [], {}, None, "a\x00", "\ud800"]),
    *bad_edits("bad_request", "metadata", [*ANYTHING_ELSE, {"a": 2**63}, nested(33)]),
    *bad_edits("bad_request", "attachments", ["x", [{}], [5], [{"url": "javascript:x"}]]),
    *bad_edits("too_large", "content", ["x" * 32_769]),
    *bad_edits("too_large", "metadata", [{"a": "x" * 8_192}]),
    *bad_edits("too_large", "attachments", [[{"url": "https://example.com"}] * 17]),
    *bad_edits("bad_request", "content", [""]),
    *bad_edits("message_not_found", "seq", [0, 999, 2**53]),
    *each("delete", "seq", [0, 999, 2**53], "message_not_found"),
    ("edit", {"room": "nowhere", "seq": 1, "content": "x"}, "room_not_found", None),
    ("delete", {"room": "nowhere", "seq": 1}, "room_not_found", None),
    # Pages.
    *each("history", "limit", [0, *NO_COUNTS]),
    *each("history", "before", NO_SEQS),
    *each("history", "after", NO_SEQS),
    ("history", {"room": ROOM, "before": 5, "after": 5}, "bad_request", "after"),
    # Tokens.
    ("auth", {}, "bad_request", "token"),
    ("refresh", {}, "bad_request", "token"),
    *each("auth", "token", [5, [], True]),
    *each("refresh", "token", [5, [], True]),
    *each("auth", "token", ["", "x.y.z"], "unauthenticated"),
    *each("refresh", "token", ["", "x.y.z"], "unauthenticated"),
]

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
    no_types: list[Any] = [5, None, [], {}]
    for type_ in no_types:
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
