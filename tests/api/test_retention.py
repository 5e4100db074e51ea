"""Retention: what is too old goes for good, everything else stays, by one archiver at a time."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from config.metrics import Metrics
from storage.postgres.retention import lock_retention
from tests.support.servers import fetch
from workers.archiver import retention
from workers.archiver.retention import Retention


def retention_of(api) -> Retention:
    return Retention(api.services.db, api.services.store.rooms, Metrics())


async def age(api, room: str, up_to_seq: int, days: float) -> None:
    """Make the room's first messages older."""
    await api.services.db.execute(
        "UPDATE messages SET created_at = created_at - make_interval(secs => $3) "
        "WHERE seq <= $2 AND room_pk = (SELECT pk FROM rooms WHERE id = $1)",
        room,
        up_to_seq,
        days * 86_400,
    )


async def fill(api, room: str, count: int = 6, **fields: Any) -> Any:
    body = {"id": room, "created_by": "ann", "members": ["ben"], **fields}
    await api.ok("POST", "/v1/rooms", body)
    ann = api.as_user("ann")
    for number in range(1, count + 1):
        await ann.post(room, f"secret {number}")
    await api.archive(room)
    return ann


async def test_what_is_too_old_goes_and_the_room_goes_on(api):
    ann = await fill(api, "r", retention_days=7)
    await ann.post("r", "an answer", reply_to=2)
    await ann.ok("PUT", "/v1/rooms/r/messages/2/reactions/yes")
    await ann.ok("PUT", "/v1/rooms/r/messages/5/reactions/yes")
    await api.archive("r")
    await age(api, "r", 4, 7.01)
    await age(api, "r", 5, 6.9)
    assert await retention_of(api).remove_all() == 4
    assert await retention_of(api).remove_all() == 0
    page = await ann.history("r")
    assert [m["seq"] for m in page["items"]] == [5, 6, 7]
    assert (page["has_more_before"], page["previous"]) == (False, None)
    assert page["items"][2]["reply_to"] == 2, "what it answered is gone"
    for path in ("/v1/rooms/r/messages/2", "/v1/rooms/r/messages/2/replies"):
        assert await api.refused("GET", path) == (404, "message_not_found")
    found = await ann.ok("GET", "/v1/rooms/r/search?q=secret")
    assert found["items"] == page["items"][1::-1]
    numbered = await ann.history("r", "?page=1&limit=2")
    assert (numbered["total"], numbered["totalPages"]) == (3, 2)
    url = api.services.settings.database_url
    assert [row["seq"] for row in fetch(url, "SELECT seq FROM reactions")] == [5]
    posted = await ann.post("r", "next")
    assert posted["seq"] == 8, "a seq stays taken"
    ben = api.as_user("ben")
    assert (await ben.history("r", "?after=0"))["items"][0]["seq"] == 5


async def test_the_log_forgets_it_too(api):
    await fill(api, "r", retention_days=1)
    await age(api, "r", 4, 2)
    rooms = api.services.store.rooms
    assert len(await rooms.log_range("default/r", 1, 100)) == 6
    await retention_of(api).remove_all()
    left = await rooms.log_range("default/r", 1, 100)
    assert [entry.seq for entry in left] == [5, 6]


async def test_an_edit_of_an_old_message_is_forgotten_with_it(api):
    ann = await fill(api, "r", retention_days=1)
    await ann.ok("PATCH", "/v1/rooms/r/messages/1", {"content": "another secret"})
    await api.archive("r")
    await age(api, "r", 1, 2)
    await retention_of(api).remove_all()
    left = await api.services.store.rooms.log_range("default/r", 1, 100)
    assert not [entry for entry in left if b"another secret" in entry.data]


async def test_what_is_not_archived_is_not_touched(api):
    ann = await fill(api, "r", retention_days=1)
    await age(api, "r", 6, 2)
    await ann.post("r", "new")
    assert await retention_of(api).remove_all() == 6
    assert [m["content"] for m in (await ann.history("r"))["items"]] == ["new"]
    await api.archive("r")
    assert [m["content"] for m in (await ann.history("r"))["items"]] == ["new"]


async def test_only_rooms_that_say_so_and_as_long_as_they_do(api):
    await fill(api, "kept")
    await fill(api, "short", retention_days=1)
    await fill(api, "long", retention_days=30)
    for room in ("kept", "short", "long"):
        await age(api, room, 6, 10)
    assert await retention_of(api).remove_all() == 6
    await api.ok("PATCH", "/v1/rooms/long", {"retention_days": 9})
    assert await retention_of(api).remove_all() == 6
    assert len((await api.history("kept"))["items"]) == 6


async def test_batches_are_bounded_and_a_broken_one_is_done_again(api, monkeypatch):
    monkeypatch.setattr(retention, "MESSAGES_AT_ONCE", 2)
    monkeypatch.setattr(retention, "ROOMS_AT_ONCE", 1)
    for room in ("a", "b"):
        await fill(api, room, 5, retention_days=1)
        await age(api, room, 5, 2)
    for turn in range(5):
        with trio.move_on_after(turn / 500):
            await retention_of(api).remove_all()
    await retention_of(api).remove_all()
    assert not fetch(api.services.settings.database_url, "SELECT 1 FROM messages")


async def test_one_at_a_time(api):
    await fill(api, "r", retention_days=1)
    await age(api, "r", 6, 2)
    async with api.services.db.open_transaction() as transaction:
        assert await transaction.run(lock_retention)
        assert await retention_of(api).remove_all() == 0
    assert await retention_of(api).remove_all() == 6


async def test_unread_counts_what_is_there(api):
    await fill(api, "r", retention_days=1)
    await age(api, "r", 4, 2)
    await retention_of(api).remove_all()
    listed = await api.as_user("ben").ok("GET", "/v1/me/rooms")
    assert [(room["id"], room["unread"]) for room in listed["items"]] == [("r", 2)]
    assert listed["items"][0]["last_message"]["seq"] == 6


@pytest.mark.parametrize("days", [0, -1, 1.5, "7"])
async def test_days_are_whole_and_at_least_one(api, days):
    answer = await api.send("POST", "/v1/rooms", {"retention_days": days})
    assert (answer.status, answer.json()["field"]) == (400, "retention_days")
