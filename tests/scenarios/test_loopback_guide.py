"""The same LoopBack service, as its guide tells it: direct messages, groups, participants."""

from tests.scenarios.users_code import Site


async def test_direct_messages(site: Site) -> None:
    """One room a pair, whoever begins; only the two read it."""
    await site.create_users("anna", "ben", "cleo")
    anna, ben, cleo = [await site.as_user(user) for user in ("anna", "ben", "cleo")]
    room = await anna.post("/v1/rooms", {"kind": "direct", "members": ["ben"]})
    again = await ben.post("/v1/rooms", {"kind": "direct", "members": ["anna"]}, 200)
    assert again["id"] == room["id"]
    path = f"/v1/rooms/{room['id']}/messages"
    await anna.post(path, {"content": "Hi Ben"})
    await ben.post(path, {"content": "Hi Anna"})
    for rest in (anna, ben):
        page = await rest.get(path)
        assert [(m["sender"], m["content"]) for m in page["items"]] == [
            ("anna", "Hi Ben"), ("ben", "Hi Anna")
        ]  # fmt: skip
    assert await cleo.refused("GET", path) == (404, "room_not_found")
    assert await cleo.refused("POST", path, {"content": "x"}) == (404, "room_not_found")


async def test_participants_are_added_removed_and_tracked(site: Site) -> None:
    """The list, the events, and the audit of when and by whom."""
    backend = site.backend
    room = "/v1/rooms/team"
    await backend.post("/v1/rooms", {"id": "team", "kind": "group", "created_by": "anna"})
    async with site.live("anna") as anna:
        await anna.call("subscribe", room="team")
        added = await backend.post(f"{room}/members", {"user_id": "anna", "users": ["ben", "cleo"]})
        assert [member["user"] for member in added["items"]] == ["ben", "cleo"]
        assert (await anna.event("member.added", user="ben"))["by"] == "anna"
        assert (await anna.event("member.added", user="cleo"))["role"] == "member"
        await backend.delete(f"{room}/members/ben?user_id=anna")
        gone = await anna.event("member.removed")
        assert gone == {"user": "ben", "by": "anna", "reason": "removed"}
    members = await backend.get(f"{room}/members")
    assert [m["user"] for m in members["items"]] == ["anna", "cleo"]
    assert (await backend.get(room))["member_count"] == 2
    audit = await backend.get("/v1/audit?entity=room:team")
    tracked = [(row["action"], row["detail"].get("user")) for row in audit["items"]]
    assert tracked[:3] == [
        ("member.removed", "ben"), ("member.added", "cleo"), ("member.added", "ben")
    ]  # fmt: skip


async def test_participants_are_validated_before_sending(site: Site) -> None:
    backend = site.backend
    await backend.post("/v1/rooms", {"id": "team", "created_by": "anna", "members": ["ben"]})
    path = "/v1/rooms/team/messages"
    body = {"content": "x", "user_id": "cleo"}
    assert await backend.refused("POST", path, body) == (403, "not_a_member")
    await backend.delete("/v1/rooms/team/members/ben")
    assert await backend.refused("POST", path, body | {"user_id": "ben"}) == (403, "not_a_member")
    await backend.post(path, body | {"user_id": "anna"})
    assert (await backend.get("/v1/rooms/team"))["seq"] == 1


async def test_history_in_pages(site: Site) -> None:
    """From the newest back to the first by `previous`, and forth by `next`, nothing twice."""
    backend = site.backend
    await backend.post("/v1/rooms", {"id": "team", "created_by": "anna"})
    path = "/v1/rooms/team/messages"
    for number in range(1, 8):
        await backend.post(path, {"user_id": "anna", "content": str(number)})
    page = await backend.get(f"{path}?limit=3")
    read = [page["items"]]
    while page["previous"] is not None:
        page = await backend.get(page["previous"])
        read.insert(0, page["items"])
    assert [[m["content"] for m in items] for items in read] == [
        ["1"], ["2", "3", "4"], ["5", "6", "7"]
    ]  # fmt: skip
    assert not page["has_more_before"]
    forth = await backend.get(page["next"])
    assert [m["seq"] for m in forth["items"]] == [2, 3, 4]


async def test_chats_are_soft_deleted(site: Site) -> None:
    """Ruling 45: gone for its people at once, kept for the backend."""
    backend = site.backend
    await backend.post("/v1/rooms", {"id": "team", "created_by": "anna", "members": ["ben"]})
    await backend.post("/v1/rooms/team/messages", {"user_id": "ben", "content": "kept"})
    async with site.live("ben", broker=1) as ben:
        await ben.call("subscribe", room="team")
        await backend.delete("/v1/rooms/team?user_id=anna")
        assert await ben.ended("team") == "room_not_found"
        assert await ben.call("history", room="team") == "room_not_found"
    anna = await site.as_user("anna")
    assert await anna.refused("GET", "/v1/rooms/team") == (404, "room_not_found")
    assert (await backend.get("/v1/rooms/team"))["deleted_at"] is not None
    kept = await backend.get("/v1/rooms/team/messages")
    assert [m["content"] for m in kept["items"]] == ["kept"]
    assert await backend.refused("POST", "/v1/rooms", {"id": "team"}) == (409, "conflict")


async def test_read_receipts(site: Site) -> None:
    """Live on the other node, and as a list of how far everybody is."""
    backend = site.backend
    await backend.post("/v1/rooms", {"id": "team", "created_by": "anna", "members": ["ben"]})
    for number in (1, 2, 3):
        await backend.post("/v1/rooms/team/messages", {"user_id": "anna", "content": f"{number}"})
    async with site.live("anna", 0) as anna, site.live("ben", 1) as ben:
        await anna.call("subscribe", room="team")
        assert (await ben.call("subscribe", room="team"))["unread"] == 3
        assert await ben.call("read", room="team", seq=2) == {"seq": 2, "unread": 1}
        assert (await anna.event("receipt.read", user="ben"))["seq"] == 2
        assert await ben.call("read", room="team", seq=1) == {"seq": 2, "unread": 1}
    receipts = await backend.get("/v1/rooms/team/receipts")
    assert {row["user"]: row["read_seq"] for row in receipts["items"]} == {"anna": 3, "ben": 2}
