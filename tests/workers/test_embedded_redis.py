"""The private Redis: durable, private, alone in its folder, and gone with its owner."""

import socket
from pathlib import Path

import pytest
from redis.exceptions import ResponseError

from tests.support.owners import is_alive, read_pid, running_owner
from tests.support.servers import RedisServer
from tests.support.waiting import wait_until_sync
from workers.embedded.guarded import StartError
from workers.embedded.redis import EmbeddedRedis

_OWNER = """
import sys, time
from pathlib import Path
from workers.embedded.redis import EmbeddedRedis
server = EmbeddedRedis(Path(sys.argv[1]))
server.start()
print(server.process.pid, flush=True)
time.sleep(600)
"""


def test_is_configured_not_to_lose_anything(redis_server: RedisServer) -> None:
    names = ("appendonly", "appendfsync", "no-appendfsync-on-rewrite", "maxmemory-policy", "save")
    settings = {name: redis_server.command("CONFIG", "GET", name)[1].decode() for name in names}
    assert settings == {
        "appendonly": "yes",
        "appendfsync": "everysec",
        "no-appendfsync-on-rewrite": "no",
        "maxmemory-policy": "noeviction",
        "save": "",
    }


def test_data_and_address_survive_a_stop_and_a_kill(private_redis: RedisServer) -> None:
    url = private_redis.url
    private_redis.command("SET", "first", 1)
    private_redis.restart()
    private_redis.command("SET", "second", 2)
    private_redis.kill()
    private_redis.start()
    assert private_redis.command("MGET", "first", "second") == [b"1", b"2"]
    assert private_redis.url == url


def test_losing_data_makes_another_server_of_it(private_redis: RedisServer) -> None:
    def replication_id() -> bytes:
        lines: bytes = private_redis.command("INFO", "replication")
        return next(line for line in lines.split() if line.startswith(b"master_replid:"))

    before = replication_id()
    private_redis.command("SET", "key", 1)
    private_redis.lose_data()
    assert private_redis.command("GET", "key") is None
    assert replication_id() != before


def test_asks_for_the_password_and_hides_it(tmp_path: Path) -> None:
    with EmbeddedRedis(tmp_path / "redis", password="a-secret") as server:
        assert ":a-secret@" in server.url
        with socket.create_connection(("127.0.0.1", server.port), timeout=5) as connection:
            connection.sendall(b"PING\r\n")
            assert connection.recv(100).startswith(b"-NOAUTH")
        command_line = Path(f"/proc/{server.process.pid}/cmdline").read_bytes()
        assert b"a-secret" not in command_line
        assert (server.folder / "redis.conf").stat().st_mode & 0o077 == 0


def test_two_servers_never_share_a_folder(private_redis: RedisServer) -> None:
    with pytest.raises(StartError, match="by another running server"):
        EmbeddedRedis(private_redis.folder).start(timeout=0.1)
    assert private_redis.command("PING") == b"PONG"


def test_a_taken_port_is_an_error_that_says_so(tmp_path: Path, private_redis: RedisServer) -> None:
    with pytest.raises(StartError, match="already in use"):
        EmbeddedRedis(tmp_path / "other", port=private_redis.port).start()


def test_ends_with_its_owner_and_can_be_started_at_once(tmp_path: Path) -> None:
    folder = tmp_path / "redis"
    with running_owner(_OWNER, folder) as owner:
        pid = read_pid(owner)
        owner.kill()
        with EmbeddedRedis(folder) as server:  # waits for the other's end
            assert not is_alive(pid)
            assert server.process.pid != pid
    wait_until_sync(lambda: not is_alive(pid))


def test_an_error_reply_is_raised(redis_server: RedisServer) -> None:
    with pytest.raises(ResponseError):
        redis_server.command("NO-SUCH-COMMAND")
