"""Whether an answer of the API is one that its OpenAPI document allows, to the letter.

Stricter than the document is for its readers: a field that it does not name is a fault too, since
nobody could rely on it.
"""

from __future__ import annotations

import copy
import gzip
import json
import re
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import jsonschema_rs

from tests.support.http import Response

PROBLEM = "application/problem+json"
_HIDDEN = re.compile(
    r"/docs(/.*)?|/openapi\.json|/asyncapi\.yaml|/|/page/.*|/page\.json|/parley\.js"
).fullmatch
_RATES = {"ratelimit-limit", "ratelimit-remaining", "ratelimit-reset"}


class Contract:
    """The operations of one document."""

    def __init__(self, document: dict[str, Any]) -> None:
        self.document = document
        self._components = _strict(document["components"])
        self._paths = [
            (re.compile(re.sub(r"\\{\w+\\}", "[^/]*", re.escape(path))).fullmatch, methods)
            for path, methods in document["paths"].items()
        ]
        self._compiled: dict[int, Callable[[Any], Iterator[Any]]] = {}

    def check(self, method: str, path: str, answer: Response) -> None:
        """AssertionError unless the answer is one of those that the operation may give."""
        where = (method, path, answer.status, answer.body[:500])
        path = path.partition("?")[0]
        methods = next((found for fits, found in self._paths if fits(path)), None)
        if methods is None:
            assert answer.status in (404, 503) or _HIDDEN(path), where
            return
        operation = methods.get("get" if method == "HEAD" else method.lower())
        if operation is None:
            assert answer.status == (204 if method == "OPTIONS" else 405), where
            return
        response = operation["responses"].get(str(answer.status))
        assert response is not None, (where, "the document has no such status")
        response = self._resolve(response)
        content = response.get("content")
        if content is None or method == "HEAD":
            assert answer.body == b"", where
        else:
            ((media, said),) = content.items()
            assert answer.headers.get("content-type") == media, where
            faults = [
                f"{'/'.join(map(str, fault.instance_path))}: {fault.message}"
                for fault in self._faults(said["schema"], json.loads(_plain(answer)))
            ]
            assert faults == [], (faults, where)
        sent = set(answer.headers) & {"etag", "location", "retry-after", "www-authenticate"} | (
            set(answer.headers) & _RATES
        )
        said = {name.lower() for name in response.get("headers", {})}
        assert sent <= said | (_RATES if answer.status >= 400 else set()), (where, sent - said)

    def _faults(self, schema: dict[str, Any], value: Any) -> Iterator[Any]:
        compiled = self._compiled.get(id(schema))
        if compiled is None:
            whole = _strict(schema) | {"components": self._components}
            compiled = jsonschema_rs.Draft202012Validator(whole, validate_formats=True).iter_errors
            self._compiled[id(schema)] = compiled
        return compiled(value)

    def _resolve(self, part: dict[str, Any]) -> dict[str, Any]:
        if "$ref" not in part:
            return part
        found: Any = self.document
        for name in part["$ref"].removeprefix("#/").split("/"):
            found = found[name]
        return dict(found)


def _strict(schema: Any) -> Any:
    """A copy in which objects have the fields that are named and no others."""
    if isinstance(schema, list):
        return [_strict(part) for part in schema]
    if not isinstance(schema, dict):
        return copy.copy(schema)
    made = {name: _strict(part) for name, part in schema.items()}
    if schema.get("type") == "object" and "properties" in schema:
        made.setdefault("additionalProperties", False)
    return made


def _plain(answer: Response) -> bytes:
    is_packed = answer.headers.get("content-encoding") == "gzip"
    return gzip.decompress(answer.body) if is_packed else answer.body


@cache
def _kept() -> list[Contract]:
    return []


def contract_of(make_document: Callable[[], dict[str, Any]]) -> Contract:
    """The contract; made once a process, since the document is the same for all of its APIs."""
    if not _kept():
        _kept().append(Contract(make_document()))
    return _kept()[0]
