"""Events: stamping stored data, framing, times."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.protocol.events import TimeTexts, event_body, event_frame, iso_time, message_json

MS = 1767323045678
AT = "2026-01-02T03:04:05.678Z"
STORED: dict[str, object] = {
    "id": "0192f0c1-8e3a-7b2c-9d4e-0123456789ab", "room": "r", "sender": "ann", "kind": "text",
    "content": "hé", "metadata": None, "attachments": [], "mentions": [], "reply_to": None,
    "forwarded_from": None, "client_id": None,
}  # fmt: skip
FIELDS_OF_THE_CONTRACT = {
    "id", "room", "seq", "sender", "kind", "content", "metadata", "attachments", "mentions",
    "reply_to", "reply_count", "forwarded_from", "client_id", "created_at", "edited_at",
    "deleted_at", "deleted_by", "reactions",
}  # fmt: skip


def packed(value) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def test_times_have_one_form():
    assert iso_time(MS) == AT
    assert iso_time(0) == "1970-01-01T00:00:00.000Z"
    assert iso_time(MS - 678) == "2026-01-02T03:04:05.000Z"


@given(st.lists(st.integers(0, 4102444800_000), min_size=1))
def test_remembered_times_are_the_same(many):
    times = TimeTexts()
    for ms in many:
        assert times.iso_time(ms) == iso_time(ms)
        assert datetime.fromisoformat(iso_time(ms)).astimezone(UTC).timestamp() == ms / 1000


def test_a_message_has_every_field_of_the_contract():
    message = json.loads(message_json(7, MS, packed(STORED)))
    assert set(message) == FIELDS_OF_THE_CONTRACT
    assert message == STORED | {
        "seq": 7, "created_at": AT, "reply_count": 0, "edited_at": None, "deleted_at": None,
        "deleted_by": None, "reactions": {},
    }  # fmt: skip


def test_a_created_message_as_frame_and_in_a_resume():
    message = json.loads(message_json(7, MS, packed(STORED)))
    body = {"event": "message.created", "offset": 9, "time": AT, "data": message}
    frame = event_frame("message.created", "r", 9, 7, MS, packed(STORED))
    assert json.loads(frame) == body | {"type": "event", "room": "r"}
    assert frame == event_frame("message.created", "r", 9, 7, MS, packed(STORED), TimeTexts())
    assert json.loads(event_body("message.created", 9, 7, MS, packed(STORED))) == body


@pytest.mark.parametrize(
    ("event", "stamp"), [("message.edited", "edited_at"), ("message.deleted", "deleted_at")]
)
def test_edits_and_deletions_are_stamped(event, stamp):
    data = {"id": "m", "seq": 3, "sender": "ann", "by": None}
    frame = json.loads(event_frame(event, "r", 9, 7, MS, packed(data)))
    assert frame["data"] == data | {stamp: AT}


def test_other_events_pass_as_they_are_and_ephemeral_ones_have_no_offset():
    data = {"user": "ann"}
    assert json.loads(event_frame("typing.stopped", "r", 0, 7, MS, packed(data))) == {
        "type": "event", "event": "typing.stopped", "room": "r", "time": AT, "data": data
    }  # fmt: skip
    assert json.loads(event_frame("member.removed", "r", 4, 7, MS, packed(data)))["data"] == data
