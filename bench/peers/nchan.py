"""Nchan: the publish and subscribe module of nginx, in memory and with Redis.

What is published is passed on as it is, whether text or not; a publisher that is a subscriber too
gets no answer (the module's source says why: such a socket carries messages only). Its own event
is what it waits for.

Trap: neither nginx nor Nchan sets TCP_NODELAY on a WebSocket, so that small frames wait for
acknowledgements (`tcp_nodelay` of nginx acts on kept-alive HTTP and on proxying). A socket that is
accepted inherits the option from the listening one. So the listening socket is made here, with the
option, and handed to nginx the way that nginx hands it to itself when its binary is upgraded: by
number, in the variable NGINX.
"""

import contextlib
import socket
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Final
from urllib.parse import quote

from bench.connection import BenchError
from bench.dialect import Dialect, Frame, Kind
from bench.peers.payloads import event_of
from bench.peers.places import SERVERS, Package, find_program
from bench.peers.processes import HOST, START_TIMEOUT, serving
from bench.peers.server import ServerPeer
from bench.target import Place

BACKLOG: Final = 4096
_EVENT: Final = b'{"type":"event",'
_DEBIAN: Final = ("nginx", "libnginx-mod-nchan")
_MODULE: Final = "lib/nginx/modules/ngx_nchan_module.so"
_CONNECTED: Final = b"redis connected servers: 1"
_UPSTREAM: Final = """
    upstream redis {{
        nchan_redis_server {url};
        nchan_redis_storage_mode {mode};{more}
    }}
"""


class NchanDialect(Dialect):
    """Raw messages on a path that names the room."""

    numbers_events = False
    answers_publishes = False
    greets = False
    subscribes = False
    settling = 1.0  # with Redis a publish right behind the last handshake was seen to be missed

    def path(self, token: str, room: str) -> str:
        return f"/rooms/{quote(room)}"

    def subscribe(self, number: int, room: str) -> bytes:
        raise NotImplementedError("the path subscribes")

    def publish(self, number: int, room: str, sender: str, run: str) -> bytes:
        return event_of(number, room, sender, run)

    def classify(self, data: bytes, start: int, end: int) -> Frame:
        if data.startswith(_EVENT, start, end):
            return Frame(Kind.MESSAGE)
        return Frame(Kind.PROBLEM)


class NginxPackage(Package):
    """nginx and the module: Debian's, of the system or unpacked into the cache folder."""

    def __init__(self) -> None:
        super().__init__("nchan", [])

    def is_installed(self) -> bool:
        return self.find() is not None

    def lacking(self) -> str | None:
        return None

    def advice(self) -> str:
        return (
            f"nchan needs Debian's {' and '.join(_DEBIAN)}: apt-get install {' '.join(_DEBIAN)}, "
            "or python -m bench.peers install nchan --apt, which unpacks them into the cache folder"
        )

    def fill(self, *, use_apt: bool) -> None:
        if not use_apt:
            raise BenchError(self.advice())
        for program in ("apt-get", "dpkg-deb"):
            if find_program(program) is None:
                raise BenchError(f"nchan comes from Debian, and there is no {program}")
        self.run(["apt-get", "download", *_DEBIAN])
        for archive in self.folder.glob("*.deb"):
            self.run(["dpkg-deb", "--extract", archive, self.folder])
        if self.find() is None:
            raise BenchError("nchan: what apt-get fetched has no nginx or no Nchan in it")

    def find(self) -> tuple[Path, Path] | None:
        """nginx and the module that was built for it."""
        for prefix in (self.folder / "usr", Path("/usr")):
            program, module = prefix / "sbin" / "nginx", prefix / _MODULE
            if program.is_file() and module.is_file():
                return program, module
        return None


class Nchan(ServerPeer):
    """`storage`: None keeps messages in nginx's memory, else Nchan's Redis storage mode."""

    def __init__(self, name: str, storage: str | None) -> None:
        self._nginx = NginxPackage()
        super().__init__(name, self._nginx)
        self._storage = storage
        self.needs_redis = storage is not None

    def dialect(self) -> Dialect:
        return NchanDialect()

    @contextlib.contextmanager
    def start(self, place: Place, port: int, redis_url: str | None) -> Iterator[int]:
        found = self._nginx.find()
        if found is None:
            raise BenchError(self._nginx.advice())
        program, module = found
        configuration = place.folder / "nginx.conf"
        configuration.write_text(self._configuration(module, place.folder, port, redis_url))
        with listening(port) as descriptor:
            command = [str(program), "-p", str(place.folder), "-c", str(configuration), "-e"]
            command.append(str(place.folder / "error.log"))
            with serving(
                self.name,
                command,
                port,
                place,
                core=place.server_core,
                variables={"NGINX": f"{descriptor};"},
                pass_fds=[descriptor],
            ) as process:
                if redis_url is not None:
                    _wait_for_redis(port)
                yield process

    def _configuration(self, module: Path, folder: Path, port: int, url: str | None) -> str:
        upstream, used = "", ""
        if url is not None:
            fast = "\n        nchan_redis_nostore_fastpublish on;"
            more = fast if self._storage == "nostore" else ""
            upstream = _UPSTREAM.format(url=url, mode=self._storage, more=more)
            used = "nchan_redis_pass redis;"
        template = (SERVERS / "nchan" / "nginx.conf").read_text()
        return template.format(
            module=module,
            folder=folder,
            port=port,
            upstream=upstream,
            **{"pass": used},
        )


def _wait_for_redis(port: int) -> None:
    """Until then every request is answered 503."""
    deadline = time.monotonic() + START_TIMEOUT
    while True:
        with urllib.request.urlopen(f"http://{HOST}:{port}/status", timeout=5) as answer:
            if _CONNECTED in answer.read():
                return
        if time.monotonic() > deadline:
            raise BenchError("nchan has not connected to its Redis")
        time.sleep(0.05)


@contextlib.contextmanager
def listening(port: int) -> Iterator[int]:
    """A listening socket whose connections do not wait for acknowledgements; its descriptor."""
    with socket.create_server((HOST, port), backlog=BACKLOG) as listener:
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        yield listener.fileno()
