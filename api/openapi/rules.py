"""What holds between the fields of a body, as far as JSON Schema can say it."""

from __future__ import annotations

from types import MappingProxyType
from typing import Any, Final

_CONTENT_OR_ATTACHMENTS: Final = {
    "anyOf": [
        {"required": ["content"], "properties": {"content": {"type": "string", "minLength": 1}}},
        {
            "required": ["attachments"],
            "properties": {"attachments": {"type": "array", "minItems": 1}},
        },
    ]
}
RULES: Final[MappingProxyType[str, dict[str, Any]]] = MappingProxyType(
    {
        "MessageDraft": _CONTENT_OR_ATTACHMENTS,
        "BatchMessage": _CONTENT_OR_ATTACHMENTS,
        "MessageEdit": {
            "anyOf": [
                {"required": ["content"], "properties": {"content": {"type": "string"}}},
                {"required": ["metadata"], "properties": {"metadata": {"type": "object"}}},
                {"required": ["attachments"], "properties": {"attachments": {"type": "array"}}},
            ]
        },
        "MemberPatch": {"anyOf": [{"required": ["role"]}, {"required": ["muted_until"]}]},
        "MembersBody": {
            "oneOf": [
                {"required": ["user"], "properties": {"user": {"type": "string"}}},
                {"required": ["users"], "properties": {"users": {"type": "array"}}},
            ],
        },
    }
)
"""By the name of the body's struct."""
