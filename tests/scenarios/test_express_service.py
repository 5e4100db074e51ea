"""An Express and Socket.IO messaging service is replaced: conversations about outside objects."""

import trio

from tests.scenarios.users_code import Rest, Site

ORDER = {"external_id": "order-17", "name": "Order 17", "members": ["sam"]}


async def people(site: Site) -> tuple[Rest, Rest, Rest]:
    """A customer, a seller and somebody else, with names, each with a token."""
    for user, name in (("carl", "Carl Customer"), ("sam", "Sam Seller"), ("eve", "Eve Else")):
        await site.backend.post("/v1/users", {"id": user, "display_name": name})
    carl, sam, eve = [await site.as_user(user) for user in ("carl", "sam", "eve")]
    return carl, sam, eve


async def test_a_conversation_is_created_once_whoever_asks_first(site: Site) -> None:
    """By the id of the outside object: both ask at once, and again, and all get the same room."""
    carl, sam, eve = await people(site)
    answers: list[tuple[int, str]] = []

    async def ask(rest: Rest, other: str) -> None:
        answer = await rest.send("POST", "/v1/rooms", ORDER | {"members": [other]})
        answers.append((answer.status, answer.json()["id"]))

    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(ask, carl, "sam")
            nursery.start_soon(ask, sam, "carl")
    assert len({room for _, room in answers}) == 1
    assert sorted(status for status, _ in answers) == [200] * 9 + [201]
    found = await site.backend.get("/v1/rooms?external_id=order-17")
    assert [room["id"] for room in found["items"]] == [answers[0][1]]
    # Who has no part in it learns only that the name is taken.
    refused = await eve.refused("POST", "/v1/rooms", ORDER)
    assert refused == (409, "conflict")


async def test_messages_by_limit_and_offset_with_names_and_total(site: Site) -> None:
    carl, sam, _ = await people(site)
    room = await carl.post("/v1/rooms", ORDER)
    path = f"/v1/rooms/{room['id']}/messages"
    for number in range(1, 6):
        await (carl, sam)[number % 2].post(path, {"content": f"{number}"})
    page = await carl.get(f"{path}?limit=2&skip=1")
    assert [m["content"] for m in page["items"]] == ["3", "4"]
    assert (page["total"], page["limit"]) == (5, 2)
    senders = ",".join(sorted({m["sender"] for m in page["items"]}))
    names = await carl.get(f"/v1/users?ids={senders}")
    assert [user["display_name"] for user in names["items"]] == ["Carl Customer", "Sam Seller"]
    # By cursor the names are on the page itself.
    newest = await carl.get(f"{path}?limit=2")
    assert newest["users"]["sam"]["display_name"] == "Sam Seller"


async def test_kinds_of_messages_with_a_media_url(site: Site) -> None:
    carl, sam, _ = await people(site)
    room = await carl.post("/v1/rooms", ORDER)
    path = f"/v1/rooms/{room['id']}/messages"
    for kind, mime in (("image", "image/png"), ("file", "application/pdf"), ("video", "video/mp4")):
        media = {"url": f"https://media.example/{kind}", "mime": mime, "size": 12}
        made = await carl.post(path, {"kind": kind, "attachments": [media]})
        assert (made["kind"], made["content"]) == (kind, None)
        assert made["attachments"][0]["url"] == media["url"]
    only = await sam.get(f"{path}?kind=video")
    assert [m["attachments"][0]["mime"] for m in only["items"]] == ["video/mp4"]
    inline = {"url": "data:text/html,x"}
    refused = await carl.refused("POST", path, {"kind": "image", "attachments": [inline]})
    assert refused == (400, "bad_request")


async def test_a_conversation_goes_with_its_outside_object(site: Site) -> None:
    carl, _sam, _ = await people(site)
    room = await carl.post("/v1/rooms", ORDER)
    async with site.live("sam") as sam:
        await sam.call("subscribe", room=room["id"])
        (found,) = (await site.backend.get("/v1/rooms?external_id=order-17"))["items"]
        await site.backend.delete(f"/v1/rooms/{found['id']}")
        assert await sam.ended(room["id"]) == "room_not_found"
    assert (await site.backend.get("/v1/rooms?external_id=order-17"))["items"] == []
    # A new object may have the old one's id, and gets a conversation of its own.
    again = await carl.post("/v1/rooms", ORDER)
    assert again["id"] != room["id"]


async def test_only_participants_read_or_send(site: Site) -> None:
    """Over HTTP and live, on either node."""
    carl, _, eve = await people(site)
    room = await carl.post("/v1/rooms", ORDER)
    path = f"/v1/rooms/{room['id']}"
    for method, way, body in (
        ("GET", "/messages", None), ("POST", "/messages", {"content": "x"}), ("GET", "", None)
    ):  # fmt: skip
        assert await eve.refused(method, path + way, body) == (404, "room_not_found")
    for broker in (0, 1):
        async with site.live("eve", broker) as live:
            assert await live.call("subscribe", room=room["id"]) == "room_not_found"
            assert await live.call("publish", room=room["id"], content="x") == "room_not_found"
            assert await live.call("history", room=room["id"]) == "room_not_found"
    assert (await site.backend.get(path))["seq"] == 0


async def test_conversations_of_a_user_newest_activity_first(site: Site) -> None:
    """With the participants' names and the last message, for the user and for the backend."""
    carl, sam, _ = await people(site)
    made = []
    for number in (1, 2, 3):
        order = {"external_id": f"order-{number}", "name": f"Order {number}", "members": ["sam"]}
        made.append((await carl.post("/v1/rooms", order))["id"])
    for place, text in ((2, "third"), (0, "first"), (1, "second"), (0, "first again")):
        await carl.post(f"/v1/rooms/{made[place]}/messages", {"content": text})
    listed = await sam.get("/v1/me/rooms")
    assert [item["external_id"] for item in listed["items"]] == ["order-1", "order-2", "order-3"]
    newest = listed["items"][0]
    assert newest["last_message"]["content"] == "first again"
    assert {m["display_name"] for m in newest["members"]} == {"Carl Customer", "Sam Seller"}
    assert [item["unread"] for item in listed["items"]] == [2, 1, 1]
    assert listed["unread_total"] == 4
    by_backend = await site.backend.get("/v1/users/sam/rooms?limit=1")
    assert (by_backend["items"][0]["id"], by_backend["total"]) == (made[0], 3)


async def test_typing_starts_and_stops(site: Site) -> None:
    """Seen on the other node, not by who types; the name is the member's."""
    carl, _, _ = await people(site)
    room = (await carl.post("/v1/rooms", ORDER))["id"]
    async with site.live("carl", 0) as typist, site.live("sam", 1) as reader:
        for live in (typist, reader):
            await live.call("subscribe", room=room)
        await typist.call("typing", room=room, active=True)
        started = await reader.event("typing.started")
        assert (started["user"], started["expires_in"]) == ("carl", 6)
        await typist.call("typing", room=room, active=False)
        assert (await reader.event("typing.stopped"))["user"] == "carl"
        await typist.call("typing", room=room, active=True)
        await reader.event("typing.started")
        await typist.call("publish", room=room, content="Done")
        assert (await reader.event("typing.stopped"))["user"] == "carl"
        await typist.call("ping")
        assert typist.unseen("typing.started") == []
    members = await site.backend.get(f"/v1/rooms/{room}/members")
    names = {member["user"]: member["display_name"] for member in members["items"]}
    assert names[started["user"]] == "Carl Customer"


async def test_all_is_marked_read(site: Site) -> None:
    carl, sam, _ = await people(site)
    room = (await carl.post("/v1/rooms", ORDER))["id"]
    for number in range(3):
        await carl.post(f"/v1/rooms/{room}/messages", {"content": f"{number}"})
    assert (await sam.get("/v1/me/rooms"))["unread_total"] == 3
    assert await sam.post(f"/v1/rooms/{room}/read", None, 200) == {"seq": 3, "unread": 0}
    assert (await sam.get("/v1/me/rooms"))["unread_total"] == 0


async def test_sent_delivered_read(site: Site) -> None:
    """The status of a message, as its sender sees it grow."""
    carl, _, _ = await people(site)
    room = (await carl.post("/v1/rooms", ORDER))["id"]

    async def status() -> str:
        (row,) = (await carl.get(f"/v1/rooms/{room}/messages/1/recipients"))["items"]
        assert row["user"] == "sam"
        return "read" if row["read"] else "delivered" if row["delivered"] else "sent"

    async with site.live("carl", 0) as carls, site.live("sam", 1) as sams:
        await carls.call("subscribe", room=room)
        done = await carls.call("publish", room=room, content="Is it there?")
        assert await status() == "sent"
        await sams.call("delivered", room=room, seq=done["seq"])
        assert (await carls.event("receipt.delivered", user="sam"))["seq"] == 1
        assert await status() == "delivered"
        await sams.call("read", room=room, seq=done["seq"])
        assert (await carls.event("receipt.read", user="sam"))["seq"] == 1
        assert await status() == "read"
