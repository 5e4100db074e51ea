"""Every frame as JSON Schema, in one dictionary of named schemas that refer to each other.

Only keywords that draft 07 and 2020-12 both know, with the same meaning, because AsyncAPI tools
read the one and validators the other.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from broker.protocol.errors import ERRORS
from broker.protocol.ids import RoomId
from broker.protocol.refusal import FRAME_ID_BYTES_MAX, INTEGER_MAX
from broker.protocol.schemas.events import EVENTS, EventRow
from broker.protocol.schemas.frames import COMMAND_ROWS, CommandRow, Drain, Hello, Unsubscribed
from broker.protocol.schemas.values import Offset, Time

REFERENCE: Final = "#/components/schemas/{name}"
SERVER_FRAMES: Final = (Hello, Unsubscribed, Drain)

_FIRST_KEYS: Final = ("description", "type", "const", "enum", "pattern", "properties")

Schema = dict[str, Any]


def reference(name: str) -> Schema:
    """A reference to a named schema."""
    return {"$ref": REFERENCE.format(name=name)}


def reply_name(command: str) -> str:
    """The name of the schema of a command's reply."""
    return f"{command.capitalize()}Reply"


def event_name(event: str) -> str:
    """The name of the schema of an event's frame."""
    return f"{_camel(event)}Event"


def all_schemas() -> dict[str, Schema]:
    """Every named schema, sorted by name."""
    structs = [row.struct for row in COMMAND_ROWS]
    structs += [row.result for row in COMMAND_ROWS]
    structs += [row.data for row in EVENTS]
    _, found = msgspec.json.schema_components([*structs, *SERVER_FRAMES], ref_template=REFERENCE)
    schemas = {name: simplified(schema) for name, schema in found.items()}
    for command in COMMAND_ROWS:
        _mend_command(schemas[command.struct.__name__])
        schemas[reply_name(command.name)] = _reply_schema(command)
    for event in EVENTS:
        schemas[event_name(event.name)] = _event_schema(event)
    schemas["ResumedEvent"] = {
        "description": "One event of a resume.",
        "anyOf": [_body_schema(row) for row in EVENTS if row.is_durable],
    }
    schemas["Subscribed"]["properties"]["events"]["items"] = reference("ResumedEvent")
    schemas["FrameId"] = _FRAME_ID
    schemas["Error"] = _error_schema()
    return dict(sorted(schemas.items()))


def simplified(schema: Any) -> Any:
    """The same schema in fewer words: no titles and null defaults, `type: [x, null]`."""
    if isinstance(schema, list):
        return [simplified(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    short = {
        key: {name: simplified(part) for name, part in value.items()}
        if key == "properties"
        else simplified(value)
        for key, value in schema.items()
        if key != "title" and not (key == "default" and value is None)
    }
    if len(short.get("enum", ())) == 1:
        short["const"] = short.pop("enum")[0]
    return _in_order(_without_lone_reference(_with_null_as_type(short)))


def _in_order(schema: Schema) -> Schema:
    first = {key: schema[key] for key in _FIRST_KEYS if key in schema}
    return first | schema


def _with_null_as_type(schema: Schema) -> Schema:
    choices: list[Schema] = schema.get("anyOf", [])
    if len(choices) != 2 or {"type": "null"} not in choices:
        return schema
    other: Schema = next(choice for choice in choices if choice != {"type": "null"})
    rest = {key: value for key, value in schema.items() if key != "anyOf"}
    if "enum" in other:
        return rest | other | {"enum": [*other["enum"], None]}
    if isinstance(other.get("type"), str):
        return rest | other | {"type": [other["type"], "null"]}
    return schema


def _without_lone_reference(schema: Schema) -> Schema:
    # Draft 07 ignores what stands beside a reference.
    if "$ref" not in schema or len(schema) == 1:
        return schema
    rest = {key: value for key, value in schema.items() if key != "$ref"}
    return rest | {"allOf": [{"$ref": schema["$ref"]}]}


def _mend_command(schema: Schema) -> None:
    """`type` and `id` first; an `id` that is given is not null."""
    properties = schema["properties"]
    rest = {name: part for name, part in properties.items() if name not in ("type", "id")}
    kind = properties["type"]
    properties.clear()
    properties.update({"type": kind, "id": reference("FrameId"), **rest})


def _object(description: str, properties: Schema, *optional: str) -> Schema:
    required = [name for name in properties if name not in optional]
    return {
        "description": description,
        "type": "object",
        "properties": properties,
        "required": required,
    }


def _reply_schema(row: CommandRow) -> Schema:
    return _object(
        f"The answer to a `{row.name}` that was done.",
        {
            "type": {"const": "reply"},
            "id": reference("FrameId"),
            "result": reference(row.result.__name__),
        },
    )


def _event_schema(row: EventRow) -> Schema:
    place = {"offset": _type_schema(Offset)} if row.is_durable else {}
    return _object(
        row.summary,
        {
            "type": {"const": "event"},
            "event": {"const": row.name},
            "room": _type_schema(RoomId),
            **place,
            "time": _type_schema(Time),
            "data": reference(row.data.__name__),
        },
    )


def _body_schema(row: EventRow) -> Schema:
    properties = _event_schema(row)["properties"]
    kept = {name: properties[name] for name in ("event", "offset", "time", "data")}
    return _object(row.summary, kept)


def _error_schema() -> Schema:
    return _object(
        "A frame was not done.",
        {
            "type": {"const": "error"},
            "id": {
                "description": "Null: the frame had none, or no legal one.",
                "anyOf": [reference("FrameId"), {"type": "null"}],
            },
            "code": {"enum": [row.code for row in ERRORS]},
            "message": {"type": "string", "description": "One sentence, for people."},
            "retry_after": {
                "type": ["number", "null"],
                "exclusiveMinimum": 0,
                "description": "Seconds to wait before the same may be tried again.",
            },
            "field": {
                "type": ["string", "null"],
                "description": "The field of the frame that is at fault.",
            },
        },
    )


def _type_schema(type_: Any) -> Schema:
    schema: Schema = simplified(msgspec.json.schema(type_))
    return schema


def _camel(name: str) -> str:
    return "".join(part.capitalize() for part in name.split("."))


_FRAME_ID: Final[Schema] = {
    "description": "Echoed by the answer; whether it repeats is not checked.",
    "anyOf": [
        {"type": "integer", "minimum": -INTEGER_MAX, "maximum": INTEGER_MAX},
        {"type": "string", "maxLength": FRAME_ID_BYTES_MAX, "x-utf8-bytes-max": FRAME_ID_BYTES_MAX},
    ],
}
