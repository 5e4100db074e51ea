"""Ids: alphabets, lengths and the names that are refused."""

from __future__ import annotations

import pytest

from broker.protocol.ids import is_message_id, is_project_id, is_room_id, is_user_id


@pytest.mark.parametrize("text", ["a", "general", "A.b_c:d-9", "x" * 128, "...", "user", "users:a"])
def test_these_name_a_room_a_user_and_a_project(text):
    assert is_room_id(text)
    assert is_user_id(text)
    assert is_project_id(text)


@pytest.mark.parametrize(
    "text",
    ["", ".", "..", "x" * 129, "a/b", "a b", "a\n", "\na", "é", "a\x00", "a\ud800", "a%2f", "a#"],
)
def test_these_name_nothing(text):
    assert not is_room_id(text)
    assert not is_user_id(text)
    assert not is_project_id(text)


@pytest.mark.parametrize("text", ["auth0|17", "ann@example.org"])
def test_users_may_hold_at_and_pipe(text):
    assert is_user_id(text)
    assert not is_room_id(text)
    assert not is_project_id(text)


def test_a_room_never_begins_like_a_users_own_channel():
    assert not is_room_id("user:alice")
    assert is_user_id("user:alice")


def test_a_message_id_is_a_lower_case_uuid_of_version_7():
    assert is_message_id("0192f0c1-8e3a-7b2c-9d4e-0123456789ab")
    assert not is_message_id("0192F0C1-8E3A-7B2C-9D4E-0123456789AB")
    assert not is_message_id("0192f0c1-8e3a-4b2c-9d4e-0123456789ab")
    assert not is_message_id("0192f0c18e3a7b2c9d4e0123456789ab")
    assert not is_message_id("17")
