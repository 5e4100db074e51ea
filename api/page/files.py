"""The static files of the page, read once, each with its type and a strong ETag.

A file is found by its exact name among those of the package: no path is ever built from a request.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from typing import Final

_TYPES: Final[Mapping[str, str]] = {
    "html": "text/html; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "svg": "image/svg+xml",
}


@dataclass(frozen=True, slots=True)
class PageFile:
    """What is answered for one file."""

    content: bytes
    content_type: str
    etag: str


def load_files() -> dict[str, PageFile]:
    """Every file that a browser may ask for, by name."""
    found = {}
    for item in files("api.page").iterdir():
        content_type = _TYPES.get(item.name.rpartition(".")[2])
        if content_type is not None:
            content = item.read_bytes()
            digest = hashlib.sha256(content).hexdigest()[:32]
            found[item.name] = PageFile(content, content_type, f'"{digest}"')
    return found
