"""The OpenAPI document says what the API does: every route, and the fields of real answers."""

from __future__ import annotations

from typing import Any

from tests.support.sources import ROOT


def properties(document: dict[str, Any], path: str, method: str, status: str) -> set[str]:
    """The fields that an answer always has."""
    schema = document["paths"][path][method]["responses"][status]["content"]["application/json"]
    return set(resolve(document, schema["schema"])["required"])


def resolve(document: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    while "$ref" in schema:
        schema = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    return schema


async def test_every_operation_is_described(api):
    document = await api.as_nobody().ok("GET", "/openapi.json")
    assert document["openapi"].startswith("3.1")
    assert document["info"]["title"] == "Parley"
    assert set(document["components"]["securitySchemes"]) == {"key", "token"}
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            assert operation["summary"], (path, method)
            assert operation["tags"], (path, method)
            if path.startswith("/v1/"):
                assert operation["security"] == [{"key": []}, {"token": []}]
            if method in ("post", "patch") and path.startswith("/v1/"):
                assert "application/json" in operation["requestBody"]["content"]
    assert {"post", "get"} <= set(document["paths"]["/v1/rooms/{room}/messages"])
    names = [p["name"] for p in document["paths"]["/v1/rooms/{room}/messages"]["get"]["parameters"]]
    assert {"room", "before", "after", "around", "page", "skip", "limit", "user_id"} <= set(names)


async def test_answers_have_the_described_fields(api):
    document = await api.as_nobody().ok("GET", "/openapi.json")
    user = await api.ok("POST", "/v1/users", {"id": "alice"})
    token = await api.ok("POST", "/v1/users/alice/token", {})
    room = await api.ok("POST", "/v1/rooms", {"id": "r", "created_by": "alice"})
    message = await api.as_user("alice").post("r", "x")
    page = await api.history("r")
    members = await api.ok("GET", "/v1/rooms/r/members")
    answers = {
        ("/v1/users", "post", "201"): user,
        ("/v1/users/{user}/token", "post", "200"): token,
        ("/v1/rooms", "post", "201"): room,
        ("/v1/rooms", "get", "200"): await api.ok("GET", "/v1/rooms"),
        ("/v1/rooms/{room}/messages", "get", "200"): page,
        ("/v1/rooms/{room}/members", "get", "200"): members,
        ("/v1/rooms/{room}/members", "post", "201"): members["items"][0],
        ("/v1/project", "get", "200"): await api.ok("GET", "/v1/project"),
        ("/v1/rooms/{room}/messages/{message}", "get", "200"): page["items"][0],
    }
    for (path, method, status), answer in answers.items():
        assert properties(document, path, method, status) == set(answer), path
    assert set(message) - set(page["items"][0]) == {"message_id", "offset", "duplicate"}
    await api.archive("r")
    archived = (await api.history("r"))["items"][0]
    assert set(archived) == set(page["items"][0])


async def test_the_docs_page_needs_nobody_else(api):
    answer = await api.as_nobody().send("GET", "/docs")
    assert answer.headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert b"openapi.json" in answer.body
    assert b"http://" not in answer.body
    assert b"https://" not in answer.body


async def test_the_asyncapi_document_is_served_as_it_is_committed(api):
    answer = await api.as_nobody().send("GET", "/asyncapi.yaml")
    assert answer.status == 200
    assert answer.headers["content-type"] == "application/yaml; charset=utf-8"
    assert answer.body == (ROOT / "docs" / "asyncapi.yaml").read_bytes()
    page = await api.as_nobody().send("GET", "/docs")
    assert b"asyncapi.yaml" in page.body
