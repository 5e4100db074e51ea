"""Every field that takes text gives it back as it was, on every way, and nothing else is changed.

Sent as frames and as requests; read as events, answers, pages, single messages and results of a
search, before the archiver has stored them and after. (What the page does with it:
`tests/page/test_hostile.py`.)
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any
from urllib.parse import quote

import pytest

from tests.security.texts import BLOCKS, LINES
from tests.support.client import ChatClient
from tests.support.deployment import Deployment, room_path
from tests.support.stored import rows_of
from tests.support.waiting import wait_until

Name = Callable[[str], str]
TEXTS = (*LINES, *BLOCKS)
_FIELDS = ("content", "metadata", "attachments", "client_id")
_LONGEST_ID = 64


@pytest.fixture
async def untouched(shared: Deployment, name: Name) -> AsyncIterator[str]:
    """A word for all that the test makes: no row without it is changed or goes, no log names it."""
    word = name("hostile")
    other = name("other")
    await shared.create_room(other, name("bystander"))
    await shared.post(other, "stays", name("bystander"))
    await shared.wait_archived()
    before = rows_of(shared.database_url)
    yield word
    await shared.wait_archived()
    after = rows_of(shared.database_url)
    assert after.keys() == before.keys()
    for table, rows in before.items():
        gone = [row for row in set(rows) - set(after[table]) if word not in row]
        assert gone == [], table
    for process in shared.processes.started:
        assert word not in process.output()
        assert "forged" not in process.output()


def draft(text: str, word: str, number: int, way: str) -> dict[str, Any]:
    """A message that says it wherever a message can say something."""
    return {
        "content": f"{text}{word} {way}{number}",
        "metadata": {"word": word, text: text, "deep": [{text: [text]}]},
        "attachments": [
            {"url": f"x:{quote(text)}", "name": text, "mime": text, "size": 1,
             "metadata": {text: text}}
        ],
        "client_id": f"{way}{number}{text}"[:_LONGEST_ID // 4],
    }  # fmt: skip


def said(message: dict[str, Any]) -> dict[str, Any]:
    return {field: message[field] for field in _FIELDS}


async def test_a_message_says_what_its_sender_wrote(
    shared: Deployment, name: Name, untouched: str
) -> None:
    """HAZARDS G: over both ways in, and every way out."""
    room, alice_id, bob_id = untouched, name("alice"), name("bob")
    await shared.create_room(room, alice_id, bob_id)
    sent: dict[int, dict[str, Any]] = {}
    async with shared.connect(alice_id) as alice, shared.connect(bob_id, 1) as bob:
        await bob.subscribe(room)
        for number, text in enumerate(TEXTS):
            fields = draft(text, untouched, number, "f")
            sent[(await alice.call("publish", room=room, **fields))["seq"]] = fields
            fields = draft(text, untouched, number, "r")
            answer = await shared.ok("POST", f"{room_path(room)}/messages", fields, user=alice_id)
            assert said(answer) == fields
            sent[answer["seq"]] = fields
        await bob.wait_messages(room, len(sent), deadline=30)
        assert {event["seq"]: said(event) for event in bob.messages(room)} == sent
        for turn in ("not all archived", "archived"):
            history = await shared.whole_history(room)
            assert {message["seq"]: said(message) for message in history} == sent, turn
            pages = await bob.call("history", room=room, limit=100)
            assert {message["seq"]: said(message) for message in pages["messages"]} == sent, turn
            await shared.wait_archived()
        await check_search(shared, room, sent)
        await check_edits(shared, alice, bob, room, sent)


async def check_search(shared: Deployment, room: str, sent: dict[int, dict[str, Any]]) -> None:
    """What is found says it too; and whatever is looked for, only words are."""
    for seq, fields in list(sent.items())[::2]:
        way = fields["content"].rpartition(" ")[2]
        page = await shared.ok("GET", f"{room_path(room)}/search?q={way}")
        assert [(item["seq"], said(item)) for item in page["items"]] == [(seq, fields)]
    for text in TEXTS:
        answer = await shared.send("GET", f"{room_path(room)}/search?q={quote(text)}")
        assert answer.status in (200, 400), (text, answer)


async def check_edits(
    shared: Deployment, alice: ChatClient, bob: ChatClient, room: str, sent: dict[int, Any]
) -> None:
    """The same for what replaces it."""
    changed = {}
    for (seq, fields), text in zip(sent.items(), TEXTS, strict=False):
        changed[seq] = fields | {"content": f"edited {text}{room}", "metadata": {text: [text]}}
        given = {field: changed[seq][field] for field in ("content", "metadata")}
        if seq % 2:
            await alice.call("edit", room=room, seq=seq, **given)
        else:
            path = f"{room_path(room)}/messages/{seq}"
            assert (
                said(await shared.ok("PATCH", path, given, user=(alice.hello or {})["user"]))
                == (changed[seq])
            )

    def edits() -> dict[int, Any]:
        seen = [event.data for event in bob.rooms[room].events if event.event == "message.edited"]
        return {data["seq"]: (data["content"], data["metadata"]) for data in seen}

    await bob.wait(lambda: len(edits()) == len(changed), deadline=30, what="all edits")
    assert edits() == {seq: (m["content"], m["metadata"]) for seq, m in changed.items()}
    await shared.wait_archived()
    for message in await shared.whole_history(room):
        seq = message["seq"]
        assert said(message) == changed.get(seq, sent[seq])


async def test_reactions_and_signals_are_any_text(
    shared: Deployment, name: Name, untouched: str
) -> None:
    """A reaction is a key of an object on the way out: each is one of its own."""
    room, alice_id, bob_id = untouched, name("alice"), name("bob")
    await shared.create_room(room, alice_id, bob_id)
    texts = [text for text in LINES if "/" not in text and len(text.encode()) <= _LONGEST_ID]
    async with shared.connect(alice_id) as alice, shared.connect(bob_id, 1) as bob:
        await bob.subscribe(room)
        for at, text in enumerate(texts):
            if at % 20 == 0:  # a message has no more
                seq = (await alice.publish(room, untouched))["seq"]
            await alice.call("react", room=room, seq=seq, reaction=text)
            path = f"{room_path(room)}/messages/{seq}/reactions/{quote(text, safe='')}"
            await shared.ok("PUT", path, user=bob_id)
        for text in TEXTS:
            await alice.call("signal", room=room, name="x", data={text: [text, {text: text}]})
        await bob.wait(
            lambda: len(of(bob, room, "reaction.added")) == 2 * len(texts)
            and len(of(bob, room, "signal")) == len(TEXTS),
            deadline=30, what="all of them",
        )  # fmt: skip
        heard = [data["reaction"] for data in of(bob, room, "reaction.added")]
        assert heard == [text for text in texts for _ in range(2)]
        assert [data["data"] for data in of(bob, room, "signal")] == [
            {text: [text, {text: text}]} for text in TEXTS
        ]
    await shared.wait_archived()
    history = await shared.whole_history(room)
    found = {text: r for message in history for text, r in message["reactions"].items()}
    assert found.keys() == set(texts)
    assert all(reaction["users"] == [alice_id, bob_id] for reaction in found.values())


def of(client: ChatClient, room: str, event: str) -> list[dict[str, Any]]:
    return [seen.data for seen in client.rooms[room].events if seen.event == event]


async def test_rooms_and_profiles_have_any_line(
    shared: Deployment, name: Name, untouched: str
) -> None:
    """Changed to it, listed, announced with it, and found by it."""
    room, user = untouched, f"user-{untouched}"
    await shared.ok("POST", "/v1/users", {"id": user})
    await shared.create_room(room, user)
    async with shared.connect(user) as client:
        await client.subscribe(room)
        for number, text in enumerate(LINES):
            line = f"{text}{number}"
            fields = {"name": text, "topic": text, "external_id": line + room,
                      "metadata": {text: text, "word": room}}  # fmt: skip
            assert (await shared.ok("PATCH", room_path(room), fields)).items() >= fields.items()
            found = await shared.ok("GET", f"/v1/rooms?external_id={quote(line + room)}")
            assert [item["id"] for item in found["items"]] == [room]
            profile = {
                "username": line + user, "external_user_id": line + user, "display_name": text,
                "email": f"{text}@example.org", "metadata": {text: [text]},
            }  # fmt: skip
            changed = await shared.ok("PATCH", f"/v1/users/{user}", profile)
            assert changed.items() >= profile.items()
            for field in ("username", "external_user_id"):
                found = await shared.ok("GET", f"/v1/users?{field}={quote(line + user)}")
                assert [(item["id"], item[field]) for item in found["items"]] == [
                    (user, profile[field])
                ]
            (member,) = (await shared.ok("GET", f"{room_path(room)}/members"))["items"]
            assert member["display_name"] == text

        def names() -> list[str]:
            return [data["name"] for data in of(client, room, "room.updated")]

        await wait_until(lambda: len(names()) == len(LINES), deadline=30, what="all are told")
        assert names() == list(LINES)
