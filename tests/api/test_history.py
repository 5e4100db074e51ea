"""History with real servers: what is not archived, half archived, archived between two reads."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from broker.domain.access import Actor
from broker.domain.history import PageQuery, load_page_as
from broker.domain.kept_pages import KeptPages
from broker.protocol.errors import ProtocolError
from storage.errors import StorageUnavailable


@pytest.fixture
async def alice(api):
    members = ["bob", *(f"user{number:02}" for number in range(20))]
    await api.ok("POST", "/v1/rooms", {"id": "r", "created_by": "alice", "members": members})
    return api.as_user("alice")


async def react(api, seq: int, user: str, reaction: str = "👍", *, added: bool = True) -> None:
    event = "reaction.added" if added else "reaction.removed"
    data = {"message_id": f"id{seq}", "seq": seq, "user": user, "reaction": reaction}
    await api.append("r", event, data, by=user)


async def edit(api, seq: int, **fields: Any) -> None:
    data = {"id": f"id{seq}", "seq": seq, "sender": "alice", "by": "alice", **fields}
    await api.append("r", "message.edited", data)


async def delete(api, seq: int) -> None:
    data = {"id": f"id{seq}", "seq": seq, "sender": "alice", "by": "bob"}
    await api.append("r", "message.deleted", data, by="bob")


async def everything(who) -> list[Any]:
    """All pages in every way; they must agree."""
    ways: list[list[Any]] = []
    back: list[Any] = []
    page = await who.history("r", "?limit=7")
    while True:
        back[:0] = page["items"]
        if page["previous"] is None:
            break
        page = await who.ok("GET", page["previous"])
    forth: list[Any] = []
    page = await who.history("r", "?after=0&limit=7")
    while True:
        forth += page["items"]
        if page["next"] is None:
            break
        page = await who.ok("GET", page["next"])
    for parameter in ("page={}", "skip={}"):
        numbered: list[Any] = []
        for number in range(1, 1000):
            place = number if parameter.startswith("page") else 7 * (number - 1)
            page = await who.history("r", f"?{parameter.format(place)}&limit=7")
            assert page["total"] == len(back)
            if not page["items"]:
                break
            numbered[:0] = page["items"]
        ways.append(numbered)
    around: list[Any] = []
    for message in back[3::7]:
        page = await who.history("r", f"?around={message['seq']}&limit=7")
        around += page["items"]
    assert around == back[: len(around)]
    for way in (forth, *ways):
        assert way == back
    for message in back[::5]:
        assert await who.ok("GET", f"/v1/rooms/r/messages/{message['seq']}") == message
        assert await who.ok("GET", f"/v1/rooms/r/messages/{message['id']}") == message
    return back


async def make_a_story(api, alice) -> None:
    for number in range(12):
        await alice.post("r", f"message {number}", reply_to=1 if number % 5 == 4 else None)
    for number in range(12):
        await react(api, 2, f"user{number:02}")
    await edit(api, 3, content="edited", metadata={"v": 2})
    await delete(api, 4)
    await react(api, 5, "alice", "a/b".replace("/", "-"))


async def change_the_story(api, alice) -> None:
    await edit(api, 4, content="never seen")
    await react(api, 4, "bob")
    await react(api, 2, "user00", added=False)
    await react(api, 2, "user11")
    await react(api, 2, "user15")
    await react(api, 5, "alice", "a-b", added=False)
    await react(api, 5, "bob", "a-b", added=False)
    link = {"url": "https://example.com", "mime": None, "size": None, "name": None}
    await edit(api, 1, content=None, attachments=[link | {"metadata": None}])
    await delete(api, 6)
    await react(api, 6, "alice")
    for number in range(10):
        await alice.post("r", f"later {number}", reply_to=1 if number == 0 else None)
    await edit(api, 20, content="late edit")
    await react(api, 20, "alice")


def check_the_story(messages: list[Any]) -> None:
    by_seq = {message["seq"]: message for message in messages}
    assert list(by_seq) == list(range(1, 23))
    assert by_seq[1]["reply_count"] == 3
    assert by_seq[1]["content"] is None
    assert by_seq[2]["reactions"] == {
        "👍": {"count": 12, "users": [f"user{n:02}" for n in range(1, 11)], "mine": False}
    }
    assert (by_seq[3]["content"], by_seq[3]["metadata"]) == ("edited", {"v": 2})
    assert by_seq[3]["edited_at"] is not None
    for seq in (4, 6):
        assert by_seq[seq]["content"] is None
        assert by_seq[seq]["deleted_by"] == "bob"
        assert by_seq[seq]["reactions"] == {}
    assert by_seq[4]["edited_at"] is None
    assert by_seq[5]["reactions"] == {}
    assert by_seq[20]["content"] == "late edit"
    assert by_seq[20]["reactions"] == {"👍": {"count": 1, "users": ["alice"], "mine": True}}


async def test_pages_are_the_same_before_during_and_after_archiving(api, alice):
    await make_a_story(api, alice)
    await change_the_story(api, alice)
    before = await everything(alice)
    check_the_story(before)
    for _ in range(4):
        await api.archive("r", batch=11, batches=1)
        assert await everything(alice) == before
    await api.archive("r")
    assert await api.log("r") == []
    assert await everything(alice) == before


async def test_archiving_changes_no_etag(api, alice):
    attachments = [{"url": "https://x.example", "metadata": {"z": 1, "a": [1.5, None]}}]
    await alice.post("r", 'ü/"\n\x1f<&>\u2028', metadata={"b": 1, "a": {}}, attachments=attachments)
    await alice.post("r", "re", reply_to=1, client_id="c", mentions=["alice"])
    before = await alice.send("GET", "/v1/rooms/r/messages")
    await api.archive("r")
    assert await api.log("r") == []
    after = await alice.send("GET", "/v1/rooms/r/messages")
    assert after.body == before.body
    assert after.headers["etag"] == before.headers["etag"]


async def test_changes_of_archived_messages_show_before_they_are_archived(api, alice):
    await make_a_story(api, alice)
    await api.archive("r")
    await change_the_story(api, alice)
    before = await everything(alice)
    check_the_story(before)
    await api.archive("r")
    assert await everything(alice) == before


class FlushAfter:
    """Both storages; after each read something is written and (some of) it archived."""

    def __init__(self, api, alice, batches: int) -> None:
        self._api, self._alice, self._batches = api, alice, batches

    async def unarchived(self, key):
        tail = await self._api.services.store.rooms.unarchived(key)
        await self._flush()
        return tail

    async def unarchived_and_stamp(self, key):
        return await self.unarchived(key), None

    async def fetchrow(self, *arguments):
        row = await self._api.services.db.fetchrow(*arguments)
        await self._flush()
        return row

    async def run(self, work):
        """The rights and the page, with a flush after each."""
        return await work(self)

    async def _flush(self) -> None:
        await self._alice.post("r", "while reading")
        await self._api.archive("r", batch=9, batches=self._batches)


async def test_a_flush_after_each_read_loses_and_doubles_nothing(api, alice):
    await make_a_story(api, alice)
    await change_the_story(api, alice)
    access = api.services.access
    actor = Actor("default", "alice", "user")
    for batches, query in (
        (1, PageQuery(limit=100)),
        (2, PageQuery(limit=100, after=0)),
        (99, PageQuery(limit=100, skip=0)),
        (99, PageQuery(limit=100, before=1000)),
        (99, PageQuery(limit=100, around=1)),
    ):
        storages = FlushAfter(api, alice, batches)
        page = await load_page_as(
            storages,  # type: ignore[arg-type]
            storages,
            access,
            KeptPages(1.0),
            actor,
            "r",
            query=query,
        )
        messages = json.loads(page.items)
        newest = (await alice.ok("GET", "/v1/rooms/r"))["seq"]
        assert page.seqs == list(range(1, len(page.seqs) + 1))
        # Of the last three two were written between the reads, one after all of them.
        assert len(page.seqs) in (newest - 3, newest - 2, newest - 1)
        check_the_story(messages[:22])


async def test_five_thousand_unarchived_messages_beyond_the_logs_length(api, alice):
    """The archiver stands still and the room has more events than ROOM_LOG_LENGTH."""
    from broker.protocol.message_draft import MessageDraft

    actor = Actor("default", "alice", "user")
    await alice.post("r", "archived")
    await api.archive("r")
    for number in range(5000):
        draft = MessageDraft(content=f"message {number}")
        await api.services.publisher.publish(actor, "r", draft)
    assert len(await api.log("r")) == 5000 > api.services.settings.room_log_length
    newest = await alice.history("r", "?limit=100")
    assert [m["seq"] for m in newest["items"]] == list(range(4902, 5002))
    oldest = await alice.history("r", "?after=0&limit=100")
    assert [m["seq"] for m in oldest["items"]] == list(range(1, 101))
    middle = await alice.history("r", "?around=2500&limit=10")
    assert [m["seq"] for m in middle["items"]] == list(range(2495, 2505))
    numbered = await alice.history("r", "?page=26&limit=100")
    assert [m["seq"] for m in numbered["items"]] == list(range(2402, 2502))
    assert (numbered["total"], numbered["totalPages"]) == (5001, 51)
    last = await alice.history("r", "?page=51&limit=100")
    assert [m["seq"] for m in last["items"]] == [1]
    assert (await alice.ok("GET", "/v1/rooms/r/messages/3000"))["content"] == "message 2998"
    await api.archive("r", batches=3)
    again = await alice.history("r", "?around=1502&limit=100")
    assert [m["seq"] for m in again["items"]] == list(range(1452, 1552))


async def test_history_survives_the_loss_of_redis(api, alice, redis_server):
    await make_a_story(api, alice)
    await api.archive("r")
    before = await everything(alice)
    redis_server.flush()
    assert await everything(alice) == before


async def test_a_viewer_sees_its_own_reactions_as_its_own(api, alice):
    await alice.post("r", "x")
    await react(api, 1, "bob")
    for _ in range(2):
        for who, mine in ((alice, False), (api.as_user("bob"), True)):
            (message,) = (await who.history("r"))["items"]
            assert message["reactions"]["👍"] == {"count": 1, "users": ["bob"], "mine": mine}
        (message,) = (await api.history("r"))["items"]
        assert message["reactions"]["👍"] == {"count": 1, "users": ["bob"]}
        await api.archive("r")


class AwayRooms:
    """A Redis that is away."""

    async def unarchived_and_stamp(self, key):
        raise StorageUnavailable("redis", "not_done", "away")


@pytest.mark.parametrize(
    ("room", "user", "code"),
    [
        ("r", "mallory", "room_not_found"),
        ("none", "alice", "room_not_found"),
        ("no id", "alice", "room_not_found"),
        ("banned", "alice", "forbidden"),
        ("r", "alice", None),
    ],
)
async def test_who_may_not_read_is_told_so_whatever_is_away(api, alice, room, user, code):
    """Refusals come in one order: `room_not_found` and `forbidden` before `unavailable`."""
    await api.ok("POST", "/v1/rooms", {"id": "banned", "kind": "public", "created_by": "bob"})
    await api.ok("PUT", "/v1/rooms/banned/bans/alice", status=204)
    services = api.services
    actor = Actor("default", user, "user")
    storages: tuple[Any, ...] = (services.store.rooms, AwayRooms())
    for rooms in storages:
        load = partial(
            load_page_as, services.db, rooms, services.access, KeptPages(1.0), actor, room
        )
        if code is not None:
            with pytest.raises(ProtocolError) as refused:
                await load(query=PageQuery(limit=1))
            assert refused.value.code == code
        elif rooms is services.store.rooms:
            assert (await load(query=PageQuery(limit=1))).seqs == []
        else:
            with pytest.raises(StorageUnavailable):
                await load(query=PageQuery(limit=1))


async def test_what_is_known_of_a_room_is_only_where_to_look(api, alice):
    """A page of a room that was read before is one statement; it is as right as two."""
    await api.ok("POST", "/v1/rooms", {"id": "other", "members": ["bob"]})
    await api.post("other", "secret")
    await alice.post("r", "open")
    await api.archive("r")
    await api.archive("other")
    bob = api.as_user("bob")
    assert [m["content"] for m in (await bob.history("r"))["items"]] == ["open"]
    reader = api.services.access
    other = await reader.read("default", "other", "bob")
    known = reader.known("default/r", "bob")
    # As after the database was restored from a backup in which rooms had other keys.
    reader.take(replace(known, room_pk=other.room_pk), "default", "r", "bob")
    assert [m["content"] for m in (await bob.history("r", "?limit=3"))["items"]] == ["open"]
    assert reader.known("default/r", "bob").room_pk == known.room_pk
    reader.take(replace(known, room_pk=2**40), "default", "r", "bob")
    assert [m["content"] for m in (await bob.history("r", "?limit=2"))["items"]] == ["open"]
    await api.ok("DELETE", "/v1/rooms/r/members/bob", status=204)
    assert await bob.refused("GET", "/v1/rooms/r/messages") == (404, "room_not_found")
