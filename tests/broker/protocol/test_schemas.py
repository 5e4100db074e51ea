"""The AsyncAPI document: it says what the code does, in both directions, and can be read."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from broker.protocol.commands import COMMANDS, RATED_AS_MESSAGES, parse_command
from broker.protocol.errors import CLOSES, ERRORS, UNSUBSCRIBED_CODES, ProtocolError
from broker.protocol.schemas import examples
from broker.protocol.schemas.events import EVENTS
from broker.protocol.schemas.frames import COMMAND_ROWS
from broker.protocol.schemas.yaml_text import yaml_text
from tests.support.asyncapi import document, message_names, payload_fault
from tests.support.sources import PACKAGES, ROOT, all_files

_KINDS = "message|reaction|member|room|typing|presence|receipt|notification"
_EVENT = re.compile(rf"""["']((?:{_KINDS})\.[a-z]+)["']""").findall
MESSAGES = sorted(message_names())


def names_of(prefix: str) -> set[str]:
    return {name.removeprefix(prefix) for name in message_names() if name.startswith(prefix)}


def test_every_command_is_documented_with_its_reply_and_no_other():
    documented = {row.name for row in COMMAND_ROWS}
    assert documented == set(COMMANDS)
    assert names_of("reply.") == documented
    operations = document()["operations"]
    for name in documented:
        replies = [
            item["$ref"].rpartition("/")[2] for item in operations[name]["reply"]["messages"]
        ]
        assert replies == [f"reply.{name}", "error"]
    rated = {name for name in documented if operations[name]["x-rate"] == "messages"}
    assert rated == {name for name, struct in COMMANDS.items() if struct in RATED_AS_MESSAGES}


# Names in the same style that are no events: actions in the audit.
NO_EVENTS = {"room.created"}
# Events of the contract that nothing sends yet. Shrink it; add none.
PLANNED_EVENTS: set[str] = set()


def test_every_event_of_the_code_is_documented_and_no_other():
    said = {
        name
        for path in all_files()
        if path.suffix in (".py", ".lua", ".sql")
        and path.relative_to(ROOT).parts[0] in PACKAGES
        and "schemas" not in path.parts
        for name in _EVENT(path.read_text(encoding="utf-8"))
    }
    documented = {row.name for row in EVENTS}
    assert names_of("event.") == documented
    assert said - NO_EVENTS == documented - PLANNED_EVENTS - {"signal"}


def test_every_code_is_documented_and_no_other():
    channel = document()["channels"]["connect"]
    schemas = document()["components"]["schemas"]
    assert [(row["code"], row["http"]) for row in channel["x-error-codes"]] == [
        (row.code, row.status) for row in ERRORS
    ]
    assert schemas["Error"]["properties"]["code"]["enum"] == [row.code for row in ERRORS]
    assert [row["code"] for row in channel["x-close-codes"]] == [row.code for row in CLOSES]
    assert set(schemas["Unsubscribed"]["properties"]["code"]["enum"]) == UNSUBSCRIBED_CODES


def test_which_close_codes_are_final():
    """Ruling 57: everything but 1000 and 44xx: reconnect with jitter."""
    rows = document()["channels"]["connect"]["x-close-codes"]
    final = {row["code"] for row in rows if not row["reconnect"]}
    assert final == {1000, 4400, 4401, 4402, 4403}


def test_references_lead_somewhere_and_every_schema_is_used():
    whole = document()
    used = set()
    waiting: list[Any] = [whole]
    while waiting:
        part = waiting.pop()
        if isinstance(part, dict):
            target = part.get("$ref")
            if isinstance(target, str):
                used.add(target)
                place: Any = whole
                for step in target.removeprefix("#/").split("/"):
                    place = place[step]
            waiting.extend(part.values())
        elif isinstance(part, list):
            waiting.extend(part)
    names = {name.rpartition("/")[2] for name in used}
    assert set(whole["components"]["schemas"]) <= names
    assert set(whole["components"]["messages"]) <= names


@pytest.mark.parametrize("name", MESSAGES)
def test_every_message_has_an_example_that_fits(name):
    examples_of = document()["components"]["messages"][name]["examples"]
    assert examples_of
    for example in examples_of:
        assert payload_fault(name, example["payload"]) is None


@pytest.mark.parametrize("name", MESSAGES)
def test_a_message_without_a_required_field_or_with_an_odd_one_does_not_fit(name):
    frame = document()["components"]["messages"][name]["examples"][0]["payload"]
    schema = resolve(document()["components"]["messages"][name]["payload"])
    for field in schema["required"]:
        without = {key: value for key, value in frame.items() if key != field}
        assert payload_fault(name, without) is not None, field
    assert payload_fault(name, frame | {"colour": 1}) is not None
    assert payload_fault(name, frame | {"colour": 1}, is_strict=False) is None
    assert payload_fault(name, frame | {"type": "x"}) is not None


def resolve(schema: dict[str, Any]) -> dict[str, Any]:
    name = schema["$ref"].rpartition("/")[2]
    found: dict[str, Any] = document()["components"]["schemas"][name]
    return found


def test_every_example_of_a_client_frame_parses():
    for name in COMMANDS:
        command = parse_command(json.dumps(examples.command_frame(name)))
        assert isinstance(command, COMMANDS[name])


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=6,
)


@given(st.sampled_from(sorted(COMMANDS)), st.data())
def test_what_parses_fits_the_document(name, data):
    """Whatever one field is replaced by: a frame that the parser takes is a documented one."""
    frame = examples.command_frame(name)
    known = list(resolve(document()["components"]["messages"][name]["payload"])["properties"])
    field = data.draw(st.sampled_from([field for field in known if field != "type"]))
    frame[field] = data.draw(values)
    try:
        parse_command(json.dumps(frame))
    except ProtocolError:
        return
    assert payload_fault(name, frame, is_strict=False) is None


plain_values = st.recursive(
    st.sampled_from([None, True, False, 0.5]) | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@given(st.dictionaries(st.text() | st.sampled_from(["on", "a b", "x: y"]), plain_values))
def test_the_yaml_says_what_was_meant(value):
    text = yaml_text(value)
    assert yaml.safe_load(text) == (value or None)
