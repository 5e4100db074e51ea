"""Frames against the document: `docs/asyncapi.yaml` as compiled validators.

Stricter than a client should be: a field or an event that the document does not name is a fault,
because here the server and the document are the same commit.
"""

import copy
from functools import cache
from typing import Any

import jsonschema_rs
import yaml

from tests.support.sources import ROOT

_STRICT = {"additionalProperties": False}


@cache
def document() -> dict[str, Any]:
    """The committed document. Look, do not change."""
    text = (ROOT / "docs" / "asyncapi.yaml").read_text(encoding="utf-8")
    loaded: dict[str, Any] = yaml.load(text, Loader=yaml.CSafeLoader)
    return loaded


@cache
def message_names() -> frozenset[str]:
    """The names of the document's messages."""
    return frozenset(document()["components"]["messages"])


def frame_fault(frame: dict[str, Any], command: str | None = None) -> str | None:
    """What is wrong with a server frame; None if it is as documented.

    `command` is the type of the client frame that a reply answers; without it any will do.
    """
    name = _message_of(frame, command)
    if name is None:
        return f"the document knows no such frame: {str(frame)[:300]}"
    return payload_fault(name, frame)


def payload_fault(name: str, frame: Any, *, is_strict: bool = True) -> str | None:
    """What is wrong with a payload of the named message; None if it fits."""
    error = next(_validator(name, is_strict).iter_errors(frame), None)
    if error is None:
        return None
    place = "/".join(map(str, error.instance_path))
    return f"{name}, at `{place}`: {error.message[:300]}"


def _message_of(frame: dict[str, Any], command: str | None) -> str | None:
    kind = frame.get("type")
    if kind == "event":
        name = f"event.{frame.get('event')}"
    elif kind == "reply" and command is not None:
        name = f"reply.{command}"
    elif kind == "reply":
        return next((name for name in _replies() if payload_fault(name, frame) is None), None)
    else:
        name = str(kind)
    return name if name in message_names() else None


@cache
def _replies() -> tuple[str, ...]:
    return tuple(name for name in document()["components"]["messages"] if name[:6] == "reply.")


@cache
def _validator(name: str, is_strict: bool) -> Any:
    message = document()["components"]["messages"][name]
    schema = message["payload"] | {"components": {"schemas": _schemas(is_strict)}}
    return jsonschema_rs.Draft202012Validator(schema)


@cache
def _schemas(is_strict: bool) -> dict[str, Any]:
    schemas: dict[str, Any] = copy.deepcopy(document()["components"]["schemas"])
    waiting: list[Any] = list(schemas.values()) if is_strict else []
    while waiting:
        part = waiting.pop()
        if isinstance(part, dict):
            if "properties" in part and "additionalProperties" not in part:
                part |= _STRICT
            waiting.extend(part.values())
        elif isinstance(part, list):
            waiting.extend(part)
    return schemas
