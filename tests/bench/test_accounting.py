"""The accounts that figures rest on, read from real processes."""

import os
import subprocess
import sys
import time

import pytest

from bench import accounting
from tests.support.servers import RedisServer

BURN = "import time\nend = time.process_time() + 0.3\nwhile time.process_time() < end: pass"


def test_the_cpu_of_a_tree_holds_what_ended_children_used():
    before = accounting.tree_cpu(os.getpid())
    subprocess.run([sys.executable, "-c", BURN], check=True)
    assert accounting.tree_cpu(os.getpid()) - before >= 0.25


def test_a_tree_holds_children_of_children():
    code = "import subprocess, sys\nsubprocess.run([sys.executable, '-c', 'input()'])"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE) as process:
        assert process.stdin is not None
        deadline = time.monotonic() + 10
        while len(tree := accounting.process_tree(process.pid)) < 2 and time.monotonic() < deadline:
            pass
        process.stdin.close()
    assert tree[0] == process.pid
    assert len(tree) == 2


def test_a_process_that_is_gone_costs_nothing():
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        pass
    assert accounting.tree_cpu(process.pid) == 0
    assert accounting.tree_memory(process.pid) == 0


def test_cores_are_busy_for_a_part_of_the_time():
    core = accounting.usable_cores()[0]
    found = accounting.core_time(core)
    assert found is not None
    busy, total = found
    assert 0 < busy <= total
    assert accounting.core_time(None) is None
    assert accounting.core_time(100_000) is None


def test_pinning_ends_with_its_block():
    before = accounting.usable_cores()
    with accounting.pinned(before[-1]):
        assert accounting.usable_cores() == [before[-1]]
    assert accounting.usable_cores() == before


def test_redis_tells_its_own_cpu(redis_server: RedisServer):
    before = accounting.redis_cpu(redis_server.url)
    for _ in range(50):
        redis_server.command("INFO")
    assert accounting.redis_cpu(redis_server.url) > before > 0


def test_redis_is_asked_with_its_password(private_redis: RedisServer):
    private_redis.command("CONFIG", "SET", "requirepass", "a pass/word")
    url = private_redis.url.replace("redis://", "redis://:a%20pass%2Fword@")
    assert "redis_version:" in accounting.redis_command(url, "INFO", "server")
    with pytest.raises(ConnectionError, match="password"):
        accounting.redis_command(url.replace("word", "ward"), "INFO", "server")
    assert "NOAUTH" in accounting.redis_command(private_redis.url, "PING")


def test_redis_is_looked_for_at_a_unix_socket(tmp_path):
    with pytest.raises(ConnectionError, match="accept"):
        accounting.redis_cpu(f"unix://{tmp_path}/none")
