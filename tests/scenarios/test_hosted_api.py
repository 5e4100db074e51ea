"""A hosted chat API with an SDK is replaced: the calls of its SDK, one after the other."""

from tests.scenarios.users_code import Rest, Site


async def test_a_key_has_its_project(site: Site) -> None:
    project = await site.backend.get("/v1/project")
    assert project["id"].startswith("scenario-")
    wrong = Rest(site.api, key=site.key[:-1] + "x")
    assert await wrong.refused("GET", "/v1/project") == (401, "unauthenticated")


async def test_users_are_created_listed_updated_and_deleted(site: Site) -> None:
    """With username, external id and display name; 409 when one of them is taken."""
    backend = site.backend
    made = []
    for number in range(5):
        body = {"username": f"user{number}", "external_user_id": f"x{number}",
                "display_name": f"User {number}"}  # fmt: skip
        made.append(await backend.post("/v1/users", body))
    assert len({user["id"] for user in made}) == 5
    assert (made[0]["username"], made[0]["external_user_id"]) == ("user0", "x0")
    assert (made[0]["display_name"], made[0]["status"]) == ("User 0", "active")
    for field, value in (("username", "user1"), ("external_user_id", "x1"), ("id", made[1]["id"])):
        answer = await backend.send("POST", "/v1/users", {field: value})
        problem = answer.json()
        assert (answer.status, problem["code"], problem["field"]) == (409, "conflict", field)

    first = await backend.get("/v1/users?page=1&limit=2")
    last = await backend.get("/v1/users?page=3&limit=2")
    assert (first["total"], first["totalPages"]) == (5, 3)
    assert [user["username"] for user in first["items"]] == ["user0", "user1"]
    assert [user["username"] for user in last["items"]] == ["user4"]
    (found,) = (await backend.get("/v1/users?external_user_id=x3"))["items"]
    assert found["username"] == "user3"

    path = f"/v1/users/{found['id']}"
    changed = await backend.patch(path, {"display_name": "Renamed", "metadata": {"plan": "pro"}})
    assert (changed["display_name"], changed["metadata"]) == ("Renamed", {"plan": "pro"})
    await backend.delete(path)
    assert await backend.refused("GET", path) == (404, "not_found")
    assert (await backend.get("/v1/users"))["total"] == 4
    again = {"id": found["id"], "username": "user3"}
    assert await backend.refused("POST", "/v1/users", again) == (409, "conflict")


async def test_tokens_are_issued_verified_and_revoked(site: Site) -> None:
    """Promise 7: after the revocation neither HTTP nor any live connection goes on."""
    backend = site.backend
    await backend.post("/v1/users", {"id": "uma"})
    made = await backend.post("/v1/users/uma/token", {"ttl": 3600}, 200)
    uma = backend.with_token(made["token"])
    verified = await uma.get("/v1/auth/verify")
    assert verified["user"] == {"userId": "uma"}
    assert verified["expires_at"] == made["expires_at"]
    async with site.live("uma", 0) as here, site.live("uma", 1) as there:
        await backend.delete("/v1/users/uma/tokens")
        assert [await live.closed() for live in (here, there)] == [4403, 4403]
    assert await uma.refused("GET", "/v1/auth/verify") == (401, "unauthenticated")
    fresh = await site.as_user("uma")
    assert (await fresh.get("/v1/me"))["id"] == "uma"


async def test_rooms_are_created_listed_joined_left_updated_and_deleted(site: Site) -> None:
    """Who creates a room is a member of it."""
    backend = site.backend
    await site.create_users("uma", "vic")
    lobby = await backend.post(
        "/v1/rooms", {"id": "lobby", "kind": "public", "name": "Lobby", "created_by": "uma"}
    )
    assert (lobby["created_by"], lobby["member_count"]) == ("uma", 1)
    (creator,) = (await backend.get("/v1/rooms/lobby/members"))["items"]
    assert (creator["user"], creator["role"]) == ("uma", "owner")
    vic = await site.as_user("vic")
    assert [room["id"] for room in (await vic.get("/v1/rooms"))["items"]] == ["lobby"]

    joined = await vic.post("/v1/rooms/lobby/join", None, 200)
    assert (joined["user"], joined["role"]) == ("vic", "member")
    await vic.post("/v1/rooms/lobby/join", None, 200)
    assert (await vic.get("/v1/rooms/lobby"))["member_count"] == 2
    await vic.post("/v1/rooms/lobby/leave", None, 204)
    assert (await backend.get("/v1/rooms/lobby"))["member_count"] == 1

    assert await vic.refused("PATCH", "/v1/rooms/lobby", {"name": "x"}) == (403, "not_a_member")
    changed = await backend.patch("/v1/rooms/lobby", {"user_id": "uma", "name": "Hall"})
    assert changed["name"] == "Hall"
    await backend.delete("/v1/rooms/lobby?user_id=uma")
    assert (await vic.get("/v1/rooms"))["items"] == []
    assert await vic.refused("GET", "/v1/rooms/lobby") == (404, "room_not_found")


async def test_messages_by_the_server_in_a_users_name(site: Site) -> None:
    """Listed, created, deleted; and sent once, however often the server repeats it."""
    backend = site.backend
    await backend.post("/v1/rooms", {"id": "desk", "created_by": "uma", "members": ["vic"]})
    async with site.live("vic") as vic:
        await vic.call("subscribe", room="desk")
        body = {"user_id": "uma", "content": "Good morning"}
        path = "/v1/rooms/desk/messages"
        sent = [await backend.send("POST", path, body, Idempotency_Key="mail-1") for _ in range(2)]
        assert [answer.status for answer in sent] == [201, 200]
        first, second = [answer.json() for answer in sent]
        assert (first["id"], second["duplicate"]) == (second["id"], True)
        event = await vic.event("message.created")
        assert (event["sender"], event["content"]) == ("uma", "Good morning")
        notice = await backend.post(path, {"kind": "system", "content": "Vic is new here"})
        assert notice["sender"] is None
        page = await backend.get(path)
        assert [m["content"] for m in page["items"]] == ["Good morning", "Vic is new here"]
        await backend.delete(f"{path}/{notice['id']}")
        assert (await vic.event("message.deleted"))["seq"] == notice["seq"]
    assert (await backend.get(f"/v1/messages/{notice['id']}"))["deleted_at"] is not None


async def test_user_joined_and_user_left(site: Site) -> None:
    """As members come and go, and as people come online and go, on either node."""
    await site.create_users("uma", "vic")
    backend = site.backend
    await backend.post("/v1/rooms", {"id": "lobby", "kind": "public", "created_by": "uma"})
    async with site.live("uma", 0) as uma:
        await uma.call("subscribe", room="lobby")
        await uma.event("presence.joined", user="uma")
        vic = await site.as_user("vic")
        await vic.post("/v1/rooms/lobby/join", None, 200)
        assert (await uma.event("member.added"))["user"] == "vic"
        async with site.live("vic", 1) as live:
            await live.call("subscribe", room="lobby")
            assert (await uma.event("presence.joined"))["user"] == "vic"
        left = await uma.event("presence.left")
        assert (left["user"], left["online"]) == ("vic", 1)
        await vic.post("/v1/rooms/lobby/leave", None, 204)
        assert await uma.event("member.removed") == {"user": "vic", "by": "vic", "reason": "left"}


async def test_typing_and_stopped_typing(site: Site) -> None:
    """Also when the typist only vanishes."""
    await site.create_users("uma", "vic")
    await site.backend.post("/v1/rooms", {"id": "desk", "created_by": "uma", "members": ["vic"]})
    async with site.live("uma", 0) as uma:
        await uma.call("subscribe", room="desk")
        async with site.live("vic", 1) as vic:
            await vic.call("typing", room="desk", active=True)
            assert (await uma.event("typing.started"))["user"] == "vic"
        assert (await uma.event("typing.stopped"))["user"] == "vic"
