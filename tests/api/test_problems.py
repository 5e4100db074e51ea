"""Every refusal is a problem, also the framework's; storage that is away is 503 at once."""

from __future__ import annotations

import http.client
from contextlib import closing, suppress
from urllib.parse import urlsplit

import pytest
import trio
from quart import Response

from api.app import create_app
from config.api_limits import API_BODY_BYTES_MAX
from tests.support.waiting import wait_until

PROBLEM_FIELDS = {"type", "title", "status", "detail", "code", "field", "retry_after"}


def check(answer, status: int, code: str) -> None:
    assert answer.status == status, answer
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert problem.keys() - {"request_id"} == PROBLEM_FIELDS
    assert ("request_id" in problem) == (status >= 500)
    assert (problem["status"], problem["code"]) == (status, code)
    assert problem["detail"].endswith((".", "?"))


async def test_an_unknown_path(api):
    for path in ("/v1", "/v1/", "/v1/nothing", "/v1/project/", "/v1/users/a/b"):
        check(await api.send("GET", path), 404, "not_found")


async def test_a_wrong_method(api):
    answer = await api.send("DELETE", "/v1/rooms")
    check(answer, 405, "bad_request")
    assert {"GET", "POST"} <= {name.strip() for name in answer.headers["allow"].split(",")}


async def test_a_body_says_that_it_is_json(api):
    for media in ("text/plain", "application/x-www-form-urlencoded", ""):
        answer = await api.send("POST", "/v1/users", b"{}", Content_Type=media)
        check(answer, 415, "bad_request")
    for media in ("application/json; charset=utf-8", "application/vnd.x+json"):
        answer = await api.send("POST", "/v1/users", b"{}", Content_Type=media)
        assert answer.status == 201


async def test_a_body_that_is_too_large(api):
    body = b'{"display_name": "' + b"x" * API_BODY_BYTES_MAX + b'"}'
    check(
        await api.send("POST", "/v1/users", body, Content_Type="application/json"), 413, "too_large"
    )


async def test_a_body_in_chunks_that_is_too_large(api):
    def send() -> tuple[int, bytes]:
        target = urlsplit(api.url)
        headers = {"X-API-Key": api.key, "Content-Type": "application/json"}
        chunks = (b"x" * 65536 for _ in range(API_BODY_BYTES_MAX // 65536 + 2))
        connection = http.client.HTTPConnection(target.hostname or "", target.port, timeout=10)
        with closing(connection):
            # The server may answer and close before it has all of it.
            with suppress(ConnectionError):
                connection.request(
                    "POST", "/v1/users", body=chunks, headers=headers, encode_chunked=True
                )
            with closing(connection.getresponse()) as answer:
                return answer.status, answer.read()

    status, body = await trio.to_thread.run_sync(send)
    assert status == 413
    assert b'"too_large"' in body


async def test_a_bug_says_nothing_about_itself(api):
    app = create_app(api.services)

    async def fail() -> Response:
        raise RuntimeError("the secret inside")

    app.add_url_rule("/fail", view_func=fail)
    answer = await app.test_client().get("/fail")
    assert answer.status_code == 500
    assert answer.content_type == "application/problem+json"
    body = await answer.get_data()
    assert b"secret" not in body
    assert b'"internal"' in body
    assert answer.headers["X-Request-Id"].encode() in body


async def test_no_code_is_compiled_that_would_make_urls_of_routes(api):
    """It took most of the time in which an application is made."""
    rules = list(create_app(api.services).url_map.iter_rules())
    assert rules
    for rule in rules:
        with pytest.raises(NotImplementedError):
            rule.build({})


async def test_every_answer_has_its_place_in_the_metrics(api):
    await api.ok("GET", "/v1/project")
    await api.send("GET", "/v1/rooms/nothing")
    page = api.services.metrics.render().decode()
    assert 'parley_requests_total{method="GET",route="/v1/project",status="200"} 1.0' in page
    assert 'parley_requests_total{method="GET",route="/v1/rooms/<room>",status="404"} 1.0' in page
    assert "nothing" not in page


async def test_methods_that_callers_make_up_are_one_label(api):
    address = urlsplit(api.url).netloc

    def ask(method: str) -> int:
        with closing(http.client.HTTPConnection(address, timeout=20)) as connection:
            connection.request(method, "/v1/project")
            with closing(connection.getresponse()) as answer:
                return answer.status

    for method in ("BREW", "WHEN"):
        assert await trio.to_thread.run_sync(ask, method) == 405
    page = api.services.metrics.render().decode()
    assert 'parley_requests_total{method="_OTHER",route="none",status="405"} 2.0' in page
    assert "BREW" not in page


async def test_health_and_readiness(api):
    assert await api.as_nobody().ok("GET", "/healthz") == {"status": "ok"}
    assert await api.as_nobody().ok("GET", "/readyz") == {
        "ready": True,
        "redis": True,
        "postgres": True,
        "draining": False,
    }


async def test_without_redis_reads_and_writes_are_unavailable_and_come_back(
    api_on_private_redis, private_redis
):
    api = api_on_private_redis
    await api.ok("POST", "/v1/rooms", {"id": "r", "members": ["bob"]})
    await api.post("r", "before")
    private_redis.stop()
    for method, path, body in (
        ("GET", "/v1/rooms/r/messages", None),
        ("POST", "/v1/rooms/r/messages", {"content": "x"}),
        ("POST", "/v1/rooms/r/members", {"user": "carl"}),
        ("DELETE", "/v1/rooms/r/members/bob", None),
    ):
        answer = await api.send(method, path, body)
        check(answer, 503, "unavailable")
        assert int(answer.headers["retry-after"]) >= 1
        assert answer.json()["retry_after"] > 0
    answer = await api.as_nobody().send("GET", "/readyz")
    assert (answer.status, answer.json()) == (
        503,
        {"ready": False, "redis": False, "postgres": True, "draining": False},
    )
    assert (await api.as_nobody().send("GET", "/healthz")).status == 200
    private_redis.start()

    async def is_ready() -> bool:
        return bool((await api.as_nobody().send("GET", "/readyz")).status == 200)

    await wait_until(is_ready)
    await api.ok("DELETE", "/v1/rooms/r/members/bob")
    page = await api.ok("GET", "/v1/rooms/r/members")
    assert "bob" not in [item["user"] for item in page["items"]]
    events = [entry.event for entry in await api.log("r")]
    assert events[-1] == "member.removed"
