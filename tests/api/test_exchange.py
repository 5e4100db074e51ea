"""What surrounds every request: ids, OPTIONS and HEAD, pages of other origins, compression."""

from __future__ import annotations

import gzip
from typing import Any

import pytest
import structlog

from api.app import create_app
from tests.api.conftest import open_api
from tests.support.http import Response

PAGE = "https://chat.example.org"
EXPOSED = {
    "ETag", "Location", "RateLimit-Limit", "RateLimit-Remaining", "RateLimit-Reset", "Retry-After",
    "X-Request-Id",
}  # fmt: skip


def names(text: str) -> set[str]:
    return {name.strip() for name in text.split(",")}


def cors_of(answer: Response) -> set[str]:
    return {name for name in answer.headers if name.startswith("access-control-")}


@pytest.fixture
async def listed(redis_url, database_url, nursery):
    origins = f"{PAGE},https://*.example.net"
    async with open_api(redis_url, database_url, nursery, allowed_origins=origins) as opened:
        yield opened


async def test_a_request_has_an_id_of_its_own_or_the_callers(api):
    made = [(await api.send("GET", "/v1/project")).headers["x-request-id"] for _ in range(2)]
    assert made[0] != made[1]
    assert all(len(name) == 32 for name in made)
    for sent in ("abc-123", "0af7651916cd43dd.8448:eb211c80319c", "x" * 128):
        answer = await api.send("GET", "/v1/nothing", X_Request_Id=sent)
        assert answer.headers["x-request-id"] == sent
    for insane in ("", "a b", "x" * 129, "<script>", "ä"):
        answer = await api.send("GET", "/v1/project", X_Request_Id=insane)
        assert answer.headers["x-request-id"] not in ("", insane)


async def test_the_id_is_in_every_line_of_the_log(api):
    app = create_app(api.services)
    seen: list[dict[str, Any]] = []

    async def fail() -> Any:
        seen.append(structlog.contextvars.get_contextvars())
        raise RuntimeError

    app.add_url_rule("/fail", view_func=fail)
    answer = await app.test_client().get("/fail", headers={"X-Request-Id": "mine"})
    assert answer.status_code == 500
    assert seen == [{"request_id": "mine"}]


async def test_refusals_of_a_hidden_and_of_a_missing_room_are_the_same_bytes(api):
    """Ruling 9: nobody learns of a room by how it is refused."""
    await api.ok("POST", "/v1/rooms", {"id": "hidden"})
    alice = api.as_user("alice")
    for path in ("", "/messages", "/members", "/bans"):
        hidden = await alice.send("GET", f"/v1/rooms/hidden{path}")
        missing = await alice.send("GET", f"/v1/rooms/missing{path}")
        assert hidden.status == missing.status == 404
        assert hidden.body == missing.body


async def test_options_says_which_methods_there_are(api):
    answer = await api.as_nobody().send("OPTIONS", "/v1/rooms/r/messages")
    assert (answer.status, answer.body) == (204, b"")
    assert names(answer.headers["allow"]) == {"GET", "HEAD", "OPTIONS", "POST"}
    answer = await api.as_nobody().send("OPTIONS", "/v1/rooms/r")
    assert names(answer.headers["allow"]) == {"GET", "HEAD", "OPTIONS", "PATCH", "DELETE"}
    assert await api.as_nobody().refused("OPTIONS", "/v1/nothing") == (404, "not_found")


async def test_head_is_get_without_the_body(api):
    await api.ok("POST", "/v1/rooms", {"id": "r"})
    for path in ("/v1/project", "/v1/rooms/r/messages", "/v1/rooms/nothing", "/healthz"):
        whole, head = await api.send("GET", path), await api.send("HEAD", path)
        assert head.body == b""
        assert head.status == whole.status
        for name in ("content-type", "content-length", "etag"):
            assert head.headers.get(name) == whole.headers.get(name), (path, name)


async def test_without_a_list_there_are_no_headers_for_other_pages(api):
    answer = await api.send("GET", "/v1/project", Origin=PAGE)
    assert answer.status == 200
    assert cors_of(answer) == set()
    preflight = await api.as_nobody().send(
        "OPTIONS", "/v1/project", Origin=PAGE, Access_Control_Request_Method="GET"
    )
    assert cors_of(preflight) == set()


async def test_a_listed_page_may_read_every_answer_and_another_none(listed):
    for origin in (PAGE, "https://a.example.net", "https://b.a.example.net"):
        for path in ("/v1/project", "/v1/nothing", "/v1/rooms/missing", "/openapi.json"):
            answer = await listed.send("GET", path, Origin=origin)
            assert answer.headers["access-control-allow-origin"] == origin
            assert names(answer.headers["access-control-expose-headers"]) == EXPOSED
            assert "Origin" in names(answer.headers["vary"])
            assert "access-control-allow-credentials" not in answer.headers
        answer = await listed.as_nobody().send("GET", "/v1/project", Origin=origin)
        assert (answer.status, answer.headers["access-control-allow-origin"]) == (401, origin)
    for origin in (
        "https://example.net", "http://chat.example.org", "https://chat.example.org.evil.example",
        "https://chat.example.org:8443", "null", "https://evilexample.net",
    ):  # fmt: skip
        answer = await listed.send("GET", "/v1/project", Origin=origin)
        assert answer.status == 200
        assert cors_of(answer) == set(), origin
        assert "Origin" in names(answer.headers["vary"])


async def test_a_preflight_of_a_listed_page(listed):
    answer = await listed.as_nobody().send(
        "OPTIONS",
        "/v1/rooms/r/messages",
        Origin=PAGE,
        Access_Control_Request_Method="POST",
        Access_Control_Request_Headers="authorization,content-type,idempotency-key",
    )
    assert (answer.status, answer.body) == (204, b"")
    assert answer.headers["access-control-allow-origin"] == PAGE
    assert {"GET", "POST"} <= names(answer.headers["access-control-allow-methods"])
    allowed = {name.lower() for name in names(answer.headers["access-control-allow-headers"])}
    assert {"authorization", "content-type", "idempotency-key", "x-api-key"} <= allowed
    assert int(answer.headers["access-control-max-age"]) > 0
    stranger = await listed.as_nobody().send(
        "OPTIONS",
        "/v1/rooms",
        Origin="https://evil.example",
        Access_Control_Request_Method="POST",
    )
    assert cors_of(stranger) == set()


async def test_any_page_may_read_where_all_are_allowed(redis_url, database_url, nursery):
    async with open_api(redis_url, database_url, nursery, allowed_origins="*") as api:
        answer = await api.send("GET", "/v1/project", Origin=PAGE)
        assert answer.headers["access-control-allow-origin"] == "*"
        assert "Origin" not in names(answer.headers.get("vary", ""))


async def test_large_json_is_compressed_for_who_takes_it(api):
    await api.ok("POST", "/v1/rooms", {"id": "r"})
    path = "/v1/rooms/r/messages"
    small = await api.send("GET", path, Accept_Encoding="gzip")
    assert "content-encoding" not in small.headers
    for number in range(10):
        await api.post("r", f"text {number} " * 30)
    plain = await api.send("GET", path)
    assert "content-encoding" not in plain.headers
    assert "Accept-Encoding" in names(plain.headers["vary"])
    for refusing in ("identity", "gzip;q=0", "br"):
        assert (await api.send("GET", path, Accept_Encoding=refusing)).body == plain.body
    for taking in ("gzip", "br, gzip;q=0.5", "*", "GZIP"):
        packed = await api.send("GET", path, Accept_Encoding=taking)
        assert packed.headers["content-encoding"] == "gzip", taking
        assert int(packed.headers["content-length"]) == len(packed.body) < len(plain.body) / 2
        assert gzip.decompress(packed.body) == plain.body
    page = await api.send("GET", "/docs/main.js", Accept_Encoding="gzip")
    assert "content-encoding" not in page.headers


async def test_a_compressed_page_has_an_etag_of_its_own_and_both_give_304(api):
    """Ruling 51: the ETag differs whenever the bytes do."""
    await api.ok("POST", "/v1/rooms", {"id": "r"})
    await api.post("r", "long " * 1000)
    path = "/v1/rooms/r/messages"
    plain = await api.send("GET", path, Accept_Encoding="identity")
    packed = await api.send("GET", path, Accept_Encoding="gzip")
    tags = plain.headers["etag"], packed.headers["etag"]
    assert tags[0] != tags[1]
    for tag in (*tags, f"W/{tags[0]}", f'"other", {tags[1]}'):
        for encoding in ("gzip", "identity"):
            known = await api.send("GET", path, If_None_Match=tag, Accept_Encoding=encoding)
            assert (known.status, known.body) == (304, b"")
            assert known.headers["etag"] in tag
    await api.post("r", "more")
    for tag in tags:
        assert (await api.send("GET", path, If_None_Match=tag)).status == 200
