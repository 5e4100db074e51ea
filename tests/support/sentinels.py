"""A master, a replica and three sentinels, as private servers, with what may go wrong between them.

Sentinels and replicas get into the servers by users of their own, so that either can be locked out
while the clients of the broker's processes stay: `hide` makes a server vanish for the sentinels
only (a network that is split), `cut_replication` keeps its writes from its replicas.
"""

import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from redis.exceptions import ResponseError

from tests.support.servers import RedisServer, run_command
from tests.support.waiting import wait_until
from workers.embedded.guarded import GuardedProcess
from workers.embedded.ports import LOOPBACK, free_port
from workers.embedded.redis import find_redis_server

SERVICE = "chat"
QUORUM = 2
# A server that is silent for so long is down. Short: tests wait for it; a loaded machine must not
# make healthy servers look dead.
DOWN_AFTER_MS = 2000
_WATCHER, _COPIER = "watcher", "copier"
_CONFIGURATION = """\
bind {host}
port {port}
dir ./
sentinel myid {id}
sentinel monitor {service} {host} {master} {quorum}
sentinel down-after-milliseconds {service} {down_after}
sentinel failover-timeout {service} 6000
sentinel auth-user {service} {watcher}
sentinel auth-pass {service} {watcher}
{known}
"""


def url_of(*ports: int, service: str = SERVICE, options: str = "") -> str:
    """What REDIS_URL is with sentinels at these ports."""
    hosts = ",".join(f"{LOOPBACK}:{port}" for port in ports)
    return f"redis+sentinel://{hosts}/{service}{options}"


class SentinelServer:
    """One sentinel; it knows the others and the replica from the start."""

    def __init__(self, folder: Path, port: int) -> None:
        self.folder = folder
        self.port = port
        self.id = f"{port:040x}"
        self._process: GuardedProcess | None = None

    def start(
        self, master: int, replica: int | None = None, others: Sequence["SentinelServer"] = ()
    ) -> None:
        """Watch the servers at these ports, with no other memory; does not wait for readiness."""
        self.folder.mkdir(parents=True, exist_ok=True)
        known = [
            f"sentinel known-sentinel {SERVICE} {LOOPBACK} {other.port} {other.id}"
            for other in others
        ]
        if replica is not None:
            known.append(f"sentinel known-replica {SERVICE} {LOOPBACK} {replica}")
        text = _CONFIGURATION.format(
            host=LOOPBACK, port=self.port, id=self.id, service=SERVICE, master=master,
            quorum=QUORUM, down_after=DOWN_AFTER_MS, watcher=_WATCHER, known="\n".join(known),
        )  # fmt: skip
        (self.folder / "sentinel.conf").write_text(text)
        with open(self.folder / "sentinel.log", "wb") as log:
            self._process = GuardedProcess.start(
                [find_redis_server(), "sentinel.conf", "--sentinel"],
                cwd=self.folder,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process = None

    def command(self, *words: str | int | bytes) -> Any:
        return run_command(self.port, *words)

    def master_port(self) -> int:
        """The port of the server that it names."""
        place = self.command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", SERVICE)
        return int(place[1])

    async def wait_ready(self) -> None:
        await wait_until(self._is_ready, deadline=20, what="a sentinel that answers")

    def _is_ready(self) -> bool:
        try:
            return bool(self.command("PING") == b"PONG")
        except OSError:
            return False


class WatchedRedis:
    """Two servers under three sentinels; `first` is the master in the beginning."""

    def __init__(self, folder: Path) -> None:
        self.first = RedisServer(folder / "first")
        self.second = RedisServer(folder / "second")
        self.sentinels = [SentinelServer(folder / f"sentinel-{n}", free_port()) for n in range(3)]

    @property
    def url(self) -> str:
        return url_of(*(sentinel.port for sentinel in self.sentinels))

    async def start(self) -> None:
        """Return when the replica is in step and the sentinels agree."""
        for server in (self.first, self.second):
            self.start_server(server)
        self.second.command("REPLICAOF", LOOPBACK, self.first.port)
        await self.wait_linked(self.second)
        for sentinel in self.sentinels:
            others = [other for other in self.sentinels if other is not sentinel]
            sentinel.start(self.first.port, self.second.port, others)
        for sentinel in self.sentinels:
            await sentinel.wait_ready()
        await wait_until(self._is_agreed, deadline=30, what="sentinels that agree")

    def stop(self) -> None:
        for sentinel in self.sentinels:
            sentinel.stop()
        for server in (self.first, self.second):
            server.stop()

    def start_server(self, server: RedisServer) -> None:
        """Start it (as a master) with the users that sentinels and replicas need."""
        server.start()
        for user in (_WATCHER, _COPIER):
            server.command("ACL", "SETUSER", user, "on", f">{user}", "~*", "&*", "+@all")
        server.command("CONFIG", "SET", "masteruser", _COPIER)
        server.command("CONFIG", "SET", "masterauth", _COPIER)

    def hide(self, server: RedisServer) -> None:
        """The sentinels can not get in any more; everybody else can."""
        server.command("ACL", "SETUSER", _WATCHER, "off")
        server.command("CLIENT", "KILL", "USER", _WATCHER)

    def show(self, server: RedisServer) -> None:
        server.command("ACL", "SETUSER", _WATCHER, "on")

    def cut_replication(self, server: RedisServer) -> None:
        """What this server writes from now on reaches no replica."""
        server.command("ACL", "SETUSER", _COPIER, "off")
        server.command("CLIENT", "KILL", "TYPE", "replica")

    def restore_replication(self, server: RedisServer) -> None:
        server.command("ACL", "SETUSER", _COPIER, "on")

    def fail_over(self) -> None:
        """Ask a sentinel to name the other server master now."""
        self.sentinels[0].command("SENTINEL", "FAILOVER", SERVICE)

    async def wait_in_step(self, server: RedisServer) -> None:
        """Wait until it is a replica in step and the sentinels have seen that: it can lead next."""
        await self.wait_linked(server)
        await wait_until(
            lambda: self.is_eligible(server), deadline=40, what="a replica that the sentinels know"
        )

    def is_eligible(self, server: RedisServer) -> bool:
        """Whether the sentinels have seen by now that it is a replica in step."""
        flat = self.sentinels[0].command("SENTINEL", "REPLICAS", SERVICE)
        found = [dict(zip(fields[::2], fields[1::2], strict=True)) for fields in flat]
        return any(
            int(fields[b"port"]) == server.port
            and fields[b"flags"] == b"slave"
            and fields[b"master-link-status"] == b"ok"
            for fields in found
        )

    async def wait_linked(self, server: RedisServer) -> None:
        await wait_until(lambda: _is_linked(server), deadline=30, what="a replica in step")

    async def wait_master(self, server: RedisServer) -> None:
        """Wait until all sentinels name it."""
        await wait_until(
            lambda: {sentinel.master_port() for sentinel in self.sentinels} == {server.port},
            deadline=40,
            what="the sentinels name the other master",
        )

    def _is_agreed(self) -> bool:
        for sentinel in self.sentinels:
            try:
                answer = sentinel.command("SENTINEL", "CKQUORUM", SERVICE)
            except ResponseError:
                return False  # too few of the others have been reached yet
            if not answer.startswith(b"OK 3"):
                return False
        return True


def _is_linked(server: RedisServer) -> bool:
    try:
        return b"master_link_status:up" in server.command("INFO", "replication")
    except ConnectionResetError:
        return False  # a sentinel that changes its role has ended all connections
