"""Presence without ghosts: drops, silent peers, killed nodes, restarts. Promise 5, tests 17 and 18.

What is true is known here: every client of a test says when it is there. What is told is what a
witness sees, by `presence` and by the events alone; both must agree with the truth, and each
user's events must alternate, so that nothing is told twice and nobody flaps.
"""

import random
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
import trio

from broker.protocol.events import iso_time
from storage.redis.keys import rooms_of_key
from tests.support.client import ChatClient
from tests.support.deployment import Deployment, start_deployment
from tests.support.lean_client import HandshakeRefused, LeanClient, open_lean_client
from tests.support.processes import Processes, ServerProcess
from tests.support.proxy import open_proxy
from tests.support.script_rooms import open_rooms, wait_gone
from tests.support.servers import RedisServer
from tests.support.tokens import make_token
from tests.support.waiting import pass_time, wait_until

ROOM = "square"
USERS = 100
STORM_SECONDS = 8.0
GHOSTS_GONE = 20.0
REAPED_ROOMS = 5000


@asynccontextmanager
async def somebody(broker: ServerProcess, user: str) -> AsyncIterator[LeanClient]:
    """The user, subscribed; the end of the block ends the TCP connection without a close frame."""
    async with open_lean_client(broker.url, make_token(user)) as client:
        await client.call("subscribe", room=ROOM)
        yield client


class Witness:
    """A client that sees what is told in the room."""

    def __init__(self, client: ChatClient) -> None:
        self.client = client

    def events(self) -> list[tuple[str, str]]:
        """(event, user) of every presence event so far."""
        return [
            (event.event, event.data["user"])
            for event in self.client.rooms[ROOM].events
            if event.event.startswith("presence.")
        ]

    @property
    def must_move(self) -> bool:
        """Whether the node drains or is gone."""
        return self.client.drain is not None or self.client.ended.is_set()

    def told(self) -> set[str]:
        """Who is there by the events alone, which must alternate for each user."""
        by_user = defaultdict(list)
        for event, user in self.events():
            by_user[user].append(event)
        for user, events in by_user.items():
            expected = ["presence.joined", "presence.left"] * len(events)
            assert events == expected[: len(events)], (user, events)
        return {user for user, events in by_user.items() if events[-1] == "presence.joined"}

    async def asked(self) -> set[str]:
        """Who is there by `presence`."""
        answer = await self.client.call("presence", room=ROOM, limit=1000)
        users = {user["user"] for user in answer["users"]}
        assert answer["count"] == len(users)
        return users

    async def wait_for(self, users: Iterable[str], deadline: float = GHOSTS_GONE) -> None:
        """Wait until it is told that exactly these are there, in both ways."""
        wanted = set(users)

        async def agrees() -> bool:
            return self.told() == wanted and await self.asked() == wanted

        try:
            await wait_until(agrees, deadline=deadline, what=f"{len(wanted)} users there")
        except AssertionError as error:
            told, asked = self.told() ^ wanted, await self.asked() ^ wanted
            raise AssertionError(f"wrong by events: {told}, by `presence`: {asked}") from error


@asynccontextmanager
async def witness(system: Deployment, name: str, node: int) -> AsyncIterator[Witness]:
    async with system.connect(name, node, check=False) as client:
        await client.subscribe(ROOM)
        yield Witness(client)


class Storm:
    """Users who come and go in every way at random, and where each of them ends."""

    def __init__(self, system: Deployment, rng: random.Random) -> None:
        self.system = system
        self.rng = rng
        self.living = [0, 1]
        self.ends_at = trio.current_time() + STORM_SECONDS
        self.here: set[str] = set()
        self.may_end = trio.Event()

    async def run(self, user: str, stays: bool) -> None:
        """Come and go until the storm is over; then stay until told to end, or be gone."""
        while trio.current_time() < self.ends_at:
            await self._visit(user, self.rng.uniform(0.0, 2.0))
            await pass_time(self.rng.choice([0.0, 0.3, 1.0]))
        if stays:
            async with somebody(self._node(), user):
                self.here.add(user)
                await self.may_end.wait()

    async def _visit(self, user: str, seconds: float) -> None:
        node = self.rng.choice(self.living)
        was_here = False
        try:
            async with somebody(self.system.brokers[node], user) as client:
                was_here = True
                until = trio.current_time() + seconds
                await wait_until(lambda: client.is_ended or trio.current_time() >= until)
                way = self.rng.choice(["leave", "drop", "silence"])
                if way == "leave" and not client.is_ended:
                    await client.call("unsubscribe", room=ROOM)
                elif way == "silence" and not client.is_ended:
                    # As if the cable had been pulled, for longer than the node is patient.
                    client.fall_silent()
                    await pass_time(2.5)
        except* (OSError, trio.BrokenResourceError, AssertionError):
            # Who is here may be lost: on a busy machine a pong comes later than a second.
            assert was_here or node not in self.living, "only a node that was killed refuses"

    def _node(self) -> ServerProcess:
        return self.system.brokers[self.rng.choice(self.living)]


@pytest.mark.slow
@pytest.mark.timeout(120)
async def test_without_ghosts(
    processes: Processes, redis_server: RedisServer, database_url: str
) -> None:
    """Promise 5: 100 users over two nodes, drops without FIN, one node killed: within 20 s all
    agree with the truth. Then a fifth of them reconnects within the grace, and nothing is told."""
    rng = random.Random(random.randrange(2**32))
    system = await start_deployment(
        processes, redis_server, database_url, archiver=False,
        PING_INTERVAL="1s", PONG_TIMEOUT="1s", QUIET_ROOM_USERS="1000",
    )  # fmt: skip
    await system.create_room(ROOM, "witness", kind="public")
    names = [f"user{number}" for number in range(USERS)]
    async with witness(system, "witness", 0) as seen, trio.open_nursery() as nursery:
        storm = Storm(system, rng)
        staying = set(rng.sample(names, USERS // 2))
        for user in names:
            nursery.start_soon(storm.run, user, user in staying)
        await pass_time(STORM_SECONDS / 2)
        storm.living.remove(1)
        system.brokers[1].kill()
        killed_at = trio.current_time()
        await wait_until(lambda: storm.here == staying, deadline=30, what="the storm is over")
        left = GHOSTS_GONE - (trio.current_time() - killed_at)
        await seen.wait_for(staying | {"witness"}, deadline=max(left, 5.0))
        system.brokers[1] = await system.processes.start_broker()
        before = seen.events()
        await reconnect_within_the_grace(system, sorted(staying)[: USERS // 5], storm)
        assert seen.events() == before
        storm.may_end.set()
    await system.check_rooms()


async def reconnect_within_the_grace(system: Deployment, users: list[str], storm: Storm) -> None:
    """Each has a second connection for a moment: one node after the other, then none of them."""
    for node in (1, 0, 1):
        async with AsyncExitStack() as stack:
            for user in users:
                await stack.enter_async_context(somebody(system.brokers[node], user))
    assert storm.here >= set(users)
    await pass_time(4.0)


@pytest.mark.slow
@pytest.mark.timeout(120)
async def test_who_left_a_node_that_died_a_moment_later(
    processes: Processes, redis_server: RedisServer, database_url: str
) -> None:
    """Test 17 (B7): kill -9 one second after a user's last connection: its leaving is told once,
    with the time of the leaving; so is that of who was still there."""
    system = await start_deployment(processes, redis_server, database_url, archiver=False)
    await system.create_room(ROOM, "witness", kind="public")
    async with (
        witness(system, "witness", 1) as seen,
        somebody(system.brokers[0], "stays"),
    ):
        async with somebody(system.brokers[0], "leaves"):
            await seen.wait_for({"witness", "stays", "leaves"})
        await wait_until(lambda: grace_of(seen, "leaves"), what="leaves is in its grace")
        await pass_time(1.0)
        assert not [event for event, _user in seen.events() if event == "presence.left"]
        system.brokers[0].kill()
        killed_at, killed_time = trio.current_time(), iso_time(int(time.time() * 1000))
        await seen.wait_for({"witness"})
        assert trio.current_time() - killed_at < GHOSTS_GONE
        assert len(seen.events()) == 5
        left = {
            event.data["user"]: event
            for event in seen.client.rooms[ROOM].events
            if event.event == "presence.left"
        }
        assert left["leaves"].data["last_seen_at"] < killed_time
        assert left["stays"].data["last_seen_at"] > killed_time, "the end of the node's lease"
        assert all(event.data["last_seen_at"] == event.time for event in left.values())
    await system.check_rooms()


async def grace_of(seen: Witness, user: str) -> bool:
    answer = await seen.client.call("presence", room=ROOM)
    return [u["connections"] for u in answer["users"] if u["user"] == user] == [0]


@pytest.mark.slow
@pytest.mark.timeout(120)
async def test_a_single_node_is_restarted(
    processes: Processes, redis_server: RedisServer, database_url: str
) -> None:
    """Test 17 (B7): there is no survivor, so the next node cleans up; one `presence.left` each, and
    the users' documents say until when they were seen."""
    system = await start_deployment(
        processes, redis_server, database_url, brokers=1, archiver=False
    )
    await system.create_room(ROOM, "witness", kind="public")
    async with somebody(system.brokers[0], "alice"), somebody(system.brokers[0], "bob"):
        before = await system.ok("GET", f"/v1/rooms/{ROOM}/presence")
        assert before["count"] == 2
        await wait_until(lambda: seen_at(system, "alice"), what="alice is known to be seen")
        came = await seen_at(system, "alice")
        system.brokers[0].kill()
        killed_at = trio.current_time()
    system.brokers[0] = await system.processes.start_broker()
    async with witness(system, "witness", 0) as seen:
        lost = "presence.left"
        await wait_until(lambda: len(seen.events()) == 3, deadline=GHOSTS_GONE, what="both gone")
        assert trio.current_time() - killed_at < GHOSTS_GONE
        assert sorted(seen.events()[1:]) == [(lost, "alice"), (lost, "bob")]
        assert await seen.asked() == {"witness"}
        await wait_until(lambda: is_seen_later(system, "alice", came), what="last_seen_at")
        found = await system.ok("GET", "/v1/users/alice/presence")
        assert (found["online"], found["rooms"]) == (False, [])
        await pass_time(4.0)
        assert len(seen.events()) == 3
    await system.check_rooms()


@pytest.mark.slow
@pytest.mark.timeout(120)
async def test_a_reaper_is_killed_half_way(
    processes: Processes, redis_server: RedisServer, database_url: str
) -> None:
    """Test 17 (B7): 5000 rooms of a dead node; the reaper dies among them, the next one goes on,
    and each user is announced as gone once."""
    async with open_rooms(processes.env["REDIS_URL"], checked=False) as rooms:
        await rooms.open_node("witness")
        await rooms.open_node("dead")

        async def enter(numbers: range) -> None:
            for number in numbers:
                key = f"default/room{number}"
                await rooms.warm(key)
                await rooms.subscribed("witness", key=key, user="/", connections=0)
                await rooms.subscribed("dead", key=key)

        async with trio.open_nursery() as nursery:
            for start in range(0, REAPED_ROOMS, 100):
                nursery.start_soon(enter, range(start, start + 100))
        await rooms.end_lease("dead")
        async with open_proxy(redis_server.port) as proxy:
            slow = {"REDIS_URL": proxy.replace_port(redis_server.url)}
            reaper = await processes.start("broker", env=slow, ready=False)
            left: list[int] = []

            async def is_half_way() -> bool:
                proxy.delay = 0.02
                left[:] = [await rooms.ask("SCARD", rooms_of_key("dead"))]
                return left[0] < REAPED_ROOMS

            await wait_until(is_half_way, deadline=60, what="the reaper has begun")
            reaper.kill()
            assert 0 < left[0] < REAPED_ROOMS
        await processes.start("broker")
        await wait_gone(rooms, rooms_of_key("dead"))
        assert await rooms.live.rooms_of("default", "alice") == []
        counts = await rooms.live.online_counts([f"default/room{n}" for n in range(REAPED_ROOMS)])
        assert set(counts) == {0}
        events = await rooms.inbox_events("witness")
        assert events.count("presence.joined") == REAPED_ROOMS
        assert events.count("presence.left") == REAPED_ROOMS


async def seen_at(system: Deployment, user: str) -> Any:
    return (await system.ok("GET", f"/v1/users/{user}"))["last_seen_at"]


async def is_seen_later(system: Deployment, user: str, than: str) -> bool:
    return bool(await seen_at(system, user) > than)


@pytest.mark.slow
@pytest.mark.timeout(120)
async def test_a_rolling_restart_announces_nobody_who_comes_back(
    processes: Processes, redis_server: RedisServer, database_url: str
) -> None:
    """Test 18 (B8): three nodes, one after the other; zero presence events for who came back."""
    system = await start_deployment(
        processes, redis_server, database_url, brokers=3, archiver=False, DRAIN_SECONDS="4",
        QUIET_ROOM_USERS="1000",
    )  # fmt: skip
    await system.create_room(ROOM, "witness", kind="public")
    users = [f"user{number}" for number in range(60)]
    rng = random.Random(random.randrange(2**32))
    here: set[str] = set()
    living = {0, 1, 2}
    is_over = trio.Event()
    told: list[tuple[str, str]] = []

    async def live(user: str) -> None:
        while not is_over.is_set():
            node = rng.choice(sorted(living))
            try:
                async with somebody(system.brokers[node], user) as client:
                    here.add(user)
                    await wait_until(lambda: client.is_ended or is_over.is_set(), deadline=90)
            except* HandshakeRefused:
                pass  # by a node that has just begun to stop; clients try another then
            await pass_time(rng.uniform(0.0, 1.0))

    async def watch() -> None:
        """Sees everything, moving itself when it is told to."""
        while not is_over.is_set():
            async with witness(system, "witness", rng.choice(sorted(living))) as seen:
                here.add("witness")
                while not (seen.must_move or is_over.is_set()):
                    await pass_time(0.05)
            told.extend(seen.events())

    async with trio.open_nursery() as nursery:
        for user in users:
            nursery.start_soon(live, user)
        nursery.start_soon(watch)
        await wait_until(lambda: len(here) == 61, deadline=30, what="all there")
        for node in range(3):
            living.discard(node)
            assert await system.brokers[node].stop() == 0
            system.brokers[node] = await system.processes.start_broker()
            living.add(node)
        await wait_until(
            lambda: redis_server.command("ZCARD", "parley:leases") == 3, deadline=20,
            what="drained nodes reaped",
        )  # fmt: skip
        is_over.set()
    assert "presence.left" not in {event for event, _user in told}
    assert len(told) == len(set(told)) <= 61
