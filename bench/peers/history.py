"""Pages of history over REST, from the tables that Parley's own API reads.

What these do not do: authorise, merge what is not archived yet, read reactions, give an ETag.
"""

import contextlib
from collections.abc import Callable, Iterator

from bench.connection import BenchError
from bench.peers.places import NodePackage, PythonPackage
from bench.peers.processes import serving
from bench.peers.server import HISTORY, ServerPeer, page_request
from bench.target import Place


class Express(ServerPeer):
    """Express with pg."""

    scenarios = HISTORY

    def __init__(self) -> None:
        self._node = NodePackage("express")
        super().__init__("express", self._node)

    def page(self) -> Callable[[str, int], bytes]:
        return page_request

    @contextlib.contextmanager
    def start(self, place: Place, port: int, redis_url: str | None) -> Iterator[int]:
        command = self._node.command(str(port), database_of(place))
        variables, core = self._node.environment(), place.server_core
        with serving(self.name, command, port, place, core=core, variables=variables) as process:
            yield process


class FastApi(ServerPeer):
    """FastAPI with asyncpg under uvicorn."""

    scenarios = HISTORY

    def __init__(self) -> None:
        self._python = PythonPackage("fastapi")
        super().__init__("fastapi", self._python)

    def page(self) -> Callable[[str, int], bytes]:
        return page_request

    @contextlib.contextmanager
    def start(self, place: Place, port: int, redis_url: str | None) -> Iterator[int]:
        command, core = self._python.command(port), place.server_core
        variables = {"DATABASE_URL": database_of(place)}
        with serving(self.name, command, port, place, core=core, variables=variables) as process:
            yield process


def database_of(place: Place) -> str:
    """The database that holds the messages."""
    if place.database_url is None:
        raise BenchError("pages of history need the database of a running system")
    return place.database_url
