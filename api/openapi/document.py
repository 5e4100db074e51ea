"""The OpenAPI document (3.1), made of the routes, the handlers' descriptions and the structs.

What can not be described raises LookupError: a test asks for the document, so no route, field or
parameter is forgotten.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator
from types import MappingProxyType
from typing import Any, Final, get_args

import msgspec

from api.openapi.examples import example_of
from api.openapi.fields import PATH_PARAMETERS, described
from api.openapi.operations import (
    ItemsOf,
    Operation,
    Shape,
    openapi_path,
    operation_of,
    path_parameters,
)
from api.openapi.preamble import DESCRIPTION, HEADERS, SECURITY_SCHEMES, TAGS
from api.openapi.problems import Problem, problem_response, status_of
from api.openapi.rules import RULES
from api.routes import Route

_REF: Final = "#/components/schemas/{name}"
_RATE_HEADERS: Final = ("RateLimit-Limit", "RateLimit-Remaining", "RateLimit-Reset")
_PHRASES: Final = MappingProxyType(
    {
        200: "Done.",
        201: "Made.",
        204: "Done; there is nothing to say.",
        207: "Some of it was refused: look at each item.",
        503: "Not now.",
    }
)


def openapi_document(routes: Iterable[tuple[str, Route]], version: str) -> dict[str, Any]:
    """The document of these routes, each with its heading."""
    found = [
        (heading, route, operation)
        for heading, route in routes
        if (operation := operation_of(route.handler)) is not None
    ]
    shapes = _Shapes(operation for *_, operation in found)
    paths: dict[str, dict[str, Any]] = {}
    for heading, route, operation in found:
        methods = paths.setdefault(openapi_path(route.path), {})
        methods[route.method.lower()] = _operation(heading, route, operation, shapes)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Parley",
            "version": version,
            "description": DESCRIPTION,
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": "/"}],
        "tags": [
            {"name": heading, "description": TAGS[heading]}
            for heading in dict.fromkeys(heading for heading, *_ in found)
        ],
        "paths": paths,
        "components": {
            "schemas": shapes.components,
            "responses": dict(sorted(shapes.refusals.items())),
            "headers": dict(HEADERS),
            "securitySchemes": dict(SECURITY_SCHEMES),
        },
    }


class _Shapes:
    """The schemas of all types that the operations name."""

    def __init__(self, operations: Iterable[Operation]) -> None:
        self.refusals: dict[str, dict[str, Any]] = {}
        queries: list[Any] = []
        bodies: list[Any] = [Problem]
        for operation in operations:
            if operation.query is not None:
                queries.append(operation.query)
            for shape in (operation.body, *operation.answers.values()):
                bodies += _alternatives(shape)
        made, self.components = msgspec.json.schema_components(bodies, ref_template=_REF)
        self._schemas = dict(zip(map(repr, bodies), made, strict=True))
        _, self._queries = msgspec.json.schema_components(queries, ref_template=_REF)
        lines = {kind.__name__: _names(kind) for kind in _structs([*bodies, *queries])}
        for components in (self.components, self._queries):
            for name, component in components.items():
                component.pop("title", None)
                component.update(RULES.get(name, {}))
                for field, schema in component.get("properties", {}).items():
                    said = described(lines.get(name, (name,)), field, schema)
                    component["properties"][field] = said

    def content(self, shape: Shape) -> dict[str, Any]:
        """The media type object of a body."""
        schemas = [self._schemas[repr(kind)] for kind in _alternatives(shape)]
        schema = schemas[0] if len(schemas) == 1 else {"anyOf": schemas}
        example = example_of(schemas[0], self.components)
        if isinstance(shape, ItemsOf):
            items = {"type": "array", "items": schema}
            schema = {"type": "object", "properties": {"items": items}, "required": ["items"]}
            example = {"items": [example]}
        return {"application/json": {"schema": schema, "example": example}}

    def parameters(self, query: type) -> Iterator[dict[str, Any]]:
        """The parameters of a query."""
        component = self._queries[query.__name__]
        for name, schema in component["properties"].items():
            said = dict(schema)
            parameter = {"name": name, "in": "query", "description": said.pop("description")}
            if name in component.get("required", ()):
                parameter["required"] = True
            examples = said.pop("examples")
            kinds = [kind for kind in said.pop("anyOf", []) if kind != {"type": "null"}]
            said = (kinds[0] if kinds else {}) | said
            if said.get("default", 0) is None:
                del said["default"]
            yield parameter | {"schema": said, "example": examples[0]}


def _operation(heading: str, route: Route, operation: Operation, shapes: _Shapes) -> dict[str, Any]:
    summary, _, description = (inspect.getdoc(route.handler) or "").partition("\n")
    said: dict[str, Any] = {
        "operationId": route.handler.__name__,
        "summary": summary.removesuffix("."),
        "tags": [heading],
        "security": [{name: []} for name in operation.credentials.value],
        "parameters": list(_parameters(route, operation, shapes)),
        "responses": dict(sorted(_responses(route, operation, shapes))),
    }
    if description.strip():
        said["description"] = description.strip()
    if operation.body is not None:
        said["requestBody"] = {
            "required": not operation.is_body_optional,
            "content": shapes.content(operation.body),
        }
    return said


def _parameters(route: Route, operation: Operation, shapes: _Shapes) -> Iterator[dict[str, Any]]:
    for name in path_parameters(route.path):
        said = dict(PATH_PARAMETERS[name])
        examples, description = said.pop("examples"), said.pop("description")
        yield {
            "name": name,
            "in": "path",
            "required": True,
            "description": description,
            "schema": {"type": "string"} | said,
            "example": examples[0],
        }
    if operation.query is not None:
        yield from shapes.parameters(operation.query)
    if operation.takes_idempotency_key:
        yield _header(
            "Idempotency-Key",
            "The message's `client_id`.",
            "c1f0",
            {"minLength": 1, "maxLength": 64},
        )
    if operation.is_conditional:
        yield _header("If-None-Match", "An ETag: 304 if it still holds.", '"9f86d081884c7d65"', {})


def _header(name: str, description: str, example: str, more: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": name,
        "in": "header",
        "description": description,
        "schema": {"type": "string"} | more,
        "example": example,
    }


def _responses(
    route: Route, operation: Operation, shapes: _Shapes
) -> Iterator[tuple[str, dict[str, Any]]]:
    for status, shape in operation.answers.items():
        response: dict[str, Any] = {"description": _PHRASES[status]}
        if shape is not None:
            response["content"] = shapes.content(shape)
        yield str(status), response | {"headers": _headers(status, operation)}
    if operation.is_conditional:
        headers = _headers(304, operation)
        yield "304", {"description": "The page is as it was.", "headers": headers}
    codes: dict[int, list[str]] = {}
    for status_or_none, code in operation.refusals(route.path):
        status = status_of(code) if status_or_none is None else status_or_none
        codes.setdefault(status, []).append(code)
    for status, names in codes.items():
        name = f"{status}-{'-'.join(sorted(names))}"
        shapes.refusals.setdefault(name, problem_response(status, names))
        yield str(status), {"$ref": f"#/components/responses/{name}"}


def _headers(status: int, operation: Operation) -> dict[str, Any]:
    names = ["X-Request-Id"]
    if status != 204:
        names.append("Cache-Control")
    if operation.is_conditional:
        names.append("ETag")
    if operation.has_location and status in (200, 201):
        names.append("Location")
    if status == 503:
        names.append("Retry-After")
    if "token" in operation.credentials.value:
        names += _RATE_HEADERS
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}


def _alternatives(shape: Shape) -> tuple[Any, ...]:
    if shape is None:
        return ()
    if isinstance(shape, ItemsOf):
        return shape.kinds
    return shape if isinstance(shape, tuple) else (shape,)


def _structs(types: Iterable[Any]) -> set[type]:
    """The structs among these types and within them."""
    found: set[type] = set()
    waiting = list(types)
    while waiting:
        kind = waiting.pop()
        if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
            if kind not in found:
                found.add(kind)
                waiting += [field.type for field in msgspec.structs.fields(kind)]
        else:
            waiting += get_args(kind)
    return found


def _names(struct: type) -> tuple[str, ...]:
    """The struct and what it extends, nearest first."""
    return tuple(kind.__name__ for kind in struct.__mro__ if kind is not object)
