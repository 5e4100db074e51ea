"""The generator's WebSocket: what it sends is legal, what it divides is complete."""

import pytest
import wsproto
from hypothesis import given
from hypothesis import strategies as st
from wsproto import events

from bench import wire


@given(st.binary(max_size=400), st.binary(min_size=4, max_size=4))
def test_masking_twice_gives_the_payload(payload: bytes, mask: bytes):
    assert wire.apply_mask(wire.apply_mask(payload, mask), mask) == payload


@pytest.mark.parametrize("length", [0, 125, 126, 127, 65535])
def test_a_client_frame_is_what_another_implementation_understands(length: int):
    server = wsproto.WSConnection(wsproto.ConnectionType.SERVER)
    server.receive_data(wire.handshake_request("localhost", 1, "/v1/connect?token=t"))
    request = next(server.events())
    assert isinstance(request, events.Request)
    assert request.target == "/v1/connect?token=t"
    server.send(events.AcceptConnection())
    text = "x" * length
    server.receive_data(wire.client_frame(text.encode(), b"\x01\x80\xfe\x33"))
    messages = [one for one in server.events() if isinstance(one, events.TextMessage)]
    assert "".join(one.data for one in messages) == text


def test_a_client_frame_has_a_limit():
    with pytest.raises(ValueError, match="65536"):
        wire.client_frame(bytes(65536), bytes(4))


@given(st.lists(st.integers(0, 300) | st.sampled_from([65535, 65536])), st.data())
def test_frames_cut_anywhere_come_out_whole(lengths: list[int], data: st.DataObject):
    payloads = [bytes([index % 256]) * length for index, length in enumerate(lengths)]
    stream = b"".join(map(wire.server_frame, payloads))
    cut = data.draw(st.integers(0, len(stream)))
    got: list[bytes] = []
    rest = b""
    for chunk in (stream[:cut], stream[cut:]):
        rest += chunk
        places, rest_at = wire.walk_frames(rest)
        got += [rest[start:end] for _, start, end in places]
        rest = rest[rest_at:]
    assert got == payloads
    assert rest == b""


@pytest.mark.parametrize(
    "frame",
    [
        pytest.param(b"\x01\x01x", id="first of several fragments"),
        pytest.param(b"\x80\x01x", id="continuation"),
        pytest.param(b"\xc1\x01x", id="compressed"),
        pytest.param(b"\x81\x81\x00\x00\x00\x00x", id="masked"),
    ],
)
def test_what_the_generator_does_not_understand_is_an_error(frame: bytes):
    with pytest.raises(wire.WireError):
        wire.walk_frames(frame)
