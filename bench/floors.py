"""Starting the floors: the Python one, and the C one, which is compiled first.

Rules: as in `bench.servers`; a floor ends with its standard input, so none outlives its generator.
"""

import contextlib
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from bench import accounting
from bench.connection import BenchError
from bench.servers import STOP_TIMEOUT, environment
from bench.target import Target

_SOURCE: Final = Path(__file__).with_name("floor.c")
_COMPILE_TIMEOUT: Final = 60.0


def compiler() -> str | None:
    """The C compiler, if one is installed."""
    return shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")


@contextlib.contextmanager
def open_floor(
    *,
    server_core: int | None,
    generator_core: int | None,
    command: Sequence[str] = (sys.executable, "-m", "bench.floor"),
    name: str = "floor",
) -> Iterator[Target]:
    """A floor, alone on its core; it prints its port and ends with its standard input."""
    with accounting.pinned(server_core):
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment({})
        )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        if not line:
            raise BenchError("the floor did not start")
        yield Target(
            name=name,
            host="127.0.0.1",
            port=int(line),
            process=process.pid,
            token=lambda _: "floor",
            prepare_rooms=lambda _: None,
            checks_content=False,
            server_core=server_core,
            generator_core=generator_core,
        )
    finally:
        process.stdin.close()
        process.stdout.close()
        try:
            process.wait(STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextlib.contextmanager
def open_c_floor(*, server_core: int | None, generator_core: int | None) -> Iterator[Target]:
    """The C floor, compiled into a folder that goes with it."""
    found = compiler()
    if found is None:
        raise BenchError("the C floor needs a C compiler (cc)")
    with tempfile.TemporaryDirectory(prefix="parley-bench-") as folder:
        program = Path(folder) / "floor"
        ended = subprocess.run(
            [found, "-O2", "-o", str(program), str(_SOURCE)],
            capture_output=True,
            text=True,
            timeout=_COMPILE_TIMEOUT,
            check=False,
        )
        if ended.returncode != 0:
            raise BenchError(f"{_SOURCE.name} does not compile:\n{ended.stderr[-2000:]}")
        with open_floor(
            server_core=server_core,
            generator_core=generator_core,
            command=[str(program)],
            name="floor-c",
        ) as target:
            yield target
