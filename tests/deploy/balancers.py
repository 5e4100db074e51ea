"""The balancers of deploy/, started as they are but for the lines that say ADJUST.

A test replaces only those lines: addresses, ports, users, sizes. So what is tested is what a user
copies. They run under the product's own guard, in a folder of their own, as whoever runs the tests.
"""

import csv
import os
import re
import shutil
import socket
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from tests.support.owners import ROOT
from tests.support.waiting import wait_until
from workers.embedded.guarded import GuardedProcess
from workers.embedded.ports import LOOPBACK, free_port

DEPLOY = ROOT / "deploy"
_MARK = re.compile(r"\s+# ADJUST$")
# Where Debian keeps them; an ordinary user's PATH does not lead there.
_PATH = f"{os.environ['PATH']}:/usr/sbin:/sbin"
# Whoever comes from the own machine is many clients at once in a test.
NO_LIMIT = 1_000_000


def program(name: str) -> str:
    """The path of an installed program; the name alone if it is not there."""
    return shutil.which(name, path=_PATH) or name


def adjust(text: str, lines: Mapping[str, Sequence[str]]) -> str:
    """The file with lines marked ADJUST replaced: the one that begins with a key, by its lines."""
    used = set()
    adjusted = []
    for line in text.splitlines():
        bare = _MARK.sub("", line)
        start = next((key for key in lines if bare.lstrip().startswith(key)), None)
        if bare == line or start is None:
            adjusted.append(bare)
            continue
        used.add(start)
        indent = bare[: len(bare) - len(bare.lstrip())]
        adjusted += [indent + new for new in lines[start]]
    assert used == set(lines), f"no such lines to adjust: {set(lines) - used}"
    return "\n".join([*adjusted, ""])


class Balancer:
    """A running balancer in front of servers on these ports; `port` is where clients go.

    `connects`: how many WebSockets one address may open (in ten seconds, or at once).
    """

    name = ""

    def __init__(
        self,
        folder: Path,
        brokers: Sequence[int],
        apis: Sequence[int],
        *,
        connects: int = NO_LIMIT,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.port = free_port()
        self.config = folder / self.name
        self._log = folder / "output.log"
        self._process: GuardedProcess | None = None
        text = (DEPLOY / self.name).read_text(encoding="utf-8")
        self.config.write_text(adjust(text, self.lines(brokers, apis, connects)), encoding="utf-8")

    def lines(
        self, brokers: Sequence[int], apis: Sequence[int], connects: int
    ) -> dict[str, list[str]]:
        """What becomes of which ADJUST line."""
        raise NotImplementedError

    def command(self) -> list[str]:
        """What is run, in the foreground."""
        raise NotImplementedError

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def url(self) -> str:
        """The WebSocket."""
        return f"ws://{LOOPBACK}:{self.port}/v1/connect"

    @property
    def base_url(self) -> str:
        """REST."""
        return f"http://{LOOPBACK}:{self.port}"

    def output(self) -> str:
        return self._log.read_text(encoding="utf-8", errors="replace")

    async def start(self) -> None:
        """Start it and wait until it takes connections."""
        with self._log.open("wb") as output:
            self._process = GuardedProcess.start(
                self.command(),
                cwd=self.folder,
                env={"PATH": _PATH},
                stdout=output,
                stderr=subprocess.STDOUT,
                grace=2.0,
            )
        await wait_until(self._is_listening, deadline=20, what=f"{self.name} listens")

    def _is_listening(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            raise AssertionError(f"{self.name} ended:\n{self.output()}")
        with socket.socket() as trying:
            return trying.connect_ex((LOOPBACK, self.port)) == 0

    def stop(self) -> None:
        """End it, however many connections it has."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()


class ServerState(NamedTuple):
    """What HAProxy thinks of a server."""

    is_up: bool
    sessions: int
    sessions_total: int


class HAProxy(Balancer):
    """deploy/haproxy.cfg."""

    name = "haproxy.cfg"

    def lines(
        self, brokers: Sequence[int], apis: Sequence[int], connects: int
    ) -> dict[str, list[str]]:
        self._socket = self.folder / "s"
        return {
            "maxconn": [],  # as many as the limit of open files allows
            "stats socket": [f"stats socket {self._socket} level admin"],
            "user": [],
            "group": [],
            "log": ["log stdout format raw local0"],
            "bind :80": [f"bind {LOOPBACK}:{self.port}"],
            "acl too_many_connects": [
                f"acl too_many_connects sc_http_req_rate(0,connects) gt {connects}"
            ],
            "acl too_many_requests": [
                f"acl too_many_requests sc_http_req_rate(1,requests) gt {NO_LIMIT}"
            ],
            "server b1": [f"server b{n} {LOOPBACK}:{port}" for n, port in enumerate(brokers, 1)],
            "server b2": [],
            "server b3": [],
            "server a1": [f"server a{n} {LOOPBACK}:{port}" for n, port in enumerate(apis, 1)],
            "server a2": [],
        }

    def command(self) -> list[str]:
        return [program("haproxy"), "-db", "-f", str(self.config)]

    def _is_listening(self) -> bool:
        # Its socket comes a moment after the port.
        return super()._is_listening() and self._socket.exists()

    def ask(self, command: str) -> str:
        """One command of its socket, and the answer."""
        with socket.socket(socket.AF_UNIX) as asking:
            asking.connect(str(self._socket))
            asking.sendall(f"{command}\n".encode())
            with asking.makefile("rb") as answer:
                return answer.read().decode()

    def states(self, backend: str = "brokers") -> dict[str, ServerState]:
        """Every server of a backend by name."""
        table = self.ask("show stat").removeprefix("# ")
        return {
            row["svname"]: ServerState(
                row["status"].startswith("UP"), int(row["scur"]), int(row["stot"])
            )
            for row in csv.DictReader(table.splitlines())
            if row["pxname"] == backend and row["svname"] not in ("FRONTEND", "BACKEND")
        }

    async def wait_up(self, backend: str = "brokers", deadline: float = 30.0) -> None:
        """Wait until every server of a backend is up."""
        await wait_until(
            lambda: all(state.is_up for state in self.states(backend).values()),
            deadline=deadline,
            what=f"every server of {backend} up",
        )


class Nginx(Balancer):
    """deploy/nginx.conf."""

    name = "nginx.conf"

    def lines(
        self, brokers: Sequence[int], apis: Sequence[int], connects: int
    ) -> dict[str, list[str]]:
        kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        own = [f"{kind}_temp_path {self.folder}/{kind};" for kind in kinds]
        rest = "max_fails=0"
        return {
            "user": ["daemon off;"],
            "worker_processes": ["worker_processes 1;"],
            "pid": [f"pid {self.folder}/pid;"],
            "error_log": ["error_log stderr warn;"],
            "worker_rlimit_nofile": [],
            "worker_connections": ["worker_connections 16000;"],
            "include": own,
            "access_log": [f"access_log {self.folder}/access.log parley;"],
            "server 127.0.0.1:8765": [f"server {LOOPBACK}:{port} {rest};" for port in brokers],
            "server 127.0.0.1:8766": [],
            "server 127.0.0.1:8767": [],
            "server 127.0.0.1:8080": [f"server {LOOPBACK}:{port} {rest};" for port in apis],
            "server 127.0.0.1:8081": [],
            "limit_req_zone $binary_remote_addr zone=connects": [
                "limit_req_zone $binary_remote_addr zone=connects:10m "
                f"rate={'1r/m' if connects < NO_LIMIT else '100000r/s'};"
            ],
            "limit_req_zone $binary_remote_addr zone=requests": [
                "limit_req_zone $binary_remote_addr zone=requests:10m rate=100000r/s;"
            ],
            "listen 80": [f"listen {LOOPBACK}:{self.port} backlog=4096;"],
            "limit_req zone=connects": [f"limit_req zone=connects burst={connects} nodelay;"],
            "limit_req zone=requests": [f"limit_req zone=requests burst={NO_LIMIT} nodelay;"],
        }

    def command(self) -> list[str]:
        return [program("nginx"), "-p", str(self.folder), "-c", str(self.config)]

    def accesses(self) -> str:
        return (self.folder / "access.log").read_text(encoding="utf-8", errors="replace")
