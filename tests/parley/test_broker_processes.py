"""BROKER_PROCESSES: several nodes on one port, started and ended together."""

import signal

import psutil
import pytest

from tests.support import http
from tests.support.client import ChatClient
from tests.support.processes import Processes, ServerProcess
from tests.support.tokens import make_token
from tests.support.waiting import wait_until

COUNT = 2


@pytest.fixture
async def broker(processes: Processes) -> ServerProcess:
    return await processes.start_broker(BROKER_PROCESSES=str(COUNT), DRAIN_SECONDS="1")


def children_of(broker: ServerProcess) -> list[psutil.Process]:
    """The broker processes themselves: those that listen, not their guards."""
    family = psutil.Process(broker.pid).children(recursive=True)
    return [process for process in family if is_listening(process, broker.port)]


def is_listening(process: psutil.Process, port: int) -> bool:
    try:
        return any(
            item.status == psutil.CONN_LISTEN and item.laddr.port == port
            for item in process.net_connections("tcp")
        )
    except psutil.NoSuchProcess:
        return False


async def wait_for_children(broker: ServerProcess) -> list[psutil.Process]:
    def look() -> list[psutil.Process]:
        found = children_of(broker)
        return found if len(found) == COUNT else []

    found: list[psutil.Process] = await wait_until(look, deadline=30, what="children")
    return found


async def wait_for_ends(children: list[psutil.Process]) -> None:
    await wait_until(
        lambda: not any(child.is_running() for child in children), deadline=20, what="their ends"
    )


async def test_they_share_a_port_and_drain_together(broker: ServerProcess) -> None:
    children = await wait_for_children(broker)
    answer = await http.request("GET", f"{broker.base_url}/readyz", timeout=5)
    assert answer.status == 200
    assert await broker.stop() == 0
    await wait_for_ends(children)


async def test_a_child_that_dies_ends_the_others(broker: ServerProcess) -> None:
    children = await wait_for_children(broker)
    children[0].kill()
    assert await broker.wait_ended() == 128 + signal.SIGKILL
    await wait_for_ends(children)


async def test_none_outlives_the_parent(broker: ServerProcess) -> None:
    children = await wait_for_children(broker)
    broker.kill()
    await wait_for_ends(children)


async def test_a_second_signal_hurries_all_of_them(processes: Processes) -> None:
    """The first one asks each for a drain, which would take half a minute."""
    env = {"BROKER_PROCESSES": str(COUNT), "DRAIN_SECONDS": "60"}
    broker = await processes.start("broker", env=env)
    children = await wait_for_children(broker)
    async with ChatClient.connect(broker.url, make_token("alice")) as alice:
        broker.terminate()
        await alice.wait(lambda: alice.drain)
        broker.terminate()
        await broker.wait_ended(20)
        await wait_for_ends(children)
