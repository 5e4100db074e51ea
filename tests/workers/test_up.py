"""`parley up` as a user meets it: one command, a running system, and nothing left behind."""

import random
import shlex
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import psutil
import pytest
import trio

from tests.support import http
from tests.support.client import ChatClient
from tests.support.owners import as_ordinary_user, give_to_ordinary_user
from tests.support.processes import Processes
from tests.support.servers import RedisServer
from tests.support.system import UpProcess
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

Start = Callable[..., UpProcess]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts `parley up` in a folder below tmp_path; all of them are ended with the test."""
    started: list[UpProcess] = []

    def start_one(*options: str, folder: str = "app", **more: object) -> UpProcess:
        up = UpProcess.start(tmp_path / folder, *options, **more)  # type: ignore[arg-type]
        started.append(up)
        return up

    yield start_one
    for up in started:
        up.end()


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[UpProcess]:
    """One that runs, for tests that neither stop nor break it."""
    up = UpProcess.start(tmp_path_factory.mktemp("running") / "app")
    try:
        trio.run(up.wait_ready)
        yield up
        assert trio.run(up.stop) == 0
    finally:
        up.end()


async def talk(up: UpProcess, text: str) -> None:
    """Alice says something in the demo room and Bob hears it."""
    env = up.env
    async with (
        ChatClient.connect(env["BROKER_URL"], env["ALICE_TOKEN"]) as alice,
        ChatClient.connect(env["BROKER_URL"], env["BOB_TOKEN"]) as bob,
    ):
        await bob.subscribe(env["ROOM"])
        await alice.publish(env["ROOM"], text)
        await bob.wait(lambda: text in [message["content"] for message in bob.messages("demo")])


async def history(up: UpProcess) -> list[str]:
    answer = await up.request("GET", "/v1/rooms/demo/messages")
    assert answer.status == 200, answer.body
    return [message["content"] for message in answer.json()["items"]]


async def wait_gone(processes: list[psutil.Process]) -> None:
    await wait_until(
        lambda: not [process for process in processes if is_running(process)],
        deadline=20,
        what=f"end of {processes}",
    )


def is_running(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


async def test_stops_cleanly_and_goes_on_with_its_data(start: Start) -> None:
    signals = [signal.SIGINT, signal.SIGTERM]
    random.shuffle(signals)
    up = start()
    await up.wait_ready()
    await talk(up, "before")
    first = up.env
    await stop_cleanly(up, signals[0])

    up = start()
    await up.wait_ready()
    await talk(up, "after")
    assert await history(up) == ["before", "after"]
    kept = ("API_KEY", "JWT_SECRET", "ROOM")
    assert {name: up.env[name] for name in kept} == {name: first[name] for name in kept}
    await stop_cleanly(up, signals[1])


async def stop_cleanly(up: UpProcess, number: signal.Signals) -> None:
    family = list(up.family().values())
    assert await up.stop(number) == 0
    assert [process for process in family if is_running(process)] == []
    assert "Traceback" not in up.output()
    assert not (up.folder / ".parley" / "up.pid").exists()


async def test_leaves_no_orphan_and_loses_nothing_when_killed(start: Start) -> None:
    up = start()
    await up.wait_ready()
    await talk(up, "before")
    family = list(up.family().values())
    up.kill()
    again = start()  # at once: it has to wait for what the first one leaves behind
    await wait_gone(family)
    await again.wait_ready()
    await talk(again, "after")
    assert await history(again) == ["before", "after"]
    assert await again.stop() == 0


async def test_a_second_one_in_the_folder_says_so_and_harms_nothing(
    start: Start, running: UpProcess
) -> None:
    first = running
    second = start("--env-file", str(first.folder / "second.env"), folder=str(first.folder))
    assert await second.wait_ended() == 1
    assert f"already running here (process {first.pid})" in second.output()
    assert len(second.output().splitlines()) == 1
    await talk(first, "still here")


async def test_whatever_crashes_is_started_again(start: Start) -> None:
    up = start()
    await up.wait_ready()
    await talk(up, "whole")
    for name in ("broker", "api", "archiver", "redis-server", "postgres"):
        victim = up.family()[name]
        victim.kill()
        await wait_until(
            partial(has_another, up, name, victim), deadline=20, what=f"another {name}"
        )
    for url in (
        up.env["API_URL"],
        up.env["BROKER_URL"].replace("ws:", "http:")[: -len("/v1/connect")],
    ):
        await wait_until(partial(is_ready, url), deadline=30, what=f"{url} ready")
    await talk(up, "mended")
    assert await history(up) == ["whole", "mended"]
    assert await up.stop() == 0


def has_another(up: UpProcess, name: str, victim: psutil.Process) -> bool:
    found = up.family().get(name)
    return found is not None and found.pid != victim.pid


async def is_ready(base_url: str) -> bool:
    try:
        return (await http.request("GET", f"{base_url}/readyz")).status == 200
    except OSError:
        return False


async def test_ephemeral_leaves_nothing(start: Start, tmp_path: Path) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    up = start("--ephemeral", env={"TMPDIR": str(temporary)})
    await up.wait_ready()
    await talk(up, "soon forgotten")
    assert await up.stop() == 0
    assert list(temporary.iterdir()) == []
    assert [entry.name for entry in up.folder.iterdir()] == ["up.env"]


async def test_runs_for_an_ordinary_user(start: Start, tmp_path: Path) -> None:
    folder = tmp_path / "ordinary"
    give_to_ordinary_user(folder)
    up = start(folder="ordinary", wrap=as_ordinary_user)
    await up.wait_ready()
    await talk(up, "hello")
    owners = {process.uids().effective for process in up.family().values()}
    assert owners == {folder.stat().st_uid}
    assert await up.stop() == 0


async def test_the_commands_of_the_banner_work_as_they_stand(running: UpProcess) -> None:
    up = running
    lines = up.output().splitlines()
    commands = [line for line in lines if "websockets" in line and "token=" in line]
    frames = [line for line in lines if line.startswith('{"type"')]
    assert (len(commands), len(frames)) == (2, 2)
    clients = [open_terminal(up, number, command) for number, command in enumerate(commands)]
    try:
        for number, client in enumerate(clients):
            type_line(client, frames[0])
            await wait_until(partial(shows, up, number, '"type":"reply"'))
        type_line(clients[0], frames[1])
        for number in range(2):
            await wait_until(partial(shows, up, number, "message.created"))
    finally:
        for client in clients:
            client.kill()
            client.communicate()


def open_terminal(up: UpProcess, number: int, command: str) -> "subprocess.Popen[str]":
    with (up.folder / f"client{number}").open("wb") as output:
        return subprocess.Popen(
            shlex.split(command),
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=up.folder,
        )


def type_line(client: "subprocess.Popen[str]", line: str) -> None:
    assert client.stdin is not None
    client.stdin.write(line + "\n")
    client.stdin.flush()


def shows(up: UpProcess, number: int, text: str) -> bool:
    return text in (up.folder / f"client{number}").read_text().replace('": ', '":')


async def test_uses_configured_servers_and_others_can_join(
    start: Start, redis_server: RedisServer, redis_url: str, database_url: str, tmp_path: Path
) -> None:
    up = start(env={"REDIS_URL": redis_url, "DATABASE_URL": database_url})
    await up.wait_ready()
    assert not {"redis", "postgres"} & {entry.name for entry in (up.folder / ".parley").iterdir()}
    env = up.env
    assert (env["REDIS_URL"], env["DATABASE_URL"]) == (redis_url, database_url)
    joining = Processes(tmp_path / "joining", env)
    try:
        broker = await joining.start_broker()
        async with (
            ChatClient.connect(broker.url, env["ALICE_TOKEN"]) as alice,
            ChatClient.connect(env["BROKER_URL"], env["BOB_TOKEN"]) as bob,
        ):
            await bob.subscribe("demo")
            await alice.publish("demo", "from the other node")
            await bob.wait_messages("demo", 1)
    finally:
        joining.kill_all()
    assert await up.stop() == 0


async def test_a_taken_port_is_one_clear_line(start: Start) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        up = start("--broker-port", str(port), "--api-port", "0")
        assert await up.wait_ended() == 1
    (line,) = up.output().splitlines()
    assert f"port {port} is taken" in line
    assert not (up.folder / ".parley" / "postgres").exists()


async def test_a_wrong_variable_is_one_clear_line(start: Start) -> None:
    up = start(env={"PING_INTERVAL": "soon"})
    assert await up.wait_ended() == 2
    (line,) = up.output().splitlines()
    assert "PING_INTERVAL" in line


async def test_an_interrupted_start_leaves_nothing_running(start: Start) -> None:
    up = start()
    await wait_until(lambda: "starting postgres" in up.output(), what="the beginning")
    assert await up.stop() == 0
    assert "Traceback" not in up.output()
    up = start()
    await up.wait_ready()
    assert await up.stop() == 0
