"""Client frames: what parses, and the refusal of everything else."""

from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.protocol import commands
from broker.protocol.commands import COMMANDS, command_type, parse_command
from broker.protocol.errors import NotAnObject, ProtocolError

BAD = "bad_request"
BIG = "too_large"
SUBSCRIBE: dict[str, object] = {"type": "subscribe", "room": "r"}
PUBLISH: dict[str, object] = {"type": "publish", "room": "r", "content": "x"}
EDIT: dict[str, object] = {"type": "edit", "room": "r", "seq": 1, "content": "x"}
REACT: dict[str, object] = {"type": "react", "room": "r", "seq": 1, "reaction": "x"}
HISTORY: dict[str, object] = {"type": "history", "room": "r"}


def refusal(text) -> ProtocolError:
    with pytest.raises(ProtocolError) as caught:
        parse_command(text)
    return caught.value


def frame(**fields) -> str:
    return json.dumps(fields)


def test_the_commands_of_the_contract_are_there():
    assert set(COMMANDS) == {
        "auth", "refresh", "subscribe", "unsubscribe", "publish", "edit", "delete", "react",
        "unreact", "read", "delivered", "history", "typing", "signal", "presence", "ping",
    }  # fmt: skip
    for name, struct in COMMANDS.items():
        assert struct.__struct_config__.tag == name


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"type":"ping"}', commands.Ping()),
        ('{"type":"ping","id":-1,"colour":"red"}', commands.Ping(id=-1)),
        ('{"type":"auth","token":"t","id":"a"}', commands.Auth(token="t", id="a")),
        ('{"token":"t","type":"refresh"}', commands.Refresh(token="t")),
        ('{"type":"unsubscribe","room":"r","id":0}', commands.Unsubscribe(room="r", id=0)),
        (
            '{"type":"subscribe","room":"r","since":{"epoch":"e","offset":7},"history":100}',
            commands.Subscribe(
                room="r", since=commands.Since(epoch="e", offset=7), history=100
            ),
        ),
        (
            '{"type":"history","room":"r","before":9,"limit":1,"after":null}',
            commands.History(room="r", before=9, limit=1),
        ),
        (
            '{"type":"publish","room":"r","content":"h\\u00e9 \\ud83d\\ude00","reply_to":-1}',
            commands.Publish(room="r", content="hé 😀", reply_to=-1),
        ),
        (
            '{"type":"edit","room":"r","seq":7,"metadata":{},"attachments":null,"content":""}',
            commands.Edit(room="r", seq=7, metadata={}, content=""),
        ),
        ('{"type":"delete","seq":7,"room":"r"}', commands.Delete(room="r", seq=7)),
        (
            '{"type":"react","room":"r","seq":7,"reaction":"👍🏽"}',
            commands.React(room="r", seq=7, reaction="👍🏽"),
        ),
        (
            '{"type":"unreact","room":"r","seq":7,"reaction":" a b"}',
            commands.Unreact(room="r", seq=7, reaction=" a b"),
        ),
        (
            '{"type":"publish","room":"r","content":"\\\\u0000"}',
            commands.Publish(room="r", content="\\u0000"),
        ),
    ],
)  # fmt: skip
def test_these_parse(text, expected):
    assert parse_command(text) == expected
    assert parse_command(text.encode()) == expected
    assert command_type(parse_command(text)) == json.loads(text)["type"]


@pytest.mark.parametrize(
    "text",
    ["", " ", "x", "{", "[]", "1", '"ping"', "null", "true", '{"type":"ping"} x', "\ufeff{}",
     '{"type":"ping",}', "{'type':'ping'}", "[" * 500 + "]" * 500, '{"type":"ping","a":"\n"}'],
)  # fmt: skip
def test_what_is_no_json_object_counts_towards_4400(text):
    error = refusal(text)
    assert isinstance(error, NotAnObject)
    assert (error.code, error.frame_id) == ("bad_request", None)


def test_invalid_utf8_is_no_json_object():
    assert isinstance(refusal(b'{"type":"auth","token":"\xff"}'), NotAnObject)


@pytest.mark.parametrize(
    ("fields", "code", "field"),
    [
        ({}, BAD, "type"),
        ({"type": 1}, BAD, "type"),
        ({"type": None}, BAD, "type"),
        ({"type": "Ping"}, "unknown_type", "type"),
        ({"type": "pin", "room": "r"}, "unknown_type", "type"),
        ({"type": "edit", "room": "r", "content": "x"}, BAD, "seq"),
        ({"type": "edit", "seq": 1, "content": "x"}, BAD, "room"),
        (EDIT | {"content": None}, BAD, "content"),
        (EDIT | {"seq": -1}, BAD, "seq"),
        (EDIT | {"seq": "1"}, BAD, "seq"),
        (EDIT | {"content": 5}, BAD, "content"),
        (EDIT | {"content": "x" * 32769}, BIG, "content"),
        (EDIT | {"content": "a\x00"}, BAD, "content"),
        (EDIT | {"metadata": {"a": float("nan")}}, BAD, "metadata"),
        (EDIT | {"metadata": {"a": "x" * 8192}}, BIG, "metadata"),
        (EDIT | {"attachments": [{"url": "data:x"}]}, BAD, "attachments"),
        (EDIT | {"attachments": [{"url": "https://a"}] * 17}, BIG, "attachments"),
        ({"type": "delete", "room": "r"}, BAD, "seq"),
        ({"type": "delete", "room": "a/b", "seq": 1}, BAD, "room"),
        ({"type": "react", "room": "r", "seq": 1}, BAD, "reaction"),
        (REACT | {"reaction": ""}, BAD, "reaction"),
        (REACT | {"reaction": "a/b"}, BAD, "reaction"),
        (REACT | {"reaction": "a\n"}, BAD, "reaction"),
        (REACT | {"reaction": "a\x00"}, BAD, "reaction"),
        (REACT | {"reaction": "a\x85"}, BAD, "reaction"),
        (REACT | {"reaction": "\ud83d"}, BAD, "reaction"),
        (REACT | {"reaction": "x" * 65}, BAD, "reaction"),
        (REACT | {"reaction": "ü" * 33}, BAD, "reaction"),
        (REACT | {"type": "unreact", "reaction": "a/b"}, BAD, "reaction"),
        (REACT | {"type": "unreact", "room": "."}, BAD, "room"),
        ({"type": "auth"}, BAD, "token"),
        ({"type": "auth", "token": 5}, BAD, "token"),
        ({"type": "auth", "token": "a\x00"}, BAD, "token"),
        ({"type": "subscribe"}, BAD, "room"),
        ({"type": "subscribe", "room": 7}, BAD, "room"),
        ({"type": "subscribe", "room": ""}, BAD, "room"),
        ({"type": "subscribe", "room": ".."}, BAD, "room"),
        ({"type": "subscribe", "room": "a/b"}, BAD, "room"),
        ({"type": "subscribe", "room": "user:a"}, BAD, "room"),
        ({"type": "subscribe", "room": "x" * 129}, BAD, "room"),
        ({"type": "subscribe", "room": "r\x00"}, BAD, "room"),
        (SUBSCRIBE | {"since": 5}, BAD, "since"),
        (SUBSCRIBE | {"since": {}}, BAD, "since"),
        (SUBSCRIBE | {"since": {"epoch": "e"}}, BAD, "since"),
        (SUBSCRIBE | {"since": {"epoch": 1, "offset": 1}}, BAD, "since"),
        (SUBSCRIBE | {"since": {"epoch": "", "offset": 1}}, BAD, "since"),
        (SUBSCRIBE | {"since": {"epoch": "e", "offset": -1}}, BAD, "since"),
        (SUBSCRIBE | {"since": {"epoch": "e", "offset": 1.5}}, BAD, "since"),
        (SUBSCRIBE | {"since": {"epoch": "e", "offset": True}}, BAD, "since"),
        (SUBSCRIBE | {"since": {"epoch": "e", "offset": 2**63}}, BAD, "since"),
        (SUBSCRIBE | {"history": 101}, BAD, "history"),
        (SUBSCRIBE | {"history": -1}, BAD, "history"),
        (SUBSCRIBE | {"history": True}, BAD, "history"),
        (HISTORY | {"limit": 0}, BAD, "limit"),
        (HISTORY | {"limit": 101}, BAD, "limit"),
        (HISTORY | {"before": "9"}, BAD, "before"),
        (HISTORY | {"before": 1, "after": 1}, BAD, "after"),
        ({"type": "publish", "content": "x"}, BAD, "room"),
        ({"type": "publish", "room": "r"}, BAD, "content"),
        ({"type": "publish", "room": "r"} | {"content": ""}, BAD, "content"),
        ({"type": "publish", "room": "r"} | {"content": 5}, BAD, "content"),
        ({"type": "publish", "room": "r"} | {"content": "a\x00"}, BAD, "content"),
        ({"type": "publish", "room": "r"} | {"content": "a\ud800"}, BAD, "content"),
        ({"type": "publish", "room": "r"} | {"content": "x" * 32769}, BIG, "content"),
        ({"type": "publish", "room": "r"} | {"content": "é" * 16385}, BIG, "content"),
        (PUBLISH | {"kind": "Text"}, BAD, "kind"),
        (PUBLISH | {"client_id": ""}, BAD, "client_id"),
        (PUBLISH | {"client_id": "x" * 65}, BAD, "client_id"),
        (PUBLISH | {"client_id": "é" * 33}, BAD, "client_id"),
        (PUBLISH | {"reply_to": "1"}, BAD, "reply_to"),
        (PUBLISH | {"reply_to": 2**70}, BAD, "reply_to"),
        (PUBLISH | {"mentions": ["a"] * 21}, BAD, "mentions"),
        (PUBLISH | {"metadata": []}, BAD, "metadata"),
        (PUBLISH | {"metadata": {"a": float("nan")}}, BAD, "metadata"),
        (PUBLISH | {"metadata": {"a": float("-inf")}}, BAD, "metadata"),
        (PUBLISH | {"metadata": {"a": 2**63}}, BAD, "metadata"),
        (PUBLISH | {"metadata": {"a": 10**200}}, BAD, "metadata"),
        (PUBLISH | {"metadata": {"a\x00": 1}}, BAD, "metadata"),
        (PUBLISH | {"metadata": {"a": {"\ud800": 1}}}, BAD, "metadata"),
        (PUBLISH | {"metadata": {"a": "x" * 8192}}, BIG, "metadata"),
        ({"type": "ping", "ignored": "\x00"}, BAD, "ignored"),
        ({"type": "ping", "ignored": float("inf")}, BAD, "ignored"),
    ],
)  # fmt: skip
def test_these_are_refused_with_code_field_and_id(fields, code, field):
    for frame_id in (17, "a"):
        error = refusal(frame(**fields, id=frame_id))
        assert (error.code, error.field, error.frame_id) == (code, field, frame_id)
        assert not isinstance(error, NotAnObject)
    assert refusal(frame(**fields)).frame_id is None


@pytest.mark.parametrize(
    "frame_id",
    [None, True, 1.0, 1.5, [], {}, ["a"], "x" * 65, "é" * 33, "a\x00", "\ud800", 2**63, -(2**80)],
)
def test_an_odd_id_is_refused_with_id_null(frame_id):
    error = refusal(frame(type="ping", id=frame_id))
    assert (error.code, error.field, error.frame_id) == ("bad_request", "id", None)


@pytest.mark.parametrize("frame_id", [0, -5, 2**63 - 1, "", "x" * 64, "é" * 32, "\\u0000"])
def test_these_ids_are_legal(frame_id):
    assert parse_command(frame(type="ping", id=frame_id)).id == frame_id


def test_a_number_without_end_is_refused_with_the_id():
    error = refusal('{"type":"publish","id":3,"room":"r","content":"x","metadata":{"a":1e999}}')
    assert (error.code, error.field, error.frame_id) == ("bad_request", "metadata", 3)


def test_form_is_refused_before_size():
    error = refusal(frame(type="publish", room="r", content="x" * 40000, mentions=["a b"]))
    assert (error.code, error.field) == ("bad_request", "mentions")


def test_an_unknown_type_is_refused_before_an_odd_id():
    assert refusal('{"type":"dance","id":[]}').code == "unknown_type"


@pytest.mark.parametrize("depth", [33, 900, 30_000])
def test_depth_of_free_json_is_bounded(depth):
    deep = "[" * depth + "]" * depth
    text = f'{{"type":"publish","room":"r","content":"x","metadata":{{"a":{deep}}}}}'
    assert refusal(text).code == "bad_request"


def test_shallow_free_json_is_kept():
    deep = json.loads("[" * 31 + "]" * 31)
    text = frame(type="publish", room="r", content="x", metadata={"a": deep, "id": 1.5})
    command = parse_command(text)
    assert isinstance(command, commands.Publish)
    assert command.metadata == {"a": deep, "id": 1.5}


def test_the_type_of_a_broken_frame_is_known():
    assert refusal('{"type":"auth"}').frame_type == "auth"
    assert refusal('{"type":"dance"}').frame_type is None
    assert refusal(frame(type="subscribe", room="/")).frame_type == "subscribe"


free_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters()), inner),
    max_leaves=8,
)
field_names = st.sampled_from(
    ["id", "type", "room", "content", "metadata", "attachments", "mentions", "since", "history",
     "token", "before", "limit", "kind", "reply_to", "client_id"]
)  # fmt: skip
types = st.sampled_from([*COMMANDS, "edit", ""])


@given(free_json)
def test_any_json_parses_or_raises_the_protocol_error(value):
    parse_or_refuse(json.dumps(value))


@given(st.dictionaries(field_names, free_json), types)
def test_any_fields_parse_or_raise_the_protocol_error(fields, type_name):
    command = parse_or_refuse(
        json.dumps({"room": "r", "content": "x", **fields, "type": type_name})
    )
    if command is not None:
        # Whatever was accepted can be written as JSON and as UTF-8 without NUL.
        command.id = 0 if command.id is None else command.id
        written = msgspec.json.encode(command)
        assert b"\\u0000" not in written.replace(b"\\\\", b"")
        assert parse_command(written) == command


@given(st.text(st.characters()) | st.binary())
def test_any_text_or_bytes_parse_or_raise_the_protocol_error(text):
    parse_or_refuse(text)


def parse_or_refuse(text):
    try:
        return parse_command(text)
    except ProtocolError:
        return None
