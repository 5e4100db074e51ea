"""SIGTERM of a broker under load: told, drained, closed; nothing is lost and nobody has "left"."""

from collections.abc import Callable
from contextlib import AsyncExitStack
from functools import partial
from typing import Any

import pytest
import trio

from tests.integration.conftest import Start
from tests.support.client import ChatClient, ChatError, ConnectionEnded
from tests.support.deployment import Deployment
from tests.support.http import request
from tests.support.processes import ServerProcess
from tests.support.servers import PostgresServer
from tests.support.tokens import make_token
from tests.support.waiting import wait_until

DRAIN_SECONDS = 6
# Two sweeps for dead nodes, yet within what a drained node's presence outlives it by.
RETURN_AFTER = 4.0
USERS = [f"u{number}" for number in range(12)]


class Mover:
    """A user of one room who publishes all the time and moves to the other node.

    As soon as it is told to, or only some time after the connection was closed.
    """

    def __init__(self, system: Deployment, user: str, *, waits_for_close: bool) -> None:
        self.system = system
        self.user = user
        self.waits_for_close = waits_for_close
        self.may_go_on = False
        self.is_stopping = False
        self.answers: dict[str, dict[str, Any]] = {}
        self.close_code: int | None = None
        self.reconnect_within: float | None = None
        self.seen: list[int] = []
        self.refused_while_draining = 0
        self.is_moved = False

    async def run(self, ready: Callable[[], None]) -> None:
        async with self.system.connect(self.user, 0) as client:
            first = await client.subscribe("room")
            ready()
            await self._publish_until_told(client)
            if self.waits_for_close:
                self.close_code = await client.wait_ended(deadline=DRAIN_SECONDS + 10)
                due = trio.current_time() + RETURN_AFTER
                await wait_until(lambda: trio.current_time() >= due)
            self._note(client)
            at = client.rooms["room"].position
            assert at is not None
            assert at.epoch == first["epoch"]
        async with self.system.connect(self.user, 1) as client:
            result = await client.subscribe("room", since=at.as_since())
            assert result["recovered"] is True
            self.is_moved = True
            # Few enough that who comes back late can resume.
            for _ in range(10):
                await self._publish(client)
            await wait_until(lambda: self.may_go_on, deadline=30)
            while not self.is_stopping:
                await self._publish(client)
            newest = max(answer["offset"] for answer in self.answers.values())
            view = client.rooms["room"]
            await client.wait(lambda: view.position is not None and view.position.offset >= newest)
            self._note(client)

    async def _publish_until_told(self, client: ChatClient) -> None:
        while not client.ended.is_set() and client.drain is None:
            await self._publish(client)
        assert client.drain is not None
        self.reconnect_within = client.drain["reconnect_within"]
        # Whatever comes after the frame is refused, and refused at once.
        if not client.ended.is_set():
            await self._publish(client)

    async def _publish(self, client: ChatClient) -> None:
        client_id = f"{self.user}-{len(self.answers)}"
        try:
            answer = await client.publish("room", client_id, client_id=client_id)
        except ChatError as error:
            assert error.code == "unavailable", error
            assert client.drain is not None
            self.refused_while_draining += 1
        except ConnectionEnded:
            return
        else:
            self.answers[client_id] = answer

    def _note(self, client: ChatClient) -> None:
        self.seen += [event.offset for event in client.rooms["room"].events if event.offset]


@pytest.mark.slow
async def test_under_load(start: Start) -> None:
    system = await start(DRAIN_SECONDS=str(DRAIN_SECONDS))
    await system.create_room("room", *USERS, "witness")
    ready = 0

    def count_ready() -> None:
        nonlocal ready
        ready += 1

    async with AsyncExitStack() as stack:
        witness = await stack.enter_async_context(system.connect("witness", 1))
        await witness.subscribe("room")
        movers = [
            Mover(system, user, waits_for_close=number % 3 == 0)
            for number, user in enumerate(USERS)
        ]
        async with trio.open_nursery() as nursery:
            for mover in movers:
                nursery.start_soon(mover.run, count_ready)
            await wait_until(lambda: ready == len(USERS), what="everybody there")
            await wait_until(lambda: all(len(mover.answers) > 20 for mover in movers))
            began = trio.current_time()
            system.brokers[0].terminate()
            assert await system.brokers[0].wait_ended(DRAIN_SECONDS + 10) == 0
            took = trio.current_time() - began
            await wait_until(lambda: all(mover.is_moved for mover in movers), deadline=20)
            for mover in movers:
                mover.may_go_on = True
            counts = [len(mover.answers) for mover in movers]
            await wait_until(
                lambda: all(len(m.answers) >= n + 10 for m, n in zip(movers, counts, strict=True))
            )
            await check_presence(system, witness)
            for mover in movers:
                mover.is_stopping = True
        assert took <= DRAIN_SECONDS + 1
        await check_moved(system, movers, witness)
    await system.check_rooms()


async def check_moved(system: Deployment, movers: list[Mover], witness: ChatClient) -> None:
    answered = {key: value for mover in movers for key, value in mover.answers.items()}
    newest = max(answer["offset"] for answer in answered.values())
    for mover in movers:
        assert mover.close_code == (1012 if mover.waits_for_close else None)
        assert mover.refused_while_draining >= 1
        assert mover.reconnect_within is not None
        assert 0 < mover.reconnect_within < DRAIN_SECONDS
        assert mover.seen == list(range(mover.seen[0], mover.seen[-1] + 1))
    view = witness.rooms["room"]
    await witness.wait(lambda: view.position is not None and view.position.offset >= newest)
    by_client_id = {message["client_id"]: message for message in witness.messages("room")}
    assert len(by_client_id) == len(witness.messages("room"))
    for client_id, answer in answered.items():
        assert by_client_id[client_id]["id"] == answer["message_id"]


async def check_presence(system: Deployment, witness: ChatClient) -> None:
    """Everybody is back, and when the drained node's presence has been reaped nobody was gone."""
    await wait_until(
        lambda: system.redis.command("ZCARD", "parley:leases") == 1,
        deadline=20,
        what="the drained node reaped",
    )
    async with system.connect("witness", 1) as another:
        assert (await another.subscribe("room"))["members_online"] == len(USERS) + 1
    told = [e for e in witness.rooms["room"].events if e.event.startswith("presence.")]
    assert {event.event for event in told} == {"presence.joined"}
    assert sorted(event.data["user"] for event in told) == sorted([*USERS, "witness"])


@pytest.mark.slow
async def test_who_does_not_come_back_is_announced_once(start: Start) -> None:
    system = await start(DRAIN_SECONDS="4", PRESENCE_GRACE="1s")
    await system.create_room("room", "alice", "bob")
    async with system.connect("bob", 1) as bob:
        await bob.subscribe("room")
        async with system.connect("alice", 0) as alice:
            await alice.subscribe("room")
            system.brokers[0].terminate()
            assert await alice.wait_ended(deadline=15) == 1012
        assert await system.brokers[0].wait_ended() == 0
        assert (await bob.subscribe("room"))["members_online"] == 2
        await bob.wait_event("room", "presence.left", deadline=20)
        assert (await bob.subscribe("room"))["members_online"] == 1
        events = [e.event for e in bob.rooms["room"].events if e.event.startswith("presence.")]
        assert events == ["presence.joined", "presence.joined", "presence.left"]
    await system.check_rooms()


async def test_without_connections_it_ends_at_once(start: Start) -> None:
    system = await start(brokers=1, api=False, archiver=False)
    began = trio.current_time()
    assert await system.brokers[0].stop() == 0
    assert trio.current_time() - began < 5


async def test_while_it_drains_nobody_is_let_in(start: Start) -> None:
    system = await start(brokers=1, api=False, archiver=False, DRAIN_SECONDS="4")
    async with system.connect("alice") as alice:
        system.brokers[0].terminate()
        await alice.wait(lambda: alice.drain)
        assert alice.drain == {"type": "drain", "reconnect_within": 2}
        with pytest.raises(OSError):  # noqa: PT011 - refused at connecting or before the handshake
            async with ChatClient.connect(system.brokers[0].url, make_token("bob")):
                pass
        assert "time" in await alice.call("ping")
        for type_, fields in (
            ("publish", {"room": "room", "content": "text"}),
            ("subscribe", {"room": "room"}),
            ("history", {"room": "room"}),
            ("refresh", {"token": make_token("alice")}),
        ):
            with pytest.raises(ChatError) as refused:
                await alice.call(type_, **fields)
            assert refused.value.code == "unavailable"
        assert await alice.wait_ended() == 1012
    assert await system.brokers[0].wait_ended() == 0


async def ready_status(server: ServerProcess) -> int:
    """What /readyz answers; 0 if nobody does."""
    try:
        return (await request("GET", f"{server.base_url}/readyz", timeout=5)).status
    except OSError:
        return 0


async def test_who_watches_is_told_before_anything_is_refused(start: Start) -> None:
    """Promise 6: readiness goes first; meanwhile the broker serves, also whoever comes now."""
    system = await start(brokers=1, api=False, archiver=False, DRAIN_SECONDS="10")
    broker = system.brokers[0]
    async with system.connect("alice") as alice:
        for _ in range(2):
            assert await ready_status(broker) == 200
        broker.terminate()
        await wait_until(partial(is_unready, broker), what="/readyz tells it")
        async with system.connect("bob") as bob:
            assert "time" in await alice.call("ping")
            assert [alice.drain, bob.drain] == [None, None]
            await bob.wait(lambda: bob.drain)
        await alice.wait(lambda: alice.drain)
        assert alice.drain == {"type": "drain", "reconnect_within": 5}
        assert await ready_status(broker) == 0
    assert await broker.wait_ended() == 0


async def is_unready(server: ServerProcess) -> bool:
    return await ready_status(server) == 503


async def test_an_api_serves_on_while_whoever_watches_is_told(start: Start) -> None:
    """Nothing is refused, and no further request goes into a connection that is about to close."""
    system = await start(brokers=0, archiver=False, DRAIN_SECONDS="10")
    api = system.api
    assert api is not None
    await system.create_room("room", "alice")
    for _ in range(2):
        assert await ready_status(api) == 200
    before = await system.send("GET", "/v1/rooms/room")
    assert before.headers.get("connection") != "close"
    api.terminate()
    await wait_until(partial(is_unready, api), what="/readyz tells it")
    answer = await system.send("POST", "/v1/rooms/room/messages", {"content": "text"})
    assert (answer.status, answer.headers["connection"]) == (201, "close")
    assert await api.wait_ended() == 0


@pytest.mark.slow
@pytest.mark.timeout(120)
async def test_while_postgresql_is_away(
    start_private: Start, private_postgres: PostgresServer
) -> None:
    """B8: what can not be written about its users keeps nobody from finding their presence."""
    system = await start_private(brokers=1, archiver=False, DRAIN_SECONDS="2")
    await system.create_room("room", "alice")
    async with system.connect("alice") as alice:
        await alice.subscribe("room")
        private_postgres.stop()
        system.brokers[0].terminate()
        assert await alice.wait_ended(deadline=15) == 1012
    assert await system.brokers[0].wait_ended() == 0
    assert "left without saying so" not in system.brokers[0].output()
    assert system.redis.command("KEYS", "parley:inbox:*") == []
    assert system.redis.command("ZCARD", "parley:leases") == 1
    private_postgres.start()


async def test_a_second_signal_ends_it_at_once(start: Start) -> None:
    system = await start(brokers=1, api=False, archiver=False, DRAIN_SECONDS="30")
    async with system.connect("alice") as alice:
        system.brokers[0].terminate()
        await alice.wait(lambda: alice.drain)
        began = trio.current_time()
        system.brokers[0].terminate()
        await system.brokers[0].wait_ended()
        assert trio.current_time() - began < 10
        await alice.wait_ended()
