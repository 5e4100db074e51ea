"""What the generator starts ends with it."""

from tests.support.owners import is_alive, read_pid, running_owner
from tests.support.waiting import wait_until

OWNER = """
import pathlib, signal, sys
from bench import servers
command = [sys.executable, "-c", "import signal; signal.pause()"]
with servers.running(command, {}, None, pathlib.Path("/dev/null")) as process:
    print(process.pid, flush=True)
    signal.pause()
"""


async def test_a_killed_generator_leaves_no_server_behind():
    with running_owner(OWNER) as owner:
        process = read_pid(owner)
        assert is_alive(process)
        owner.kill()
        await wait_until(lambda: not is_alive(process), deadline=30, what="the server has ended")
