"""What the peers of `bench.peers` have in common: a package, and a server that it starts."""

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Final

from bench.dialect import Dialect
from bench.peers import processes
from bench.peers.places import Package
from bench.peers.processes import HOST
from bench.product import ParleyDialect
from bench.target import PEER_SCENARIOS, Place, Target

CHAT: Final = PEER_SCENARIOS - {"history"}
HISTORY: Final = frozenset({"history"})


class ServerPeer(ABC):
    """A peer (`bench.target.Peer`) whose package is installed into the cache folder."""

    scenarios = CHAT
    needs_redis = False

    def __init__(self, name: str, package: Package) -> None:
        self.name = name
        self.package = package

    def missing(self) -> str | None:
        """What is not there to run it, as one line; None when it can run."""
        if self.needs_redis and processes.find_redis_server() is None:
            return f"{self.name} needs the Redis of parley[embedded], which is not installed"
        return self.package.missing()

    @contextlib.contextmanager
    def open(self, place: Place) -> Iterator[Target]:
        """Start it; end everything with the block."""
        with contextlib.ExitStack() as stack:
            redis_url = None
            if self.needs_redis:
                redis_url = stack.enter_context(processes.own_redis(place))
            port = processes.free_port()
            process = stack.enter_context(self.start(place, port, redis_url))
            yield Target(
                name=self.name,
                host=HOST,
                port=port,
                process=process,
                token=lambda user: user,
                prepare_rooms=_nothing_to_prepare,
                dialect=self.dialect(),
                redis_url=redis_url,
                server_core=place.server_core,
                generator_core=place.generator_core,
                page=self.page(),
            )

    @abstractmethod
    def start(self, place: Place, port: int, redis_url: str | None) -> AbstractContextManager[int]:
        """Start the server on its core; its process, once it accepts connections."""

    def dialect(self) -> Dialect:
        """How it is spoken to."""
        return ParleyDialect()

    def page(self) -> Callable[[str, int], bytes] | None:
        """The request for a page of history."""
        return None


def page_request(room: str, before: int) -> bytes:
    """A page of 50 messages of `room` below `before`, as Parley is asked for it."""
    return (
        f"GET /v1/rooms/{room}/messages?before={before}&limit=50 HTTP/1.1\r\n"
        f"Host: {HOST}\r\nAccept: application/json\r\n\r\n"
    ).encode()


def _nothing_to_prepare(rooms: Mapping[str, Sequence[str]]) -> None:
    """These servers know neither users nor members."""
