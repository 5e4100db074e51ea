"""Changes of members: one transaction with version and announcement, decided under the lock."""

from __future__ import annotations

import json
from typing import Any

import pytest
import trio

from storage.postgres.announcements import list_announcements
from storage.postgres.members import (
    MemberChange,
    RoomFacts,
    add_members,
    fetch_members,
    list_members,
    remove_member,
    update_member,
)
from storage.postgres.pool import Database
from storage.postgres.rooms import NewRoom, create_room
from tests.support.waiting import wait_until


def anybody(_facts: RoomFacts) -> None:
    """Permits."""


class Refused(Exception):
    """Raised by a permit of the tests."""


@pytest.fixture
async def pk(database: Database) -> int:
    founders = (("olga", "owner"), ("mary", "member"))
    room = await create_room(
        database, "p", NewRoom(id="r", kind="group", founders=founders), create_users=True
    )
    return room.pk


async def add(database: Database, pk: int, *users: str, **more: Any) -> Any:
    given = {
        "role": "member",
        "by": None,
        "live_seq": 0,
        "create_users": True,
        "permit": anybody,
    } | more
    return await add_members(database, "p", pk, users, **given)


async def announced(database: Database) -> list[tuple[int, str, str | None, dict[str, Any]]]:
    found = await list_announcements(database, "p", "r")
    return [(a.version, a.event, a.sender, json.loads(a.data)) for a in found]


async def version(database: Database) -> int:
    return int(await database.fetchval("SELECT version FROM rooms"))


async def test_each_change_has_its_version_and_announcement(database, pk):
    await add(database, pk, "zoe", "adam", by="olga", role="reader")
    await update_member(database, pk, "zoe", MemberChange(role="admin"), by="olga", permit=anybody)
    await remove_member(database, pk, "adam", by="zoe", reason="removed", permit=anybody)
    changes = await announced(database)
    assert [(number, event, sender, data["user"]) for number, event, sender, data in changes] == [
        (1, "member.added", "olga", "adam"),
        (2, "member.added", "olga", "zoe"),
        (3, "member.updated", "olga", "zoe"),
        (4, "member.removed", "zoe", "adam"),
    ]
    assert changes[2][3]["role"] == "admin"
    assert changes[3][3] == {"user": "adam", "by": "zoe", "reason": "removed"}
    assert await version(database) == 4


async def test_what_changes_nothing_is_not_announced(database, pk):
    assert (await add(database, pk, "mary")).users == []
    same = MemberChange(role="member")
    assert await update_member(database, pk, "mary", same, by=None, permit=anybody)
    assert not await update_member(database, pk, "nobody", same, by=None, permit=anybody)
    assert not await remove_member(database, pk, "eve", by=None, reason="left", permit=anybody)
    assert await announced(database) == []
    assert await version(database) == 0


async def test_what_is_refused_or_incomplete_leaves_no_trace(database, pk):
    def refuse(facts: RoomFacts) -> None:
        assert facts.role("olga") == "owner"
        assert facts.role("mary") == "member"
        assert facts.role(None) is None
        raise Refused

    with pytest.raises(Refused):
        await add(database, pk, "mary", "new", by="olga", permit=refuse)
    with pytest.raises(Refused):
        await remove_member(database, pk, "mary", by="olga", reason="x", permit=refuse)
    change = MemberChange(role="admin")
    with pytest.raises(Refused):
        await update_member(database, pk, "mary", change, by="olga", permit=refuse)
    assert (await add(database, pk, "one", "two", create_users=False)).missing == ["one", "two"]
    assert await database.fetchval("SELECT count(*) FROM users") == 2
    assert await announced(database) == []
    total, _ = await list_members(database, pk, skip=0, limit=9)
    assert total == 2


async def test_a_deleted_user_is_missing_and_is_not_made_again(database, pk):
    await database.execute("INSERT INTO users (project, id, deleted_at) VALUES ('p', 'x', now())")
    assert (await add(database, pk, "x")).missing == ["x"]


async def test_the_permit_sees_what_was_committed_while_it_waited_for_the_lock(database, pk):
    """A change that waited for another decides by the roles that the other left."""
    seen: list[str | None] = []

    def look(facts: RoomFacts) -> None:
        seen.append(facts.role("olga"))

    async with database.open_transaction() as first:
        await first.run(lambda c: c.execute("SELECT 1 FROM rooms FOR UPDATE"))
        async with trio.open_nursery() as nursery:

            async def change() -> None:
                await remove_member(database, pk, "mary", by="olga", reason="x", permit=look)

            nursery.start_soon(change)
            await wait_for_lock(database)
            await first.run(lambda c: c.execute("UPDATE members SET role = 'reader'"))
            await first.run(lambda c: c.execute("COMMIT"))
            await first.run(lambda c: c.execute("BEGIN"))
    assert seen == ["reader"]


async def wait_for_lock(database: Database) -> None:
    async def is_waiting() -> bool:
        sql = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
        return bool(await database.fetchval(sql))

    await wait_until(is_waiting)


async def test_new_members_have_read_all_that_is_archived_or_live(database, pk):
    await database.execute("UPDATE rooms SET seq = 7, base_seq = 9")
    await add(database, pk, "low", live_seq=5)
    await add(database, pk, "high", live_seq=12)
    rows = await database.fetch("SELECT user_id, read_seq FROM members")
    assert {row["user_id"]: row["read_seq"] for row in rows} == {
        "olga": 0,
        "mary": 0,
        "low": 9,
        "high": 12,
    }


async def test_members_are_objects_with_names(database, pk):
    await database.execute("UPDATE users SET display_name = 'Mary \"M\"' WHERE id = 'mary'")
    found = json.loads(await fetch_members(database, pk, ["mary", "nobody"]))
    assert [(m["user"], m["role"], m["display_name"]) for m in found] == [
        ("mary", "member", 'Mary "M"')
    ]
    total, items = await list_members(database, pk, skip=1, limit=5)
    assert (total, [m["user"] for m in json.loads(items)]) == (2, ["olga"])
    assert await list_members(database, pk, skip=9, limit=5) == (2, b"[]")
