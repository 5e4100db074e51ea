"""Plain values as YAML text, for people to read: block style, short lists in one line.

Only what JSON can say, and no more than this document needs. Texts are quoted as in JSON unless
nobody could take them for anything else.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

_PLAIN: Final = re.compile(r"[A-Za-z][A-Za-z0-9_./\-]*(?: [A-Za-z0-9_./\-]+)*").fullmatch
_RESERVED: Final = frozenset({"y", "n", "yes", "no", "on", "off", "true", "false", "null"})
_WIDTH: Final = 96


def yaml_text(value: Mapping[str, Any]) -> str:
    """A YAML document."""
    return "\n".join(_mapping_lines(value, "")) + "\n"


def _mapping_lines(value: Mapping[str, Any], indent: str) -> Iterator[str]:
    for key, item in value.items():
        yield from _lines_after(f"{indent}{_scalar(key)}:", item, indent + "  ")


def _lines_after(head: str, item: Any, indent: str) -> Iterator[str]:
    """`item` behind `head`, in the same line where it fits."""
    if isinstance(item, str) and _is_prose(item):
        yield f"{head} |-"
        yield from (f"{indent}{line}".rstrip() for line in item.split("\n"))
        return
    flow = _flow(item)
    if flow is not None and len(head) + 1 + len(flow) <= _WIDTH:
        yield f"{head} {flow}"
    elif isinstance(item, dict) and item:
        yield head
        yield from _mapping_lines(item, indent)
    elif isinstance(item, list | tuple) and item:
        yield head
        for part in item:
            yield from _item_lines(part, indent)
    else:
        yield f"{head} {_scalar(item)}"


def _item_lines(part: Any, indent: str) -> Iterator[str]:
    if isinstance(part, dict) and part and _flow(part) is None:
        first, *rest = _mapping_lines(part, indent + "  ")
        yield f"{indent}- {first.lstrip()}"
        yield from rest
    else:
        yield from _lines_after(f"{indent}-", part, indent + "  ")


def _flow(item: Any) -> str | None:
    """In one line, if it is a list of scalars or a mapping of one scalar; None: too much."""
    if isinstance(item, list | tuple):
        if any(isinstance(part, dict | list | tuple) for part in item):
            return None
        return f"[{', '.join(map(_scalar, item))}]"
    if isinstance(item, dict):
        if len(item) > 1 or any(isinstance(part, dict | list | tuple) for part in item.values()):
            return None
        return f"{{{', '.join(f'{_scalar(key)}: {_scalar(part)}' for key, part in item.items())}}}"
    return None


def _scalar(item: Any) -> str:
    if not isinstance(item, str):
        return json.dumps(item)
    if _PLAIN(item) and item.lower() not in _RESERVED:
        return item
    return json.dumps(item, ensure_ascii=False) if item.isprintable() else _escaped(item)


def _is_prose(text: str) -> bool:
    """Whether it is lines that can stand as they are."""
    lines = text.split("\n")
    return (
        len(lines) > 1
        and all(line.isprintable() and line == line.strip() for line in lines)
        and bool(lines[0] and lines[-1])
    )


def _escaped(text: str) -> str:
    parts = (part if part.isprintable() else f"\\U{ord(part):08x}" for part in text)
    quoted = {'"': '\\"', "\\": "\\\\"}
    return f'"{"".join(quoted.get(part, part) for part in parts)}"'
