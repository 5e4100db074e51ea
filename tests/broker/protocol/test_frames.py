"""Server frames: their JSON and their WebSocket headers."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wsproto.frame_protocol import FrameDecoder, Opcode

from broker.protocol import frames
from broker.protocol.errors import ProtocolError


def decode_frame(data: bytes) -> tuple[int, bytes]:
    """Opcode and payload as a client sees them; the data is exactly one whole frame."""
    decoder = FrameDecoder(client=True)
    decoder.receive_bytes(data)
    payload = b""
    while True:
        part = decoder.process_buffer()
        assert part is not None
        assert isinstance(part.payload, bytes)
        payload += part.payload
        if part.frame_finished:
            assert part.message_finished
            assert len(decoder.buffer) == 0
            return data[0] & 0x0F, payload


@pytest.mark.parametrize("length", [0, 1, 125, 126, 127, 65535, 65536, 70000])
def test_text_frames_of_every_header_size(length):
    payload = b"x" * length
    assert decode_frame(frames.encode_text_frame(payload)) == (Opcode.TEXT, payload)


@pytest.mark.parametrize("length", [0, 80, 125, 126, 127, 65500, 65535, 65536, 70000])
@pytest.mark.parametrize("frame_id", [7, 'a \u00e4 " id', None])
def test_a_reply_is_framed_as_its_text_would_be(frame_id, length):
    for size in range(max(0, length - 45), length + 1):
        result = b"x" * size
        whole = frames.encode_text_frame(frames.reply(frame_id, result))
        assert frames.encode_reply_frame(frame_id, result) == whole


@given(st.sampled_from([1000, 1012, 4401, 4999]), st.text(max_size=300))
def test_close_frames_never_exceed_a_control_frame(code, reason):
    opcode, payload = decode_frame(frames.encode_close_frame(code, reason))
    assert opcode == Opcode.CLOSE
    assert len(payload) <= 125
    assert int.from_bytes(payload[:2], "big") == code
    assert reason.startswith(payload[2:].decode())


def test_ping_frames():
    assert decode_frame(frames.encode_ping_frame(b"abc")) == (Opcode.PING, b"abc")


@pytest.mark.parametrize("frame_id", [None, 0, -7, 2**62, "", "a", 'q"\\\n', "é😀"])
def test_replies_echo_the_id(frame_id):
    assert json.loads(frames.reply(frame_id, b'{"a":1}')) == {
        "type": "reply", "id": frame_id, "result": {"a": 1}
    }  # fmt: skip
    for duplicate in (True, False):
        text = frames.publish_reply(frame_id, "m", 5, 6, 1767323045678, duplicate)
        assert json.loads(text) == {
            "type": "reply",
            "id": frame_id,
            "result": {
                "message_id": "m", "seq": 5, "offset": 6,
                "created_at": "2026-01-02T03:04:05.678Z", "duplicate": duplicate,
            },
        }  # fmt: skip


def test_an_error_has_every_field():
    refusal = ProtocolError("rate_limited", "Wait.", retry_after=2.0)
    refusal.frame_id = "x"
    assert json.loads(frames.error_of(refusal)) == {
        "type": "error", "id": "x", "code": "rate_limited", "message": "Wait.",
        "retry_after": 2, "field": None,
    }  # fmt: skip


def test_the_frames_that_nobody_asked_for():
    assert json.loads(frames.unsubscribed("r", "resync", "Again.")) == {
        "type": "unsubscribed", "room": "r", "code": "resync", "message": "Again."
    }  # fmt: skip
    assert frames.drain(8.0) == b'{"type":"drain","reconnect_within":8}'
    hello = frames.hello(
        connection="c", node="n", user="u", expires_at=1767323045000, ping_interval=25.0,
        max_frame_bytes=65536, server_time=0,
    )  # fmt: skip
    assert json.loads(hello) == {
        "type": "hello", "connection": "c", "node": "n", "user": "u",
        "expires_at": "2026-01-02T03:04:05.000Z", "ping_interval": 25,
        "max_frame_bytes": 65536, "server_time": "1970-01-01T00:00:00.000Z",
    }  # fmt: skip
    assert frames.json_array([b"1", b"{}"]) == b"[1,{}]"
