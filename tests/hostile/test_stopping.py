"""A client that takes no answers can not keep the API from stopping."""

from __future__ import annotations

import trio

from tests.hostile.attacks import api_requests
from tests.hostile.force import Force
from tests.hostile.target import Target
from tests.support.deployment import start_deployment
from tests.support.processes import Processes
from tests.support.servers import RedisServer
from tests.support.waiting import pass_time


async def test_answers_that_nobody_takes_do_not_keep_the_api_from_stopping(
    processes: Processes, redis_server: RedisServer, database_url: str
) -> None:
    """hypercorn sends an answer shielded and for ever; here it ends with DRAIN_SECONDS."""
    system = await start_deployment(
        processes, redis_server, database_url, brokers=0, archiver=False, DRAIN_SECONDS="1"
    )
    assert system.api is not None
    await system.create_room("noise", "mallory")
    for _ in range(20):
        await system.post("noise", "x" * 30_000, "mallory")
    target = Target("", system.api.pid, system.api.base_url, system.api.pid, "noise", 0)

    async def attack() -> None:
        try:
            await api_requests.answers_unread(target, Force(5, 30.0))
        except* OSError:
            pass  # it has stopped: nobody listens any more

    async with trio.open_nursery() as nursery:
        nursery.start_soon(attack)
        await pass_time(2.0)  # the kernel's buffers are full by then
        assert await system.api.stop(deadline=15) == 0
        nursery.cancel_scope.cancel()
    assert "Traceback" not in system.api.output()
