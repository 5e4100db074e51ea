"""Banned, revoked and deleted users over two nodes; and an API that dies before it has told."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import trio

from storage.postgres.pool import open_database
from storage.postgres.user_changes import revoke_tokens, update_user
from tests.support.client import ChatClient, ChatError, ConnectionEnded
from tests.support.deployment import Deployment, room_path
from tests.support.servers import fetch

Name = Callable[[str], str]
SECOND = 1.0
"""Within this a change of a user is to be seen on every node."""


async def check_closed(clients: list[ChatClient], deadline: float = SECOND) -> None:
    with trio.fail_after(deadline):
        for client in clients:
            assert await client.wait_ended() == 4403


async def test_a_banned_user_is_disconnected_everywhere(shared: Deployment, name: Name) -> None:
    bob = name("bob")
    await shared.ok("POST", "/v1/users", {"id": bob})
    async with shared.connect(bob, 0) as here, shared.connect(bob, 1) as there:
        await shared.ok("PATCH", f"/v1/users/{bob}", {"display_name": "Bob"})
        for client in (here, there):
            await client.call("ping")
        await shared.ok("PATCH", f"/v1/users/{bob}", {"status": "banned"})
        await check_closed([here, there])
    async with shared.connect(bob, 0, hello=False) as again:
        assert await again.wait_ended() == 4403
    await shared.ok("PATCH", f"/v1/users/{bob}", {"status": "active"})
    async with shared.connect(bob, 0) as back:
        await back.call("ping")


async def test_a_ban_that_nobody_told_is_told_by_the_archiver(
    shared: Deployment, name: Name
) -> None:
    """A7: the API committed the ban and died before it told the nodes."""
    bob = name("bob")
    await shared.ok("POST", "/v1/users", {"id": bob})
    async with shared.connect(bob, 0) as here, shared.connect(bob, 1) as there:
        async with open_database(shared.database_url, pool_size=1) as db:
            assert await update_user(db, "default", bob, {"status": "banned"}, by=None)
        await check_closed([here, there], 5 * SECOND)
    query = "SELECT 1 FROM user_announcements WHERE user_id = $1"
    assert fetch(shared.database_url, query, bob) == []


async def test_a_revocation_that_nobody_told_is_told_by_the_archiver(
    shared: Deployment, name: Name
) -> None:
    """Ruling 10: the API voided the tokens and died before it told the nodes."""
    bob = name("bob")
    await shared.ok("POST", "/v1/users", {"id": bob})
    async with shared.connect(bob, 0) as here, shared.connect(bob, 1) as there:
        async with open_database(shared.database_url, pool_size=1) as db:
            assert await revoke_tokens(db, "default", bob, datetime.now(UTC))
        await check_closed([here, there], 5 * SECOND)
    fresh = await shared.ok("POST", f"/v1/users/{bob}/token", {})
    async with ChatClient.connect(shared.brokers[0].url, fresh["token"]) as back:
        await back.call("ping")


async def test_a_deleted_user_is_gone_everywhere(shared: Deployment, name: Name) -> None:
    room, alice, bob = name("room"), name("alice"), name("bob")
    await shared.create_room(room, alice, created_by=bob)
    async with (
        shared.connect(alice, 0) as witness,
        shared.connect(bob, 0) as here,
        shared.connect(bob, 1) as there,
    ):
        for client in (witness, here, there):
            await client.subscribe(room)
        await here.publish(room, "kept")
        await shared.ok("DELETE", f"/v1/users/{bob}")
        await check_closed([here, there])
        removed = await witness.wait_event(room, "member.removed")
        assert removed.data == {"user": bob, "by": None, "reason": "deleted"}
        updated = await witness.wait_event(room, "member.updated")
        assert (updated.data["user"], updated.data["role"]) == (alice, "owner")
        history = await shared.whole_history(room)
        assert [(m["content"], m["sender"]) for m in history] == [("kept", bob)]


async def test_publishing_while_the_user_is_deleted_is_stored_or_refused(
    shared: Deployment, name: Name
) -> None:
    """Nothing lands behind the removal, and PostgreSQL has what was answered, no more."""
    for turn in range(8):
        room, alice, bob = name(f"room{turn}"), name("alice"), name(f"bob{turn}")
        await shared.create_room(room, alice, bob)
        accepted: list[dict[str, Any]] = []
        async with shared.connect(alice, 1) as witness:
            await witness.subscribe(room)

            async def publish(
                node: int, room: str = room, bob: str = bob, kept: list[Any] = accepted
            ) -> None:
                async with shared.connect(bob, node) as client:
                    try:
                        while True:
                            kept.append(await client.publish(room, "x"))
                    except ChatError as error:
                        assert error.code == "room_not_found", error
                    except ConnectionEnded as ended:
                        assert ended.code == 4403, ended

            async with trio.open_nursery() as nursery:
                for node in (0, 1):
                    nursery.start_soon(publish, node)
                await witness.wait_messages(room, 4)
                await shared.ok("DELETE", f"/v1/users/{bob}")
            removed = await witness.wait_event(room, "member.removed")
        await shared.wait_archived()
        rows = shared.stored(room)
        ids = {row["id"] for row in rows}
        assert {answer["message_id"] for answer in accepted} <= ids
        # A publish whose answer was cut off by the close may have been stored: at most one a node.
        assert len(ids) <= len(accepted) + 2
        assert removed.offset is not None
        assert all(row["event_offset"] < removed.offset for row in rows)


async def test_a_user_who_shares_nothing_hears_nothing(shared: Deployment, name: Name) -> None:
    room, alice, bob = name("room"), name("alice"), name("bob")
    await shared.create_room(room, bob, created_by=alice)
    async with shared.connect(alice, 0) as witness:
        await witness.subscribe(room)
        await shared.ok("PATCH", f"/v1/users/{bob}", {"display_name": "New"})
        await shared.ok("PATCH", room_path(room), {"topic": "t"})
        await witness.wait_event(room, "room.updated")
        assert [event.event for event in witness.rooms[room].events if event.offset] == [
            "room.updated"
        ]
