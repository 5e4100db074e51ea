"""The OpenAPI document is whole, valid, and says of each operation what it is.

That answers are as it says is tested everywhere: the client of these tests compares every answer
with it (tests/support/contract). What is proven here is that the comparison has teeth.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import jsonschema_rs
import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from api.app import create_app, describe_api
from api.openapi.document import openapi_document
from api.routes import Route
from broker.protocol.errors import ERRORS
from tests.support.contract import Contract
from tests.support.http import Response
from tests.support.sources import ROOT

PAGES = {
    "/openapi.json", "/asyncapi.yaml", "/docs", "/docs/{name}",
    "/", "/page.json", "/page/token", "/page/{name}", "/parley.js",
}  # fmt: skip
KEY: dict[str, list[str]] = {"key": []}
TOKEN: dict[str, list[str]] = {"token": []}


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield method, path, operation


def resolve(document: dict[str, Any], part: dict[str, Any]) -> dict[str, Any]:
    while "$ref" in part:
        found: Any = document
        for name in part["$ref"].removeprefix("#/").split("/"):
            found = found[name]
        part = found
    return part


async def test_it_is_served_and_a_valid_openapi_3_1_document(api):
    document = await api.as_nobody().ok("GET", "/openapi.json")
    assert document["openapi"].startswith("3.1")
    assert document["info"]["title"] == "Parley"
    assert [error.message for error in OpenAPIV31SpecValidator(document).iter_errors()] == []


async def test_every_route_is_in_it(api):
    document = describe_api(api.services)
    described = {(method.upper(), path) for method, path, _ in operations(document)}
    served = {
        (method, str(rule).replace("<", "{").replace(">", "}"))
        for rule in create_app(api.services).url_map.iter_rules()
        for method in rule.methods or ()
        if method not in ("HEAD", "OPTIONS")
    }
    assert described == {(method, path) for method, path in served if path not in PAGES}
    ids = [operation["operationId"] for *_, operation in operations(document)]
    assert len(ids) == len(set(ids))


def test_a_route_that_says_nothing_about_itself_is_an_error():
    async def silent() -> Any: ...

    with pytest.raises(LookupError, match="silent"):
        openapi_document([("rooms", Route("GET", "/v1/silent", silent))], "0")


async def test_every_operation_says_what_it_takes_and_answers(api):
    document = describe_api(api.services)
    for method, path, operation in operations(document):
        where = (method, path)
        assert operation["summary"], where
        assert len(operation["tags"]) == 1, where
        assert operation["responses"], where
        assert "500" in operation["responses"], where
        if path.startswith("/v1/"):
            assert operation["security"] in ([KEY], [TOKEN], [KEY, TOKEN]), where
            assert {"401", "403", "429", "503"} <= operation["responses"].keys(), where
        else:
            assert operation["security"] == [], where
        if method in ("post", "patch") and "requestBody" in operation:
            assert {"400", "408", "413", "415"} <= operation["responses"].keys(), where
        for parameter in operation["parameters"]:
            assert parameter["description"], (where, parameter)
            assert "example" in parameter, (where, parameter)
    page = document["paths"]["/v1/rooms/{room}/messages"]["get"]
    assert {"200", "304"} <= page["responses"].keys()
    assert "ETag" in page["responses"]["200"]["headers"]
    limit = next(item for item in page["parameters"] if item["name"] == "limit")["schema"]
    assert (limit["minimum"], limit["maximum"], limit["default"]) == (1, 100, 50)


async def test_every_field_has_a_meaning_and_an_example(api):
    schemas = describe_api(api.services)["components"]["schemas"]
    for name, schema in schemas.items():
        assert schema["description"], name
        for field, said in schema.get("properties", {}).items():
            assert said["description"], (name, field)
            assert said["examples"], (name, field)


async def test_every_example_fits_its_schema(api):
    document = describe_api(api.services)
    components = {"components": document["components"]}
    count = 0
    for method, path, operation in operations(document):
        bodies = [operation.get("requestBody", {})]
        bodies += [resolve(document, answer) for answer in operation["responses"].values()]
        for body in bodies:
            for media in body.get("content", {}).values():
                fits = jsonschema_rs.Draft202012Validator(media["schema"] | components)
                examples = [item["value"] for item in media.get("examples", {}).values()]
                for example in examples or [media["example"]]:
                    faults = [fault.message for fault in fits.iter_errors(example)]
                    assert faults == [], (method, path, example)
                    count += 1
        for parameter in operation["parameters"]:
            jsonschema_rs.validate(parameter["schema"], parameter["example"])
    assert count > 300


async def test_the_problems_are_those_of_the_protocol(api):
    """Ruling 49: one table of codes; each stands under its own status, 405, 408, 415 apart."""
    document = describe_api(api.services)
    status_of = {row.code: row.status for row in ERRORS}
    found = set()
    for method, path, operation in operations(document):
        for status, answer in operation["responses"].items():
            content = resolve(document, answer).get("content", {})
            if "application/problem+json" not in content:
                continue
            codes = content["application/problem+json"]["schema"]["properties"]["code"]["enum"]
            for code in codes:
                found.add(code)
                if status not in ("408", "415"):
                    assert status_of[code] == int(status), (method, path, code)
    assert found == set(status_of) - {"unknown_type"}


async def test_the_comparison_of_answers_finds_what_the_document_does_not_allow(api):
    contract: Contract = api.contract
    path = "/v1/rooms/r/members/bob"
    member = {
        "user": "bob",
        "role": "member",
        "joined_at": "2026-01-02T03:04:05.678Z",
        "muted_until": None,
        "display_name": None,
        "avatar_url": None,
    }
    headers = {"content-type": "application/json"}

    def answer(body: Any, status: int = 200, more: dict[str, str] | None = None) -> Response:
        return Response(status, headers | (more or {}), json.dumps(body).encode())

    contract.check("PATCH", path, answer(member))
    for wrong in (
        answer(member | {"extra": 1}),
        answer({name: value for name, value in member.items() if name != "role"}),
        answer(member | {"role": "boss"}),
        answer(member | {"joined_at": "2026-01-02 03:04:05"}),
        answer(member, 201),
        answer(member, more={"content-type": "text/plain"}),
        answer(member, more={"etag": '"x"'}),
        Response(204, {}, b""),
    ):
        with pytest.raises(AssertionError):
            contract.check("PATCH", path, wrong)


async def test_the_asyncapi_document_is_served_as_it_is_committed(api):
    answer = await api.as_nobody().send("GET", "/asyncapi.yaml")
    assert answer.status == 200
    assert answer.headers["content-type"] == "application/yaml; charset=utf-8"
    assert answer.body == (ROOT / "docs" / "asyncapi.yaml").read_bytes()
