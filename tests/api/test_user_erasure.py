"""Messages of deleted users: tombstones, or nothing at all in any table and any key; the export."""

from __future__ import annotations

import json
from typing import Any

import pytest
import trio

from broker.domain.message_removals import MessageRemover
from config import limits
from storage.postgres.removals import due_removals
from tests.support.servers import fetch, run_sql

TEXTS = ("open sesame", "swordfish", "mellon", "alohomora", "xyzzy", "rosebud")


def remover_of(api) -> MessageRemover:
    services = api.services
    return MessageRemover(
        services.db, services.store.rooms, services.store.archive, services.changer
    )


async def finish(api, *rooms: str, attempts: int = 10) -> None:
    """What the archiver does, until nothing is left to do."""
    for _ in range(attempts):
        for room in rooms:
            await api.archive(room)
        if await api.services.user_changes.finish_removals(0.0, 10) == 0:
            return
    raise AssertionError("the removal does not end")


def tables_with(api, text: str) -> list[str]:
    """Tables in which a text is, in whatever column."""

    async def look(connection: Any) -> list[str]:
        names = await connection.fetch(
            "SELECT tablename FROM pg_tables WHERE schemaname = 'public'"
        )
        found = []
        for (name,) in names:
            query = (
                f"SELECT count(*) FROM {name} t WHERE t::text LIKE $1 "
                f"OR t::text LIKE '%' || encode(convert_to($2, 'UTF8'), 'hex') || '%'"
            )
            if await connection.fetchval(query, f"%{text}%", text):
                found.append(name)
        return found

    tables: list[str] = run_sql(api.services.settings.database_url, look)
    return tables


async def keys_with(api, text: str) -> list[str]:
    """Keys of Redis in which a text is, in whatever field."""
    client = api.services.store.client
    found = []
    for key in await client.execute("KEYS", "*"):
        dump = {
            b"hash": ("HGETALL", key),
            b"stream": ("XRANGE", key, "-", "+"),
            b"zset": ("ZRANGE", key, 0, -1),
            b"set": ("SMEMBERS", key),
            b"string": ("GET", key),
        }[await client.execute("TYPE", key)]
        if text.encode() in repr(await client.execute(*dump)).encode():
            found.append(key.decode())
    return found


async def write_everything(api) -> None:
    """Ann's secrets: written, edited, deleted, forwarded, in attachments and metadata."""
    for room in ("r", "s"):
        await api.ok("POST", "/v1/rooms", {"id": room, "members": ["ann", "ben"]})
    ann, ben = api.as_user("ann"), api.as_user("ben")
    await ann.post("r", TEXTS[0], metadata={"word": TEXTS[1]}, client_id="once")
    attachment = {"url": f"https://example.com/{TEXTS[2]}", "name": TEXTS[2]}
    await ann.ok("POST", "/v1/rooms/r/messages", {"attachments": [attachment]})
    await ann.post("r", TEXTS[3])
    await ann.ok("PATCH", "/v1/rooms/r/messages/3", {"content": TEXTS[4]})
    await ann.post("r", TEXTS[5])
    await ann.ok("DELETE", "/v1/rooms/r/messages/4")
    await ben.post("r", "of ben", reply_to=1)
    await ben.ok("PUT", "/v1/rooms/r/messages/1/reactions/yes")


@pytest.mark.parametrize("is_archived", [True, False])
async def test_erasing_leaves_the_text_nowhere(api, is_archived):
    """Ruling 44: `erase` also wipes what tombstones would keep."""
    await write_everything(api)
    if is_archived:
        await api.archive("r")
    for text in TEXTS:
        assert await keys_with(api, text)
    await api.ok("DELETE", "/v1/users/ann?messages=erase", status=204)
    await finish(api, "r", "s")
    for text in TEXTS:
        assert tables_with(api, text) == []
        assert await keys_with(api, text) == []
    page = await api.ok("GET", "/v1/rooms/r/messages?deleted=true")
    shown = [(m["seq"], m["sender"], m["content"]) for m in page["items"]]
    assert shown == [*((seq, "ann", None) for seq in range(1, 5)), (5, "ben", "of ben")]
    for message in page["items"][:4]:
        assert message["deleted_at"]
        assert (message["metadata"], message["attachments"], message["mentions"]) == ({}, [], [])
        assert (message["reactions"], message["forwarded_from"]) == ({}, None)
    found = await api.ok("GET", "/v1/rooms/r/search?q=sesame")
    assert found["items"] == []
    assert not fetch(api.services.settings.database_url, "SELECT 1 FROM users WHERE removal = 'x'")
    # The room goes on, and its log with it.
    await api.as_user("ben").post("r", "after")
    assert [m["seq"] for m in (await api.history("r"))["items"]] == [1, 2, 3, 4, 5, 6]


async def test_copies_stay_and_forget_who_wrote_the_first(api):
    await write_everything(api)
    ben = api.as_user("ben")
    copy = await ben.ok("POST", "/v1/rooms/r/messages/1/forward", {"room": "s"})
    assert copy["forwarded_from"]["sender"] == "ann"
    await api.ok("DELETE", "/v1/users/ann?messages=erase")
    await finish(api, "r", "s")
    (kept,) = (await ben.history("s"))["items"]
    assert kept["content"] == TEXTS[0], "it is ben's message now"
    assert kept["forwarded_from"] == {
        "sender": None,
        "created_at": copy["forwarded_from"]["created_at"],
    }
    assert await keys_with(api, '"sender":"ann","created_at"') == []


async def test_deleting_leaves_tombstones_which_the_key_sees(api):
    await write_everything(api)
    await api.ok("DELETE", "/v1/users/ann?messages=delete")
    await finish(api, "r", "s")
    ben = api.as_user("ben")
    shown = (await ben.history("r"))["items"]
    assert [m["content"] for m in shown] == [None, None, None, None, "of ben"]
    assert all(m["deleted_at"] and m["deleted_by"] is None for m in shown[:3])
    revealed = (await api.ok("GET", "/v1/rooms/r/messages?deleted=true"))["items"]
    assert [m["content"] for m in revealed][:3] == [TEXTS[0], None, TEXTS[4]]
    log = await api.services.store.rooms.log_range("default/r", 1, 1000)
    deleted = [json.loads(entry.data)["seq"] for entry in log if entry.event == "message.deleted"]
    assert deleted == [4, 1, 2, 3], "everybody heard of each once"


async def test_what_was_kept_can_be_erased_later(api):
    await write_everything(api)
    await api.ok("DELETE", "/v1/users/ann")
    assert await api.refused("DELETE", "/v1/users/ann") == (404, "not_found")
    assert await api.refused("DELETE", "/v1/users/nobody?messages=erase") == (404, "not_found")
    for messages in ("delete", "erase", "erase"):
        await api.ok("DELETE", f"/v1/users/ann?messages={messages}", status=204)
        await finish(api, "r", "s")
    assert tables_with(api, TEXTS[0]) == []


@pytest.mark.parametrize("messages", ["delete", "erase"])
async def test_a_few_messages_are_gone_at_the_answer(api, monkeypatch, messages):
    monkeypatch.setattr(limits, "REMOVAL_WAIT", 50.0)
    await write_everything(api)

    async def archive() -> None:
        while True:
            await api.archive("r")
            await api.archive("s")
            await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(archive)
        await api.ok("DELETE", f"/v1/users/ann?messages={messages}", status=204)
        nursery.cancel_scope.cancel()
    assert await due_removals(api.services.db, 0.0, 10) == []
    shown = (await api.as_user("ben").history("r"))["items"]
    assert [m["content"] for m in shown] == [None, None, None, None, "of ben"]
    assert bool(tables_with(api, TEXTS[0])) == (messages == "delete")


async def test_a_step_that_was_broken_off_is_done_again(api):
    """Cancelled at every checkpoint in turn: in the end nothing is left, and nothing twice."""
    await write_everything(api)
    await api.archive("r")
    await api.ok("DELETE", "/v1/users/ann?messages=erase")
    for turn in range(0, 60, 3):
        (removal,) = await due_removals(api.services.db, 0.0, 10)
        with trio.move_on_after(turn / 1000):
            await remover_of(api).remove(removal)
        await api.archive("r")
    await finish(api, "r", "s")
    assert [text for text in TEXTS if tables_with(api, text) or await keys_with(api, text)] == []
    url = api.services.settings.database_url
    deleted = fetch(url, "SELECT seq FROM messages WHERE deleted_at IS NOT NULL ORDER BY seq")
    assert [row["seq"] for row in deleted] == [1, 2, 3, 4]


async def test_messages_of_deleted_rooms_and_of_other_projects(api):
    await write_everything(api)
    await api.archive("r")
    url = api.services.settings.database_url
    run_sql(url, _same_user_elsewhere)
    await api.ok("DELETE", "/v1/rooms/r")
    await api.ok("DELETE", "/v1/users/ann?messages=erase")
    await finish(api, "r", "s")
    for text in TEXTS:
        assert tables_with(api, text) == []
    assert "messages" in tables_with(api, "of another ann")


async def _same_user_elsewhere(connection: Any) -> None:
    await connection.execute(
        "WITH room AS (INSERT INTO rooms (project, id) VALUES ('other', 'r') RETURNING pk) "
        "INSERT INTO messages (room_pk, seq, id, sender, content, created_at, event_offset, "
        "last_offset) SELECT pk, 1, gen_random_uuid(), 'ann', 'of another ann', now(), 1, 1 "
        "FROM room"
    )


async def test_dead_letters_of_the_user_go_too(api):
    await write_everything(api)
    await api.archive("r")
    entry = f'life 9 9 1 message.created default/r ann 0\n{{"sender":"ann","content":"{TEXTS[0]}"}}'
    other = 'life 10 9 1 message.created default/r ben 0\n{"sender":"ben","content":"kept"}'
    for number, text in enumerate((entry, other, f"broken ann {TEXTS[1]}")):
        await api.services.db.execute(
            "INSERT INTO dead_letters (room, epoch, event_offset, seq, event, entry, reason) "
            "VALUES ('default/r', 'x', $1, 1, 'message.created', $2, 'test')",
            number,
            text.encode(),
        )
    await api.ok("DELETE", "/v1/users/ann?messages=erase")
    await finish(api, "r", "s")
    rows = fetch(api.services.settings.database_url, "SELECT event_offset FROM dead_letters")
    assert [row["event_offset"] for row in rows] == [1]


async def test_nothing_begins_before_the_backlog_is_archived(api):
    await write_everything(api)
    await api.ok("DELETE", "/v1/users/ann?messages=erase")
    (removal,) = await due_removals(api.services.db, 0.0, 10)
    assert not await remover_of(api).remove(removal)
    assert "message.deleted" not in [e.event for e in (await api.log("r"))[6:]]
    await finish(api, "r", "s")


async def test_the_export_holds_everything_of_a_user_and_nothing_of_others(api):
    await api.ok("POST", "/v1/users", {"id": "ann", "email": "a@example.com"})
    await write_everything(api)
    ann, ben = api.as_user("ann"), api.as_user("ben")
    await ann.ok("PUT", "/v1/me/blocks/ben")
    await api.services.db.execute(
        "INSERT INTO favorites (room_pk, seq, user_id, project) "
        "SELECT pk, 5, 'ann', 'default' FROM rooms WHERE id = 'r'"
    )
    for reaction in ("no", "yes"):
        await ann.ok("PUT", f"/v1/rooms/r/messages/5/reactions/{reaction}")
    for number in range(250):
        await ann.post("s", f"number {number}")
    await api.ok("POST", "/v1/rooms", {"id": "t", "created_by": "ben", "members": ["ann"]})
    await ben.ok("PUT", "/v1/rooms/t/bans/ann")
    await api.ok("DELETE", "/v1/users/ann/tokens")
    await api.archive("r")
    await api.archive("s")
    answer = await api.send("GET", "/v1/users/ann/export")
    assert answer.status == 200
    assert answer.headers["content-type"] == "application/json"
    found = answer.json()
    assert found["user"]["email"] == "a@example.com"
    assert found["user"]["tokens_revoked_at"] is not None
    assert [m["room"] for m in found["memberships"]] == ["r", "s"]
    assert found["memberships"][0]["read_seq"] == 4
    texts = [m["content"] for m in found["messages"]]
    assert texts == [TEXTS[0], None, TEXTS[4], TEXTS[5], *(f"number {n}" for n in range(250))]
    assert found["messages"][0]["metadata"] == {"word": TEXTS[1]}
    assert found["messages"][1]["attachments"][0]["name"] == TEXTS[2]
    (reactions,) = found["reactions"]
    assert (reactions["room"], reactions["seq"]) == ("r", 5)
    assert [r["reaction"] for r in reactions["reactions"]] == ["no", "yes"]
    assert [b["user"] for b in found["blocks"]] == ["ben"]
    assert [(f["room"], f["seq"]) for f in found["favorites"]] == [("r", 5)]
    assert [b["room"] for b in found["bans"]] == ["t"]
    assert [d["room"] for d in found["departures"]] == ["t"]
    assert [a["action"] for a in found["audit"]] == ["user.created", "tokens.revoked"]
    assert "of ben" not in answer.body.decode()
    assert await ann.refused("GET", "/v1/users/ann/export") in (
        (401, "unauthenticated"),
        (403, "forbidden"),
    )
    assert await ben.refused("GET", "/v1/users/ann/export") == (403, "forbidden")
    assert await api.refused("GET", "/v1/users/nobody/export") == (404, "not_found")
    empty = await api.ok("GET", "/v1/users/ben/export")
    assert [m["content"] for m in empty["messages"]] == ["of ben"]
    await api.ok("DELETE", "/v1/users/ann")
    left = await api.ok("GET", "/v1/users/ann/export")
    assert left["user"]["email"] is None
    assert (left["blocks"], left["favorites"], left["memberships"]) == ([], [], [])
    assert len(left["messages"]) == 254
