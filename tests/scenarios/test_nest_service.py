"""A NestJS chat service is replaced: its users do all of it themselves, with their own tokens."""

import pytest

from tests.scenarios.users_code import Rest, Site

Users = dict[str, Rest]
NAMES = ("olga", "adam", "mia", "max")


@pytest.fixture
async def users(site: Site) -> Users:
    """Users who have signed in once; the backend does no more than hand out tokens."""
    await site.create_users(*NAMES)
    return {user: await site.as_user(user) for user in NAMES}


async def group(users: Users) -> str:
    """Olga's group with Adam as admin and Mia as member; its path."""
    members = [{"user": "adam", "role": "admin"}, "mia"]
    made = await users["olga"].post("/v1/rooms", {"name": "Climbing", "members": members})
    return f"/v1/rooms/{made['id']}"


async def roles(rest: Rest, room: str) -> dict[str, str]:
    found = await rest.get(f"{room}/members")
    return {member["user"]: member["role"] for member in found["items"]}


async def test_users_start_conversations_by_themselves(users: Users) -> None:
    """A direct one and a group, with the own token; not one that they are not in."""
    olga = users["olga"]
    direct = await olga.post("/v1/rooms", {"kind": "direct", "members": ["mia"]})
    assert await roles(olga, f"/v1/rooms/{direct['id']}") == {"mia": "member", "olga": "member"}
    room = await group(users)
    assert await roles(olga, room) == {"adam": "admin", "mia": "member", "olga": "owner"}
    others = {"kind": "direct", "members": ["adam", "mia"]}
    assert await olga.refused("POST", "/v1/rooms", others) == (403, "forbidden")
    nobody = {"kind": "direct", "members": ["never-seen"]}
    assert await olga.refused("POST", "/v1/rooms", nobody) == (404, "not_found")


async def test_admins_are_made_and_unmade(users: Users) -> None:
    room = await group(users)
    mia = f"{room}/members/mia"
    assert (await users["adam"].patch(mia, {"role": "admin"}))["role"] == "admin"
    assert (await users["olga"].patch(mia, {"role": "member"}))["role"] == "member"
    refused = await users["mia"].refused("PATCH", f"{room}/members/adam", {"role": "member"})
    assert refused == (403, "forbidden")


async def test_ownership_is_handed_over(users: Users) -> None:
    room = await group(users)
    hand_over = (f"{room}/members/adam", {"role": "owner"})
    assert await users["adam"].refused("PATCH", *hand_over) == (403, "forbidden")
    await users["olga"].patch(*hand_over)
    assert await roles(users["mia"], room) == {"adam": "owner", "mia": "member", "olga": "admin"}
    await users["olga"].post(f"{room}/leave", None, 204)


async def test_members_are_added_and_removed_and_leave(users: Users) -> None:
    room = await group(users)
    await users["adam"].post(f"{room}/members", {"user": "max"})
    await users["max"].get(f"{room}/messages")
    refused = await users["mia"].refused("DELETE", f"{room}/members/max")
    assert refused == (403, "forbidden")
    await users["adam"].delete(f"{room}/members/max")
    assert await users["max"].refused("GET", room) == (404, "room_not_found")
    for _ in range(2):
        await users["mia"].post(f"{room}/leave", None, 204)
    assert await roles(users["olga"], room) == {"adam": "admin", "olga": "owner"}


async def test_an_owner_is_not_removed_and_does_not_leave(users: Users) -> None:
    """Ruling 43: until handed over, or the last one."""
    room = await group(users)
    refused = await users["adam"].refused("DELETE", f"{room}/members/olga")
    assert refused == (403, "forbidden")
    assert await users["olga"].refused("POST", f"{room}/leave") == (409, "conflict")
    for user in ("adam", "mia"):
        await users["olga"].delete(f"{room}/members/{user}")
    await users["olga"].post(f"{room}/leave", None, 204)


async def test_only_the_sender_edits_and_sender_or_admin_deletes(users: Users) -> None:
    """Rulings 29 and 31."""
    room = await group(users)
    messages = f"{room}/messages"
    first = await users["mia"].post(messages, {"content": "fisrt"})
    path = f"{messages}/{first['id']}"
    for other in ("olga", "adam"):
        refused = await users[other].refused("PATCH", path, {"content": "mine"})
        assert refused == (403, "forbidden")
    assert (await users["mia"].patch(path, {"content": "first"}))["content"] == "first"
    second = await users["olga"].post(messages, {"content": "second"})
    refused = await users["mia"].refused("DELETE", f"{messages}/{second['id']}")
    assert refused == (403, "forbidden")
    await users["olga"].delete(f"{messages}/{second['id']}")
    await users["adam"].delete(path)
    page = await users["mia"].get(messages)
    assert [(m["content"], m["deleted_by"]) for m in page["items"]] == [
        (None, "adam"), (None, "olga")
    ]  # fmt: skip
    assert await users["mia"].refused("PATCH", path, {"content": "x"}) == (409, "conflict")


async def test_replies(users: Users, site: Site) -> None:
    """Live and as a list."""
    room = await group(users)
    asked = await users["olga"].post(f"{room}/messages", {"content": "Saturday?"})
    room_id = room.rpartition("/")[2]
    async with site.live("mia") as mia, site.live("olga", broker=1) as olga:
        await olga.call("subscribe", room=room_id)
        await mia.call("publish", room=room_id, content="Yes", reply_to=asked["seq"])
        event = await olga.event("message.created")
        assert (event["content"], event["reply_to"]) == ("Yes", asked["seq"])
    replies = await users["adam"].get(f"{room}/messages/{asked['id']}/replies")
    assert [m["sender"] for m in replies["items"]] == ["mia"]


async def test_conversations_are_listed(users: Users) -> None:
    """All kinds in one list, with what was said last, the active ones first."""
    room = await group(users)
    direct = await users["mia"].post("/v1/rooms", {"kind": "direct", "members": ["olga"]})
    await users["olga"].post(f"{room}/messages", {"content": "Saturday?"})
    await users["mia"].post(f"/v1/rooms/{direct['id']}/messages", {"content": "Hi"})
    listed = await users["mia"].get("/v1/me/rooms")
    assert [(item["kind"], item["last_message"]["content"]) for item in listed["items"]] == [
        ("direct", "Hi"), ("group", "Saturday?")
    ]  # fmt: skip
    assert listed["items"][1]["role"] == "member"
    assert (await users["max"].get("/v1/me/rooms"))["items"] == []
