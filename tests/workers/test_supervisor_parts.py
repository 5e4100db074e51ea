"""The small parts of `parley up`: console, folder lock, ports, variables, stopping."""

import io
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
import trio.testing

from config.errors import ConfigError
from config.settings import load_settings
from tests.support.owners import read_pid, running_owner
from workers.supervisor.banner import clear_env_file, write_env_file
from workers.supervisor.console import Console
from workers.supervisor.demo import Demo
from workers.supervisor.instance import FolderUnavailable, hold_folder
from workers.supervisor.plan import Plan, UpFailed, make_plan
from workers.supervisor.stopping import Stop

_HOLDER = """
import os, sys, time
from pathlib import Path
from workers.supervisor.instance import hold_folder
with hold_folder(Path(sys.argv[1])):
    print(os.getpid(), flush=True)
    time.sleep(600)
"""


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


class ClosedPipe(io.StringIO):
    """A stream that nobody reads any more."""

    def write(self, _text: str) -> int:
        raise BrokenPipeError


def test_colour_is_for_terminals_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    terminal, file = Terminal(), io.StringIO()
    for stream in (terminal, file):
        Console(stream).relay("broker", "hello")
    assert "\x1b[" in terminal.getvalue()
    assert file.getvalue() == "broker   | hello\n"
    monkeypatch.setenv("NO_COLOR", "1")
    plain = Terminal()
    Console(plain).relay("broker", "hello")
    assert plain.getvalue() == "broker   | hello\n"


def test_a_reader_that_went_away_is_no_failure() -> None:
    console = Console(ClosedPipe())
    console.say("hello")
    console.complain("hello")


def test_the_folder_has_one_owner_whom_the_second_is_told(tmp_path: Path) -> None:
    folder = tmp_path / ".parley"
    with running_owner(_HOLDER, folder) as owner:
        pid = read_pid(owner)
        with pytest.raises(FolderUnavailable, match=f"process {pid}"), hold_folder(folder):
            pass
        owner.kill()
        owner.wait()
        with hold_folder(folder) as was_killed:
            assert was_killed
            assert int((folder / "up.pid").read_text()) == os.getpid()
    assert list(folder.iterdir()) == []
    assert folder.stat().st_mode & 0o077 == 0
    with hold_folder(folder) as was_killed:
        assert not was_killed


def test_a_folder_that_can_not_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(FolderUnavailable, match="can not use"), hold_folder(tmp_path / "file"):
        pass


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


def make(tmp_path: Path, broker: int | None = 0, api: int | None = 0, **overrides: object) -> Plan:
    settings = load_settings(tmp_path / "no.env", **overrides)
    return make_plan(settings, broker_port=broker, api_port=api, port_patience=0.0)


def test_a_taken_port_is_one_line_that_names_the_option(tmp_path: Path, taken_port: int) -> None:
    with pytest.raises(UpFailed, match=f"port {taken_port} is taken .* --broker-port N"):
        make(tmp_path, broker=taken_port)
    with pytest.raises(UpFailed, match=f"port {taken_port} is taken .* --api-port N"):
        make(tmp_path, api=taken_port)


def test_broker_and_api_can_not_share_a_port(tmp_path: Path, free_port: int) -> None:
    with pytest.raises(UpFailed, match="can not share"):
        make(tmp_path, broker=free_port, api=free_port)


def test_what_was_set_reaches_other_processes_as_it_was_meant(tmp_path: Path) -> None:
    plan = make(
        tmp_path,
        room_log_length=7,
        node_lease=4.5,
        jwt_secret="0123456789abcdef0123456789abcdef",
        allowed_origins=("https://a.example", "https://b.example"),
        auto_create_users=False,
        port=1,
        metrics_port=9000,
        broker_processes=2,
    )
    assert plan.shared_variables == {
        "ROOM_PARTITIONS": "16",
        "ROOM_LOG_LENGTH": "7",
        "NODE_LEASE": "4500ms",
        "JWT_SECRET": "0123456789abcdef0123456789abcdef",
        "ALLOWED_ORIGINS": "https://a.example,https://b.example",
        "AUTO_CREATE_USERS": "false",
        "BROKER_PROCESSES": "2",
    }
    metrics = {name: own["METRICS_PORT"] for name, own in plan.own_variables.items()}
    assert metrics == {"broker": "9000", "api": "9002", "archiver": "9003"}
    ports = {name: own["PORT"] for name, own in plan.own_variables.items()}
    assert ports["broker"] != ports["api"]
    assert "1" not in ports.values()
    assert "0" not in ports.values()  # refused together with BROKER_PROCESSES


@pytest.mark.parametrize(
    ("host", "shown"),
    [("127.0.0.1", "127.0.0.1"), ("0.0.0.0", "127.0.0.1"), ("localhost", "localhost")],
)
def test_addresses_can_be_typed(tmp_path: Path, host: str, shown: str) -> None:
    plan = make(tmp_path, host=host)
    assert plan.broker_url.startswith(f"ws://{shown}:")
    assert plan.api_url.startswith(f"http://{shown}:")
    assert plan.own_variables["broker"]["HOST"] == host


def test_an_env_file_that_can_not_be_is_told_before_anything_starts(tmp_path: Path) -> None:
    for path in (tmp_path / "missing" / "up.env", tmp_path):
        with pytest.raises(ConfigError, match=r"^--env-file: "):
            clear_env_file(path)
    stale = tmp_path / "up.env"
    stale.write_text("old")
    clear_env_file(stale)
    assert not stale.exists()


def test_the_env_file_is_private_and_complete(tmp_path: Path) -> None:
    path = tmp_path / "up.env"
    path.write_text("old")
    path.chmod(0o644)
    demo = Demo(api_key="key", tokens={"alice": "a", "bob": "b"}, room="demo")
    plan = make(tmp_path)
    write_env_file(path, plan, demo, {"REDIS_URL": "redis://x", "JWT_SECRET": "s"})
    assert path.read_text().splitlines() == [
        f"BROKER_URL={plan.broker_url}",
        f"API_URL={plan.api_url}",
        "API_KEY=key",
        "ROOM=demo",
        "ALICE_TOKEN=a",
        "BOB_TOKEN=b",
        "REDIS_URL=redis://x",
        "JWT_SECRET=s",
    ]
    assert path.stat().st_mode & 0o777 == 0o600
    assert [entry.name for entry in tmp_path.iterdir()] == ["up.env"]


async def test_a_stop_ends_blocks_from_the_inside_out() -> None:
    stop, order = Stop(), []

    async def nest() -> None:
        with stop.scope():
            try:
                with stop.scope():
                    await trio.Event().wait()
                order.append("inner ended")
                await trio.lowlevel.checkpoint()
                order.append("outer was not cancelled")
            finally:
                order.append("outer ended")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(nest)
        await trio.testing.wait_all_tasks_blocked()
        stop.request()
    assert order == ["inner ended", "outer was not cancelled", "outer ended"]


def test_a_second_request_is_a_request_to_hurry() -> None:
    stop = Stop()
    stop.request()
    assert not stop.hurry.is_set()
    stop.request()
    assert stop.hurry.is_set()


def test_the_demo_is_offered_to_this_machine_and_never_to_a_network() -> None:
    plans = {
        host: make_plan(
            load_settings(None, host=host), broker_port=0, api_port=0, port_patience=0.0
        ).own_variables
        for host in ("127.0.0.1", "0.0.0.0")
    }
    assert plans["127.0.0.1"]["api"]["DEMO_USERS"] == "alice,bob"
    assert plans["0.0.0.0"]["api"]["DEMO_USERS"] == ""
    for own in plans.values():
        assert own["api"]["BROKER_URL"].endswith(f":{own['broker']['PORT']}/v1/connect")
        assert own["broker"]["DEMO_USERS"] == own["archiver"]["DEMO_USERS"] == ""
