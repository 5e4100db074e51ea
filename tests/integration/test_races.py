"""Two who do what excludes each other, at once, on two nodes and two APIs, many times over.

Each time the outcome is one of the legal ones; and in the end PostgreSQL, Redis (the fixture's
fsck) and everybody who was there agree: folding the events of either node gives what both APIs say.
"""

import random
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest
import trio

from tests.support.client import ChatClient, ChatError
from tests.support.deployment import PROJECT, Deployment, room_path
from tests.support.http import Response, request
from tests.support.processes import ServerProcess
from tests.support.repeating import times
from tests.support.seen import ConnectionEnded, Event
from tests.support.servers import fetch
from tests.support.tokens import make_token
from tests.support.waiting import jitter

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

TURNS = times(200)
Name = Callable[[str], str]
Work = Callable[[], Awaitable[Any]]


class Arena:
    """The shared deployment with two APIs, and one room with a watcher on each node."""

    def __init__(self, shared: Deployment, urls: list[str], room: str) -> None:
        self.shared = shared
        self.room = room
        self.path = room_path(room)
        self.watchers: list[ChatClient] = []
        self._urls = urls

    async def send(
        self, api: int, method: str, path: str, body: Any = None, *, user: str | None = None
    ) -> Response:
        """A request to one of the APIs, by the key or as `user` with its token."""
        key, token = (self.shared.key, None) if user is None else (None, make_token(user))
        return await request(method, self._urls[api] + path, body=body, key=key, token=token)

    async def status(self, *arguments: Any, **options: Any) -> int:
        """The status of `send`; what is unavailable fails the test."""
        answer = await self.send(*arguments, **options)
        assert answer.status < 500, answer
        return answer.status

    async def create(self, owner: str, *members: Any, kind: str = "group") -> None:
        await self.shared.create_room(self.room, *members, created_by=owner, kind=kind)

    async def watch(self, stack: AsyncExitStack, user: str) -> None:
        """Have a watcher on each node."""
        for node in (0, 1):
            watcher = await stack.enter_async_context(self.shared.connect(user, node))
            await watcher.subscribe(self.room)
            self.watchers.append(watcher)

    async def durable(self) -> list[Event]:
        """Every durable event so far; both watchers have seen the same."""
        newest = int(self.shared.room_hash(self.room)["offset"])
        for watcher in self.watchers:

            def has_all(watcher: ChatClient = watcher) -> bool:
                position = watcher.rooms[self.room].position
                return position is not None and position.offset >= newest

            await watcher.wait(has_all, what=f"offset {newest}")
        first, second = [
            [event for event in watcher.rooms[self.room].events if event.offset is not None]
            for watcher in self.watchers
        ]
        assert first == second
        return first

    async def agree(self, members: dict[str, str]) -> dict[str, str]:
        """Fold what has happened to the members, from those at first; all say the same."""
        folded = dict(members)
        for event in await self.durable():
            fold_member(folded, event)
        for api in (0, 1):
            listed = (await self.send(api, "GET", f"{self.path}/members?limit=100")).json()
            assert {m["user"]: m["role"] for m in listed["items"]} == folded
            assert listed["total"] == len(folded)
        assert list(folded.values()).count("owner") <= 1
        query = """
            SELECT version, (SELECT count(*) FROM announcements WHERE room_pk = pk) AS waiting
            FROM rooms WHERE project = $1 AND id = $2
        """
        (row,) = fetch(self.shared.database_url, query, PROJECT, self.room)
        assert self.shared.room_hash(self.room)["ver"] == str(row["version"])
        assert row["waiting"] == 0
        return folded


def fold_member(members: dict[str, str], event: Event) -> None:
    """What a client makes of a member event; one that may not be is an error."""
    match event.event:
        case "member.added":
            assert event.data["user"] not in members, f"{event} of a member"
            members[event.data["user"]] = event.data["role"]
        case "member.updated":
            assert event.data["user"] in members, f"{event} of nobody"
            members[event.data["user"]] = event.data["role"]
        case "member.removed":
            members.pop(event.data["user"], None)


@pytest.fixture
def arena(shared: Deployment, second_api: ServerProcess, name: Name) -> Arena:
    assert shared.api is not None
    return Arena(shared, [shared.api.base_url, second_api.base_url], name("room"))


async def at_once(*works: Work) -> list[Any]:
    """What each of them answers; all start within some milliseconds, in any order."""
    results: list[Any] = [None] * len(works)

    async def run(place: int) -> None:
        await jitter()
        results[place] = await works[place]()

    async with trio.open_nursery() as nursery:
        for place in range(len(works)):
            nursery.start_soon(run, place)
    return results


def doing(work: Callable[..., Awaitable[Any]], *arguments: Any, **options: Any) -> Work:
    """The call, to be made later."""

    async def run() -> Any:
        return await work(*arguments, **options)

    return run


async def outcome(client: ChatClient, type_: str, room: str, **fields: Any) -> Any:
    """The result, or the code of the error; None if the connection has ended."""
    try:
        return await client.call(type_, room=room, **fields)
    except ChatError as error:
        return error.code
    except ConnectionEnded:
        return None


async def test_both_sides_create_one_direct_room(arena: Arena, name: Name) -> None:
    """B12, ruling 42: one room for the pair, one 201, and both are in it."""

    async def create(api: int, me: str, other: str) -> Any:
        body = {"kind": "direct", "members": [other], "user_id": me}
        answer = await arena.send(api, "POST", "/v1/rooms", body)
        return answer.status, answer.json()

    for turn in range(TURNS):
        alice, bob = name(f"alice{turn}"), name(f"bob{turn}")
        works = [doing(create, 0, alice, bob), doing(create, 1, bob, alice)]
        results = await at_once(*works * (1 + turn % 2))
        assert sorted(status for status, _ in results) == [200] * (len(results) - 1) + [201]
        assert len({room["id"] for _, room in results}) == 1
        path = f"{room_path(results[0][1]['id'])}/members"
        members = (await arena.send(turn % 2, "GET", path)).json()
        assert [m["user"] for m in members["items"]] == sorted([alice, bob])


async def test_ten_people_react_at_once_and_unreact(arena: Arena, name: Name) -> None:
    """Ruling 32: sets. Each change has its event, and in the end those who wanted to are in."""
    people = [name(f"user{number}") for number in range(10)]
    await arena.create(people[0], *people[1:])
    async with AsyncExitStack() as stack:
        await arena.watch(stack, people[0])
        clients = [
            await stack.enter_async_context(arena.shared.connect(person, number % 2))
            for number, person in enumerate(people)
        ]

        async def react(place: int, seq: int, type_: str) -> Any:
            client = clients[place]
            return (await client.call(type_, room=arena.room, seq=seq, reaction="👍"))["offset"]

        for turn in range(TURNS):
            seq = (await clients[0].publish(arena.room, "text"))["seq"]
            added = await at_once(*(doing(react, place, seq, "react") for place in range(10)))
            assert len(set(added) - {None}) == 10
            leaving = set(random.sample(range(10), 5))
            types = ["unreact" if place in leaving else "react" for place in range(10)]
            again = await at_once(*(doing(react, p, seq, type_) for p, type_ in enumerate(types)))
            assert {place for place in range(10) if again[place] is not None} == leaving
            if turn % 20 == 0:
                answer = await arena.send(turn % 2, "GET", f"{arena.path}/messages/{seq}/reactions")
                stay = {people[place] for place in set(range(10)) - leaving}
                assert {row["user"] for row in answer.json()["items"]} == stay
        await arena.agree({people[0]: "owner"} | dict.fromkeys(people[1:], "member"))


async def test_the_owner_hands_over_while_leaving(arena: Arena, name: Name) -> None:
    """Ruling 43: never two owners, and the room is never without one."""
    owner, heir, watcher = name("owner"), name("heir"), name("watcher")
    await arena.create(owner, heir, watcher)
    first = {owner: "owner", heir: "member", watcher: "member"}
    async with AsyncExitStack() as stack:
        await arena.watch(stack, watcher)
        for turn in range(TURNS):
            member = f"{arena.path}/members/{heir}"
            hand_over = doing(
                arena.status, turn % 2, "PATCH", member, {"role": "owner"}, user=owner
            )
            leave = doing(arena.status, 1 - turn % 2, "POST", f"{arena.path}/leave", user=owner)
            handed, left = await at_once(hand_over, leave)
            assert (handed, left) in ((200, 204), (200, 409))
            if turn % 10 == 0:
                members = await arena.agree(first)
                assert members.get(owner) == ("admin" if left == 409 else None)
                assert members[heir] == "owner"
            if left == 204:
                body = {"user": owner}
                assert await arena.status(0, "POST", f"{arena.path}/members", body) == 201
            owner, heir = heir, owner
        await arena.agree(first)


async def test_a_member_is_removed_while_publishing(arena: Arena, name: Name) -> None:
    """A6: nothing of a removed member has an offset above the removal, on either node."""
    owner, bob = name("owner"), name("bob")
    await arena.create(owner, bob)
    async with AsyncExitStack() as stack:
        await arena.watch(stack, owner)
        clients = [
            await stack.enter_async_context(arena.shared.connect(bob, node)) for node in (0, 1)
        ]
        for turn in range(TURNS):
            publish = [
                doing(outcome, client, "publish", arena.room, content="text") for client in clients
            ]
            remove = doing(arena.status, turn % 2, "DELETE", f"{arena.path}/members/{bob}")
            *published, removed = await at_once(*publish, *publish, remove)
            assert removed == 204
            assert all(isinstance(p, dict) or p == "room_not_found" for p in published), published
            late = [await outcome(c, "publish", arena.room, content="late") for c in clients]
            assert late == ["room_not_found"] * 2
            back = await arena.status(turn % 2, "POST", f"{arena.path}/members", {"user": bob})
            assert back == 201
        await arena.agree({owner: "owner", bob: "member"})
        check_only_members_write(await arena.durable(), {owner, bob})


def check_only_members_write(events: list[Event], members: set[str]) -> None:
    """Every message is of somebody who was a member at its offset."""
    present = set(members)
    for event in events:
        if event.event == "member.added":
            present.add(event.data["user"])
        elif event.event == "member.removed":
            present.remove(event.data["user"])
        elif event.event == "message.created":
            assert event.data["sender"] in present, event


async def test_a_user_is_deleted_while_publishing(arena: Arena, name: Name) -> None:
    """Ruling 44: the membership ends, the connection is closed, and nothing comes after it."""
    owner = name("owner")
    users = [name(f"user{turn}") for turn in range(TURNS)]
    await arena.create(owner)
    for part in range(0, TURNS, 100):
        body = {"users": users[part : part + 100]}
        assert await arena.status(0, "POST", f"{arena.path}/members", body) == 201
    async with AsyncExitStack() as stack:
        await arena.watch(stack, owner)
        for turn, user in enumerate(users):
            async with arena.shared.connect(user, turn % 2) as client:
                publish = doing(outcome, client, "publish", arena.room, content="text")
                delete = doing(arena.status, turn % 2, "DELETE", f"/v1/users/{user}")
                *published, deleted = await at_once(publish, publish, delete)
                assert deleted == 204
                # It came first, the membership was gone, or the connection was.
                assert all(isinstance(p, dict) or p in (None, "room_not_found") for p in published)
                assert await client.wait_ended() == 4403
            if turn % 20 == 0:
                assert await arena.status(turn % 2, "GET", f"/v1/users/{user}") == 404
        assert await arena.status(0, "GET", f"{arena.path}/members") == 200
        check_only_members_write(await arena.durable(), {owner, *users})
        events = [event for event in await arena.durable() if event.event == "member.removed"]
        assert [event.data["user"] for event in events] == users
        assert {event.data["reason"] for event in events} == {"deleted"}


async def test_two_admins_change_the_same_member(arena: Arena, name: Name) -> None:
    """Both are done, in one order for all."""
    owner, bob = name("owner"), name("bob")
    admins = [name("adam"), name("ada")]
    await arena.create(owner, bob, *({"user": admin, "role": "admin"} for admin in admins))
    first = {owner: "owner", bob: "member"} | dict.fromkeys(admins, "admin")
    path = f"{arena.path}/members/{bob}"
    async with AsyncExitStack() as stack:
        await arena.watch(stack, owner)
        for turn in range(TURNS):
            bodies: list[dict[str, Any]] = [
                {"role": random.choice(("reader", "member", "admin"))},
                {"role": "reader"}
                if turn % 2
                else {"muted_until": f"{2100 + turn}-01-01T00:00:00Z"},
            ]
            works = [
                doing(arena.status, place, "PATCH", path, body, user=admins[place])
                for place, body in enumerate(bodies)
            ]
            assert await at_once(*works) == [200, 200]
            if turn % 20 == 0:
                await arena.agree(first)
        await arena.agree(first)
        last = [e.data for e in await arena.durable() if e.event == "member.updated"][-1]
        members = (await arena.send(0, "GET", f"{arena.path}/members")).json()["items"]
        (now,) = [member for member in members if member["user"] == bob]
        assert {field: last[field] for field in now} == now


async def test_joining_against_a_ban(arena: Arena, name: Name) -> None:
    """In the end the user is banned and no member, whoever was first."""
    owner, bob = name("owner"), name("bob")
    await arena.create(owner, bob, kind="public")
    first = {owner: "owner", bob: "member"}
    ban, join = f"{arena.path}/bans/{bob}", f"{arena.path}/join"
    async with AsyncExitStack() as stack:
        await arena.watch(stack, owner)
        live = await stack.enter_async_context(arena.shared.connect(bob))
        for turn in range(TURNS):
            joined, banned = await at_once(
                doing(arena.status, turn % 2, "POST", join, user=bob),
                doing(arena.status, 1 - turn % 2, "PUT", ban, user=owner),
            )
            assert banned == 204
            # 409: it was let in, and had ended again when the answer was read.
            assert joined in (200, 403, 409)
            assert await outcome(live, "publish", arena.room, content="x") == "forbidden"
            assert await arena.status(turn % 2, "POST", join, user=bob) == 403
            if turn % 20 == 0:
                assert await arena.agree(first) == {owner: "owner"}
            assert await arena.status(turn % 2, "DELETE", ban) == 204
        assert await arena.agree(first) == {owner: "owner"}


async def test_two_apis_change_one_room(arena: Arena, name: Name) -> None:
    """Given fields replace: folding the changed fields of every event gives the room."""
    owner, admin = name("owner"), name("admin")
    await arena.create(owner, {"user": admin, "role": "admin"})
    async with AsyncExitStack() as stack:
        await arena.watch(stack, owner)
        for turn in range(TURNS):
            bodies: list[dict[str, Any]] = [
                {"name": f"name {turn}", "topic": f"of owner {turn}"},
                {"topic": f"of admin {turn}", "metadata": {"turn": turn}},
            ]
            works = [
                doing(arena.status, place, "PATCH", arena.path, body, user=user)
                for place, (user, body) in enumerate(zip((owner, admin), bodies, strict=True))
            ]
            assert await at_once(*works) == [200, 200]
        room: dict[str, Any] = {}
        for event in await arena.durable():
            room |= event.data
        room.pop("by")
        for api in (0, 1):
            found = (await arena.send(api, "GET", arena.path)).json()
            assert {field: found[field] for field in room} == room
        await arena.agree({owner: "owner", admin: "admin"})


async def test_many_changes_of_one_room_at_once_are_all_answered(arena: Arena, name: Name) -> None:
    """Two APIs and the archiver announce for one room: no 503, and each change is one event."""
    owner = name("owner")
    users = [name(f"user{number}") for number in range(60)]
    await arena.create(owner)
    async with AsyncExitStack() as stack:
        await arena.watch(stack, owner)
        places = [(place % 2, f"{arena.path}/members", user) for place, user in enumerate(users)]
        add = [doing(arena.status, api, "POST", path, {"user": u}) for api, path, u in places]
        assert await at_once(*add) == [201] * len(users)
        for role in ("admin", "reader", "member"):
            change = [
                doing(arena.status, api, "PATCH", f"{path}/{user}", {"role": role})
                for api, path, user in places
            ]
            assert await at_once(*change) == [200] * len(users)
        assert len(await arena.durable()) == 4 * len(users)
        await arena.agree({owner: "owner"})


async def test_two_devices_mark_as_read_backwards(arena: Arena, name: Name) -> None:
    """Ruling 28: marks never go back, whatever the order, on either node and after archiving."""
    owner, bob = name("owner"), name("bob")
    await arena.create(owner, bob)
    async with AsyncExitStack() as stack:
        writer = await stack.enter_async_context(arena.shared.connect(owner))
        devices = [
            await stack.enter_async_context(arena.shared.connect(bob, node)) for node in (0, 1)
        ]
        for turn in range(TURNS):
            for _ in range(3):
                await writer.publish(arena.room, "text")
            newest = 3 * turn + 3
            marks = [(0, newest), (1, newest - 1), (1, newest - 2), (0, newest - 2)]
            random.shuffle(marks)
            results = await at_once(
                *(doing(outcome, devices[p], "read", arena.room, seq=seq) for p, seq in marks)
            )
            assert max(result["seq"] for result in results) == newest
            assert all(r["seq"] >= seq for r, (_, seq) in zip(results, marks, strict=True))
            # The other device may have read on before the rest was counted.
            assert all(0 <= r["unread"] <= newest - r["seq"] for r in results)
            again = await outcome(devices[turn % 2], "read", arena.room, seq=1)
            assert again == {"seq": newest, "unread": 0}
        for _ in range(2):
            receipts = (await arena.send(0, "GET", f"{arena.path}/receipts")).json()["items"]
            assert {row["user"]: row["read_seq"] for row in receipts} == {
                owner: newest,
                bob: newest,
            }
            await arena.shared.wait_archived()
