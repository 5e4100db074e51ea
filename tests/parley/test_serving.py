"""`parley broker`, `api`, `archiver` as processes: ready, stopped, and wrong from the start."""

import socket

import pytest

from tests.parley.conftest import SECRET, Run
from tests.support.processes import Processes


@pytest.mark.parametrize("kind", ["broker", "api", "archiver"])
async def test_a_process_says_that_it_is_ready_and_ends_on_sigterm(
    processes: Processes, kind: str
) -> None:
    server = await processes.start(kind, env={"DRAIN_SECONDS": "1"})
    assert f"parley {kind} is ready: " in server.output()
    assert await server.stop() == 0
    assert "Traceback" not in server.output()


@pytest.mark.parametrize("kind", ["broker", "api"])
async def test_a_port_in_use_is_one_line(processes: Processes, kind: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        server = await processes.start(kind, ready=False, port=port)
        assert await server.wait_ended() == 2
    last = server.output().splitlines()[-1]
    assert last.startswith(f"parley: PORT: can not serve on port {port} of 127.0.0.1: ")
    assert "Traceback" not in server.output()


@pytest.mark.parametrize("kind", ["broker", "api"])
async def test_a_host_that_is_not_ours_is_one_line(processes: Processes, kind: str) -> None:
    server = await processes.start(kind, ready=False, env={"HOST": "192.0.2.1"})
    assert await server.wait_ended() == 2
    assert server.output().splitlines()[-1].startswith("parley: HOST: can not serve on 192.0.2.1")
    assert "Traceback" not in server.output()


@pytest.mark.parametrize("kind", ["broker", "api", "archiver"])
async def test_servers_that_do_not_belong_together_are_refused(
    processes: Processes, kind: str
) -> None:
    first = await processes.start("archiver")
    await first.stop()
    server = await processes.start(kind, ready=False, env={"ROOM_PARTITIONS": "8"})
    assert await server.wait_ended() == 2
    assert server.output().splitlines()[-1].startswith("parley: ROOM_PARTITIONS: ")
    assert "Traceback" not in server.output()


@pytest.mark.parametrize("kind", ["broker", "api"])
def test_a_key_that_can_not_be_used_is_told_before_the_storages_are_asked(
    run: Run, kind: str
) -> None:
    found = run(
        kind, REDIS_URL="redis://127.0.0.1:1", DATABASE_URL="postgresql://127.0.0.1:1/d",
        JWT_SECRET=SECRET, JWT_PUBLIC_KEY="no-such-file.pem",
    )  # fmt: skip
    assert found.status == 2
    assert found.error_line.startswith("parley: JWT_PUBLIC_KEY: the file can not be read")
