"""An upgrade while people talk: migrations first, then old and new processes side by side.

The next release is a copy of this one with one more migration. `python -m tests.deploy.upgrade`
does it at any scale, behind a balancer, and from releases that the repository remembers.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio

from tests.support.client import ChatClient
from tests.support.deployment import Deployment, replace, room_path, seqs
from tests.support.processes import ServerProcess
from tests.support.releases import NEXT, copy_release, run_migrate
from tests.support.servers import fetch
from tests.support.waiting import pass_time

pytestmark = pytest.mark.slow
# Between two rounds: processes that start beside it need the machine too.
PAUSE = 0.05


class Traffic:
    """What people do all the time; anything that is not answered with success ends the test."""

    def __init__(self, chat: Deployment, client: ChatClient, room: str) -> None:
        self._chat = chat
        self._client = client
        self._room = room
        self.answered: list[int] = []

    async def run(self) -> None:
        """Over both ways, writing and reading, until cancelled."""
        room = self._room
        while True:
            self.answered.append((await self._client.publish(room, "over the socket"))["seq"])
            posted: Any = await self._chat.post(room, "over REST", "alice")
            self.answered.append(posted["seq"])
            await self._client.call("history", room=room, limit=5)
            await self._chat.page(room, "?limit=5")
            await self._chat.ok("GET", "/v1/me/rooms", user="alice")
            await self._chat.ok("PATCH", room_path(room), {"topic": f"after {posted['seq']}"})
            await self._client.call("read", room=room, seq=posted["seq"])
            await pass_time(PAUSE)

    async def wait_more(self, count: int) -> None:
        """Until so many more messages have been answered."""
        wanted = len(self.answered) + count
        await self._client.wait(lambda: len(self.answered) >= wanted, deadline=40, what="traffic")


async def test_migrations_while_running_and_two_releases_side_by_side(
    shared: Deployment, tmp_path: Path, name: Callable[[str], str]
) -> None:
    """No request fails, no event is lost, and who is on an old node talks with who is on a new."""
    release = copy_release(tmp_path / "next")
    room = name("upgraded")
    await shared.create_room(room, "alice", "bob")
    started: list[ServerProcess] = []

    async def start(kind: str, *, ready: bool = True) -> ServerProcess:
        env = {"PYTHONPATH": str(release)}
        process = await shared.processes.start(kind, ready=ready, env=env)
        started.append(process)
        return process

    try:
        async with shared.connect("alice") as alice, trio.open_nursery() as nursery:
            await alice.subscribe(room)
            traffic = Traffic(shared, alice, room)
            nursery.start_soon(traffic.run)
            early = await start("archiver", ready=False)
            assert await early.wait_ended() == 2
            assert f"this version needs {NEXT}; run: parley migrate" in early.output()
            await run_migrate(release, shared.database_url)
            assert fetch(shared.database_url, "SELECT next_note FROM members") is not None
            await traffic.wait_more(20)
            newer = replace(shared, brokers=[await start("broker")], api=await start("api"))
            async with newer.connect("bob") as bob:
                await bob.subscribe(room)
                said = await bob.publish(room, "from the new release")
                await alice.wait(lambda: said["seq"] in seqs(alice.messages(room)), deadline=30)
                await traffic.wait_more(10)
                newest = traffic.answered[-1]
                await bob.wait(lambda: newest in seqs(bob.messages(room)), deadline=30)
                assert seqs(await newer.whole_history(room))[-1] >= newest
            nursery.cancel_scope.cancel()
        await shared.wait_archived()
        assert {*traffic.answered, said["seq"]} <= set(seqs(shared.stored(room)))
    finally:
        for process in started:
            process.kill()
