"""What one request makes the servers do: every command of Redis and every statement of PostgreSQL.

Redis tells by MONITOR, which shows what scripts do inside too; PostgreSQL writes each statement
into its log (`log_statement`, for one database; who connects later than that is heard). Values are
left out: of a command its name, its script and the number of its words, of a statement its text.
What nodes do all the time by themselves is left out as well.
"""

from __future__ import annotations

import re
import shlex
import socket
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from storage.redis.script_loader import ScriptSet
from tests.support.servers import PostgresServer, RedisServer
from workers.embedded.ports import LOOPBACK

UNASKED_SCRIPTS: Final = frozenset(
    {
        "audit",
        "fence",
        "floors",
        "heartbeat",
        "leave",
        "leave_due",
        "lives",
        "presence",
        "typing",
        "watch",
    }
)
"""What nodes run by themselves, from time to time. (Of who may not type only the end of it is told,
in the background and whether there is a room or not.)"""
UNASKED_COMMANDS: Final = frozenset({"xread", "ping", "time", "client", "zrangebyscore"})
UNASKED_STATEMENTS: Final = re.compile(
    r"BEGIN$|COMMIT$|.*\btypeinfo_tree\b|.*'jit'|WITH due AS .* UPDATE users"
    r"|.*FROM api_keys WHERE hash"
)
"""What a connection asks once about types, when users were seen, and keys, which are known for a
second."""
_STATEMENT: Final = re.compile(
    r"^\S+ \S+ \S+ \[\d+\] LOG:  (?:statement|execute [^:]*): (.*)$", re.DOTALL
)
_ENTRY: Final = re.compile(r"^(?=\d{4}-\d\d-\d\d )", re.MULTILINE)


class Watch:
    """Get it from `open_watch`; `take` gives what happened since the last one."""

    def __init__(self, redis: RedisServer, monitor: socket.socket, log: Path) -> None:
        self._redis, self._log = redis, log
        self._lines = monitor.makefile("rb")
        assert self._lines.readline() == b"+OK\r\n"
        self._names = {script.sha: name for name, script in ScriptSet.load().items()}
        self._read = 0

    def take(self) -> Counter[str]:
        """Everything since the last call, by how often."""
        return Counter([*self._commands(), *self._statements()])

    def _commands(self) -> Iterator[str]:
        mark = uuid.uuid4().hex
        self._redis.command("ECHO", mark)
        is_unasked = False
        while mark not in (line := self._lines.readline().decode("utf-8", "replace")):
            where, _, rest = line.partition("] ")
            words = shlex.split(rest)
            name = words[0].lower()
            if where.endswith(" lua"):
                if not is_unasked:
                    yield f"redis, in a script: {name} {len(words)}"
                continue
            script = self._names.get(words[1], "?") if name == "evalsha" else ""
            is_unasked = name in UNASKED_COMMANDS or script in UNASKED_SCRIPTS
            if not is_unasked:
                yield f"redis: {name} {script} {len(words)}"

    def _statements(self) -> Iterator[str]:
        with self._log.open("rb") as log:
            log.seek(self._read)
            text = log.read()
        self._read += len(text)
        for entry in _ENTRY.split(text.decode("utf-8", "replace")):
            found = _STATEMENT.match(entry.rstrip())
            statement = " ".join(found[1].split()) if found else "BEGIN"
            if not UNASKED_STATEMENTS.match(statement):
                yield f"postgres: {statement}"


@contextmanager
def open_watch(redis: RedisServer, postgres: PostgresServer) -> Iterator[Watch]:
    """Watch both servers; `tell_statements` comes before, and no archiver may run."""
    with socket.create_connection((LOOPBACK, redis.port), timeout=20) as monitor:
        monitor.sendall(b"MONITOR\r\n")
        yield Watch(redis, monitor, postgres.log)


def tell_statements(postgres: PostgresServer, url: str) -> None:
    """From now on each statement of a new connection to this database is in the log."""
    postgres.execute(f"ALTER DATABASE {url.rpartition('/')[2]} SET log_statement = 'all'")
