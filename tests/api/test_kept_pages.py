"""Pages that are kept for a moment: never one that is not right any more, never for who may not.

Changes go through the API; the pages are those of another process, which knows nothing of it.
"""

from __future__ import annotations

import json
from typing import Any, cast

import pytest

from api.main import build_services
from broker.domain.access import AccessReader, Actor
from broker.domain.history import Page, PageQuery, load_page_as
from broker.domain.kept_pages import KeptPages
from broker.protocol.errors import ProtocolError
from storage.postgres.user_changes import update_user
from storage.redis.keys import room_key


class Elsewhere:
    """Another process: its own pages and its own memory of who is what."""

    def __init__(self, api) -> None:
        self._services = api.services
        self._pages = KeptPages(600.0)
        self._access = AccessReader(api.services.db)
        self.asked = 0

    async def run(self, work: Any) -> Any:
        """PostgreSQL, and how often it was asked for a page."""
        self.asked += 1
        return await self._services.db.run(work)

    async def page(self, user: str | None) -> Page:
        actor = Actor("default", user, "user" if user else "project")
        return await load_page_as(
            cast("Any", self),
            self._services.store.rooms,
            self._access,
            self._pages,
            actor,
            "r",
            query=PageQuery(limit=50),
            with_users=True,
        )

    async def is_kept(self, user: str | None = "alice") -> bool:
        """Whether a page is given without asking for it; then it is the same as a fresh one."""
        before = self.asked
        page = await self.page(user)
        if self.asked != before:
            return False
        fresh = await load_page_as(
            self._services.db,
            self._services.store.rooms,
            self._access,
            KeptPages(600.0),
            Actor("default", user, "user" if user else "project"),
            "r",
            query=PageQuery(limit=50),
            with_users=True,
        )
        assert json.loads(page.items) == json.loads(fresh.items)
        assert page.users == fresh.users
        return True


@pytest.fixture
async def alice(api):
    members = ["bob", "carol"]
    await api.ok("POST", "/v1/rooms", {"id": "r", "created_by": "alice", "members": members})
    alice = api.as_user("alice")
    for number in range(3):
        await alice.post("r", f"message {number}")
    await api.archive("r")
    return alice


@pytest.fixture
async def elsewhere(api, alice):
    found = Elsewhere(api)
    assert not await found.is_kept()
    assert await found.is_kept()
    return found


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/v1/rooms/r/messages", {"content": "more"}),
        ("POST", "/v1/rooms/r/messages", {"content": "a reply", "reply_to": 1}),
        ("PATCH", "/v1/rooms/r/messages/1", {"content": "other words"}),
        ("DELETE", "/v1/rooms/r/messages/2", None),
        ("PUT", "/v1/rooms/r/messages/1/reactions/x", None),
        ("PATCH", "/v1/rooms/r", {"name": "another"}),
        ("PATCH", "/v1/rooms/r/members/bob", {"role": "admin"}),
        ("PUT", "/v1/rooms/r/bans/carol", None),
        ("PATCH", "/v1/me", {"display_name": "Alice of the Looking Glass"}),
        ("PATCH", "/v1/me", {"avatar_url": "https://a.example/a.png"}),
    ],
)
async def test_a_page_is_kept_until_something_moves(api, alice, elsewhere, method, path, body):
    await alice.ok(method, path, body)
    assert not await elsewhere.is_kept()
    assert await elsewhere.is_kept()
    # Archiving moves nothing that a page shows.
    await api.archive("r")
    assert await elsewhere.is_kept()


async def test_a_room_that_left_redis_comes_back_before_anything_happens_in_it(
    api, alice, elsewhere
):
    store = api.services.store
    keys = store.keys.room(room_key("default", "r"))
    await store.client.execute("DEL", keys.room, keys.log, keys.reads)
    assert not await elsewhere.is_kept()
    assert await elsewhere.is_kept()
    await alice.post("r", "warm again")
    assert not await elsewhere.is_kept()
    assert b"warm again" in (await elsewhere.page("alice")).items


async def test_what_redis_lost_is_in_the_page(api, alice, elsewhere):
    """A room that is away, comes, is archived and is lost with everything is not as it was."""
    store = api.services.store
    keys = store.keys.room(room_key("default", "r"))
    await store.client.execute("DEL", keys.room, keys.log, keys.reads)
    assert not await elsewhere.is_kept()
    assert await elsewhere.is_kept()
    await alice.post("r", "meanwhile")
    await api.archive("r")
    await store.client.execute("DEL", keys.room, keys.log, keys.reads, keys.life)
    assert b"meanwhile" in (await elsewhere.page("alice")).items
    await store.lives.verify(store.client, [keys.partition])
    assert not await elsewhere.is_kept()
    assert b"meanwhile" in (await elsewhere.page("alice")).items
    assert await elsewhere.is_kept()


async def test_a_name_shows_even_if_whoever_changed_it_died_behind_the_commit(
    api, alice, elsewhere
):
    services = api.services
    await update_user(services.db, "default", "alice", {"display_name": "New"}, by=None)
    # Nobody was answered yet. Whoever finds it left behind sees to it.
    await services.announcer.drain_due(0.0, 10)
    assert not await elsewhere.is_kept()
    assert b'"New"' in ((await elsewhere.page("alice")).users or b"")


async def test_what_is_erased_is_not_shown_again(api, alice, elsewhere):
    await api.ok(
        "POST", "/v1/rooms/r/messages", {"content": "x", "client_id": "swordfish", "user_id": "bob"}
    )
    await api.archive("r")
    assert b"swordfish" in (await elsewhere.page("alice")).items
    assert await elsewhere.is_kept()
    await api.ok("DELETE", "/v1/users/bob?messages=erase", status=204)
    for _ in range(10):
        await api.archive("r")
        # As it stands between two steps of the removal.
        await elsewhere.page("alice")
        if not await api.services.user_changes.finish_removals(0.0, 10):
            break
    assert b"swordfish" not in (await elsewhere.page("alice")).items


async def test_each_reader_of_a_kept_page_is_looked_at(api, alice, elsewhere):
    assert await elsewhere.is_kept("bob")
    assert await elsewhere.is_kept(None)
    await api.ok("DELETE", "/v1/rooms/r/members/bob", status=204)
    await api.ok("PUT", "/v1/rooms/r/bans/carol", status=204)
    for stranger in ("mallory", "bob", "carol"):
        with pytest.raises(ProtocolError) as refused:
            await elsewhere.page(stranger)
        assert refused.value.code == "room_not_found"


async def test_reactions_are_their_viewers(api, alice, elsewhere):
    await api.as_user("bob").ok("PUT", "/v1/rooms/r/messages/1/reactions/x", status=204)
    for user, mine in (("alice", b"false"), ("bob", b"true")):
        assert not await elsewhere.is_kept(user)
        assert await elsewhere.is_kept(user)
        items = (await elsewhere.page(user)).items.replace(b" ", b"")
        assert b'"mine":%b' % mine in items
    assert not await elsewhere.is_kept(None)


async def test_a_kept_page_has_the_links_of_who_asks(api, alice):
    """The body is made once for a page, yet not for whoever asks another way."""
    first = await alice.history("r", "?limit=2")
    assert (await alice.history("r", "?limit=2")) == first
    as_bob = await api.history("r", "?limit=2&user_id=bob")
    assert as_bob["items"] == first["items"]
    assert as_bob["previous"] == first["previous"] + "&user_id=bob"
    assert (await alice.history("r", "?limit=2"))["previous"] == first["previous"]
    # The same by another process's name for it: what is kept depends on nothing of the process.
    services = build_services(api.services.settings, api.services.db, api.services.store)
    assert services.pages.size == 0 < api.services.pages.size
