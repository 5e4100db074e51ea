"""Examples of whole objects, put together from the examples of their fields."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

DEPTH_MAX = 6


def example_of(schema: Mapping[str, Any], components: Mapping[str, Any], depth: int = 0) -> Any:
    """A value that fits the schema."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        if depth < DEPTH_MAX:
            return example_of(components[name], components, depth + 1)
    if schema.get("examples"):
        return schema["examples"][0]
    kinds = schema.get("anyOf", [])
    refs = [kind for kind in kinds if "$ref" in kind]
    if schema.get("type") == "object":
        return {
            name: _field(part, components, depth)
            for name, part in schema.get("properties", {}).items()
        }
    if refs:
        return example_of(refs[0], components, depth)
    if kinds:
        return example_of(kinds[0], components, depth)
    if schema.get("type") == "array":
        return [example_of(schema["items"], components, depth + 1)]
    return schema.get("enum", [None])[0]


def _field(schema: Mapping[str, Any], components: Mapping[str, Any], depth: int) -> Any:
    """Lists of objects show one of them, though the field's own example is an empty list."""
    if schema.get("type") == "array" and "$ref" in schema["items"]:
        return [example_of(schema["items"], components, depth + 1)]
    if "$ref" in schema:
        return example_of({"$ref": schema["$ref"]}, components, depth + 1)
    return example_of(schema, components, depth)
