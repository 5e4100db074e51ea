"""The AsyncAPI document of the WebSocket, put together from the tables of the protocol.

It is written from the server's side: it *receives* what a client sends. Close codes have no place
in AsyncAPI, so they stand in `x-close-codes` of the channel, and the errors' sentences and HTTP
statuses in `x-error-codes`.
"""

from __future__ import annotations

from functools import cache
from typing import Any, Final

from broker.protocol.commands import COMMANDS, RATED_AS_MESSAGES
from broker.protocol.errors import CLOSES, ERRORS, FIRST_FINAL, FIRST_RETRIED, NORMAL
from broker.protocol.schemas import examples
from broker.protocol.schemas.events import EVENTS
from broker.protocol.schemas.frames import COMMAND_ROWS, CommandRow
from broker.protocol.schemas.json_schema import all_schemas, event_name, reference, reply_name
from broker.protocol.schemas.yaml_text import yaml_text

VERSION: Final = "1"

_HEAD: Final = """\
# The WebSocket protocol of Parley for machines; docs/protocol.md is the same for people.
# Made by `python -m broker.protocol.schemas > docs/asyncapi.yaml`: change the code, not this file.
"""
_ABOUT: Final = """\
One WebSocket carries everything: commands of the client, their replies, and the events of the
rooms that the connection is subscribed to, as JSON text frames of at most 768 KiB (from the
server) and `max_frame_bytes` of `hello` (from the client).

A command with an `id` gets exactly one answer, `reply` or `error`; without an `id` it is answered
only if it fails, with `id: null`. Unknown fields are ignored by both sides, unknown events and
server frames by clients. Commands of one room take effect in the order they were sent. Nothing of a
room comes before its subscribe reply or after its unsubscribe reply; apart from that a reply and
the event that its command caused come in either order."""
_CHANNEL: Final = """\
The subprotocol `parley.v1` may be offered; offering none is fine, offering only others is answered
400. A token is never judged in the handshake: a bad one closes the connection with 4401 or 4402."""

_CONNECT: Final = "#/channels/connect"


@cache
def asyncapi_text() -> str:
    """The document as YAML."""
    return _HEAD + yaml_text(asyncapi_document())


def asyncapi_document() -> dict[str, Any]:
    """The document."""
    messages = _messages()
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Parley",
            "version": VERSION,
            "description": _ABOUT,
            "license": {"name": "MIT"},
        },
        "defaultContentType": "application/json",
        "servers": {"broker": _server()},
        "channels": {"connect": _channel(messages)},
        "operations": _operations(),
        "components": {
            "securitySchemes": _SECURITY,
            "messages": messages,
            "schemas": all_schemas(),
        },
    }


_SECURITY: Final[dict[str, Any]] = {
    "header": {
        "type": "http",
        "scheme": "bearer",
        "bearerFormat": "JWT",
        "description": "A user's token in the handshake. It beats the query.",
    },
    "query": {
        "type": "httpApiKey",
        "in": "query",
        "name": "token",
        "description": "The same in the address, for browsers; or a first frame `auth`.",
    },
}


def _server() -> dict[str, Any]:
    return {
        "host": "localhost:8765",
        "protocol": "ws",
        "description": "Any broker; `wss` with a proxy in front. 8765 is the default of PORT.",
        "security": [{"$ref": f"#/components/securitySchemes/{name}"} for name in _SECURITY],
    }


def _channel(messages: dict[str, Any]) -> dict[str, Any]:
    query = {"type": "object", "properties": {"token": {"type": "string"}}}
    headers = {
        "type": "object",
        "properties": {
            "Authorization": {"type": "string", "pattern": "^Bearer "},
            "Sec-WebSocket-Protocol": {"type": "string", "const": "parley.v1"},
        },
    }
    return {
        "address": "/v1/connect",
        "title": "The connection",
        "description": _CHANNEL,
        "servers": [{"$ref": "#/servers/broker"}],
        "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in messages},
        "bindings": {
            "ws": {"method": "GET", "query": query, "headers": headers, "bindingVersion": "0.1.0"}
        },
        "x-close-codes": [
            {
                "code": row.code,
                "name": row.name,
                "reason": row.reason,
                "reconnect": is_to_reconnect(row.code),
            }
            for row in CLOSES
        ],
        "x-error-codes": [
            {"code": row.code, "http": row.status, "sentence": row.sentence} for row in ERRORS
        ],
    }


def _operations() -> dict[str, Any]:
    operations: dict[str, Any] = {row.name: _command_operation(row) for row in COMMAND_ROWS}
    for name, (summary, _schema) in _SERVER_FRAMES.items():
        if name != "error":
            operations[name] = _sending(summary, [name])
    operations["events"] = _sending(
        "What happens in the rooms that the connection is subscribed to.",
        [f"event.{row.name}" for row in EVENTS if not row.is_personal],
    )
    operations["notifications"] = _sending(
        "What happens in the user's rooms, subscribed to or not.",
        [f"event.{row.name}" for row in EVENTS if row.is_personal],
    )
    return operations


def _command_operation(row: CommandRow) -> dict[str, Any]:
    struct = COMMANDS.get(row.name)
    return {
        "action": "receive",
        "channel": {"$ref": _CONNECT},
        "summary": _summary(row.struct),
        "messages": [{"$ref": f"{_CONNECT}/messages/{row.name}"}],
        "reply": {
            "channel": {"$ref": _CONNECT},
            "messages": [
                {"$ref": f"{_CONNECT}/messages/reply.{row.name}"},
                {"$ref": f"{_CONNECT}/messages/error"},
            ],
        },
        "x-rate": "messages" if struct in RATED_AS_MESSAGES else "frames",
    }


def _sending(summary: str, messages: list[str]) -> dict[str, Any]:
    return {
        "action": "send",
        "channel": {"$ref": _CONNECT},
        "summary": summary,
        "messages": [{"$ref": f"{_CONNECT}/messages/{name}"} for name in messages],
    }


_SERVER_FRAMES: Final[dict[str, tuple[str, str]]] = {
    "error": ("A frame was not done.", "Error"),
    "hello": ("The first frame after authentication.", "Hello"),
    "unsubscribed": ("A subscription has ended.", "Unsubscribed"),
    "drain": ("The connection will be closed soon.", "Drain"),
}


def _messages() -> dict[str, Any]:
    messages: dict[str, Any] = {}
    for row in COMMAND_ROWS:
        frame = examples.command_frame(row.name)
        messages[row.name] = _message(_summary(row.struct), row.struct.__name__, frame)
    for row in COMMAND_ROWS:
        messages[f"reply.{row.name}"] = _message(
            f"The answer to `{row.name}`.", reply_name(row.name), examples.reply_frame(row.name)
        )
    for name, (summary, schema) in _SERVER_FRAMES.items():
        messages[name] = _message(summary, schema, examples.server_frame(name))
    for event in EVENTS:
        messages[f"event.{event.name}"] = _message(
            event.summary,
            event_name(event.name),
            examples.event_frame(event.name, is_durable=event.is_durable),
        ) | {"x-durable": event.is_durable}
    return messages


def _message(summary: str, schema: str, example: dict[str, Any]) -> dict[str, Any]:
    return {"summary": summary, "payload": reference(schema), "examples": [{"payload": example}]}


def _summary(struct: type[Any]) -> str:
    return (struct.__doc__ or "").partition("\n")[0]


def is_to_reconnect(code: int) -> bool:
    """Whether a client comes back after this close code, with the same credentials."""
    return code != NORMAL and not FIRST_FINAL <= code < FIRST_RETRIED
