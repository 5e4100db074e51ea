"""The peers as far as they can be held without them: dialects, payloads, locks, installing.

That the servers do what their dialects say is shown by `python -m bench.peers check`, which needs
them installed.
"""

import json
import re
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from bench import accounting, floor, wire
from bench.connection import BenchError
from bench.dialect import Dialect, Frame, Kind, written_in
from bench.peers import PEERS, processes
from bench.peers.__main__ import main
from bench.peers.centrifugo import CentrifugoDialect, settings
from bench.peers.check import SIZE_TOLERANCE, place_for
from bench.peers.nats import NatsDialect
from bench.peers.nchan import NchanDialect
from bench.peers.payloads import event_of, message_of
from bench.peers.places import SERVERS, Package
from bench.peers.plain import PlainDialect
from bench.peers.server import page_request
from bench.peers.socketio import SocketIoDialect
from bench.target import PEER_SCENARIOS
from tests.support.waiting import wait_until_sync
from workers.embedded import redis as embedded_redis

EVENT = event_of(7, "room", "alice", "run")
MESSAGE = message_of(7, "room", "alice", "run")
SOCKET_IO_EVENT = b'42["message.created",' + EVENT + b"]"
PUSH = b'{"push":{"channel":"room","pub":{"data":' + MESSAGE + b',"offset":9}}}'
MSG = b"MSG room 1 %d\r\n%b\r\n" % (len(EVENT), EVENT)


def test_names_are_those_of_a_command_line_and_scenarios_are_known():
    names = [peer.name for peer in PEERS]
    assert len(set(names)) == len(names)
    assert {peer.package.name for peer in PEERS} <= set(names)  # what `install` is told
    for peer in PEERS:
        assert re.fullmatch(r"[a-z]+(-[a-z]+)*", peer.name)
        assert peer.scenarios
        assert peer.scenarios <= PEER_SCENARIOS


@pytest.mark.parametrize("room", ["r", "a-room-with-a-longer-name"])
def test_what_relays_pass_on_has_the_size_of_parleys_event(room: str):
    parley = len(floor.FloorRoom(room).event % (0, 0))
    relayed = len(wire.server_frame(event_of(100, room, "floor-user-1", "floor-client")))
    assert abs(relayed / parley - 1) < SIZE_TOLERANCE
    event = json.loads(event_of(100, room, "alice", "run"))
    mine = json.loads((floor.FloorRoom(room).event % (0, 0))[4:])
    assert set(mine) - set(event) == {"offset"}
    assert set(mine["data"]) - set(event["data"]) == {"seq"}


@pytest.mark.parametrize(
    ("dialect", "payload", "expected"),
    [
        (NchanDialect(), EVENT, Frame(Kind.MESSAGE)),
        (NchanDialect(), b"queued messages: 5", Frame(Kind.PROBLEM)),
        (PlainDialect(), EVENT, Frame(Kind.MESSAGE)),
        (PlainDialect(), b'{"type":"reply","id":12,"result":{}}', Frame(Kind.ANSWER, 12)),
        (PlainDialect(), b'{"type":"reply","id":null}', Frame(Kind.PROBLEM)),
        (SocketIoDialect(), SOCKET_IO_EVENT, Frame(Kind.MESSAGE)),
        (SocketIoDialect(), b"4312[]", Frame(Kind.ANSWER, 12)),
        (SocketIoDialect(), b'430["room"]', Frame(Kind.ANSWER, 0)),
        (SocketIoDialect(), b'0{"sid":"x","upgrades":[]}', Frame(Kind.NOISE)),
        (SocketIoDialect(), b'40{"sid":"y"}', Frame(Kind.GREETING)),
        (SocketIoDialect(), b"2", Frame(Kind.PING)),
        (SocketIoDialect(), b'44{"message":"no"}', Frame(Kind.PROBLEM)),
        (SocketIoDialect(), b"41", Frame(Kind.PROBLEM)),
        (NatsDialect(), MSG, Frame(Kind.MESSAGE)),
        (NatsDialect(), b'INFO {"server_id":"x"} \r\n', Frame(Kind.GREETING)),
        (NatsDialect(), b"PING\r\n", Frame(Kind.PING)),
        (NatsDialect(), b"PONG\r\n", Frame(Kind.ANSWER, 0)),
        (NatsDialect(), b"-ERR 'Unknown Protocol Operation'\r\n", Frame(Kind.PROBLEM)),
        (CentrifugoDialect(), PUSH, Frame(Kind.MESSAGE)),
        (CentrifugoDialect(), b'{"id":12,"publish":{}}', Frame(Kind.ANSWER, 12)),
        (CentrifugoDialect(), b'{"id":1,"connect":{"client":"x"}}', Frame(Kind.GREETING)),
        (CentrifugoDialect(), b"{}", Frame(Kind.PING)),
        (CentrifugoDialect(), b'{"id":3,"error":{"code":103}}', Frame(Kind.PROBLEM)),
        (CentrifugoDialect(), b'{"disconnect":{"code":3000}}', Frame(Kind.PROBLEM)),
    ],
)
def test_what_a_server_says_is_recognised(dialect: Dialect, payload: bytes, expected: Frame):
    assert dialect.classify(payload, 0, len(payload)) == expected
    around = b"\x81\x05" + payload + b'{"type":"reply","id":99,'
    assert dialect.classify(around, 2, 2 + len(payload)) == expected


@pytest.mark.parametrize("payload", [EVENT, SOCKET_IO_EVENT, PUSH, MSG])
def test_who_wrote_an_event_is_read_out_of_it(payload: bytes):
    assert written_in(payload, 0, len(payload)) == ("alice", 7)


def test_nats_lines_are_cut_wherever_the_messages_end():
    dialect = NatsDialect()
    lines = [b'INFO {"x":1}\r\n', MSG, b"PING\r\n", MSG, MSG, b"PONG\r\n"]
    text = b"".join(lines)
    every_byte = [text[place : place + 1] for place in range(len(text))]
    for parts in [every_byte, *([text[:place], text[place:]] for place in range(len(text)))]:
        found: list[bytes] = []
        rest = b""
        for part in parts:
            frames, rest = dialect.split(rest + part)
            found += frames
        assert (found, rest) == (lines, b"")


def test_nats_payload_may_hold_line_ends():
    message = b"MSG room 1 6\r\na\r\nb\r\n\r\n"
    assert NatsDialect().split(message + b"PI") == ([message], b"PI")


def test_a_nats_message_without_a_size_is_an_error():
    with pytest.raises(wire.WireError):
        NatsDialect().split(b"MSG room 1 many\r\n")


def test_centrifugo_lines_are_cut():
    assert CentrifugoDialect().split(PUSH + b"\n{}") == ([PUSH, b"{}"], b"")


@pytest.mark.parametrize(
    ("dialect", "good", "bad"),
    [
        (PlainDialect(), b'{"type":"reply","id":0,"result":{"room":"a"}}', b'{"type":"reply"}'),
        (SocketIoDialect(), b'430["a"]', b'430["b"]'),
    ],
)
def test_a_subscription_to_another_room_is_an_error(dialect: Dialect, good: bytes, bad: bytes):
    assert dialect.subscribed(good, "a") == 0
    with pytest.raises(wire.WireError):
        dialect.subscribed(bad, "a")


@pytest.mark.parametrize(
    ("dialect", "expected"),
    [
        (NchanDialect(), EVENT),
        (NatsDialect(), b"PUB room %d\r\n%b\r\n" % (len(EVENT), EVENT)),
        (
            CentrifugoDialect(),
            b'{"id":7,"publish":{"channel":"room","data":' + MESSAGE + b"}}",
        ),
        (SocketIoDialect(), None),
        (PlainDialect(), None),
    ],
)
def test_a_publish_holds_its_content_once(dialect: Dialect, expected: bytes | None):
    frame = dialect.publish(7, "room", "alice", "run")
    assert written_in(frame, 0, len(frame)) == ("alice", 7)
    assert frame.count(b"alice 7 ") == 1
    if expected is not None:
        assert frame == expected


def test_ids_of_centrifugos_other_commands_are_no_publishs():
    dialect = CentrifugoDialect()
    assert json.loads(dialect.opening()[0])["id"] > 1_000_000_000
    assert json.loads(dialect.subscribe(0, "room"))["id"] > 1_000_000_000
    assert "engine" not in settings(1, None)
    assert settings(1, "redis://x")["channel"]["without_namespace"]["history_size"]


def test_names_with_odd_characters_fit_into_paths():
    assert NchanDialect().path("alice", "a b?") == "/rooms/a%20b%3F"
    assert SocketIoDialect().path("a&b", "room").endswith("&user=a%26b")
    assert PlainDialect().path("a&b", "room") == "/?user=a%26b"
    assert page_request("room", 51).startswith(b"GET /v1/rooms/room/messages?before=51&limit=50 ")


def test_their_redis_is_set_up_as_that_of_parley_up():
    assert processes.REDIS_CONFIGURATION == embedded_redis._CONFIGURATION


@pytest.mark.parametrize("lock", sorted(SERVERS.glob("*/package-lock.json")), ids=str)
def test_node_locks_have_hashes_and_name_no_host(lock: Path):
    wanted = json.loads((lock.parent / "package.json").read_text())
    packages = json.loads(lock.read_text())["packages"]
    assert packages.pop("")["dependencies"] == wanted["dependencies"]
    for name, entry in packages.items():
        assert entry["integrity"].startswith("sha512-"), name
        assert "resolved" not in entry, name
    for name, version in wanted["dependencies"].items():
        assert packages[f"node_modules/{name}"]["version"] == version


@pytest.mark.parametrize("lock", sorted(SERVERS.glob("*/requirements.txt")), ids=str)
def test_python_locks_have_hashes_and_name_no_host(lock: Path):
    text = lock.read_text()
    assert re.findall(r"\w+://|^--(?!hash)|(?<!\w)/\w+", text, re.MULTILINE) == []
    entries = re.split(r"\n(?=\S)", text)
    for entry in entries:
        assert re.match(r"[a-z0-9._-]+==[^\s;]+( ; [^\n]+)? \\\n    --hash=sha256:", entry), entry
    pinned = {entry.partition("==")[0] for entry in entries}
    wanted = (lock.parent / "requirements.in").read_text().split()
    assert {name.partition("[")[0] for name in wanted} <= pinned


@pytest.mark.parametrize("module", sorted(SERVERS.glob("*/go.mod")), ids=str)
def test_go_locks_pin_what_is_built(module: Path):
    text = module.read_text()
    (tool,) = re.findall(r"^tool (\S+)$", text, re.MULTILINE)
    (version,) = re.findall(rf"^\s+{re.escape(tool)} (v\S+)", text, re.MULTILINE)
    assert f"{tool} {version} h1:" in (module.parent / "go.sum").read_text()


def test_the_page_names_every_peer_with_the_versions_that_are_installed():
    page = (SERVERS.parent / "README.md").read_text()
    table = page.partition("## Who they are")[2].partition("## ")[0]
    rows = {row.split("`")[1]: row for row in re.findall(r"^\| `.*$", table, re.MULTILINE)}
    assert list(rows) == [peer.name for peer in PEERS]
    for lock in SERVERS.glob("*/package.json"):
        for name, version in json.loads(lock.read_text())["dependencies"].items():
            assert name == "bufferutil" or version in rows[lock.parent.name], name
    for lock in SERVERS.glob("*/requirements.txt"):
        for name in ("python-socketio", "uvicorn", "fastapi", "asyncpg"):
            for version in re.findall(rf"^{name}==(\S+)", lock.read_text(), re.MULTILINE):
                assert version in table, name
    for module in SERVERS.glob("*/go.mod"):
        (tool,) = re.findall(r"^tool (\S+)$", module.read_text(), re.MULTILINE)
        (version,) = re.findall(rf"\s{re.escape(tool)} v(\S+)", module.read_text())
        assert version in rows[module.parent.name], tool


class Stamped(Package):
    """A package whose installation leaves a file."""

    def __init__(self, sources: Path) -> None:
        super().__init__("stamped", ["lock"])
        self.sources = sources
        self.filled = 0

    def lacking(self) -> str | None:
        return None

    def fill(self, *, use_apt: bool) -> None:
        assert not list(self.folder.iterdir())
        self.filled += 1
        self.run([sys.executable, "-c", "open('made', 'w')"])


def test_a_package_is_installed_once_a_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PARLEY_PEERS", str(tmp_path / "cache"))
    (tmp_path / "lock").write_text("one")
    package = Stamped(tmp_path)
    assert package.missing() == "stamped is not installed: python -m bench.peers install stamped"
    package.install()
    package.install()
    assert (package.filled, package.missing()) == (1, None)
    assert (tmp_path / "cache" / "stamped" / "made").exists()
    (tmp_path / "lock").write_text("two")
    assert package.missing() is not None
    package.install()
    assert package.filled == 2


def test_a_failed_step_says_what_it_printed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PARLEY_PEERS", str(tmp_path))
    (tmp_path / "lock").write_text("")
    package = Stamped(tmp_path)
    package.folder.mkdir()
    with pytest.raises(BenchError, match="exited with 3:\nno such thing"):
        package.run([sys.executable, "-c", "import sys; print('no such thing'); sys.exit(3)"])


def test_whoever_is_not_installed_says_so_in_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("PARLEY_PEERS", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    for peer in PEERS:
        reason = peer.missing()
        if peer.package.name != "nchan":  # the system may have it
            assert reason is not None
        assert reason is None or "\n" not in reason
    listed = CliRunner().invoke(main, ["list"])
    assert listed.exit_code == 0
    assert [line.split()[0] for line in listed.output.splitlines()[1:]] == [
        peer.name for peer in PEERS
    ]
    asked = CliRunner().invoke(main, ["check", "ws"])
    assert (asked.exit_code, "0 passed, 1 failed" in asked.output) == (1, True)
    assert CliRunner().invoke(main, ["check", "nobody"]).exit_code == 2


LISTENER = """
import os, socket, sys, time
if os.fork() == 0:
    time.sleep(600)
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
while True:
    listener.accept()[0].close()
"""


def is_running(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/cmdline").read_bytes() != b""  # a zombie has none
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_a_server_ends_with_its_block_and_its_children_with_it():
    port = processes.free_port()
    command = [sys.executable, "-c", LISTENER, str(port)]
    with place_for({}) as place:
        with processes.serving("listener", command, port, place, core=None) as process:
            tree = accounting.process_tree(process)
            assert len(tree) == 2
        wait_until_sync(lambda: not any(map(is_running, tree)))


def test_a_server_that_does_not_start_says_why():
    command = [sys.executable, "-c", "import sys; sys.exit('no licence')"]
    port = processes.free_port()
    with (
        place_for({}) as place,
        pytest.raises(BenchError, match="no licence"),
        processes.serving("server", command, port, place, core=None),
    ):
        raise AssertionError("it did not start")
