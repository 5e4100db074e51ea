"""Erasing a user on real processes: after a while the text is in no table and in no key."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.support.deployment import Deployment
from tests.support.servers import fetch
from tests.support.waiting import wait_until

Name = Callable[[str], str]
UNFINISHED = "SELECT 1 FROM users WHERE id = $1 AND removal IS NOT NULL"


def holds(deployment: Deployment, text: bytes) -> bool:
    """Whether a text is in a stream of Redis, inboxes included."""
    keys = deployment.redis.command("KEYS", "*")
    streams = [key for key in keys if deployment.redis.command("TYPE", key) == b"stream"]
    return any(text in repr(deployment.redis.command("XRANGE", key, "-", "+")).encode()
               for key in streams)  # fmt: skip


@pytest.mark.slow
async def test_an_erased_user_is_forgotten_everywhere(shared: Deployment, name: Name) -> None:
    room, ann, ben = name("room"), name("ann"), name("ben")
    secret = name("secret")
    await shared.create_room(room, ann, ben)
    async with shared.connect(ben, 1) as witness, shared.connect(ann, 0) as writer:
        await witness.subscribe(room)
        await writer.publish(room, secret)
        await witness.wait_messages(room, 1)
        assert holds(shared, secret.encode())
        await shared.ok("DELETE", f"/v1/users/{ann}?messages=erase")
        await witness.wait_event(room, "message.deleted", deadline=40)
        await wait_until(
            lambda: not fetch(shared.database_url, UNFINISHED, ann), deadline=40, what="erased"
        )
        await wait_until(
            lambda: not holds(shared, secret.encode()), deadline=40, what="Redis has forgotten"
        )
        await witness.publish(room, "the room goes on")
    rows = fetch(shared.database_url, "SELECT t::text AS row FROM messages t")
    assert not [row for row in rows if secret in row["row"]]
    page = await shared.page(room, "?deleted=true")
    assert page["items"][0]["content"] is None
    assert page["items"][0]["sender"] == ann
