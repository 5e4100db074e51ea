"""Every field of every client frame, spoiled in every way: one refusal each, and nothing stored.

The frames and their fields are those of `docs/asyncapi.yaml`, so a new command is in the table by
itself. Rows that need thought are in `test_bad_frames`.
"""

import json
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest

from broker.protocol.commands import COMMANDS
from broker.protocol.schemas import examples
from tests.support.asyncapi import document
from tests.support.deployment import Deployment
from tests.support.raw_socket import RawSocket, open_raw_socket
from tests.support.stored import keys_of, rows_of
from tests.support.tokens import make_token
from tests.support.waiting import wait_until

Name = Callable[[str], str]


class Row(NamedTuple):
    """One bad frame as JSON text (`ROOM` stands for a room) and how it is refused."""

    what: str
    text: str
    code: str
    field: str | None
    is_readable: bool = True


# What a value of each JSON type can be taken for by nobody.
VALUES: dict[str, Any] = {
    "null": None, "boolean": True, "integer": 5, "number": 1.5, "string": "x", "array": [],
    "object": {},
}  # fmt: skip
# JSON to some parsers, and nothing that could be stored: refused in whatever field.
UNSTORABLE = {
    "NUL": '"a\\u0000b"',
    "a lone surrogate": '"a\\ud800b"',
    "half a pair": '"\\udc00"',
    "NaN": "NaN",
    "infinity": "Infinity",
    "minus infinity": "-Infinity",
    "a number without end": "1e999",
    "an integer of 65 bits": "18446744073709551616",
    "an integer of 400 digits": "9" * 400,
    "NUL in a key": '{"a\\u0000":1}',
    "a surrogate in a list": '[["\\ud83d"]]',
}
# Checked by hand what each limit refuses with.
TOO_LARGE = {"content"}
ODD_IDS = ["null", "true", "1.5", "[]", "{}", f'"{"x" * 65}"', "9223372036854775808", '"\\u0000"']


def schema_of(name: str) -> dict[str, Any]:
    """The schema of a client frame."""
    schemas = document()["components"]["schemas"]
    reference = document()["components"]["messages"][name]["payload"]["$ref"]
    found: dict[str, Any] = schemas[reference.rpartition("/")[2]]
    return found


def fields_of(name: str) -> dict[str, Any]:
    """The schemas of the fields of a client frame, without `type` and `id`."""
    schemas = document()["components"]["schemas"]
    fields = {}
    for field, schema in schema_of(name)["properties"].items():
        if field in ("type", "id"):
            continue
        whole = schema
        for choice in schema.get("anyOf", []):
            if "$ref" in choice:
                whole = schemas[choice["$ref"].rpartition("/")[2]] | {"is_optional": True}
        fields[field] = whole
    return fields


def text_of(name: str, spoiled: dict[str, str | None]) -> str:
    """A frame whose fields are well, but for those given as JSON text (None: left out)."""
    fields = {"type": name, "id": "ID", **examples.COMMANDS[name]}
    if "room" in fields:
        fields["room"] = "ROOM"
    texts = {key: json.dumps(value) for key, value in fields.items()} | spoiled
    return "{" + ",".join(f'"{key}":{text}' for key, text in texts.items() if text) + "}"


def rows_of_field(name: str, field: str, schema: dict[str, Any]) -> Iterator[Row]:
    """The field missing, of other types, not storable, out of range, too long."""

    def row(what: str, text: str | None, code: str = "bad_request") -> Row:
        return Row(f"{name}, {field}: {what}", text_of(name, {field: text}), code, field)

    if field in schema_of(name)["required"]:
        yield row("missing", None)
    types = schema.get("type", list(VALUES))
    types = [types] if isinstance(types, str) else [*types]
    if schema.get("is_optional"):
        types.append("null")
    if "number" in types:
        types.append("integer")
    yield from (row(kind, json.dumps(VALUES[kind])) for kind in VALUES if kind not in types)
    if "x-json-bytes-max" in schema:
        yield row("too large", f'{{"a":"{"x" * schema["x-json-bytes-max"]}"}}', "too_large")
    yield from (row(what, text) for what, text in UNSTORABLE.items())
    if "object" in types and "properties" not in schema:
        yield row("nested", '{"a":' * 40 + "1" + "}" * 40)
    else:
        yield row("nested", "[" * 300 + "]" * 300)
    if "minimum" in schema:
        yield row("below", json.dumps(schema["minimum"] - 1))
        yield row("above", json.dumps(schema["maximum"] + 1))
        yield row("not whole", "1.25")
    if "maxLength" in schema:
        code = "too_large" if field in TOO_LARGE else "bad_request"
        longest = schema["maxLength"]
        yield row("one too long", json.dumps("x" * (longest + 1)), code)
        if "pattern" not in schema or field == "reaction":
            yield row("one byte too long", f'"{"ü" * (longest // 2 + 1)}"', code)
        if schema.get("minLength"):
            yield row("empty", '""')
    if "maxItems" in schema:
        yield row("too many", json.dumps(["x y"] * (schema["maxItems"] + 1)))
        yield row("of numbers", "[5]")
        yield row("of nulls", "[null]")


def rows_of_frame(name: str) -> Iterator[Row]:
    """The frame with odd ids, and all rows of its fields."""
    yield from (
        Row(f"{name}, id {text[:12]}", text_of(name, {"id": text}), "bad_request", "id")
        for text in ODD_IDS
    )
    for field, schema in fields_of(name).items():
        yield from rows_of_field(name, field, schema)
    # Unknown fields are ignored, but their names must be text that can be stored.
    for key in ("a\\u0000", "\\ud800"):
        text = text_of(name, {key: "1"})
        yield Row(f"{name}, odd key {key}", text, "bad_request", None)
    # Too deep for any parser: not even the id can be read.
    deep = text_of(name, {"more": "[" * 20_000 + "]" * 20_000})
    yield Row(f"{name}, too deep", deep, "bad_request", None, is_readable=False)


ROWS = [row for name in COMMANDS for row in rows_of_frame(name)]


@pytest.fixture
async def room(shared: Deployment, name: Name) -> str:
    """A room with one message; its member is `alice` with the same suffix."""
    room = name("room")
    await shared.create_room(room, name("alice"))
    await shared.post(room, "first", name("alice"))
    return room


def test_the_table_is_long_and_covers_every_field() -> None:
    assert len(ROWS) >= 300
    assert {row.what.partition(",")[0] for row in ROWS} == set(COMMANDS)


async def wrong_answers(socket: RawSocket, rows: list[Row], room: str) -> list[str]:
    """What was answered otherwise than the rows say; the connection must go on."""
    wrong = []
    for row in rows:
        answer = json.loads(await socket.ask(row.text.replace('"ROOM"', json.dumps(room))))
        frame_id = "ID" if row.is_readable and row.field != "id" else None
        found = (answer["type"], answer["id"], answer.get("code"), answer.get("field"))
        if found != ("error", frame_id, row.code, row.field):
            wrong.append(f"{row.what}: {found}")
    assert json.loads(await socket.ask('{"type":"ping","id":1}'))["type"] == "reply"
    return wrong


async def test_every_spoiled_field_is_refused_by_name_and_nothing_is_stored(
    shared: Deployment, name: Name, room: str
) -> None:
    """Ruling 3 among others. A connection for each command: a thousand refusals would end one."""
    url, token = shared.brokers[0].url, make_token(name("alice"))
    await shared.wait_archived()
    await wait_until(lambda: keys_of(shared) == keys_of(shared), what="nothing moves")
    rows, keys = rows_of(shared.database_url), keys_of(shared)
    assert rows["messages"]
    assert keys
    wrong = []
    for command in COMMANDS:
        async with open_raw_socket(url, token) as socket:
            spoiled = [row for row in ROWS if row.what.startswith(f"{command},")]
            wrong += await wrong_answers(socket, spoiled, room)
    assert wrong == [], "\n".join(wrong)
    await shared.wait_archived()
    assert rows_of(shared.database_url) == rows
    assert keys_of(shared) == keys
