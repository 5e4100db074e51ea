"""Brokers and APIs restarted one after the other under load, behind the real balancers.

Nothing answered is lost or doubled, everybody is back and resumed, nobody is announced as gone,
readiness goes first, and each drain ends in its time.
"""

import random
from collections import Counter

import pytest
import trio

from tests.deploy.balancers import Balancer, HAProxy, Nginx
from tests.deploy.conftest import OpenSite
from tests.deploy.crowd import Crowd, open_crowd
from tests.deploy.rolling import Load, check_stored, gather, quarters, roll
from tests.deploy.site import Site, wait_settled
from tests.support.http import request
from tests.support.lean_client import open_lean_client
from tests.support.tokens import make_token
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
DRAIN_SECONDS = 5


@pytest.mark.parametrize(
    ("kind", "load"),
    [
        (HAProxy, Load(clients=500, room_size=10, rate=100, deaf=10)),
        (Nginx, Load(clients=60, room_size=10, rate=60, deaf=10)),
    ],
)
async def test_three_brokers_under_load(site: OpenSite, kind: type[Balancer], load: Load) -> None:
    """Promise 6; with 500 users nobody who came back was announced as gone (HAZARDS, test 18)."""
    async with (
        site(kind=kind, DRAIN_SECONDS=str(DRAIN_SECONDS)) as here,
        open_crowd(lambda: here.balancer.url) as crowd,
    ):
        await gather(here, crowd, load)
        await roll(here, crowd, load.rate, steady=0.5)
        assert crowd.judge() == []
        assert await check_stored(here.system, crowd) == []
        assert crowd.reloads == 0
        # Everybody was on a node that stopped, the last one at the latest.
        assert len(crowd.pauses) >= load.clients
        assert crowd.answered() == crowd.published
        check_leaving(here, crowd, load)


def check_leaving(here: Site, crowd: Crowd, load: Load) -> None:
    """Each node told its clients to spread over half of the time, and ended in all of it."""
    assert {within for _, within in crowd.leaving} == {DRAIN_SECONDS / 2}
    told = quarters([left / within for left, within in crowd.leaving])
    assert min(told) > sum(told) / 20, told
    # Who knows no drain was told by the close, and nobody by anything else.
    assert crowd.refusals.keys() <= {"closed with 1012"}, dict(crowd.refusals)
    assert crowd.refusals["closed with 1012"] >= load.clients / load.deaf
    # The process itself needs a moment to begin and to end on a busy machine.
    assert max(here.drains) < DRAIN_SECONDS + 3, here.drains


async def test_readiness_goes_first(site: OpenSite) -> None:
    """HAProxy takes the node out while its port is open and its clients have been told nothing."""
    async with site(brokers=2, DRAIN_SECONDS="30") as here:
        await here.system.create_room("room", "alice", "bob")
        assert isinstance(here.balancer, HAProxy)
        leaving = here.brokers[0]
        async with open_lean_client(leaving.url, make_token("alice")) as alice:
            leaving.terminate()
            await wait_until(lambda: not state(here, "b1").is_up, deadline=20)
            answer = await request("GET", f"{leaving.base_url}/readyz")
            assert (answer.status, answer.json()["draining"]) == (503, True)
            assert "drain" not in {frame.type for frame in alice.other}
            before = state(here, "b2").sessions_total
            for _ in range(10):
                async with open_lean_client(here.balancer.url, make_token("bob")) as bob:
                    await bob.call("subscribe", room="room")
            assert state(here, "b2").sessions_total == before + 10
            # Who is on it is served as before: a check that fails cuts no tunnel.
            await alice.call("publish", room="room", content="still here")


def state(here: Site, name: str):
    assert isinstance(here.balancer, HAProxy)
    return here.balancer.states()[name]


@pytest.mark.parametrize("kind", [HAProxy, Nginx])
async def test_a_killed_node(site: OpenSite, kind: type[Balancer]) -> None:
    """SIGKILL of one of two: everybody is back on the other, nothing answered is lost."""
    async with (
        site(kind=kind, brokers=2, NODE_LEASE="5s") as here,
        open_crowd(lambda: here.balancer.url) as crowd,
    ):
        await gather(here, crowd, Load(clients=40, room_size=10, rate=0))
        stop = trio.Event()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(crowd.publish_at, 60, stop)
            await wait_until(lambda: crowd.answered() > 100, deadline=30)
            here.brokers[0].kill()
            await wait_until(lambda: len(crowd.pauses) >= 10, deadline=30)
            await here.start(here.brokers, 0)
            stop.set()
        await wait_settled(crowd.is_settled, crowd.unsettled, 120)
        assert crowd.judge() == []
        assert await check_stored(here.system, crowd) == []
        assert crowd.reloads == 0


class Writer:
    """Somebody's backend that writes and reads through the balancer without a pause."""

    def __init__(self, here: Site, number: int) -> None:
        self.here = here
        self.number = number
        self.answered: dict[str, int] = {}
        self.statuses: Counter[tuple[str, int]] = Counter()

    async def run(self, stop: trio.Event) -> None:
        turn = 0
        while not stop.is_set():
            turn += 1
            client_id = f"w{self.number}-{turn}"
            while client_id not in self.answered:
                answer = await self._send("POST", {"content": client_id, "client_id": client_id})
                if answer.status in (200, 201):
                    self.answered[client_id] = answer.json()["seq"]
            await self._send("GET", None)

    async def _send(self, method: str, body: object):
        url = f"{self.here.balancer.base_url}/v1/rooms/room/messages"
        answer = await request(method, url, body=body, key=self.here.system.key)
        self.statuses[method, answer.status] += 1
        return answer


@pytest.mark.parametrize("kind", [HAProxy, Nginx])
async def test_apis_are_restarted_without_an_error(site: OpenSite, kind: type[Balancer]) -> None:
    """Two APIs in turn: every request has its answer, and every answered write is there."""
    async with site(kind=kind, brokers=1, apis=2, DRAIN_SECONDS="10") as here:
        await here.system.create_room("room", "alice")
        writers = [Writer(here, number) for number in range(4)]
        stop = trio.Event()
        async with trio.open_nursery() as nursery:
            for writer in writers:
                nursery.start_soon(writer.run, stop)
            await wait_until(lambda: sum(len(w.answered) for w in writers) > 20, deadline=30)
            for place in range(2):
                await here.restart(here.apis, place)
                here.system.api = here.apis[0]
            stop.set()
        statuses = sum((writer.statuses for writer in writers), Counter())
        # nginx may send a write to a connection that the API is closing; it tells so and does not
        # repeat it, the writer does. Once for each of them and each restart is the most.
        unknown = statuses.pop(("POST", 503), 0)
        assert unknown <= (2 * len(writers) if kind is Nginx else 0), statuses
        # A write that had happened is answered as a repeat.
        assert statuses.pop(("POST", 200), 0) <= unknown
        assert statuses.keys() == {("POST", 201), ("GET", 200)}, statuses
        history = await here.system.whole_history("room")
        there = {message["client_id"]: message["seq"] for message in history}
        assert there == {k: v for writer in writers for k, v in writer.answered.items()}


async def test_a_flood_of_connections_of_one_address_is_refused_with_a_time(
    site: OpenSite,
) -> None:
    """The sixth WebSocket is too much here; health and REST of the same address are not."""
    for kind in (HAProxy, Nginx):
        async with site(kind=kind, brokers=1, options={"connects": 5}) as here:
            statuses = [await handshake(here) for _ in range(12)]
            assert statuses[:5] == [(101, None)] * 5, statuses
            assert statuses[-1] == (429, "5"), statuses
            answer = await request("GET", f"{here.balancer.base_url}/readyz")
            assert answer.status == 200


async def handshake(here: Site) -> tuple[int, str | None]:
    """Status and Retry-After of a handshake through the balancer."""
    headers = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
    }
    url = here.balancer.base_url + "/v1/connect"
    answer = await request("GET", f"{url}?token={random.random()}", headers=headers)
    return answer.status, answer.headers.get("retry-after")
