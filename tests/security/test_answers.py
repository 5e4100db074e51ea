"""What answers carry around their bodies: headers that browsers obey, and nothing that was sent.

And what a browser may be talked into: frames, redirects, foreign pages on the WebSocket.
"""

from collections.abc import Callable

import pytest
import trio

from tests.support.deployment import Deployment
from tests.support.http import Response, request
from tests.support.tokens import make_token

Name = Callable[[str], str]
CRLF = "%0d%0aSet-Cookie:%20owned=1"
PUBLIC = ("/", "/docs", "/page/main.js", "/docs/main.js", "/parley.js", "/openapi.json")
UPWARDS = (
    "../app.py", "..%2f..%2fetc%2fpasswd", "%2e%2e/%2e%2e/etc/passwd", "....//....//etc/passwd",
    "..%5c..%5cetc%5cpasswd", "%2fetc%2fpasswd", "main.js%00.css", "routes.py", "__init__.py",
    "..%c0%af..%c0%afetc/passwd",
)  # fmt: skip


async def ask(shared: Deployment, method: str, path: str, **options: object) -> Response:
    assert shared.api is not None
    return await request(method, shared.api.base_url + path, **options)  # type: ignore[arg-type]


async def raw(port: int, head: bytes) -> bytes:
    """Send bytes, read to the end or to the end of what comes in a moment."""
    with trio.fail_after(20):
        async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
            await stream.send_all(head)
            answer = b""
            while part := await stream.receive_some():
                answer += part
            return answer


def is_strict(answer: Response) -> None:
    headers = answer.headers
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["x-frame-options"] == "DENY"
    policy = headers["content-security-policy"].split("; ")
    assert {"default-src 'none'", "frame-ancestors 'none'"} <= set(policy)
    assert not any("unsafe" in part or "*" in part for part in policy)
    assert "access-control-allow-credentials" not in headers
    assert "set-cookie" not in headers
    assert "server" not in headers
    assert "strict-transport-security" not in headers, "TLS, and so HSTS, is the balancer's"
    if answer.status not in (204, 304):
        assert "content-type" in headers


async def test_private_answers_are_kept_by_nobody_and_framed_by_nobody(
    shared: Deployment, name: Name
) -> None:
    room, user = name("room"), name("user")
    await shared.create_room(room, user)
    await shared.post(room, "text", user)
    for path in (
        *("/v1/project", "/v1/users", f"/v1/users/{user}", "/v1/rooms", f"/v1/rooms/{room}"),
        *(f"/v1/rooms/{room}/{part}" for part in ("messages", "members", "bans", "receipts")),
        *("/v1/audit", f"/v1/users/{user}/export", f"/v1/users/{user}/rooms", "/v1/webhook"),
    ):
        answer = await shared.send("GET", path)
        is_strict(answer)
        assert answer.headers["cache-control"] in ("no-store", "private, no-cache"), path
    for path in ("/v1/me", "/v1/me/rooms", "/v1/auth/verify", "/v1/me/blocks"):
        answer = await shared.send("GET", path, user=user)
        is_strict(answer)
        assert answer.headers["cache-control"] in ("no-store", "private, no-cache"), path
    is_strict(await shared.send("DELETE", f"/v1/rooms/{room}"))


async def test_pages_and_refusals_are_as_strict(shared: Deployment) -> None:
    for path in PUBLIC:
        is_strict(await ask(shared, "GET", path))
    for method, path in (("GET", "/v1/me"), ("GET", "/nothing"), ("PUT", "/v1/me"), ("POST", "/")):
        answer = await ask(shared, method, path)
        is_strict(answer)
        assert answer.headers["cache-control"] == "no-store"
    assert (await ask(shared, "TRACE", "/v1/me")).status == 405
    for node in shared.brokers:
        for path in ("/healthz", "/readyz", "/v1/connect", "/<script>"):
            answer = await request("GET", node.base_url + path)
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert answer.headers["cache-control"] == "no-store"
            assert b"<" not in answer.body


async def test_no_header_holds_what_ends_a_line(shared: Deployment, name: Name) -> None:
    """CRLF in ids, queries and headers: refused or encoded, never on a line of its own."""
    paths = (
        f"/v1/rooms/{name('x')}{CRLF}", f"/v1/users/{name('x')}{CRLF}/export",
        f"/v1/rooms?external_id={name('x')}{CRLF}", f"/page/{CRLF}", f"/{CRLF}",
    )  # fmt: skip
    for path in paths:
        answer = await shared.send("GET", path)
        assert "set-cookie" not in answer.headers
    for id_ in ("a\r\nSet-Cookie: owned=1", "a\nb", "a\r", "a\x00b", "a\u2028b"):
        for path in ("/v1/users", "/v1/rooms"):
            answer = await shared.send("POST", path, {"id": id_})
            assert (answer.status, answer.json()["field"]) == (400, "id")
    user = name("o|k@x")
    made = await shared.send("POST", "/v1/users", {"id": user})
    assert made.headers["location"] == f"/v1/users/{user.replace('|', '%7C').replace('@', '%40')}"
    assert shared.api is not None
    for value in (b"a\x01b", b"x" * 200, b"<script>", "ü".encode()):
        head = b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX-Request-Id: %s\r\n\r\n"
        answer_bytes = await raw(shared.api.port, head % value)
        assert value not in answer_bytes
    sane = await ask(shared, "GET", "/healthz", headers={"X-Request-Id": "trace-1.2:3"})
    assert sane.headers["x-request-id"] == "trace-1.2:3"


@pytest.mark.parametrize("folder", ["/page/", "/docs/", "/", "/v1/"])
async def test_no_path_leads_out_of_the_pages(shared: Deployment, folder: str) -> None:
    assert shared.api is not None
    for path in UPWARDS:
        for port in (shared.api.port, shared.brokers[0].port):
            head = f"GET {folder}{path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
            answer = await raw(port, head.encode())
            assert answer.split()[1] in (b"400", b"401", b"404", b"426"), (path, answer)
            assert b"root:" not in answer
            assert b"import" not in answer


async def test_nobody_is_sent_elsewhere(shared: Deployment) -> None:
    """There are no redirects: no address in a request can become one."""
    for path in (
        *("//example.org/", "/v1/rooms/", "/docs/", "/page", "/%5cexample.org", "/v1//rooms"),
        *("/docs?next=https://example.org", "/?url=//example.org"),
    ):
        answer = await ask(shared, "GET", path)
        assert answer.status not in range(300, 400), path
        assert "location" not in answer.headers


async def test_a_foreign_page_can_not_connect_even_with_a_token(
    shared: Deployment, name: Name
) -> None:
    """Cross-site WebSocket hijacking: the Origin is judged whatever else the request has."""
    token = make_token(name("user"))
    port = shared.brokers[0].port
    for origin, status in (
        ("https://evil.example", b"403"),
        ("null", b"403"),
        (f"http://127.0.0.1.evil.example:{port}", b"403"),
        ("http://127.0.0.1@evil.example", b"403"),
        (f"http://127.0.0.1:{port}", b"101"),
    ):
        head = (
            f"GET /v1/connect?token={token} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n"
            f"Upgrade: websocket\r\nConnection: Upgrade\r\nOrigin: {origin}\r\n"
            "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        )
        with trio.fail_after(20):
            async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
                await stream.send_all(head.encode())
                first = await stream.receive_some()
        assert first.split()[1] == status, origin
        assert token.encode() not in first


async def test_a_form_of_another_page_changes_nothing(shared: Deployment) -> None:
    """CSRF: what a page can send unasked has no credential, and no body that is taken."""
    for media in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data"):
        answer = await ask(
            shared, "POST", "/v1/rooms", body=b"{}", key=shared.key, headers={"Content-Type": media}
        )
        assert answer.status == 415
    cookie = {"Cookie": f"token={make_token('x')}; api_key={shared.key}"}
    assert (await ask(shared, "GET", "/v1/project", headers=cookie)).status == 401
    query = f"/v1/me?token={make_token('x')}&api_key={shared.key}"
    assert (await ask(shared, "GET", query)).status == 401
