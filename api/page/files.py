"""The static files of a page, read once, each with its type and a strong ETag, and their answers.

A file is found by its exact name among those of the package: no path is ever built from a request.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from typing import Final

from quart import Response, request

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


def load_files(package: str) -> dict[str, PageFile]:
    """Every file of the package that a browser may ask for, by name."""
    found = {}
    for item in files(package).iterdir():
        content_type = _TYPES.get(item.name.rpartition(".")[2])
        if content_type is not None:
            content = item.read_bytes()
            found[item.name] = make_file(content, content_type)
    return found


def make_file(content: bytes, content_type: str) -> PageFile:
    """A file of these bytes."""
    digest = hashlib.sha256(content).hexdigest()[:32]
    return PageFile(content, content_type, f'"{digest}"')


def file_response(file: PageFile) -> Response:
    """The file, or 304 for who has it already. Always asked for again, so an update is seen."""
    is_known = file.etag in request.headers.get("If-None-Match", "")
    response = Response(
        b"" if is_known else file.content,
        status=304 if is_known else 200,
        content_type=file.content_type,
    )
    response.headers["ETag"] = file.etag
    response.headers["Cache-Control"] = "no-cache"
    return response
