"""A LoopBack chat service (REST, PostgreSQL) is replaced: messages, flags, files, audit, its JWTs.

Its backend stays in front: it holds the key and names the acting user in `user_id`.
"""

import time
from collections.abc import Callable
from typing import Any

import jwt
import pytest
import trio
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.scenarios.users_code import Rest, Site, live
from tests.support.deployment import Deployment, room_path

Name = Callable[[str], str]
ROOM = "/v1/rooms/orders"
MESSAGES = f"{ROOM}/messages"


@pytest.fixture
async def backend(site: Site) -> Rest:
    """The older service's own backend, with the room that its users talk in."""
    rest = site.backend
    room = {"id": "orders", "created_by": "anna", "members": ["ben", "cleo"]}
    await rest.post("/v1/rooms", room)
    return rest


async def say(backend: Rest, user: str, content: str | None, **fields: Any) -> Any:
    body = {"user_id": user, "content": content, **fields}
    return await backend.post(MESSAGES, body)


async def test_create_list_count_and_filter(backend: Rest) -> None:
    """Messages are created, listed and counted, filtered by sender, kind and time, paged."""
    first = await say(backend, "anna", "Two boxes, please.")
    await say(backend, "ben", "Which ones?")
    picture = {"url": "https://files.example/box.png", "mime": "image/png"}
    last = await say(backend, "anna", "These.", kind="image", attachments=[picture])
    assert (first["sender"], first["kind"], first["seq"]) == ("anna", "text", 1)

    page = await backend.get(f"{MESSAGES}?page=1&limit=2")
    assert (page["total"], page["totalPages"], page["page"], page["limit"]) == (3, 2, 1, 2)
    assert [message["seq"] for message in page["items"]] == [2, 3]

    async def listed(query: str) -> list[str]:
        found = await backend.get(f"{MESSAGES}?page=1&{query}")
        assert found["total"] == len(found["items"])
        return [message["content"] for message in found["items"]]

    assert await listed("sender=anna") == ["Two boxes, please.", "These."]
    assert await listed("kind=image") == ["These."]
    assert await listed(f"from={last['created_at']}") == ["These."]
    assert await listed(f"to={first['created_at']}") == ["Two boxes, please."]
    assert await listed("sender=ben&kind=image") == []

    skipped = await backend.get(f"{MESSAGES}?skip=1&limit=1")
    assert [message["content"] for message in skipped["items"]] == ["Which ones?"]
    assert skipped["total"] == 3


async def test_update_and_soft_delete_that_keeps_content_for_compliance(
    backend: Rest, site: Site
) -> None:
    """A deleted message is a tombstone for its users; the key still sees what it held."""
    made = await say(backend, "anna", "The PIN is 1234", metadata={"order": 7})
    path = f"{MESSAGES}/{made['id']}"
    changed = await backend.patch(path, {"user_id": "anna", "content": "The PIN is secret"})
    assert changed["content"] == "The PIN is secret"
    assert changed["edited_at"] is not None
    assert changed["metadata"] == {"order": 7}

    await backend.delete(f"{path}?user_id=anna")
    await backend.delete(f"{path}?user_id=anna")
    gone = await backend.get(path)
    assert (gone["content"], gone["metadata"], gone["deleted_by"]) == (None, {}, "anna")
    assert gone["seq"] == made["seq"]
    assert (await backend.get(f"{path}?deleted=true"))["content"] == "The PIN is secret"
    page = await backend.get(f"{MESSAGES}?page=1&deleted=true")
    assert (page["total"], page["items"][0]["content"]) == (1, "The PIN is secret")

    ben = await site.as_user("ben")
    assert (await ben.get(path))["content"] is None
    assert await ben.refused("GET", f"{path}?deleted=true") == (403, "forbidden")


async def test_replies_below_a_message(backend: Rest) -> None:
    question = await say(backend, "anna", "Who is on duty?")
    await say(backend, "ben", "Something else")
    for user in ("ben", "cleo"):
        await say(backend, user, f"{user} is", reply_to=question["seq"])
    replies = await backend.get(f"{MESSAGES}/{question['seq']}/replies")
    assert [(m["sender"], m["reply_to"]) for m in replies["items"]] == [("ben", 1), ("cleo", 1)]
    assert (await backend.get(f"{MESSAGES}/1"))["reply_count"] == 2
    refused = await backend.refused("POST", MESSAGES, {"content": "x", "reply_to": 99})
    assert refused == (404, "message_not_found")


async def test_attachments_by_file_key_are_added_and_removed_later(backend: Rest) -> None:
    """The file service stays: a message holds its keys and what it says about the files."""

    def file(key: str, **metadata: Any) -> dict[str, Any]:
        url = f"files:{key}"
        return {"url": url, "mime": "application/pdf", "name": key, "metadata": metadata}

    made = await say(backend, "anna", None, attachments=[file("a1", pages=3)])
    assert made["attachments"][0]["url"] == "files:a1"
    assert made["attachments"][0]["metadata"] == {"pages": 3}
    path = f"{MESSAGES}/{made['seq']}"
    both = [*made["attachments"], file("b2")]
    more = await backend.patch(path, {"user_id": "anna", "attachments": both})
    assert [attachment["url"] for attachment in more["attachments"]] == ["files:a1", "files:b2"]
    less = await backend.patch(path, {"user_id": "anna", "attachments": both[1:]})
    assert [attachment["url"] for attachment in less["attachments"]] == ["files:b2"]
    nothing = await backend.refused("PATCH", path, {"user_id": "anna", "attachments": []})
    assert nothing == (400, "bad_request")


async def test_who_did_what_when(backend: Rest, shared: Deployment) -> None:
    await backend.post(f"{ROOM}/members", {"user_id": "anna", "user": "dora"})
    await backend.patch(ROOM, {"user_id": "anna", "name": "Orders"})
    message = await say(backend, "ben", "rude")
    await backend.delete(f"{MESSAGES}/{message['seq']}?user_id=anna")
    await backend.delete(f"{ROOM}/members/ben?user_id=anna")
    await shared.wait_archived()
    audit = await backend.get("/v1/audit?entity=room:orders")
    done = [(row["action"], row["actor"]) for row in audit["items"]]
    assert set(done) >= {
        ("room.created", "anna"),
        ("member.added", "anna"),
        ("room.updated", "anna"),
        ("member.removed", "anna"),
    }
    (moderated,) = (await backend.get(f"/v1/audit?entity=message:{message['id']}"))["items"]
    assert (moderated["action"], moderated["actor"]) == ("message.deleted", "anna")
    assert moderated["detail"] == {"room": "orders", "seq": 1, "sender": "ben"}
    assert [row["created_at"] for row in audit["items"]] == sorted(
        (row["created_at"] for row in audit["items"]), reverse=True
    )
    assert (await backend.get("/v1/audit?limit=2"))["total"] >= audit["total"]


async def test_forwarded_messages_say_who_wrote_them_first(backend: Rest) -> None:
    await backend.post("/v1/rooms", {"id": "storage", "created_by": "ben", "members": ["cleo"]})
    made = await say(backend, "anna", "Box 7 is broken")
    forward = f"{MESSAGES}/{made['seq']}/forward"
    copy = await backend.post(forward, {"user_id": "ben", "room": "storage"})
    assert (copy["room"], copy["sender"], copy["content"]) == ("storage", "ben", "Box 7 is broken")
    assert copy["forwarded_from"] == {"sender": "anna", "created_at": made["created_at"]}


async def test_tokens_of_the_companys_own_issuer(shared: Deployment, name: Name) -> None:
    """RS256 by public key, the issuer checked, the user in a claim of its own."""
    private = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    public = private.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    settings = {
        "JWT_PUBLIC_KEY": public.decode(),
        "JWT_ISSUER": "https://login.example",
        "JWT_USER_CLAIM": "userId",
    }
    now = time.time()
    claims = {"iss": "https://login.example", "userId": name("anna"), "exp": now + 600, "iat": now}

    def signed(**changes: Any) -> str:
        present = {k: v for k, v in (claims | changes).items() if v is not None}
        return jwt.encode(present, private, algorithm="RS256")

    processes = shared.processes
    servers = []
    try:
        for kind in ("api", "broker"):
            servers.append(await processes.start(kind, env=settings))
        api, broker = servers
        anna = Rest(api.base_url, token=signed())
        assert (await anna.get("/v1/auth/verify"))["user"] == {"userId": name("anna")}
        room = await anna.post("/v1/rooms", {"name": "Anna's"})
        async with live(broker.url, signed()) as client:
            done = await client.call("publish", room=room["id"], content="Hello")
            assert done["seq"] == 1
        page = await anna.get(f"{room_path(room['id'])}/messages")
        assert [message["sender"] for message in page["items"]] == [name("anna")]
        for wrong in ({"iss": "https://elsewhere.example"}, {"iss": None}, {"userId": None}):
            stranger = Rest(api.base_url, token=signed(**wrong))
            assert await stranger.refused("GET", "/v1/me") == (401, "unauthenticated")
        late = Rest(api.base_url, token=signed(exp=now - 60))
        assert await late.refused("GET", "/v1/me") == (401, "token_expired")
    finally:
        async with trio.open_nursery() as nursery:
            for server in servers:
                nursery.start_soon(server.stop)


async def test_flags_per_message_and_recipient(backend: Rest, site: Site) -> None:
    """Read, favourite, forwarded: of each recipient, whatever the others do."""
    await say(backend, "anna", "Read this")
    copied = await say(backend, "anna", "And pass this on")
    marked = await backend.post(f"{ROOM}/read", {"user_id": "ben", "seq": 1}, 200)
    assert marked == {"seq": 1, "unread": 1}
    cleo = await site.as_user("cleo")
    await cleo.put(f"{MESSAGES}/1/favorite")

    async def flags(seq: int) -> dict[str, tuple[bool, bool]]:
        found = await backend.get(f"{MESSAGES}/{seq}/recipients")
        return {row["user"]: (row["read"], row["favorite"]) for row in found["items"]}

    assert await flags(1) == {"ben": (True, False), "cleo": (False, True)}
    assert await flags(2) == {"ben": (False, False), "cleo": (False, False)}
    kept = await cleo.get("/v1/me/favorites")
    assert [message["content"] for message in kept["items"]] == ["Read this"]
    await cleo.delete(f"{MESSAGES}/1/favorite")
    assert (await flags(1))["cleo"] == (False, False)
    await backend.post("/v1/rooms", {"id": "storage", "created_by": "cleo"})
    forward = f"{MESSAGES}/{copied['seq']}/forward"
    assert (await cleo.post(forward, {"room": "storage"}))["forwarded_from"]["sender"] == "anna"
