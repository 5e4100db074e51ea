"""Hypothesis strategies for what a hostile client sends, made from `docs/asyncapi.yaml`.

A valid frame follows its schema, with rooms and tokens that exist. A nearly valid one has a fault
or two. The rest is garbage: text, bytes, pieces of frames.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from hypothesis import strategies as st

from broker.protocol.refusal import is_frame_id
from tests.support.asyncapi import document, message_names

Strategy = st.SearchStrategy[Any]
Pool = Mapping[str, Strategy]

_BEYOND = 2**100
_DIGITS_MAX = 30


@dataclass(frozen=True)
class Sent:
    """One WebSocket message of a client; `parts` are its fragments."""

    opcode: int
    parts: tuple[bytes, ...]

    @property
    def text(self) -> str | None:
        """The text, if it is one."""
        if self.opcode != 1:
            return None
        try:
            return b"".join(self.parts).decode()
        except UnicodeDecodeError:
            return None


def frame_id_of(text: str) -> int | str | None:
    """The id that the answer to a text must carry; None if it has no legal one."""
    try:
        frame = json.loads(text, parse_int=_integer)
    except (ValueError, RecursionError):
        return None
    frame_id = frame.get("id") if isinstance(frame, dict) else None
    return frame_id if is_frame_id(frame_id) else None


def _integer(digits: str) -> int:
    return int(digits) if len(digits) <= _DIGITS_MAX else _BEYOND


def client_frames(pool: Pool) -> Strategy:
    """Frames as the document wants them, without an id; `pool` gives values of known fields."""
    names = sorted(name for name in message_names() if f"reply.{name}" in message_names())
    return st.sampled_from(names).flatmap(lambda name: _frames_named(name, pool))


def _frames_named(name: str, pool: Pool) -> Strategy:
    payload = document()["components"]["messages"][name]["payload"]
    return _strategy_of(payload, pool).map(
        lambda frame: {key: value for key, value in frame.items() if key != "id"}
    )


def _strategy_of(schema: dict[str, Any], pool: Pool) -> Strategy:
    """Values that a schema allows (of its keywords those that the document uses)."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return _strategy_of(document()["components"]["schemas"][name], pool)
    if "allOf" in schema:
        return _strategy_of(schema["allOf"][0], pool)
    if "anyOf" in schema:
        return st.one_of([_strategy_of(choice, pool) for choice in schema["anyOf"]])
    if "const" in schema:
        return st.just(schema["const"])
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    kinds = schema.get("type")
    if kinds is None:
        return odd_values
    kinds = kinds if isinstance(kinds, list) else [kinds]
    return st.one_of([_KINDS[kind](schema, pool) for kind in kinds])


def _texts(schema: dict[str, Any], _pool: Pool) -> Strategy:
    shortest = schema.get("minLength", 0)
    if "pattern" in schema:
        pattern = schema["pattern"].replace(r"\S", r"[!-~]")
        return st.from_regex(pattern).filter(
            lambda text: shortest <= len(text) <= schema.get("maxLength", 2**20)
        )
    longest = min(schema.get("maxLength", 200), 200)
    usual = st.text(min_size=shortest, max_size=longest)
    limit = schema.get("maxLength")
    return usual if limit is None else usual | st.sampled_from(["x" * limit, "ü" * (limit // 2)])


def _integers(schema: dict[str, Any], _pool: Pool) -> Strategy:
    least, most = schema.get("minimum"), schema.get("maximum")
    return st.integers(least, most) | st.integers(least, min(most or 20, 20))


def _arrays(schema: dict[str, Any], pool: Pool) -> Strategy:
    return st.lists(_strategy_of(schema.get("items", {}), pool), max_size=3)


def _objects(schema: dict[str, Any], pool: Pool) -> Strategy:
    properties = schema.get("properties")
    if properties is None:
        return st.dictionaries(st.text(max_size=8), odd_values, max_size=4)
    required = set(schema.get("required", ()))
    fields = {name: pool.get(name, _strategy_of(part, pool)) for name, part in properties.items()}
    return st.fixed_dictionaries(
        {name: values for name, values in fields.items() if name in required},
        optional={name: values for name, values in fields.items() if name not in required},
    )


_KINDS: dict[str, Callable[[dict[str, Any], Pool], Strategy]] = {
    "string": _texts,
    "integer": _integers,
    "number": lambda _schema, _pool: st.floats(allow_nan=False, allow_infinity=False),
    "boolean": lambda _schema, _pool: st.booleans(),
    "null": lambda _schema, _pool: st.none(),
    "array": _arrays,
    "object": _objects,
}


def nested(depth: int) -> Any:
    """An array of an array of … so many."""
    value: Any = []
    for _ in range(depth):
        value = [value]
    return value


odd_values: Strategy = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters())
    | st.sampled_from([2**63, -(2**63), 10**400, "\x00", "\ud800", "x" * 40_000, nested(40)]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@st.composite
def nearly_valid_frames(draw: st.DrawFn, pool: Pool) -> Any:
    """A valid frame with one or two faults."""
    frame = dict(draw(client_frames(pool)))
    for _ in range(draw(st.integers(1, 2))):
        fault = draw(st.sampled_from(["drop", "replace", "add", "type", "wrap"]))
        field = draw(st.sampled_from(sorted(frame))) if frame else "type"
        if fault == "drop":
            frame.pop(field, None)
        elif fault == "replace":
            frame[field] = draw(odd_values)
        elif fault == "add":
            frame[draw(st.text(st.characters(), max_size=8))] = draw(odd_values)
        elif fault == "type":
            frame["type"] = draw(st.sampled_from(sorted(message_names())) | odd_values)
        else:
            frame[field] = [frame.get(field)]
    return frame


@st.composite
def json_texts(draw: st.DrawFn, pool: Pool, number: int) -> str:
    """A frame as text, mostly with an id that no other frame of the batch has."""
    frame = draw(client_frames(pool) | nearly_valid_frames(pool))
    identity = draw(st.sampled_from(["number", "text", "none", "odd"]))
    if identity == "number":
        frame["id"] = number
    elif identity == "text":
        frame["id"] = f"frame {number} ü"
    elif identity == "odd":
        frame["id"] = draw(st.sampled_from([None, True, 1.5, [], {}, "x" * 65, 2**63, "\x00"]))
    text = json.dumps(frame, ensure_ascii=draw(st.booleans()))
    return text if draw(st.integers(0, 9)) else _spoiled(draw, text)


def _spoiled(draw: st.DrawFn, text: str) -> str:
    at = draw(st.integers(0, len(text)))
    return text[:at] + draw(st.sampled_from(["", "\x00", "}", '"', "\n", "{", "NaN", ","]))


@st.composite
def sent_messages(draw: st.DrawFn, pool: Pool, number: int) -> Sent:
    """One message as the client sends it; seldom something that must end the connection."""
    kind = draw(st.integers(0, 39))
    if kind == 0:
        return Sent(2, (draw(st.binary(max_size=100)),))
    if kind == 1:
        return Sent(1, (draw(st.binary(max_size=100)),))
    if kind == 2:
        return Sent(1, (draw(st.text(st.characters(exclude_categories=["Cs"]))).encode(),))
    if kind == 3:
        return Sent(1, (b"x" * 70_000,))
    if kind == 4:
        return Sent(1, (b'{"type":"ping","id":1,"deep":' + b"[" * 20_000 + b"]" * 20_000 + b"}",))
    data = draw(json_texts(pool, number)).encode("utf-8", "surrogatepass")
    if kind < 10:
        cuts = sorted(draw(st.lists(st.integers(0, len(data)), min_size=1, max_size=4)))
        bounds = [0, *cuts, len(data)]
        return Sent(1, tuple(data[a:b] for a, b in pairwise(bounds)))
    return Sent(1, (data,))


@st.composite
def batches(draw: st.DrawFn, pool: Pool, *, size_max: int = 12) -> list[Sent]:
    """What one client sends on one connection."""
    size = draw(st.integers(1, size_max))
    return [draw(sent_messages(pool, number)) for number in range(1, size + 1)]
