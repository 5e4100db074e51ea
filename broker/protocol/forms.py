"""What a field's type tells the readers of the documents; no decoder looks at it.

The rules of form that types alone can not hold stand in `check` of the frames. Here they are said
again as JSON Schema, so that `docs/asyncapi.yaml` and `openapi.json` name them. A schema counts
characters where Parley counts bytes of UTF-8: `maxLength` is the weaker bound that both share,
`x-utf8-bytes-max` the exact one.
"""

from __future__ import annotations

from typing import Any

import msgspec


def text_form(
    description: str, *, bytes_max: int, bytes_min: int = 0, pattern: str | None = None
) -> msgspec.Meta:
    """How a text must look: its length in bytes of UTF-8 and its alphabet."""
    schema: dict[str, Any] = {"maxLength": bytes_max, "x-utf8-bytes-max": bytes_max}
    if bytes_min:
        schema["minLength"] = bytes_min
    if pattern is not None:
        schema["pattern"] = pattern
    return msgspec.Meta(description=description, extra_json_schema=schema)


def list_form(description: str, *, items_max: int) -> msgspec.Meta:
    """How long a list may be."""
    return msgspec.Meta(description=description, extra_json_schema={"maxItems": items_max})


def json_form(description: str, *, bytes_max: int) -> msgspec.Meta:
    """How large a free JSON object may be, written compactly."""
    return msgspec.Meta(description=description, extra_json_schema={"x-json-bytes-max": bytes_max})
