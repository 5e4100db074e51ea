"""What a sender writes: attachments, mentions, metadata; the same for REST bodies."""

from __future__ import annotations

import json

import pytest

from broker.protocol.errors import NotAnObject, ProtocolError
from broker.protocol.message_draft import (
    Attachment,
    MessageDraft,
    is_attachment_url,
    parse_message_draft,
)


def refusal(**fields) -> tuple[str, str | None]:
    with pytest.raises(ProtocolError) as caught:
        parse_message_draft(json.dumps(fields))
    return caught.value.code, caught.value.field


@pytest.mark.parametrize(
    "url",
    ["https://example.org/a.png?x=1#y", "http://[::1]:8080/", "s3:bucket/key", "blob:abc",
     "mailto:ann@example.org", "geo:52.5,13.4", "HTTPS://EXAMPLE.ORG", "https://exämple.org/ü"],
)  # fmt: skip
def test_absolute_urls_are_taken(url):
    assert is_attachment_url(url)


@pytest.mark.parametrize(
    "url",
    ["", "/a.png", "a.png", "//example.org/a", "https:", "https://", "https:///a", "https:a",
     "javascript:alert(1)", "JavaScript:alert(1)", "data:text/html,x", "vbscript:x",
     "java\nscript:x", " javascript:x", "\x01javascript:x", "https://a b", "https://a\n", "1a:x"],
)  # fmt: skip
def test_other_urls_are_refused(url):
    assert not is_attachment_url(url)
    assert refusal(attachments=[{"url": url}]) == ("bad_request", "attachments")


def test_attachments_alone_make_a_message_and_other_keys_are_dropped():
    draft = parse_message_draft(
        json.dumps(
            {
                "content": "",
                "attachments": [{"url": "a:b", "mime": "x/y", "size": 5, "name": "n", "own": 1}],
                "room": "other",
            }
        )
    )
    assert draft == MessageDraft(
        attachments=[Attachment(url="a:b", mime="x/y", size=5, name="n")], content=None
    )


def test_limits_of_attachments():
    one = {"url": "https://example.org/a"}
    assert len(parse_message_draft(json.dumps({"attachments": [one] * 16})).attachments or ()) == 16
    assert refusal(attachments=[one] * 17) == ("too_large", "attachments")
    assert refusal(attachments=[one | {"metadata": {"a": "x" * 4096}}]) == (
        "too_large",
        "attachments",
    )
    assert refusal(attachments=[one | {"name": "x" * 257}]) == ("bad_request", "attachments")
    assert refusal(attachments=[one | {"size": -1}]) == ("bad_request", "attachments")
    assert refusal(attachments=[one | {"size": "1"}]) == ("bad_request", "attachments")
    assert refusal(attachments=[{"name": "n"}]) == ("bad_request", "attachments")
    assert refusal(attachments=["https://example.org/a"]) == ("bad_request", "attachments")
    assert refusal(attachments={}) == ("bad_request", "attachments")


def test_limits_of_text():
    assert parse_message_draft(json.dumps({"content": "x" * 32768})).kind == "text"
    assert parse_message_draft(json.dumps({"content": "é" * 16384})).content == "é" * 16384
    assert refusal(content="é" * 16384 + "x") == ("too_large", "content")
    at_limit = {"a": "x" * (8192 - len('{"a":""}'))}
    assert parse_message_draft(json.dumps({"content": "x", "metadata": at_limit})).metadata
    assert refusal(content="x", metadata=at_limit | {"b": 1}) == ("too_large", "metadata")


def test_mentions_are_user_ids():
    draft = parse_message_draft(json.dumps({"content": "x", "mentions": ["a", "b@c|d"]}))
    assert draft.mentions == ["a", "b@c|d"]
    assert refusal(content="x", mentions=["a b"]) == ("bad_request", "mentions")
    assert refusal(content="x", mentions=[1]) == ("bad_request", "mentions")
    assert refusal(content="x", mentions="a") == ("bad_request", "mentions")


def test_kinds():
    for kind in ("text", "system", "a.b-c_1", "x" * 32):
        assert parse_message_draft(json.dumps({"content": "x", "kind": kind})).kind == kind
    for kind in ("", "x" * 33, "a b", "Ä", "a\n"):
        assert refusal(content="x", kind=kind) == ("bad_request", "kind")


def test_nul_in_a_body():
    assert refusal(content="a\x00") == ("bad_request", "content")
    assert refusal(content="a", metadata={"a": "\x00"}) == ("bad_request", "metadata")
    assert parse_message_draft(json.dumps({"content": "\\u0000"})).content == "\\u0000"


def test_a_body_that_is_no_object():
    for body in (b"", b"[]", b"x", b"\xff"):
        with pytest.raises(NotAnObject):
            parse_message_draft(body)
