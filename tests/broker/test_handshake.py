"""Request heads: parsing, who is welcome, and what the others are told."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.handshake import (
    BadRequest,
    Handshake,
    is_origin_allowed,
    judge,
    read_request,
)
from broker.health import HttpAnswer
from tests.broker.wires import head


def verdict(raw: bytes, origins: tuple[str, ...] = ()) -> Handshake | HttpAnswer:
    return judge(
        read_request(raw),
        remote_address="192.0.2.1",
        allowed_origins=origins,
        readiness=lambda: {"ready": False, "redis": "away"},
    )


def welcomed(raw: bytes, origins: tuple[str, ...] = ()) -> Handshake:
    answer = verdict(raw, origins)
    assert isinstance(answer, Handshake), answer
    return answer


def refused(raw: bytes, origins: tuple[str, ...] = ()) -> tuple[int, str]:
    answer = verdict(raw, origins)
    assert isinstance(answer, HttpAnswer), answer
    return answer.status, answer.data.decode()


def test_what_the_broker_learns_of_a_peer():
    handshake = welcomed(
        head(
            "/v1/connect?a=1&token=q%2Bt",
            Authorization="bearer  h.t",
            Origin="http://127.0.0.1:3000",
            Sec_WebSocket_Protocol="other, parley.v1",
        )
    )
    assert handshake == Handshake(
        path="/v1/connect",
        remote_address="192.0.2.1",
        origin="http://127.0.0.1:3000",
        subprotocol="parley.v1",
        query_token="q+t",
        bearer_token="h.t",
    )
    assert "h.t" not in repr(handshake)
    assert "q+t" not in repr(handshake)


def test_the_header_beats_the_query_and_both_are_forgotten():
    handshake = welcomed(head("/v1/connect?token=q", Authorization="Bearer h"))
    assert handshake.take_token() == "h"
    assert handshake.take_token() is None
    assert (handshake.query_token, handshake.bearer_token) == (None, None)
    assert welcomed(head("/v1/connect?token=q")).take_token() == "q"
    assert welcomed(head("/v1/connect?token=")).take_token() is None
    assert welcomed(head(Authorization="Basic eA==")).take_token() is None


def test_the_answer_is_that_of_the_rfc_and_holds_nothing_of_the_client():
    answer = verdict(
        head(
            "/v1/connect?token=secret",
            Authorization="Bearer secret",
            Cookie="a=b",
            Sec_WebSocket_Extensions="permessage-deflate",
            X_Odd="\xff",
        )
    )
    assert isinstance(answer, Handshake)
    assert answer.answer == (
        b"HTTP/1.1 101 Switching Protocols\r\n"
        b"Upgrade: websocket\r\n"
        b"Connection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"
        b"\r\n"
    )
    chosen = verdict(head(Sec_WebSocket_Protocol="chat, parley.v1"))
    assert isinstance(chosen, Handshake)
    assert chosen.answer.endswith(b"=\r\nSec-WebSocket-Protocol: parley.v1\r\n\r\n")


@pytest.mark.parametrize(
    "changes",
    [
        {"Connection": "keep-alive, Upgrade"},
        {"Upgrade": "WebSocket"},
        {"Host": "[::1]:8765"},
        {"Host": "chat.example.org:443"},
        {"Sec_WebSocket_Protocol": "parley.v1"},
        {"User_Agent": "caf\xe9"},
    ],
)
def test_these_are_welcome(changes):
    assert welcomed(head(**changes)).path == "/v1/connect"


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"target": "/"}, 404),
        ({"target": "/v1/connect/"}, 404),
        ({"target": "/healthz"}, 404),
        ({"method": "POST"}, 400),
        ({"Host": None}, 400),
        ({"Host": "a b"}, 400),
        ({"Host": "\xfc"}, 400),
        ({"Sec_WebSocket_Key": None}, 400),
        ({"Sec_WebSocket_Key": "short"}, 400),
        ({"Sec_WebSocket_Key": "\xe4" * 24}, 400),
        ({"Sec_WebSocket_Version": None}, 426),
        ({"Sec_WebSocket_Version": "8"}, 426),
        ({"Sec_WebSocket_Protocol": "parley.v2, chat"}, 400),
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Upgrade": None}, 426),
        ({"Upgrade": "h2c"}, 426),
        ({"Connection": "keep-alive"}, 426),
    ],
)
def test_these_are_not(changes, status):
    assert refused(head(**changes))[0] == status


def test_refusals_say_what_would_be_right():
    assert "parley.v1" in refused(head(Sec_WebSocket_Protocol="x"))[1]
    assert "Sec-WebSocket-Version: 13\r\n" in refused(head(Sec_WebSocket_Version="8"))[1]
    answer = refused(head("/nowhere", Upgrade=None))[1]
    assert "Upgrade: websocket\r\n" in answer
    assert "/v1/connect" in answer


@pytest.mark.parametrize(
    ("origin", "host", "allowed", "expected"),
    [
        ("http://chat.example.org", "chat.example.org", (), True),
        ("http://chat.example.org:3000", "chat.example.org:8765", (), True),
        ("http://localhost:3000", "127.0.0.1:8765", (), True),
        ("http://evil.example", "127.0.0.1:8765", (), False),
        ("http://evil.example", "chat.example.org", (), False),
        ("null", "chat.example.org", (), False),
        ("http://[", "chat.example.org", (), False),
        ("https://evil.example", "chat.example.org", ("*",), True),
        ("null", "chat.example.org", ("*",), True),
        ("https://A.example", "chat.example.org", ("https://a.example",), True),
        ("http://a.example", "chat.example.org", ("https://a.example",), False),
        ("https://a.example:1", "chat.example.org", ("https://a.example",), False),
        ("https://x.a.example", "b", ("https://*.a.example",), True),
        ("https://a.example", "b", ("https://*.a.example",), False),
        ("https://evila.example", "b", ("https://*.a.example",), False),
        ("http://chat.example.org", "chat.example.org", ("https://a.example",), False),
    ],
)
def test_origins(origin, host, allowed, expected):
    assert is_origin_allowed(origin, host, allowed) is expected


def test_health():
    assert refused(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n") == (
        200,
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 15\r\n"
        "Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n"
        'Connection: close\r\n\r\n{"status":"ok"}',
    )
    status, answer = refused(b"GET /readyz?x HTTP/1.0\r\n\r\n")
    assert status == 503
    assert answer.endswith('{"ready":false,"redis":"away"}')
    status, answer = refused(b"HEAD /readyz HTTP/1.1\r\nHost: a\r\n\r\n")
    assert status == 503
    assert answer.endswith("\r\n\r\n")
    assert refused(b"POST /healthz HTTP/1.1\r\nHost: a\r\n\r\n")[0] == 426


@pytest.mark.parametrize(
    "raw",
    [
        b"\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET / HTTP/2.0\r\n\r\n",
        b"GET  / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\nHost: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost : a\r\n\r\n",
        b"GET / HTTP/1.1\r\nA: b\r\n folded\r\n\r\n",
        b"GET / HTTP/1.1\r\nA: b\nC: d\r\n\r\n",
        b"GET / HTTP/1.1\r\nA: \x00\r\n\r\n",
        b"GET /\xc3\xa4 HTTP/1.1\r\n\r\n",
    ],
)
def test_malformed_heads(raw):
    with pytest.raises(BadRequest):
        read_request(raw)


@given(st.binary(max_size=200) | st.text(max_size=60).map(lambda t: head(X=t.replace("\r", ""))))
def test_any_head_is_read_or_refused(raw):
    try:
        request = read_request(raw)
    except BadRequest:
        return
    judge(request, remote_address="", allowed_origins=(), readiness=dict)
