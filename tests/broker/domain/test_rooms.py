"""Parsing new rooms, and laying live counters over an archived room object."""

from __future__ import annotations

import json
from dataclasses import dataclass

import pytest

from broker.domain.access import Actor
from broker.domain.rooms import FounderBody, RoomBody, overlay_room, parse_new_room
from broker.protocol.errors import ProtocolError
from storage.redis.entries import Entry

PROJECT = Actor("p", None, "project")
ALICE = Actor("p", "alice", "user")
FOR_ALICE = Actor("p", "alice", "key_user")


@pytest.mark.parametrize(
    ("actor", "body", "founders"),
    [
        (PROJECT, RoomBody(), {}),
        (PROJECT, RoomBody(created_by="al"), {"al": "owner"}),
        (PROJECT, RoomBody(members=["b", "b", FounderBody(user="c", role="admin")]),
         {"b": "member", "c": "admin"}),
        (PROJECT, RoomBody(members=["b"], default_role="reader"), {"b": "reader"}),
        (PROJECT, RoomBody(kind="direct", members=["b", "a"], created_by="z"),
         {"a": "member", "b": "member"}),
        (ALICE, RoomBody(members=["alice", "b"]), {"alice": "owner", "b": "member"}),
        (ALICE, RoomBody(kind="direct", members=["b"]), {"alice": "member", "b": "member"}),
        (ALICE, RoomBody(kind="direct", members=["b", "alice"]),
         {"alice": "member", "b": "member"}),
        (FOR_ALICE, RoomBody(), {"alice": "owner"}),
    ],
)  # fmt: skip
def test_founders(actor, body, founders):
    new = parse_new_room(body, actor)
    assert dict(new.founders) == founders
    if body.kind == "direct":
        assert new.direct == tuple(sorted(founders))


@pytest.mark.parametrize("members", [[], ["a"], ["a", "a"], ["a", "b", "c"]])
def test_a_direct_room_has_two_different_members(members):
    with pytest.raises(ProtocolError) as caught:
        parse_new_room(RoomBody(kind="direct", members=members), PROJECT)
    assert (caught.value.code, caught.value.field) == ("bad_request", "members")


def test_the_pair_is_ordered_by_bytes():
    new = parse_new_room(RoomBody(kind="direct", members=["a", "Z"]), PROJECT)
    assert new.direct == ("Z", "a")


@dataclass
class Tail:
    seq: int
    entries: list[Entry]
    offset: int = 0


def created(seq: int, ms: int) -> Entry:
    return Entry("e", seq, seq, ms, "message.created", "p/r", None, 0, b"{}")


def test_live_counters_win_and_never_go_back():
    archived = json.dumps({"seq": 5, "last_message_at": "1970-01-01T00:00:01.000Z"}).encode()
    assert overlay_room(archived, Tail(5, [])) == archived
    assert overlay_room(archived, Tail(3, [])) == archived
    late = overlay_room(archived, Tail(7, [created(6, 500), created(7, 2000)]))
    assert json.loads(late) == {"seq": 7, "last_message_at": "1970-01-01T00:00:02.000Z"}
    raised = overlay_room(archived, Tail(9, []))
    assert json.loads(raised) == {"seq": 9, "last_message_at": "1970-01-01T00:00:01.000Z"}
    first = json.dumps({"seq": 0, "last_message_at": None}).encode()
    assert json.loads(overlay_room(first, Tail(1, [created(1, 0)]))) == {
        "seq": 1,
        "last_message_at": "1970-01-01T00:00:00.000Z",
    }
